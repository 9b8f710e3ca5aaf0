package tail

import (
	"cmp"
	"slices"
	"sync"

	"github.com/mapfile-db/mapfile/pager"
)

// shelf is what lets readers list the segments without the writer's turn.
type shelf struct {
	mu      sync.Mutex        // protects what follows, and changes of Table.segments; a leaf
	past    map[*Segment]bool // of earlier lives: their ends do not move any more
	retired []retired
}

// retired is a segment that has left the table and whose pages are not yet used again.
type retired struct {
	Segment
	generation uint64
}

// Part is a segment as a scan in the order of the log reads it.
type Part struct {
	Start    pager.PageNo
	Pages    uint32
	Salt     uint64
	FirstLSN uint64
	FirstSeq uint64
	Used     uint64 // bytes, header included; 0 where it is not known: a LINK ends it, or the end of the log
}

// Base is the byte offset of its first byte in the file.
func (p *Part) Base() uint64 { return uint64(p.Start) * pager.PageSize }

// End is the byte offset behind its last byte.
func (p *Part) End() uint64 { return p.Base() + uint64(p.Pages)*pager.PageSize }

func partOf(s *Segment, final bool) Part {
	p := Part{Start: s.Start, Pages: s.Pages, Salt: s.Salt, FirstLSN: s.FirstLSN, FirstSeq: s.FirstSeq}
	if final {
		p.Used = s.Used
	}
	return p
}

// Parts lists, by place in the file, the segments in use and those retired in or after a generation: all that a reader who has
// pinned that generation may need. It is for any goroutine.
func (t *Table) Parts(generation uint64) []Part {
	t.shelf.mu.Lock()
	defer t.shelf.mu.Unlock()
	parts := make([]Part, 0, len(t.segments)+len(t.shelf.retired))
	for _, s := range t.segments {
		parts = append(parts, partOf(s, t.shelf.past[s]))
	}
	for i := range t.shelf.retired {
		if r := &t.shelf.retired[i]; r.generation >= generation {
			parts = append(parts, partOf(&r.Segment, true))
		}
	}
	slices.SortFunc(parts, func(a, b Part) int { return cmp.Compare(a.Start, b.Start) })
	return parts
}

// Retire takes a segment out of the table, as Remove does, in a generation of readers who may still need it.
func (t *Table) Retire(s *Segment, generation uint64) {
	t.shelf.mu.Lock()
	defer t.shelf.mu.Unlock()
	delete(t.segments, s.Start)
	delete(t.shelf.past, s)
	t.shelf.retired = append(t.shelf.retired, retired{*s, generation})
}

// Reused says that the pages of retired segments are about to be used again: no reader needs them.
func (t *Table) Reused(start pager.PageNo, pages uint32) {
	t.shelf.mu.Lock()
	defer t.shelf.mu.Unlock()
	t.shelf.retired = slices.DeleteFunc(t.shelf.retired, func(r retired) bool {
		return r.Start >= start && uint64(r.Start) < uint64(start)+uint64(pages)
	})
}
