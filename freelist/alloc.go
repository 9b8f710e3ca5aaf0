package freelist

import (
	"sync"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/pager"
)

// Allocator hands out the pages of one file and takes them back. It is safe for
// concurrent use. Its mutex is a leaf in the order of locks: nothing else is
// locked or called while it is held.
type Allocator struct {
	g  pager.Geometry
	mu sync.Mutex // protects all below
	sp *space

	keep uint64 // so many free units become no arena while there are other free pages
	cur  uint32 // the current arena's unit, noUnit: none chosen
	from uint32 // AllocPage looks for the next page of it from here on

	pending list   // retired, a meta page may need it
	due     list   // retired, waiting for readers only
	dueMin  uint64 // no due entry has a smaller generation; noEntry if there is none
	taken   list   // handed out by TakeDue, not yet freed

	tookUnits, tookPages uint64 // see Turnover
}

// noEntry is a generation above all.
const noEntry = ^uint64(0)

// New makes the allocator of a file of that many pages, all free but the fixed
// ones. Behind the first unit only whole units count (see Pages).
func New(g pager.Geometry, pages uint64) *Allocator {
	return newAllocator(g, newSpace(g.UnitPages, pages))
}

func newAllocator(g pager.Geometry, s *space) *Allocator {
	return &Allocator{g: g, sp: s, cur: noUnit, dueMin: noEntry}
}

// Keep says that the last n free units are meant for segments: AllocPage opens one of them only when no other page is free.
func (a *Allocator) Keep(n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keep = n
}

// Pages is the number of pages of the file that the allocator knows: of a file
// longer than one unit the whole units.
func (a *Allocator) Pages() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sp.pages
}

// FreePages is the number of pages that AllocPage can give without growth. O(1).
func (a *Allocator) FreePages() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sp.free
}

// Unit is the number of the unit that holds page p.
func (a *Allocator) Unit(p pager.PageNo) uint32 { return uint32(p) / a.g.UnitPages }

// Extend says that the file has grown to that many pages: the new ones are
// free. A number not above Pages changes nothing.
func (a *Allocator) Extend(pages uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sp.extend(pages)
}

// AllocPage takes one page for the index; false: none is free, the file must
// grow. Pages come from one current arena in ascending order until its end, so
// that the copies of one epoch lie together and are given back together. The
// next is the arena with the most free pages, if an eighth of it is free, else
// a free unit (see Keep), else whatever is left. A file of one unit has unit 0 only.
func (a *Allocator) AllocPage() (pager.PageNo, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sp.free == 0 {
		return 0, false
	}
	a.tookPages++
	off, ok := a.nextInArena()
	if !ok {
		a.cur, a.from, off = a.chooseArena(), 0, 0
		if a.cur == 0 {
			a.cur = noUnit
			off = a.pageOfUnit0()
			a.sp.claim(part{0, off, 1})
			return pager.PageNo(off), true
		}
		if a.sp.units[a.cur].class == classFree {
			a.tookUnits++
		} else {
			off, _ = a.nextInArena()
		}
	}
	a.sp.claim(part{a.cur, off, 1})
	a.from = off + 1
	return pager.PageNo(a.cur*a.g.UnitPages + off), true
}

// nextInArena finds the next free page of the current arena.
func (a *Allocator) nextInArena() (off uint32, ok bool) {
	if a.cur >= uint32(len(a.sp.units)) {
		return 0, false
	}
	u := a.sp.units[a.cur]
	if u.class != classArena || u.slot == noSlot || u.avoid {
		return 0, false
	}
	off = a.sp.bitmap(u.slot).next(a.from, a.g.UnitPages, 0)
	return off, off < a.g.UnitPages
}

