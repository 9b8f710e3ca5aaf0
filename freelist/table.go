package freelist

import (
	"iter"

	"github.com/mapfile-db/mapfile/pager"
)

// The classes of units in a table.
const (
	tabFree    uint8 = iota // wholly free
	tabSegment              // part of a segment
	tabFull                 // an arena without a free page
	tabPartly               // an arena with a bitmap
	tabClasses
)

// tableRun is a run of units of one class.
type tableRun struct {
	n     uint32
	class uint8
}

// table is a space in the form of its encoding: runs of units instead of an
// entry for each, so that it is no larger than the bytes it was read from.
type table struct {
	pages uint64
	runs  []tableRun // of the units from 1 on
	words []uint64   // the bitmaps of unit 0 and of the units of class tabPartly, in order
}

// tabClass is the class of a unit in a table.
func tabClass(u unit) uint8 {
	switch {
	case u.class == classFree:
		return tabFree
	case u.class == classSegment:
		return tabSegment
	case u.slot == noSlot:
		return tabFull
	}
	return tabPartly
}

// table makes the space's table.
func (s *space) table() table {
	t := table{pages: s.pages}
	for i, u := range s.units {
		class := tabClass(u)
		if class == tabPartly {
			t.words = append(t.words, s.bitmap(u.slot)...)
		}
		switch last := len(t.runs) - 1; {
		case i == 0:
		case last >= 0 && t.runs[last].class == class:
			t.runs[last].n++
		default:
			t.runs = append(t.runs, tableRun{1, class})
		}
	}
	return t
}

// space makes the table's space.
func (t *table) space(unitPages uint32) *space {
	s := newSpace(unitPages, t.pages)
	s.setBits(0, t.words)
	u, words := uint32(1), t.words[s.stride:]
	for _, r := range t.runs {
		switch r.class {
		case tabSegment:
			s.claimUnits(u, r.n)
		case tabFull, tabPartly:
			for i := range r.n {
				s.claim(part{u + i, 0, unitPages})
				s.units[u+i].class = classArena
				if r.class == tabPartly {
					s.setBits(u+i, words)
					words = words[s.stride:]
				}
			}
		}
		u += r.n
	}
	return s
}

// setBits makes exactly those pages of a unit free that are set in words. The unit is no segment.
func (s *space) setBits(u uint32, words []uint64) {
	size := s.size(u)
	s.claim(part{u, 0, size})
	for start, end := range bits(words).runs(size) {
		s.give(part{u, start, end - start})
	}
}

// freeRuns yields the free runs, ascending.
func (t *table) freeRuns(unitPages uint32) iter.Seq[Run] {
	stride := int(unitPages+63) / 64
	return func(yield func(Run) bool) {
		words := t.words
		inUnit := func(base uint64, size uint32) bool {
			for start, end := range bits(words).runs(size) {
				if !yield(Run{pager.PageNo(base) + pager.PageNo(start), end - start}) {
					return false
				}
			}
			words = words[stride:]
			return true
		}
		more := inUnit(0, uint32(min(t.pages, uint64(unitPages))))
		base := uint64(unitPages)
		for _, r := range t.runs {
			switch {
			case !more:
				return
			case r.class == tabFree:
				more = yield(Run{pager.PageNo(base), r.n * unitPages})
			case r.class == tabPartly:
				for i := uint64(0); more && i < uint64(r.n); i++ {
					more = inUnit(base+i*uint64(unitPages), unitPages)
				}
			}
			base += uint64(r.n) * uint64(unitPages)
		}
	}
}
