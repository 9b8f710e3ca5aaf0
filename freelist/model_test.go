package freelist

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mapfile-db/mapfile/pager"
	"github.com/stretchr/testify/require"
)

// owner says to what a page of the model belongs.
type owner uint8

const (
	nobody owner = iota
	fixed
	page
	segment
)

// modelPage is one page of the plain array that the allocator is compared with.
type modelPage struct {
	owner owner
	state State
	once  bool
}

// model is the slow truth: an array of pages and a list of the runs in it.
type model struct {
	t       *testing.T
	rng     *rand.Rand
	g       pager.Geometry
	a       *Allocator
	pages   []modelPage
	live    []liveRun
	pending []Entry
	due     []Entry
	taken   []Entry
	epoch   uint32
	gen     uint64
	lsn     uint64
	metas   [2]Meta // newer, older
	avoids  bool    // SparseArenas was called: the choice of units is not predicted
}

type liveRun struct {
	Run
	kind  Kind
	epoch uint32
}

func newModel(t *testing.T, seed uint64, g pager.Geometry, pages uint64) *model {
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 7)), g: g, a: New(g, pages), epoch: 10, gen: 1}
	m.metas = [2]Meta{{Epoch: 9}, {Epoch: 8}}
	m.grow(pages)
	for i := range pager.FirstPage {
		m.pages[i] = modelPage{fixed, StateUsed, false}
	}
	return m
}

func (m *model) grow(pages uint64) {
	for uint64(len(m.pages)) < pages {
		m.pages = append(m.pages, modelPage{state: StateFree})
	}
}

// mark gives the pages of r an owner and a state; each must have been in state was.
func (m *model) mark(r Run, o owner, was, now State, once bool) {
	for p := uint64(r.Start); p < r.end(); p++ {
		require.Equal(m.t, was, m.pages[p].state, "page %d", p)
		m.pages[p] = modelPage{o, now, once}
	}
}

func ownerOf(k Kind) owner {
	if k == KindSegment {
		return segment
	}
	return page
}

// freeUnitRuns lists the runs of free units of the model, in units.
func (m *model) freeUnitRuns() (runs []unitRun) {
	up := int(m.g.UnitPages)
	for u := 1; u < len(m.pages)/up; u++ {
		if slices.ContainsFunc(m.pages[u*up:(u+1)*up], func(p modelPage) bool { return p.state != StateFree }) {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1].start+runs[n-1].n == uint32(u) {
			runs[n-1].n++
		} else {
			runs = append(runs, unitRun{uint32(u), 1})
		}
	}
	return runs
}

// gaps lists the runs of n free pages and more inside one unit, of whole groups
// of align pages; in unit 0 alone, or in all units that are not wholly free.
func (m *model) gaps(n, align uint32, onlyUnit0 bool) (gaps []Run) {
	up := m.g.UnitPages
	for u := uint32(0); u*up < uint32(len(m.pages)) && (u == 0 || !onlyUnit0); u++ {
		end := min((u+1)*up, uint32(len(m.pages)))
		run := uint32(0)
		for p := u * up; p+align <= end; p += align {
			if slices.ContainsFunc(m.pages[p:p+align], func(x modelPage) bool { return x.state != StateFree }) {
				run = 0
				continue
			}
			run += align
			if p+2*align > end || slices.ContainsFunc(m.pages[p+align:p+2*align], func(x modelPage) bool { return x.state != StateFree }) {
				if run >= n && (u == 0 || run < up) {
					gaps = append(gaps, Run{pager.PageNo(p + align - run), run})
				}
			}
		}
	}
	return gaps
}

// smallest finds the smallest gap, the first among equals.
func smallest(gaps []Run) (Run, bool) {
	if len(gaps) == 0 {
		return Run{}, false
	}
	return slices.MinFunc(gaps, func(x, y Run) int { return int(x.Pages) - int(y.Pages) }), true
}

// bestUnits finds the best k units, as the start page.
func (m *model) bestUnits(k uint32) (pager.PageNo, bool) {
	var fits []Run
	for _, r := range m.freeUnitRuns() {
		if r.n >= k {
			fits = append(fits, Run{pager.PageNo(r.start * m.g.UnitPages), r.n})
		}
	}
	r, ok := smallest(fits)
	return r.Start, ok
}

func (m *model) countFree() (n uint64) {
	for _, p := range m.pages {
		if p.state == StateFree {
			n++
		}
	}
	return n
}

func (m *model) allocated(r Run, kind Kind) {
	m.mark(r, ownerOf(kind), StateFree, StateUsed, false)
	m.live = append(m.live, liveRun{r, kind, m.epoch})
}

func (m *model) allocPage() {
	free := m.countFree()
	p, ok := m.a.AllocPage()
	require.Equal(m.t, free > 0, ok, "AllocPage fails only when no page is free")
	if !ok {
		return
	}
	small := m.g.SmallPages
	if uint32(len(m.pages)) <= m.g.UnitPages {
		whole := m.gaps(small, small, true)
		broken := free - func() (n uint64) {
			for _, r := range whole {
				n += uint64(r.Pages)
			}
			return n
		}()
		inWhole := slices.ContainsFunc(whole, func(r Run) bool { return r.overlaps(Run{p, 1}) })
		require.Equal(m.t, broken == 0, inWhole, "a broken group is preferred")
	}
	m.allocated(Run{p, 1}, KindPage)
}

