package freelist

import (
	"testing"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/stretchr/testify/require"
)

// filled makes an allocator with units of 8 pages and groups of 2 in which every
// page is in use but those listed.
func filled(pages uint64, free ...Run) *Allocator {
	a := New(geometry(8, 2), pages)
	for {
		if _, ok := a.AllocPage(); !ok {
			break
		}
	}
	for _, r := range free {
		a.Free(r)
	}
	a.AvoidCurrent()
	return a
}

// takePages allocates n pages one by one, 0 standing for none.
func takePages(a *Allocator, n int) (out []pager.PageNo) {
	for range n {
		p, _ := a.AllocPage()
		out = append(out, p)
	}
	return out
}

func TestAllocPage(t *testing.T) {
	rows := []struct {
		name string
		a    *Allocator
		want []pager.PageNo
	}{
		{"one unit, ascending, then none", filled(8, Run{4, 4}), []pager.PageNo{4, 5, 6, 7, 0}},
		{"one unit, the broken group first", filled(8, Run{4, 2}, Run{7, 1}), []pager.PageNo{7, 4, 5, 0}},
		{"one unit, the group cut by the file's end is broken", filled(7, Run{4, 3}), []pager.PageNo{6, 4, 5, 0}},
		{"a free unit becomes an arena, unit 0 last", New(geometry(8, 2), 16), []pager.PageNo{8, 9, 10, 11, 12, 13, 14, 15, 4, 5}},
		{"the emptiest arena", filled(32, Run{8, 2}, Run{16, 3}, Run{24, 1}), []pager.PageNo{16, 17, 18, 8, 9, 24, 0}},
		{"the lower of equals", filled(32, Run{26, 2}, Run{17, 2}), []pager.PageNo{17, 18, 26, 27, 0}},
		{"an arena before a free unit", filled(24, Run{8, 1}, Run{16, 8}), []pager.PageNo{8, 16, 17}},
		{"the smallest run of free units", filled(64, Run{8, 16}, Run{32, 8}), []pager.PageNo{32, 33}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			require.Equal(t, row.want, takePages(row.a, len(row.want)))
		})
	}
}

func TestAllocPageLeavesNearlyFullArenasAlone(t *testing.T) {
	a := New(geometry(64, 2), 4*64)
	takePages(a, 2*64)
	a.Free(Run{70, 7})
	a.AvoidCurrent()
	require.Equal(t, []pager.PageNo{192}, takePages(a, 1), "7 of 64 are less than an eighth")
	a.Free(Run{77, 1})
	a.AvoidCurrent()
	takePages(a, 63) // the arena just begun is the emptiest
	require.Equal(t, []pager.PageNo{70}, takePages(a, 1), "8 of 64 are an eighth")
}

func TestAllocPageStaysInItsArena(t *testing.T) {
	a := filled(32, Run{8, 4}, Run{16, 3})
	require.Equal(t, []pager.PageNo{8, 9}, takePages(a, 2))
	a.Free(Run{8, 1})
	a.Free(Run{20, 4})
	require.Equal(t, []pager.PageNo{10, 11, 16}, takePages(a, 3), "what is freed behind does not disturb the order")
}

func TestAllocRun(t *testing.T) {
	rows := []struct {
		name string
		a    *Allocator
		n    uint32
		want pager.PageNo // 0: none
	}{
		{"the smallest gap", filled(32, Run{8, 4}, Run{17, 3}, Run{24, 6}), 3, 17},
		{"the lowest of equal gaps", filled(32, Run{26, 3}, Run{17, 3}), 3, 17},
		{"a gap of unit 0", filled(16, Run{5, 3}), 3, 5},
		{"a gap does not cross units", filled(32, Run{12, 8}), 5, 0},
		{"a gap before a free unit", filled(32, Run{8, 4}, Run{16, 8}), 4, 8},
		{"a free unit where no gap fits", filled(32, Run{8, 4}, Run{16, 8}), 5, 16},
		{"whole units, best fit", filled(80, Run{8, 24}, Run{40, 16}), 9, 40},
		{"too long", filled(32, Run{8, 8}, Run{24, 8}), 9, 0},
		{"nothing", New(geometry(8, 2), 64), 0, 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			free := row.a.FreePages()
			p, ok := row.a.AllocRun(row.n)
			require.Equal(t, row.want != 0, ok)
			if ok {
				require.Equal(t, row.want, p)
				require.Equal(t, free-uint64(row.n), row.a.FreePages())
			}
		})
	}
}

