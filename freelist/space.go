package freelist

import (
	"iter"
	"slices"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/pager"
)

// Run is a run of pages.
type Run struct {
	Start pager.PageNo
	Pages uint32
}

// end is the page behind the run.
func (r Run) end() uint64 { return uint64(r.Start) + uint64(r.Pages) }

// overlaps reports whether two runs have a page in common.
func (r Run) overlaps(o Run) bool {
	return uint64(r.Start) < o.end() && uint64(o.Start) < r.end()
}

// class says what a unit holds.
type class uint8

const (
	classFree    class = iota // nothing: it is in space.runs
	classSegment              // part of a segment, or of what is left of one
	classArena                // single pages and image runs; unit 0 too
)

const (
	noSlot = -1
	noUnit = ^uint32(0)
)

// unit is the entry of one unit, 12 bytes.
type unit struct {
	free  uint32 // free pages in it
	slot  int32  // its bitmap: unit 0 always has one, another unit while it is partly free
	class class
	avoid bool // SparseArenas named it: allocate here last
}

// space is the free space of a file, without the retired runs: what an
// Allocator guards with its mutex and an Image has a copy of. Nothing in it is
// a pointer to a part, so that a copy is a few block moves.
type space struct {
	unitPages uint32
	pages     uint64 // of the file: below one unit any number, else whole units
	free      uint64 // free pages in all
	freeUnits uint64 // wholly free units
	units     []unit
	runs      unitRuns
	slots     []uint32 // the unit of each bitmap, noUnit while it is spare
	spare     []int32  // bitmaps that no unit has
	words     []uint64 // the bitmaps, stride words each
	stride    int
}

// newSpace makes the space of a file in which all but the fixed pages is free.
func newSpace(unitPages uint32, pages uint64) *space {
	s := &space{unitPages: unitPages, pages: uint64(pager.FirstPage), stride: int(unitPages+63) / 64}
	s.units = []unit{{class: classArena}}
	s.units[0].slot = s.newSlot(0)
	s.extend(pages)
	return s
}

// clone copies the space.
func (s *space) clone() *space {
	c := *s
	c.units, c.runs = slices.Clone(s.units), slices.Clone(s.runs)
	c.slots, c.spare, c.words = slices.Clone(s.slots), slices.Clone(s.spare), slices.Clone(s.words)
	return &c
}

// known rounds a number of pages down to what a space can have.
func (s *space) known(pages uint64) uint64 {
	pages = min(pages, pager.MaxPages)
	if pages > uint64(s.unitPages) {
		pages -= pages % uint64(s.unitPages)
	}
	return pages
}

// size is the number of pages in unit u.
func (s *space) size(u uint32) uint32 {
	if u == 0 {
		return uint32(min(s.pages, uint64(s.unitPages)))
	}
	return s.unitPages
}

// extend makes the space pages long; the new pages are free.
func (s *space) extend(pages uint64) {
	pages = s.known(pages)
	if pages <= s.pages {
		return
	}
	before := s.size(0)
	s.pages = pages
	more := s.size(0) - before
	s.bitmap(0).set(before, more)
	s.units[0].free += more
	s.free += uint64(more)

	first := uint32(len(s.units))
	if n := uint32(pages / uint64(s.unitPages)); n > first {
		s.units = append(s.units, make([]unit, n-first)...)
		for u := first; u < n; u++ {
			s.units[u] = unit{free: s.unitPages, slot: noSlot}
		}
		s.runs.add(first, n-first)
		s.countUnits(int64(n - first))
	}
}

// cutEnd is the number of pages up to the last one that is not free: in whole
// units beyond unit 0, in multiples of small in it.
func (s *space) cutEnd(small uint32) uint64 {
	last := uint32(len(s.units))
	if n := len(s.runs); n > 0 && s.runs[n-1].start+s.runs[n-1].n == last {
		last = s.runs[n-1].start
	}
	if last > 1 {
		return uint64(last) * uint64(s.unitPages)
	}
	used := s.size(0)
	for start, end := range s.bitmap(0).runs(used) {
		if end == used {
			used = start
		}
	}
	return min(uint64((used+small-1)/small*small), s.pages)
}

// shrink cuts the space to pages, all of which from there on are free.
func (s *space) shrink(pages uint64) {
	keep := max(1, uint32(pages/uint64(s.unitPages)))
	if n := uint32(len(s.units)); n > keep {
		s.runs.remove(keep, n-keep)
		s.units = s.units[:keep]
		s.countUnits(-int64(n - keep))
	}
	before := s.size(0)
	s.pages = pages
	less := before - s.size(0)
	s.bitmap(0).clear(s.size(0), less)
	s.units[0].free -= less
	s.free -= uint64(less)
}