func (m *model) allocRun() {
	n := 1 + m.rng.Uint32N(2*m.g.UnitPages)
	gap, inGap := smallest(m.gaps(n, 1, false))
	units, inUnits := m.bestUnits((n-1)/m.g.UnitPages + 1)
	p, ok := m.a.AllocRun(n)
	require.Equal(m.t, inGap || inUnits, ok, "AllocRun(%d)", n)
	if !ok {
		return
	}
	switch {
	case m.avoids:
	case inGap:
		require.Equal(m.t, gap.Start, p, "the smallest gap for %d pages", n)
	default:
		require.Equal(m.t, units, p, "the smallest run of units for %d pages", n)
	}
	m.allocated(Run{p, n}, KindPage)
}

func (m *model) allocSegment() {
	n := m.g.UnitPages * (1 + m.rng.Uint32N(3))
	want, fits := m.bestUnits(n / m.g.UnitPages)
	if small := m.g.SmallPages; m.rng.IntN(3) == 0 && small < m.g.UnitPages {
		n = small * (1 + m.rng.Uint32N(m.g.UnitPages/small-1))
		var r Run
		r, fits = smallest(m.gaps(n, small, true))
		want = r.Start
	}
	p, ok := m.a.AllocSegment(n)
	require.Equal(m.t, fits, ok, "AllocSegment(%d)", n)
	if ok {
		require.Equal(m.t, want, p, "best fit for a segment of %d pages", n)
		m.allocated(Run{p, n}, KindSegment)
	}
}

func (m *model) retire() {
	if len(m.live) == 0 {
		return
	}
	i := m.rng.IntN(len(m.live))
	l := m.live[i]
	m.live = slices.Delete(m.live, i, i+1)
	if m.rng.IntN(8) == 0 { // allocated and never used
		m.a.Free(l.Run)
		m.mark(l.Run, nobody, StateUsed, StateFree, false)
		return
	}
	m.gen++
	e := Entry{Run: l.Run, Kind: l.kind, Epoch: m.epoch, Generation: m.gen}
	if e.Kind == KindSegment {
		m.lsn += 10
		e.EndLSN = m.lsn
	}
	m.a.Retire(e, l.epoch)
	e.once = l.kind == KindPage && l.epoch == m.epoch
	if e.once {
		m.due = append(m.due, e)
		m.mark(e.Run, page, StateUsed, StateDue, true)
		return
	}
	m.pending = append(m.pending, e)
	m.mark(e.Run, ownerOf(e.Kind), StateUsed, StatePending, false)
}

// checkpoint seals the epoch, checks the image, and lets its meta page be durable.
func (m *model) checkpoint() {
	m.checkImage()
	sealed := m.epoch
	m.epoch++
	m.metas = [2]Meta{{Epoch: sealed + 1, LSN: m.lsn}, m.metas[0]}
	m.a.Due(m.metas[0], m.metas[1])
	var stay []Entry
	for _, e := range m.pending {
		x := e.Epoch
		due := m.metas[0].Epoch > x && m.metas[1].Epoch > x
		if e.Kind == KindSegment {
			due = m.metas[0].Epoch > x && (m.metas[1].Epoch > x || m.metas[1].LSN >= e.EndLSN)
		}
		if due {
			m.due = append(m.due, e)
			m.mark(e.Run, ownerOf(e.Kind), StatePending, StateDue, false)
		} else {
			stay = append(stay, e)
		}
	}
	m.pending = stay
}

func (m *model) takeDue() {
	pin := m.gen - min(m.gen, m.rng.Uint64N(8)) + 1
	got := m.a.TakeDue(pin)
	want := map[pager.PageNo]Entry{}
	var stay []Entry
	for _, e := range m.due {
		if e.Generation < pin {
			want[e.Start] = e
		} else {
			stay = append(stay, e)
		}
	}
	require.Len(m.t, got, len(want))
	for _, e := range got {
		require.Equal(m.t, want[e.Start], e)
	}
	m.due, m.taken = stay, append(m.taken, got...)
}

func (m *model) free() {
	for len(m.taken) > 0 && m.rng.IntN(8) != 0 {
		i := 0
		if m.rng.IntN(4) == 0 {
			i = m.rng.IntN(len(m.taken))
		}
		r := m.taken[i].Run
		m.taken = slices.Delete(m.taken, i, i+1)
		m.a.Free(r)
		m.mark(r, nobody, StateDue, StateFree, false)
	}
}

