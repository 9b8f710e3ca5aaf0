package cli

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// pageReport is one page, decoded.
type pageReport struct {
	Path    string        `json:"path"`
	Page    uint64        `json:"page"`
	Offset  uint64        `json:"offset"` // bytes
	Kind    string        `json:"kind"`
	Space   string        `json:"space,omitempty"` // what the images say of it
	Sum     *sumReport    `json:"sum,omitempty"`   // nil where the page has none
	Fields  []fieldReport `json:"fields"`
	Entries []entryReport `json:"entries,omitempty"` // of a directory
	Slots   []slotReport  `json:"slots,omitempty"`   // of a bucket
	Records []logRecord   `json:"records,omitempty"` // that begin in the page
	Note    string        `json:"note,omitempty"`
	Hex     []string      `json:"hex,omitempty"`
	damaged bool
}

// sumReport is a sum and what it should be.
type sumReport struct {
	Stored string `json:"stored"`
	Want   string `json:"want,omitempty"` // "" where nothing tells
	Right  bool   `json:"right"`
}

type fieldReport struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// entryReport is a run of entries of a directory that lead to one page.
type entryReport struct {
	First int    `json:"first"`
	Last  int    `json:"last"`
	Page  uint64 `json:"page"`
	Tag   uint16 `json:"tag"` // low bits of the child's epoch
}

type slotReport struct {
	Slot     int    `json:"slot"`
	Dead     bool   `json:"dead,omitempty"`
	Position uint64 `json:"position"`
	Tag      uint32 `json:"tag"`
	Top      uint16 `json:"top"`
	Home     int    `json:"home"`
	Record   string `json:"record"` // what lies there
}

func (a *app) pageCmd() *cobra.Command {
	var asHex bool
	cmd := &cobra.Command{
		Use:   "page FILE N",
		Short: "Decode one page of any kind, with its sum and what that should be",
		Long: "Decode page N: the fields of a meta page, the mark, the entries of a directory, the slots of a bucket with\n" +
			"what they lead to, the content of the images, the header of a segment and the records that begin in the page.\n" +
			"It says whether the page's sum is right, and what it should be; a wrong one is exit code 3. A page without\n" +
			"a place in the map is decoded as what it looks like.",
		Example: "  mapfile page fruit.map 0\n  mapfile page --hex fruit.map 5",
		Args:    cobra.ExactArgs(2),
	}
	asJSON := addJSONFlag(cmd)
	cmd.Flags().BoolVar(&asHex, "hex", false, "print the bytes, too")
	cmd.RunE = a.onRaw(func(cmd *cobra.Command, m *rawMap, args []string) error {
		n, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return usageError(cmd, fmt.Errorf("page %q: %w", args[1], err))
		}
		if n >= m.Pages() {
			return usageError(cmd, fmt.Errorf("page %d: the file has %d", n, m.Pages()))
		}
		r := m.decodePage(pager.PageNo(n))
		r.Path = args[0]
		if asHex {
			r.Hex = strings.Split(strings.TrimRight(hexDump(m.Page(pager.PageNo(n)), n*pager.PageSize), "\n"), "\n")
		}
		if err := printReport(cmd, *asJSON, r); err != nil {
			return err
		}
		if r.damaged {
			return damageError(args[0], fmt.Sprintf("page %d", n), "what stands in it does not hold")
		}
		return nil
	})
	return cmd
}

// hexDump writes bytes with their offset in the file; lines of zeros are left out.
func hexDump(b []byte, at uint64) string {
	var out strings.Builder
	gap := false
	for i := 0; i < len(b); i += 16 {
		row := b[i : i+16]
		if binary.LittleEndian.Uint64(row)|binary.LittleEndian.Uint64(row[8:]) == 0 {
			if !gap {
				out.WriteString("*\n")
			}
			gap = true
			continue
		}
		gap = false
		text := []byte(string(row))
		for k, c := range text {
			if c < 32 || c > 126 {
				text[k] = '.'
			}
		}
		fmt.Fprintf(&out, "%010x  %s  %s  %s\n", at+uint64(i), spaced(row[:8]), spaced(row[8:]), text)
	}
	return out.String()
}