func TestRestOfARunIsArenaSpace(t *testing.T) {
	a := New(geometry(8, 2), 32)
	p, ok := a.AllocRun(11)
	require.True(t, ok)
	require.Equal(t, pager.PageNo(8), p)
	require.Equal(t, []pager.PageNo{19, 20}, takePages(a, 2))
}

func TestAllocSegment(t *testing.T) {
	rows := []struct {
		name string
		a    *Allocator
		n    uint32
		want pager.PageNo // 0: none
	}{
		{"small, the smallest gap", filled(16, Run{4, 2}), 2, 4},
		{"small, aligned", filled(8, Run{5, 3}), 2, 6},
		{"small, not aligned", filled(8, Run{5, 2}), 2, 0},
		{"small never outside unit 0", filled(32, Run{8, 8}), 2, 0},
		{"small, the group at the file's end is cut", filled(7, Run{6, 1}), 2, 0},
		{"a unit, the smallest run", filled(80, Run{8, 16}, Run{32, 8}), 8, 32},
		{"units, the lowest of equals", filled(80, Run{8, 24}, Run{40, 24}), 16, 8},
		{"units, the smallest that fits", filled(96, Run{8, 32}, Run{48, 24}), 16, 48},
		{"a unit needs a whole one", filled(32, Run{12, 8}), 8, 0},
		{"never unit 0", New(geometry(8, 2), 8), 8, 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			p, ok := row.a.AllocSegment(row.n)
			require.Equal(t, row.want != 0, ok)
			require.Equal(t, row.want, p)
		})
	}
}

func TestBestFitInUnit0(t *testing.T) {
	a := New(geometry(32, 2), 32)
	takePages(a, 28)
	a.Free(Run{4, 6})
	a.Free(Run{12, 4})
	a.Free(Run{20, 4})
	p, ok := a.AllocSegment(4)
	require.True(t, ok)
	require.Equal(t, pager.PageNo(12), p)
}

func TestCleaningNeverFillsASparseArena(t *testing.T) {
	a := filled(6*8, Run{8, 7}, Run{16, 6}, Run{24, 2})
	require.Equal(t, map[uint32]bool{1: true, 2: true}, a.SparseArenas(25))
	require.Equal(t, uint64(13), a.Stats().Avoided)
	require.Equal(t, []pager.PageNo{24, 25}, takePages(a, 2), "the fuller arena, as the others are sparse")
	a.Extend(7 * 8)
	require.Equal(t, []pager.PageNo{48}, takePages(a, 1), "a free unit, as the others are sparse")
	p, ok := a.AllocRun(7)
	require.True(t, ok)
	require.Equal(t, pager.PageNo(49), p, "a run avoids them too")
	require.Equal(t, []pager.PageNo{8, 9}, takePages(a, 2), "only when nothing else is free")

	require.Empty(t, a.SparseArenas(-1))
	require.Zero(t, a.Stats().Avoided)
}

func TestSparseCountsRetiredPages(t *testing.T) {
	a := filled(3 * 8)
	a.Retire(Entry{Run: Run{8, 5}, Epoch: 2}, 1)
	a.Retire(Entry{Run: Run{13, 1}, Epoch: 2}, 2)
	require.Equal(t, map[uint32]bool{1: true}, a.SparseArenas(25))
	require.Empty(t, a.SparseArenas(24))
}

