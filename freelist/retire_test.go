package freelist

import (
	"sync"
	"testing"

	"github.com/mapfile-db/mapfile/pager"
	"github.com/stretchr/testify/require"
)

func TestReclamation(t *testing.T) {
	pageOf := func(epoch uint32) Entry { return Entry{Run: Run{8, 1}, Epoch: epoch} }
	segmentOf := func(epoch uint32, end uint64) Entry {
		return Entry{Run: Run{16, 8}, Kind: KindSegment, Epoch: epoch, EndLSN: end}
	}
	rows := []struct {
		name         string
		e            Entry
		allocatedIn  uint32
		newer, older Meta
		due          bool
	}{
		{"page, both metas above", pageOf(5), 4, Meta{7, 0}, Meta{6, 0}, true},
		{"page, the older meta needs it", pageOf(5), 4, Meta{6, 900}, Meta{5, 900}, false},
		{"page, both metas need it", pageOf(5), 4, Meta{5, 900}, Meta{4, 900}, false},
		{"page, epochs skipped by a recovery", pageOf(5), 4, Meta{10, 0}, Meta{9, 0}, true},
		{"page of this epoch, at once", pageOf(5), 5, Meta{4, 0}, Meta{3, 0}, true},
		{"segment, both metas above", segmentOf(5, 900), 4, Meta{7, 800}, Meta{6, 800}, true},
		{"segment wholly below the older meta's replay", segmentOf(5, 900), 4, Meta{6, 950}, Meta{5, 901}, true},
		{"segment that ends where the older replay starts", segmentOf(5, 900), 4, Meta{6, 950}, Meta{5, 900}, true},
		{"segment that the older meta must replay", segmentOf(5, 900), 4, Meta{6, 950}, Meta{5, 899}, false},
		{"segment, the newer meta needs it", segmentOf(5, 900), 4, Meta{5, 950}, Meta{4, 950}, false},
		{"segment of this epoch waits like any", segmentOf(5, 900), 5, Meta{5, 0}, Meta{4, 0}, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a := filled(24)
			a.MarkUsed(Run{16, 8})
			a.Retire(row.e, row.allocatedIn)
			a.Due(row.newer, row.older)
			got := a.TakeDue(1)
			require.Equal(t, row.due, len(got) == 1)
			require.Zero(t, a.FreePages(), "nothing is free before Free")
			if row.due {
				require.Equal(t, row.e.Run, got[0].Run)
				a.Free(got[0].Run)
				require.Equal(t, uint64(row.e.Pages), a.FreePages())
			}
		})
	}
}

func TestTakeDueWaitsForPins(t *testing.T) {
	a := filled(24)
	for i, gen := range []uint64{3, 9, 5} {
		a.Retire(Entry{Run: Run{8 + pager.PageNo(i), 1}, Epoch: 1, Generation: gen}, 1)
	}
	starts := func(pin uint64) (out []pager.PageNo) {
		for _, e := range a.TakeDue(pin) {
			out = append(out, e.Start)
		}
		return out
	}
	require.Empty(t, starts(3), "a pin at the generation of retirement holds it back")
	require.Equal(t, []pager.PageNo{8}, starts(5))
	require.Equal(t, []pager.PageNo{10}, starts(6))
	require.Empty(t, starts(9))
	require.Equal(t, uint64(3), a.Stats().Due, "what was taken is due until it is freed")
	require.Equal(t, []pager.PageNo{9}, starts(10))
	require.Empty(t, starts(100))
}