func spaced(b []byte) string {
	return strings.TrimRight(fmt.Sprintf("% x", b), " ")
}

// decodePage decodes a page as what it is, or looks like.
func (m *rawMap) decodePage(n pager.PageNo) *pageReport {
	b := m.Page(n)
	r := &pageReport{Page: uint64(n), Offset: uint64(n) * pager.PageSize, Kind: kindUnknown, Space: m.spaceOf(n), Fields: []fieldReport{}}
	h := index.ReadHeader(b)
	u := m.segmentOf(r.Offset)
	switch {
	case n <= pager.MetaPage1:
		m.decodeMeta(r, b, int(n))
	case n == pager.MarkPage:
		m.decodeMark(r, b)
	case n == pager.ControlPage:
		r.Kind = kindControl
		r.field("zero", yesNo(allZero(b)))
	case m.imageAt(n) >= 0:
		m.decodeImages(r, b, m.imageAt(n))
	case u != nil:
		m.decodeSegment(r, u, n)
	case (h.Type == index.TypeDirectory || h.Type == index.TypeBucket) && h.Page == n:
		m.decodeIndex(r, b, h)
	case h.Type == index.TypeImage && h.Page == n:
		m.decodeImages(r, b, -1)
	default:
		m.decodeOther(r, b, n)
	}
	return r
}

func (r *pageReport) field(name string, value any) {
	r.Fields = append(r.Fields, fieldReport{name, fmt.Sprint(value)})
}