// chooseArena chooses the unit from which pages come next, 0 for unit 0. There is a free page.
func (a *Allocator) chooseArena() uint32 {
	best, least := a.mostFree(false)
	if best != noUnit && least*8 >= a.g.UnitPages {
		return best
	}
	if a.sp.freeUnits > a.keep {
		if u, ok := a.sp.runs.best(1); ok {
			return u
		}
	}
	if best != noUnit {
		return best
	}
	if a.sp.units[0].free > 0 {
		return 0
	}
	if u, ok := a.sp.runs.best(1); ok {
		return u
	}
	best, _ = a.mostFree(true)
	a.sp.units[best].avoid = false // nothing else is left, so AllocPage may stay here
	return best
}

// mostFree finds the arena with the most free pages, the lowest among equals,
// of those to be avoided or of the others. noUnit: none is partly free.
func (a *Allocator) mostFree(avoid bool) (best, free uint32) {
	best = noUnit
	for _, u := range a.sp.slots[1:] {
		if u == noUnit || a.sp.units[u].avoid != avoid {
			continue
		}
		if f := a.sp.units[u].free; f > free || f == free && u < best {
			best, free = u, f
		}
	}
	return best, free
}

// pageOfUnit0 chooses a free page of unit 0: one whose group of SmallPages pages
// can hold no segment any more, so that the others still can; else the lowest.
func (a *Allocator) pageOfUnit0() uint32 {
	b, size, small := a.sp.bitmap(0), a.sp.size(0), a.g.SmallPages
	lowest := b.next(0, size, 0)
	for off := lowest; off < size; off = b.next(off, size, 0) {
		group := off - off%small
		if b.count(group, min(small, size-group)) < small {
			return off
		}
		off = group + small
	}
	return lowest
}

// AllocRun takes n contiguous pages for an image: the smallest gap of unit 0 or
// of an arena that has them, else whole units, the rest of which is arena space
// for others. false: the file must grow.
func (a *Allocator) AllocRun(n uint32) (pager.PageNo, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n == 0 || uint64(n) > a.sp.free {
		return 0, false
	}
	start, ok := a.bestGap(n, false)
	if !ok {
		var u uint32
		u, ok = a.sp.runs.best((n-1)/a.g.UnitPages + 1)
		start = pager.PageNo(u * a.g.UnitPages)
	}
	if !ok {
		start, ok = a.bestGap(n, true)
	}
	if ok {
		for p := range a.sp.parts(Run{start, n}) {
			a.sp.claim(p)
		}
	}
	return start, ok
}

// bestGap finds the smallest gap of at least n pages in unit 0 and the arenas,
// those to be avoided or the others; the lowest among equals.
func (a *Allocator) bestGap(n uint32, avoid bool) (start pager.PageNo, ok bool) {
	least := uint32(0)
	for slot, u := range a.sp.slots {
		if u == noUnit || a.sp.units[u].avoid != avoid || a.sp.units[u].free < n {
			continue
		}
		off, size, fits := a.sp.bitmap(int32(slot)).gap(a.sp.size(u), n, 1)
		p := pager.PageNo(u*a.g.UnitPages + off)
		if fits && (!ok || size < least || size == least && p < start) {
			start, least, ok = p, size, true
		}
	}
	return start, ok
}

// AllocSegment takes n pages for a segment: a multiple of SmallPages below
// UnitPages inside unit 0, aligned to SmallPages; or a multiple of UnitPages as
// whole aligned units, never unit 0. Both by best fit. false: the file must
// grow (or n is neither).
func (a *Allocator) AllocSegment(n uint32) (pager.PageNo, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case n == 0:
	case n%a.g.UnitPages == 0:
		u, ok := a.sp.runs.best(n / a.g.UnitPages)
		if ok {
			a.sp.claimUnits(u, n/a.g.UnitPages)
			a.tookUnits += uint64(n / a.g.UnitPages)
		}
		return pager.PageNo(u * a.g.UnitPages), ok
	case n%a.g.SmallPages == 0 && n < a.g.UnitPages:
		off, _, ok := a.sp.bitmap(0).gap(a.sp.size(0), n, a.g.SmallPages)
		if ok {
			a.sp.claim(part{0, off, n})
		}
		return pager.PageNo(off), ok
	}
	debug.Assert(false, "freelist: a segment of %d pages", n)
	return 0, false
}