func TestMarkUsed(t *testing.T) {
	segmentAt := func(start pager.PageNo, n uint32) *Allocator {
		a := filled(64)
		a.MarkUsed(Run{start, n})
		a.Retire(Entry{Run: Run{start, n}, Kind: KindSegment, Epoch: 1, EndLSN: 50}, 1)
		return a
	}
	rows := []struct {
		name  string
		a     *Allocator
		r     Run
		taken uint32
		left  []Run // retired
	}{
		{"free units", filled(32, Run{8, 24}), Run{16, 8}, 8, nil},
		{"in use", filled(32), Run{16, 8}, 0, nil},
		{"an arena partly free", filled(32, Run{17, 3}), Run{16, 8}, 3, nil},
		{"single pages of a free unit", filled(32, Run{16, 8}), Run{17, 2}, 2, nil},
		{"a whole pending segment", segmentAt(16, 24), Run{16, 24}, 24, nil},
		{"its middle", segmentAt(16, 24), Run{24, 8}, 8, []Run{{16, 8}, {32, 8}}},
		{"its start", segmentAt(16, 24), Run{8, 16}, 8, []Run{{24, 16}}},
		{"its end", segmentAt(16, 24), Run{32, 16}, 8, []Run{{16, 16}}},
		{"beside it", segmentAt(16, 24), Run{40, 8}, 0, []Run{{16, 24}}},
		{"behind the file", filled(32, Run{24, 8}), Run{24, 16}, 8, nil},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			free := row.a.FreePages()
			before := row.a.Stats()
			require.Equal(t, row.taken, row.a.MarkUsed(row.r))
			require.Equal(t, before.Used+uint64(row.taken), row.a.Stats().Used)
			require.LessOrEqual(t, free-row.a.FreePages(), uint64(row.taken))
			var left []Run
			row.a.Due(Meta{9, 0}, Meta{8, 0})
			for _, e := range row.a.TakeDue(1) {
				require.Equal(t, uint64(50), e.EndLSN)
				left = append(left, e.Run)
			}
			require.ElementsMatch(t, row.left, left)
		})
	}
}

func TestMarkUsedTellsSegmentsFromArenas(t *testing.T) {
	a := New(geometry(8, 2), 64)
	a.MarkUsed(Run{8, 16})
	a.MarkUsed(Run{32, 3})
	st := a.Stats()
	require.Equal(t, [2]uint64{2, 1}, [2]uint64{st.SegmentUnits, st.Arenas})
	require.Equal(t, []pager.PageNo{35}, takePages(a, 1), "index pages go to the arena")
}

func TestConcurrentUse(t *testing.T) {
	const workers, rounds = 4, 500
	a := New(geometry(8, 2), 80)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				p, ok := a.AllocPage()
				if !ok {
					continue
				}
				a.Retire(Entry{Run: Run{p, 1}, Epoch: uint32(i / 50)}, uint32(i/50-i%2))
				a.Due(Meta{Epoch: uint32(i / 50)}, Meta{Epoch: uint32(i / 50)})
				for _, e := range a.TakeDue(1) {
					a.Free(e.Run)
				}
				if i%20 == w {
					_ = a.Snapshot().AppendTo(nil)
				}
			}
		})
	}
	wg.Wait()
	a.Due(Meta{Epoch: 99}, Meta{Epoch: 99})
	for _, e := range a.TakeDue(1) {
		a.Free(e.Run)
	}
	require.Equal(t, uint64(76), a.FreePages(), "every page came back once")
}

// BenchmarkSteadyState replaces the pages of an index of 50,000 pages, 5,000 an epoch.
func BenchmarkSteadyState(b *testing.B) {
	const live, perEpoch = 50_000, 5_000
	a := New(pager.DefaultGeometry(), 4*live/512*512)
	held := make([]pager.PageNo, live)
	for i := range held {
		held[i], _ = a.AllocPage()
	}
	epoch := uint32(2)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%perEpoch == 0 {
			epoch++
			a.Due(Meta{Epoch: epoch}, Meta{Epoch: epoch - 1})
			for _, e := range a.TakeDue(1) {
				a.Free(e.Run)
			}
		}
		at := i * 7919 % live // pages leave in another order than they came
		a.Retire(Entry{Run: Run{held[at], 1}, Epoch: epoch}, epoch-1)
		p, ok := a.AllocPage()
		if !ok {
			b.Fatal("the file is full")
		}
		held[at] = p
	}
}