// setSum says whether a sum is right; known is false where nothing tells what it should be.
func (r *pageReport) setSum(stored, want uint64, known bool) {
	r.Sum = &sumReport{Stored: fmt.Sprintf("%016x", stored)}
	if known {
		r.Sum.Want, r.Sum.Right = fmt.Sprintf("%016x", want), stored == want
		r.damaged = r.damaged || stored != want
	}
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// spaceOf is what the images say of a page.
func (m *rawMap) spaceOf(n pager.PageNo) (text string) {
	if m.Free == nil {
		return "no image of free space holds"
	}
	text = "behind the map"
	m.Free.Account(func(run freelist.Run, state freelist.State) {
		if n >= run.Start && uint64(n) < uint64(run.Start)+uint64(run.Pages) {
			text = map[freelist.State]string{freelist.StateUsed: "in use", freelist.StateFree: kindFree, freelist.StatePending: kindPending, freelist.StateDue: kindPending}[state]
		}
	})
	return text
}

// imageAt is the meta page whose images hold a page, -1 if none does.
func (m *rawMap) imageAt(n pager.PageNo) int {
	for i, meta := range m.Metas.Meta {
		if meta != nil && n >= meta.Image.Page && uint64(n-meta.Image.Page) < (meta.ImageBytes+pager.PageSize-1)/pager.PageSize {
			return i
		}
	}
	return -1
}

func (m *rawMap) decodeMark(r *pageReport, b []byte) {
	r.Kind = kindMark
	salt := uint64(0)
	if m.Meta != nil {
		salt = m.Meta.FileSalt
	}
	mark := pager.ReadMarkPage(b, salt)
	if mark.Blank {
		r.Note = "it says nothing yet"
	} else {
		r.setSum(mark.Sum, mark.Want, m.Meta != nil)
	}
	r.field("mark", mark.Mark)
	r.field("life", mark.Life)
	r.field("last opened for writing by process", mark.Pid)
}

func (m *rawMap) decodeIndex(r *pageReport, b []byte, h index.Header) {
	want, known := uint64(0), m.Meta != nil
	if known {
		want = index.Sum(b, m.Meta.FileSalt, pager.PageNo(r.Page), h.Epoch)
	}
	r.setSum(h.Sum, want, known)
	r.field("page", h.Page)
	r.field("epoch", h.Epoch)
	if r.Sum.Want != "" && !r.Sum.Right && r.Space != "in use" {
		r.damaged = false
		r.Note = "a page that no checkpoint leads to has no sum"
	}
	if h.Type == index.TypeDirectory {
		r.Kind = kindDirectory
		r.field("level", h.Level)
		r.field("width", h.Width)
		r.Entries = entryRuns(index.ReadEntries(b))
		return
	}
	r.Kind = kindBucket
	r.field("depth", h.Depth)
	r.field("slots", h.Slots)
	r.field("dead", h.Dead)
	lines := 50
	if m.Meta != nil {
		lines = int(m.Meta.BucketLines)
	}
	for _, s := range index.ReadSlots(b, lines) {
		r.Slots = append(r.Slots, slotReport{s.Number, s.Dead, s.Position, s.Tag, s.Top, s.Home, m.recordText(s)})
	}
}

// entryRuns joins neighbours that lead to one page.
func entryRuns(entries []index.Entry) (runs []entryReport) {
	for i, e := range entries {
		if k := len(runs) - 1; k >= 0 && runs[k].Page == uint64(e.Page) && runs[k].Tag == e.Tag {
			runs[k].Last = i
			continue
		}
		runs = append(runs, entryReport{i, i, uint64(e.Page), e.Tag})
	}
	return runs
}

// recordText says what lies where a slot leads.
func (m *rawMap) recordText(s index.Slot) string {
	var r tail.Record
	if s.Dead {
		return "dead"
	}
	if _, reason := m.record(s.Position, &r); reason != "" {
		return reason
	}
	return fmt.Sprintf("%s %s, sequence %d", kindName(r.Kind), shorten(string(r.Key)), r.Sequence)
}

// decodeOther tells of a page that is nothing by its place.
func (m *rawMap) decodeOther(r *pageReport, b []byte, n pager.PageNo) {
	if s, both, ok := m.SegmentAt(n); ok {
		r.Note = "a segment that is in no table"
		r.segmentHeader(&s, both)
		r.Kind = kindSegment
		return
	}
	switch {
	case allZero(b):
		r.Kind, r.Note = kindFree, "nothing but zeros"
	case m.Free != nil:
		r.Note = "nothing leads to it"
	default:
		r.Note = "nothing tells what it is"
	}
	if h := index.ReadHeader(b); r.Space == "in use" {
		// Its own header may be what is damaged.
		r.damaged = true
		r.Note = fmt.Sprintf("it is in use, and its header, of type %d, names page %d", h.Type, h.Page)
	}
}

func (r *pageReport) lines() []line {
	lines := []line{{"file", r.Path}, {"page", r.Page}, {"offset", r.Offset}, {"kind", r.Kind}}
	if r.Space != "" {
		lines = append(lines, line{"space", r.Space})
	}
	if r.Sum != nil {
		lines = append(lines, line{"sum", r.Sum.text()})
	}
	for _, f := range r.Fields {
		lines = append(lines, line{f.Name, f.Value})
	}
	for _, e := range r.Entries {
		lines = append(lines, line{fmt.Sprintf("entries %d to %d", e.First, e.Last), fmt.Sprintf("page %d, tag %d", e.Page, e.Tag)})
	}
	for _, s := range r.Slots {
		text := s.Record
		if !s.Dead {
			text = fmt.Sprintf("position %d, tag %06x, top %04x, home %d: %s", s.Position, s.Tag, s.Top, s.Home, s.Record)
		}
		lines = append(lines, line{fmt.Sprintf("slot %d", s.Slot), text})
	}
	for _, rec := range r.Records {
		lines = append(lines, line{fmt.Sprintf("record at %d", rec.Position), rec.text()})
	}
	if r.Note != "" {
		lines = append(lines, line{"note", r.Note})
	}
	for _, h := range r.Hex {
		lines = append(lines, line{"hex", h})
	}
	return lines
}

func (s *sumReport) text() string {
	switch {
	case s.Want == "":
		return s.Stored + ", cannot be judged: no meta page tells its salt"
	case s.Right:
		return s.Stored + ", right"
	}
	return s.Stored + ", WRONG: it should be " + s.Want
}

// hexKey is a key in hexadecimal, shortened unless all of it is wanted.
func hexKey(key []byte, all bool) string {
	const most = 30
	if len(key) > most && !all {
		return hex.EncodeToString(key[:most]) + fmt.Sprintf("… (%d bytes)", len(key))
	}
	return hex.EncodeToString(key)
}