func TestTheCurrentArenaIsNotSparse(t *testing.T) {
	a := New(geometry(8, 2), 24)
	takePages(a, 1)
	require.Empty(t, a.SparseArenas(50))
	a.AvoidCurrent()
	require.Equal(t, map[uint32]bool{1: true}, a.SparseArenas(50))
	require.Equal(t, []pager.PageNo{16}, takePages(a, 1))
}

func TestCutAndShrink(t *testing.T) {
	rows := []struct {
		name string
		a    *Allocator
		want uint64
	}{
		{"nothing free", filled(24), 24},
		{"whole units at the end", filled(40, Run{24, 16}), 24},
		{"an arena partly free stays", filled(24, Run{17, 7}), 24},
		{"into unit 0", filled(24, Run{6, 18}), 6},
		{"unit 0 by groups", filled(24, Run{5, 19}), 6},
		{"a new file", New(geometry(8, 2), 24), 4},
		{"a short file with an odd end", filled(7), 7},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			before := row.a.FreePages()
			pages := row.a.Pages()
			require.Equal(t, row.want, row.a.CutEnd())
			row.a.Shrink(row.want)
			require.Equal(t, row.want, row.a.Pages())
			require.Equal(t, before-(pages-row.want), row.a.FreePages())
			row.a.Extend(pages)
			require.Equal(t, before, row.a.FreePages(), "what was cut off is free when it comes back")
		})
	}
}

// TestTakeUnits: the highest free units are taken, so many as are not to be kept, and leave the file or come back.
func TestTakeUnits(t *testing.T) {
	rows := []struct {
		name    string
		n, keep uint64
		want    []Run
	}{
		{"none", 0, 0, nil},
		{"one", 1, 0, []Run{{40, 8}}},
		{"a part of the next run", 3, 0, []Run{{32, 16}, {16, 8}}},
		{"not those to keep", 9, 2, []Run{{32, 16}}},
		{"more are to be kept than there are", 9, 9, nil},
		{"all", 9, 0, []Run{{32, 16}, {8, 16}}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a := filled(48, Run{8, 16}, Run{32, 16}) // units 1, 2, 4 and 5 are free
			before := a.FreePages()
			taken := a.TakeUnits(row.n, row.keep)
			require.Equal(t, row.want, taken)
			pages := uint64(0)
			for _, r := range taken {
				pages += uint64(r.Pages)
			}
			require.Equal(t, before-pages, a.FreePages())
			if len(taken) > 0 && taken[0].end() == a.Pages() {
				a.DropEnd(uint64(taken[0].Start))
				require.Equal(t, uint64(taken[0].Start), a.Pages())
				require.Equal(t, before-pages, a.FreePages(), "they were taken before")
				require.Equal(t, a.Pages(), a.Stats().Pages)
				taken = taken[1:]
			}
			for _, r := range taken {
				a.Free(r)
				pages -= uint64(r.Pages)
			}
			require.LessOrEqual(t, a.FreePages(), before)
		})
	}
}

// TestTurnover counts what is taken to be used, and not what is taken to be given back.
func TestTurnover(t *testing.T) {
	a := filled(48, Run{8, 40})
	unitsBefore, pagesBefore := a.Turnover()
	takePages(a, 9) // two units
	_, ok := a.AllocSegment(8)
	require.True(t, ok)
	a.TakeUnits(1, 0)
	units, pages := a.Turnover()
	require.Equal(t, []uint64{3, 9}, []uint64{units - unitsBefore, pages - pagesBefore})
}

func TestOnlyWholeUnitsCountBehindTheFirst(t *testing.T) {
	a := New(geometry(8, 2), 21)
	require.Equal(t, uint64(16), a.Pages())
	a.Extend(24)
	require.Equal(t, uint64(24), a.Pages())
	a.Extend(8)
	require.Equal(t, uint64(24), a.Pages(), "Extend never shrinks")
	require.Equal(t, uint32(2), a.Unit(23))
}