// part is the part of a run that lies in one unit.
type part struct{ unit, off, n uint32 }

// parts splits a run by units, ascending. What is fixed or behind the end is left out.
func (s *space) parts(r Run) iter.Seq[part] {
	return func(yield func(part) bool) {
		p := max(uint64(r.Start), uint64(pager.FirstPage))
		for end := min(r.end(), s.pages); p < end; {
			u := uint32(p) / s.unitPages // 32 bits: a 64-bit division is many times slower
			off := uint32(p) - u*s.unitPages
			n := uint32(min(uint64(s.unitPages-off), end-p))
			if !yield(part{u, off, n}) {
				return
			}
			p += uint64(n)
		}
	}
}

// claim takes what is free of a part; a free unit becomes an arena. It returns the number of pages taken.
func (s *space) claim(p part) uint32 {
	u := &s.units[p.unit]
	if u.class == classFree {
		s.runs.remove(p.unit, 1)
		s.freeUnits--
		u.class, u.slot = classArena, s.newSlot(p.unit)
		s.bitmap(u.slot).set(0, s.unitPages)
	}
	if u.slot == noSlot {
		return 0
	}
	b := s.bitmap(u.slot)
	n := b.count(p.off, p.n)
	b.clear(p.off, p.n)
	u.free -= n
	s.free -= uint64(n)
	if u.free == 0 && p.unit != 0 {
		s.dropSlot(u)
	}
	return n
}

// claimUnits takes n units from u on, all free, for a segment.
func (s *space) claimUnits(u, n uint32) {
	s.runs.remove(u, n)
	for i := range n {
		s.units[u+i] = unit{slot: noSlot, class: classSegment}
	}
	s.countUnits(-int64(n))
}

// countUnits counts n more free units with their pages.
func (s *space) countUnits(n int64) {
	s.freeUnits += uint64(n)
	s.free += uint64(n * int64(s.unitPages))
}

// give makes the pages of a part free. A unit that is wholly free joins the runs.
func (s *space) give(p part) {
	u := &s.units[p.unit]
	if u.class == classFree {
		debug.Assert(false, "freelist: unit %d freed twice", p.unit)
		return
	}
	if u.slot == noSlot {
		u.class, u.slot = classArena, s.newSlot(p.unit)
	}
	b := s.bitmap(u.slot)
	n := p.n - b.count(p.off, p.n)
	debug.Assert(n == p.n, "freelist: %d pages from page %d of unit %d on, some freed twice", p.n, p.off, p.unit)
	b.set(p.off, p.n)
	u.free += n
	s.free += uint64(n)
	if u.free == s.unitPages && p.unit != 0 {
		s.dropSlot(u)
		u.class, u.avoid = classFree, false
		s.runs.add(p.unit, 1)
		s.freeUnits++
	}
}

// bitmap is the bitmap in a slot. Unit 0 has slot 0.
func (s *space) bitmap(slot int32) bits {
	i := int(slot) * s.stride
	return bits(s.words[i : i+s.stride])
}

// newSlot gives unit u a bitmap without free pages.
func (s *space) newSlot(u uint32) int32 {
	if n := len(s.spare); n > 0 {
		slot := s.spare[n-1]
		s.spare = s.spare[:n-1]
		s.slots[slot] = u
		clear(s.bitmap(slot))
		return slot
	}
	s.slots = append(s.slots, u)
	s.words = append(s.words, make([]uint64, s.stride)...)
	return int32(len(s.slots) - 1)
}

// dropSlot takes a unit's bitmap away.
func (s *space) dropSlot(u *unit) {
	s.slots[u.slot] = noUnit
	s.spare = append(s.spare, u.slot)
	u.slot = noSlot
}

// freeRuns yields the free runs inside unit 0 and the arenas that are partly
// free, and the runs of free units, ascending.
func (s *space) freeRuns() iter.Seq[Run] {
	return func(yield func(Run) bool) {
		for u := uint32(0); u < uint32(len(s.units)); u++ {
			base := pager.PageNo(u) * pager.PageNo(s.unitPages)
			switch e := s.units[u]; {
			case e.class == classFree:
				n := s.runs[s.runs.after(u)-1].n
				if !yield(Run{base, n * s.unitPages}) {
					return
				}
				u += n - 1
			case e.slot != noSlot:
				for start, end := range s.bitmap(e.slot).runs(s.size(u)) {
					if !yield(Run{base + pager.PageNo(start), end - start}) {
						return
					}
				}
			}
		}
	}
}
