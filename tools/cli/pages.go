package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
)

// What a page is, as pages and page name it.
const (
	kindUnknown   = "unknown"
	kindMeta      = "meta"
	kindMark      = "mark"
	kindControl   = "control"
	kindDirectory = "directory"
	kindBucket    = "bucket"
	kindImage     = "images"
	kindSegment   = "segment"
	kindFree      = "free"
	kindArenaFree = "arena free"
	kindPending   = "pending"
	kindBehind    = "behind the map"
)

// pagesReport is a map of a file by runs of pages.
type pagesReport struct {
	Path      string       `json:"path"`
	Pages     uint64       `json:"pages"`
	State     string       `json:"state"`          // which state the map shows
	HolesSeen bool         `json:"holes_seen"`     // the system told of holes
	Note      string       `json:"note,omitempty"` // why something is not known
	Totals    []pagesTotal `json:"totals"`         // by kind
	Runs      []pageRun    `json:"runs"`           // ascending; every page once
	Damaged   []pageDamage `json:"damaged"`        // index pages that do not hold, as they were met
}

type pagesTotal struct {
	Kind  string `json:"kind"`
	Pages uint64 `json:"pages"`
	Holes uint64 `json:"holes"` // of these, without blocks on disk
}

type pageRun struct {
	First  uint64 `json:"first"`
	Pages  uint64 `json:"pages"`
	Kind   string `json:"kind"`
	Detail string `json:"detail,omitempty"`
	Hole   bool   `json:"hole,omitempty"`
}

type pageDamage struct {
	Page   uint64 `json:"page"`
	Reason string `json:"reason"`
}

func (a *app) pagesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pages FILE",
		Short: "Print a map of the file by page runs: what each page is",
		Long: "Print what every page of the file is, in runs, and the totals: meta, mark and control pages, directories\n" +
			"with their level, buckets with their depth, images, segments with what they use and what of it is garbage,\n" +
			"free pages (those of an arena of index pages apart), pages that wait for the next checkpoints, and\n" +
			"holes. Index and free space are those of the checkpoint that an open begins from. It works on\n" +
			"damaged files, too: what nothing tells of is unknown.",
		Example: "  mapfile pages fruit.map\n  mapfile pages --json fruit.map",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = a.onRaw(func(cmd *cobra.Command, m *rawMap, args []string) error {
		r, err := a.mapPages(cmd, m)
		if err != nil {
			return err
		}
		r.Path = args[0]
		return printReport(cmd, *asJSON, r)
	})
	return cmd
}

// pageMap says of each page what it is, by number in kinds.
type pageMap struct {
	of    []uint32
	kinds []pageRun // Kind and Detail alone
	known map[pageRun]uint32
}

// set says what pages are. Pages behind the file's end are left out.
func (p *pageMap) set(at, n uint64, kind, detail string) {
	key := pageRun{Kind: kind, Detail: detail}
	k, ok := p.known[key]
	if !ok {
		k = uint32(len(p.kinds))
		p.kinds, p.known[key] = append(p.kinds, key), k
	}
	for end := min(at+n, uint64(len(p.of))); at < end; at++ {
		p.of[at] = k
	}
}

// mapPages finds out what each page is: free space and log first, then what the index leads to, and the fixed pages last.
func (a *app) mapPages(cmd *cobra.Command, m *rawMap) (*pagesReport, error) {
	r := &pagesReport{Pages: m.Pages(), State: m.stateText(), Damaged: []pageDamage{}}
	p := &pageMap{of: make([]uint32, m.Pages()), known: map[pageRun]uint32{}}
	p.set(0, m.Pages(), kindUnknown, "")
	m.mapSpace(p, r)
	for i := range m.segments {
		s := &m.segments[i]
		p.set(uint64(s.Start), uint64(s.Pages), kindSegment, s.text())
	}
	bar := a.newProgress(cmd, "reading the index", unitEntries, int64(m.indexPages()))
	err := m.eachIndexPage(func(n pager.PageNo, level int, x indexPage) error {
		bar.add(1)
		if x.reason != "" {
			r.Damaged = append(r.Damaged, pageDamage{uint64(n), x.reason})
			p.set(uint64(n), 1, "damaged index page", "level "+strconv.Itoa(level))
		} else if x.Type == index.TypeDirectory {
			p.set(uint64(n), 1, kindDirectory, "level "+strconv.Itoa(level))
		} else {
			p.set(uint64(n), 1, kindBucket, "depth "+strconv.Itoa(int(x.Depth)))
		}
		return cmd.Context().Err()
	})
	bar.finish()
	if err != nil {
		return nil, err
	}
	m.mapFixed(p)
	holes, seen := holePages(m.Path, m.Pages())
	r.HolesSeen = seen
	r.collect(p, holes)
	return r, nil
}

// indexPages is how many there should be.
func (m *rawMap) indexPages() uint64 {
	if m.Meta == nil {
		return 0
	}
	return uint64(m.Meta.Buckets) + uint64(m.Meta.Directories)
}