func (m *model) resize() {
	if m.rng.IntN(3) == 0 {
		end := m.a.CutEnd()
		for p := end; p < uint64(len(m.pages)); p++ {
			require.Equal(m.t, StateFree, m.pages[p].state, "page %d is cut off", p)
		}
		step := uint64(m.g.UnitPages)
		if end <= step {
			step = uint64(m.g.SmallPages)
		}
		require.True(m.t, slices.ContainsFunc(m.pages[end-min(step, end):end], func(p modelPage) bool { return p.state != StateFree }),
			"the last %d pages below %d are free too", step, end)
		m.a.Shrink(end)
		m.pages = m.pages[:end]
		return
	}
	n := uint64(len(m.pages))
	if n < uint64(m.g.UnitPages) {
		n = min(n+1+m.rng.Uint64N(3), uint64(m.g.UnitPages))
	} else if n < 40*uint64(m.g.UnitPages) {
		n += (1 + m.rng.Uint64N(4)) * uint64(m.g.UnitPages)
	}
	m.a.Extend(n)
	m.grow(n)
}

// clean asks for sparse arenas and compares the answer with the model.
func (m *model) clean() {
	m.avoids = true
	m.a.AvoidCurrent()
	percent := m.rng.IntN(100)
	got, want := m.a.SparseArenas(percent), map[uint32]bool{}
	up := m.g.UnitPages
	for u := uint32(1); u < uint32(len(m.pages))/up; u++ {
		live, pages := uint32(0), 0
		for _, p := range m.pages[u*up : (u+1)*up] {
			if p.owner == page {
				pages++
				if p.state == StateUsed {
					live++
				}
			}
		}
		if pages > 0 && live*100 <= uint32(percent)*up {
			want[u] = true
		}
	}
	require.Equal(m.t, want, got, "arenas with at most %d %% live", percent)
}

// check compares every page, the counters, and the rules of units.
func (m *model) check() {
	at := uint64(0)
	var counts [4]uint64
	m.a.Account(func(r Run, s State) {
		require.Equal(m.t, at, uint64(r.Start), "each page is visited once, ascending")
		at = r.end()
		counts[s] += uint64(r.Pages)
		for p := uint64(r.Start); p < at; p++ {
			require.Equal(m.t, m.pages[p].state, s, "page %d", p)
		}
	})
	require.Equal(m.t, uint64(len(m.pages)), at)
	st := m.a.Stats()
	require.Equal(m.t, counts, [4]uint64{st.Used, st.Free, st.Pending, st.Due})
	require.Equal(m.t, m.countFree(), m.a.FreePages())
	var units uint64
	var runs []Run
	for _, r := range m.freeUnitRuns() {
		units += uint64(r.n)
		runs = append(runs, Run{pager.PageNo(r.start * m.g.UnitPages), r.n * m.g.UnitPages})
	}
	require.Equal(m.t, units, m.a.FreeUnits())
	require.ElementsMatch(m.t, runs, m.a.FreeUnitRuns())
	up := int(m.g.UnitPages)
	for u := 1; u < len(m.pages)/up; u++ {
		var has [4]bool
		for _, p := range m.pages[u*up : (u+1)*up] {
			has[p.owner] = true
		}
		require.False(m.t, has[page] && has[segment], "unit %d holds pages and a segment", u)
	}
}

// checkImage takes the state through an image's bytes and compares each page.
func (m *model) checkImage() {
	im := m.a.Snapshot()
	b := im.AppendTo([]byte("before"))[len("before"):]
	back, rest, err := DecodeImage(m.g, append(slices.Clip(b), "behind"...))
	require.NoError(m.t, err)
	require.Equal(m.t, "behind", string(rest))
	require.Equal(m.t, uint64(len(m.pages)), back.Pages())
	require.Equal(m.t, b, back.AppendTo(nil), "decoding and encoding gives the same bytes")
	FromImage(m.g, back, back.Pages()).Account(func(r Run, s State) {
		for p := uint64(r.Start); p < r.end(); p++ {
			want := m.pages[p].state
			if want == StateDue {
				want = StatePending
			}
			if m.pages[p].once {
				want = StateFree
			}
			require.Equal(m.t, want, s, "page %d after a reopen", p)
		}
	})
}

func (m *model) step() {
	switch n := m.rng.IntN(100); {
	case n < 40:
		m.allocPage()
	case n < 45:
		m.allocRun()
	case n < 52:
		m.allocSegment()
	case n < 80:
		m.retire()
	case n < 86:
		m.takeDue()
	case n < 92:
		m.free()
	case n < 95:
		m.checkpoint()
	case n < 99:
		m.resize()
	default:
		m.clean()
	}
}

func TestModel(t *testing.T) {
	rows := []struct {
		name         string
		units, small uint32
		pages        uint64
		histories    int
	}{
		{"units of 8 pages, small 1", 8, 1, 8, 25},
		{"units of 8 pages, small 2", 8, 2, 5, 25},
		{"units of 8 pages, small 4", 8, 4, 6, 25},
		{"units of 96 pages, a bitmap of two words", 96, 4, 20, 8},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			for seed := range uint64(row.histories) {
				t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
					m := newModel(t, seed, geometry(row.units, row.small), row.pages)
					for range 600 {
						m.step()
						m.check()
					}
				})
			}
		})
	}
}

// geometry is the default one with small units.
func geometry(unitPages, smallPages uint32) pager.Geometry {
	g := pager.DefaultGeometry()
	g.UnitPages, g.SmallPages = unitPages, smallPages
	return g
}
