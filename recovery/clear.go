package recovery

import (
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// cleared is the index as a CLEAR found it. Nothing changes it any more, and its pages and the segments that it leads
// to stay for as long as a reader who is older than the CLEAR has its pin.
type cleared struct {
	sequence   uint64    // of the CLEAR
	root       pager.Ref // of the index before it
	generation uint64    // when it came
	last       uint64    // sequence of the CLEAR before it, 0 if there was none
	before     *cleared
}

// since is those of the CLEARs that readers may be older than: a generation is raised when all before it is published.
func (c *cleared) since(generation uint64) *cleared {
	if c == nil || c.generation < generation {
		return nil
	}
	return &cleared{c.sequence, c.root, c.generation, c.last, c.before.since(generation)}
}

// LastClear is the sequence of the last CLEAR that was appended, 0 if there was none.
func (s *State) LastClear() uint64 { return s.history.cleared.Load() }

// RootAt is the root of the index for who sees the commits up to a sequence, which was loaded before.
func (s *Shared) RootAt(sequence uint64) pager.Ref {
	root := s.Root() // before cleared, which is stored first
	for c := s.cleared.Load(); c != nil && sequence < c.sequence; c = c.before {
		root = c.root
	}
	return root
}

// Clear begins an empty index and retires the old one and every segment but the one that is being appended to, in
// which the CLEAR record lies: nothing in them is alive. It costs by segments and by units of the file, not by keys. It runs
// under the turn, with no checkpoint or compaction under way. An error leaves an index that must not be used.
func (s *State) Clear() error {
	old := s.Index.Root
	if err := s.Index.Renew(); err != nil {
		return err
	}
	fresh, err := s.indexPages()
	if err != nil {
		return err
	}
	before := s.cleared.Load().since(min(s.OldestPin(), s.Generation.Load()))
	s.cleared.Store(&cleared{s.Tail.Sequence, old, s.Generation.Load(), s.history.cleared.Load(), before})
	s.history.cleared.Store(s.Tail.Sequence) // behind the list, which tells older readers of those before
	_, current := s.Tail.Position()
	for _, g := range s.Tail.Segments() {
		if g != current {
			s.RetireSegment(g, true)
		}
	}
	s.growMu.Lock() // no unit is on its way from the dry ones to the free space
	defer s.growMu.Unlock()
	s.retireOldIndex(func(page pager.PageNo) bool { return fresh[page] })
	s.emptied()
	return nil
}

// emptied says that no key is there any more.
func (s *State) emptied() {
	s.Keys, s.Tombstones = 0, 0
	s.Tail.ClearLive()
}

// indexPages lists the pages of an index that was just begun.
func (s *State) indexPages() (map[pager.PageNo]bool, error) {
	pages := map[pager.PageNo]bool{}
	err := s.Index.Visit(s.Index.Root, func(page pager.PageNo, _ bool, _ int, _ index.Path) error {
		pages[page] = true
		return nil
	})
	return pages, err
}

// applyClear replays a CLEAR.
func (s *State) applyClear(w *tail.Walk, r *tail.Record) error {
	if err := s.Index.Renew(); err != nil {
		return err
	}
	s.dropSegmentsBefore(w, r)
	s.emptied()
	s.history.cleared.Store(r.Sequence)
	if s.P.ReadOnly() {
		return nil // the old index stays as it is in the file
	}
	fresh, err := s.indexPages()
	if err != nil {
		return err
	}
	s.retireOldIndex(func(page pager.PageNo) bool { return fresh[page] })
	return nil
}

// dropSegmentsBefore takes the segments out of the table that come in the log before the one in which a CLEAR lies.
func (s *State) dropSegmentsBefore(w *tail.Walk, r *tail.Record) {
	all := s.Tail.Segments()
	for _, own := range all {
		if r.Position < own.Base() || r.Position >= own.End() {
			continue
		}
		for _, g := range all {
			if g.FirstLSN < own.FirstLSN {
				s.dropSegment(w, g)
			}
		}
	}
}