func TestTheLargestFile(t *testing.T) {
	g := pager.DefaultGeometry()
	g.UnitPages = 1 << 20
	a := New(g, 1<<40)
	require.Equal(t, uint64(1<<32-1<<20), a.Pages(), "whole units of at most MaxPages")
	p, ok := a.AllocSegment(4094 << 20)
	require.True(t, ok)
	require.Equal(t, pager.PageNo(1<<20), p)
	require.Equal(t, uint64(1<<20-4), a.FreePages())
}

func TestMistakesPanicInDebugBuilds(t *testing.T) {
	if !debug.On {
		t.Skip("invariants are checked with -tags mapfile_debug")
	}
	rows := []struct {
		name string
		do   func(a *Allocator)
	}{
		{"free a free page", func(a *Allocator) { a.Free(Run{9, 1}) }},
		{"free a free unit", func(a *Allocator) { a.Free(Run{16, 8}) }},
		{"free a fixed page", func(a *Allocator) { a.Free(Run{3, 1}) }},
		{"free behind the end", func(a *Allocator) { a.Free(Run{40, 1}) }},
		{"free half a unit of a segment", func(a *Allocator) { a.Free(Run{24, 4}) }},
		{"retire a free page", func(a *Allocator) { a.Retire(Entry{Run: Run{9, 1}}, 0) }},
		{"cut off a used page", func(a *Allocator) { a.Shrink(16) }},
		{"a segment of an odd size", func(a *Allocator) { a.AllocSegment(9) }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a := filled(40, Run{9, 1}, Run{16, 16})
			a.MarkUsed(Run{24, 8})
			require.Panics(t, func() { row.do(a) })
		})
	}
}

func TestMistakesDoNoHarmInProduction(t *testing.T) {
	if debug.On {
		t.Skip("the same mistakes panic with -tags mapfile_debug")
	}
	a := filled(24, Run{9, 1}, Run{16, 8})
	for _, r := range []Run{{9, 1}, {16, 8}, {17, 2}, {2, 2}, {22, 100}} {
		a.Free(r)
	}
	require.Equal(t, uint64(9), a.FreePages(), "what is free stays free once")
	a.Shrink(8)
	require.Equal(t, uint64(16), a.Pages(), "a used page is never cut off")
}

func TestACleanedArenaIsUsedAgain(t *testing.T) {
	a := filled(4*8, Run{4, 1}, Run{8, 7}, Run{16, 1}, Run{24, 1})
	require.Equal(t, map[uint32]bool{1: true}, a.SparseArenas(25))
	a.Free(Run{15, 1})
	require.Equal(t, []pager.PageNo{16, 24, 8, 9}, takePages(a, 4), "8 and 9 before unit 0")
	a.AvoidCurrent()
	a.Free(Run{16, 1})
	require.Equal(t, []pager.PageNo{10}, takePages(a, 1), "nothing is left of its having been sparse")
}

// The pages in front of the current arena's allocation point are free again when its end is
// reached, and the next arena is a free unit: its first page is given.
func TestAFreeUnitFollowsAnArenaThatIsNotFull(t *testing.T) {
	g := pager.Geometry{UnitPages: 512, SmallPages: 4}
	a := New(g, 3*512)
	a.MarkUsed(Run{pager.FirstPage, 512 - uint32(pager.FirstPage)})
	var first pager.PageNo
	for i := range 512 {
		p, ok := a.AllocPage()
		require.True(t, ok)
		if i == 0 {
			first = p
		}
		if i == 300 {
			a.Free(Run{first, 1})
		}
	}
	p, ok := a.AllocPage()
	require.True(t, ok)
	require.Zero(t, uint32(p)%512)
	require.NotEqual(t, a.Unit(first), a.Unit(p))
}
