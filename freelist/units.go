package freelist

import (
	"cmp"
	"slices"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/pager"
)

// FreeUnits is the number of wholly free units. O(1).
func (a *Allocator) FreeUnits() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sp.freeUnits
}

// FreeUnitRuns lists the runs of wholly free units, ascending, for punching holes.
func (a *Allocator) FreeUnitRuns() []Run {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Run, len(a.sp.runs))
	for i, r := range a.sp.runs {
		out[i] = Run{pager.PageNo(r.start * a.g.UnitPages), r.n * a.g.UnitPages}
	}
	return out
}

// ArenaRuns lists the runs of arenas, ascending, unit 0 among them.
func (a *Allocator) ArenaRuns() (out []Run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for u := range a.sp.units {
		if a.sp.units[u].class != classArena {
			continue
		}
		r := Run{pager.PageNo(uint32(u) * a.g.UnitPages), a.sp.size(uint32(u))}
		if k := len(out) - 1; k >= 0 && out[k].end() == uint64(r.Start) {
			out[k].Pages += r.Pages
		} else {
			out = append(out, r)
		}
	}
	return out
}

// SmallRuns is how many segments of n pages, fewer than a unit, find room in unit 0 as it is now.
func (a *Allocator) SmallRuns(n uint32) (runs uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, size := a.sp.bitmap(0), a.sp.size(0)
	for off := uint32(0); off+n <= size; {
		if b.count(off, n) == n {
			runs++
			off += n
		} else {
			off += a.g.SmallPages
		}
	}
	return runs
}

// CutEnd is the number of pages to which the file can be cut: those up to the
// last page that is not free, in whole units beyond unit 0 and in multiples of
// SmallPages inside it.
func (a *Allocator) CutEnd() (pages uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sp.cutEnd(a.g.SmallPages)
}

// Shrink says that the file was cut to that many pages, at least CutEnd; behind
// the first unit only whole units count. A number not below Pages changes nothing.
func (a *Allocator) Shrink(pages uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	least := a.sp.cutEnd(a.g.SmallPages)
	debug.Assert(pages >= least, "freelist: cut to %d pages, %d are in use", pages, least)
	if pages = a.sp.known(max(pages, least)); pages < a.sp.pages {
		a.sp.shrink(pages)
	}
}

// TakeUnits takes up to n free units out of the free space, as AllocSegment would, the highest first, and leaves keep of them:
// what is to be given back to the file system must not be handed out meanwhile. The runs are descending.
func (a *Allocator) TakeUnits(n, keep uint64) (taken []Run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = min(n, a.sp.freeUnits-min(keep, a.sp.freeUnits))
	for n > 0 {
		last := a.sp.runs[len(a.sp.runs)-1]
		k := uint32(min(n, uint64(last.n)))
		u := last.start + last.n - k
		a.sp.claimUnits(u, k)
		taken = append(taken, Run{pager.PageNo(u * a.g.UnitPages), k * a.g.UnitPages})
		n -= uint64(k)
	}
	return taken
}

// DropEnd says that the file was cut to that many pages, whole units, and that those behind had been taken by TakeUnits.
func (a *Allocator) DropEnd(pages uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	keep := pages / uint64(a.g.UnitPages)
	debug.Assert(keep > 0 && pages%uint64(a.g.UnitPages) == 0 && pages <= a.sp.pages, "freelist: cut to %d pages of %d", pages, a.sp.pages)
	for _, u := range a.sp.units[keep:] {
		debug.Assert(u.class == classSegment, "freelist: a unit is cut off that was not taken")
	}
	a.sp.units, a.sp.pages = a.sp.units[:keep], pages
}

// Turnover counts what was taken since the allocator was made: free units, by segments and for index pages, and index pages.
func (a *Allocator) Turnover() (units, pages uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tookUnits, a.tookPages
}

// Retired is the number of pages that wait: for checkpoints, and for readers alone.
func (a *Allocator) Retired() (pending, due uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pending.pages, a.due.pages + a.taken.pages
}

// SparseArenas names the arenas of whose pages at most percent in a hundred are
// live (neither free nor retired), by unit: cleaning copies what is in them, so
// that they become free as a whole. The current arena is none of them, as it is
// being filled. From now on until the next call pages come from an arena named
// here only when nothing else in the file is free, so that no copy out of one
// lands in another; a negative percent ends that and names none.
func (a *Allocator) SparseArenas(percent int) map[uint32]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	retired := a.retiredByUnit()
	sparse := make(map[uint32]bool)
	for i := 1; i < len(a.sp.units); i++ {
		u := &a.sp.units[i]
		live := int64(a.g.UnitPages) - int64(u.free) - int64(retired[i])
		current := uint32(i) == a.cur && u.slot != noSlot
		u.avoid = u.class == classArena && !current && live*100 <= int64(percent)*int64(a.g.UnitPages)
		if u.avoid {
			sparse[uint32(i)] = true
		}
	}
	return sparse
}

// EmptiestArenas is SparseArenas for as many of the arenas it would name as can be emptied into the free space
// elsewhere, but for units that Keep is for, spare pages of which are left: the emptiest first, the lowest among equals.
func (a *Allocator) EmptiestArenas(percent int, spare uint64) map[uint32]bool {
	sparse := a.SparseArenas(percent)
	a.mu.Lock()
	defer a.mu.Unlock()
	retired := a.retiredByUnit()
	order := make([]uint32, 0, len(sparse))
	for u := range sparse {
		order = append(order, u)
	}
	live := func(u uint32) uint64 { return uint64(a.g.UnitPages - a.sp.units[u].free - retired[u]) }
	slices.SortFunc(order, func(x, y uint32) int { return cmp.Or(cmp.Compare(live(x), live(y)), cmp.Compare(x, y)) })
	room, full := a.sp.free-min(a.keep, a.sp.freeUnits)*uint64(a.g.UnitPages), false
	for _, u := range order {
		took := live(u) + uint64(a.sp.units[u].free)
		if full = full || room < spare+took; full {
			a.sp.units[u].avoid = false
			delete(sparse, u)
			continue
		}
		room -= took
	}
	return sparse
}

// retiredByUnit counts the retired pages of each unit.
func (a *Allocator) retiredByUnit() []uint32 {
	n := make([]uint32, len(a.sp.units))
	for _, l := range []*list{&a.pending, &a.due, &a.taken} {
		for i := range l.all {
			for p := range a.sp.parts(l.all[i].Run) {
				n[p.unit] += p.n
			}
		}
	}
	return n
}

// AvoidCurrent forgets the current arena: the next page chooses anew. Called
// before SparseArenas it lets that name the arena too.
func (a *Allocator) AvoidCurrent() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cur = noUnit
}