// stateText says which state is shown.
func (m *rawMap) stateText() string {
	switch {
	case m.Meta == nil:
		return "no meta page holds"
	case m.Slot < 0:
		return fmt.Sprintf("meta page number %d, which does not open: %v", m.Meta.Number, unprefixed{m.Refused})
	case m.FellBack != nil:
		return fmt.Sprintf("meta page %d, number %d: the newer is not used: %v", m.Slot, m.Meta.Number, unprefixed{m.FellBack})
	}
	return fmt.Sprintf("meta page %d, number %d", m.Slot, m.Meta.Number)
}

// mapSpace notes free and pending pages.
func (m *rawMap) mapSpace(p *pageMap, r *pagesReport) {
	if m.Free == nil {
		r.Note = "no image of free space holds: free pages are unknown"
		return
	}
	unit := uint64(m.Meta.UnitPages)
	m.Free.Account(func(run freelist.Run, state freelist.State) {
		switch at, n := uint64(run.Start), uint64(run.Pages); state {
		case freelist.StateFree:
			for n > 0 {
				part := min(n, unit-at%unit)
				kind := kindFree
				if at >= unit && part < unit {
					kind = kindArenaFree
				}
				p.set(at, part, kind, "")
				at, n = at+part, n-part
			}
		case freelist.StatePending, freelist.StateDue:
			p.set(at, n, kindPending, "")
		}
	})
	if end := m.Free.Pages(); end < m.Pages() {
		p.set(end, m.Pages()-end, kindBehind, "")
	}
}

// text says how much of a segment is used.
func (u *useOf) text() string {
	text := fmt.Sprintf("first LSN %d, %d bytes used", u.FirstLSN, u.Used)
	switch {
	case u.open && !u.inTail:
		text = fmt.Sprintf("first LSN %d, by its header alone", u.FirstLSN)
	case u.inTail:
		text += ", replayed by an open"
	case u.Used > u.live+1024:
		text += fmt.Sprintf(", about %d of garbage", u.Used-u.live-1024)
	}
	return text
}

// mapFixed notes the pages that stand where they stand, and the images.
func (m *rawMap) mapFixed(p *pageMap) {
	for i, meta := range m.Metas.Meta {
		if meta != nil {
			p.set(uint64(meta.Image.Page), (meta.ImageBytes+pager.PageSize-1)/pager.PageSize, kindImage, fmt.Sprintf("of meta page %d", i))
		}
	}
	for i, meta := range m.Metas.Meta {
		detail := "does not hold"
		if meta != nil {
			detail = fmt.Sprintf("number %d", meta.Number)
		}
		p.set(uint64(i), 1, kindMeta, detail)
	}
	p.set(uint64(pager.MarkPage), 1, kindMark, "")
	p.set(uint64(pager.ControlPage), 1, kindControl, "")
}

// collect makes runs and totals.
func (r *pagesReport) collect(p *pageMap, hole func(page uint64) bool) {
	totals := map[string]*pagesTotal{}
	for at := range p.of {
		kind := p.kinds[p.of[at]]
		kind.Hole = hole(uint64(at))
		if k := len(r.Runs) - 1; k >= 0 && r.Runs[k].Kind == kind.Kind && r.Runs[k].Detail == kind.Detail && r.Runs[k].Hole == kind.Hole {
			r.Runs[k].Pages++
		} else {
			kind.First, kind.Pages = uint64(at), 1
			r.Runs = append(r.Runs, kind)
		}
		t := totals[kind.Kind]
		if t == nil {
			t = &pagesTotal{Kind: kind.Kind}
			totals[kind.Kind] = t
		}
		t.Pages++
		if kind.Hole {
			t.Holes++
		}
	}
	for _, t := range totals {
		r.Totals = append(r.Totals, *t)
	}
	slices.SortFunc(r.Totals, func(a, b pagesTotal) int { return cmp.Or(cmp.Compare(b.Pages, a.Pages), cmp.Compare(a.Kind, b.Kind)) })
}

func (r *pagesReport) lines() []line {
	lines := []line{{"file", r.Path}, {"pages", formatCount(r.Pages)}, {"state", r.State}}
	if r.Note != "" {
		lines = append(lines, line{"note", r.Note})
	}
	for _, run := range r.Runs {
		name := strconv.FormatUint(run.First, 10)
		if run.Pages > 1 {
			name += fmt.Sprintf("-%d", run.First+run.Pages-1)
		}
		lines = append(lines, line{"page " + name, run.text()})
	}
	for _, d := range r.Damaged {
		lines = append(lines, line{fmt.Sprintf("damaged page %d", d.Page), d.Reason})
	}
	for _, t := range r.Totals {
		text := formatCount(t.Pages)
		if t.Holes > 0 {
			text += ", of these " + formatCount(t.Holes) + " in holes"
		}
		lines = append(lines, line{"total " + t.Kind, text})
	}
	return lines
}

func (r pageRun) text() string {
	text := r.Kind
	if r.Detail != "" {
		text += ", " + r.Detail
	}
	if r.Hole {
		text += ", a hole"
	}
	return text
}
