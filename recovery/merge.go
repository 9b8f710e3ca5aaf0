package recovery

import (
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/internal/sabotage"
)

// merged counts the index pages that were merged away. Replay does not merge, so behind a crash it may copy the two buckets of
// which the life that died copied the one made of them: for each page merged away since a checkpoint it may take a page more.
// That room is kept (see Admit), else a recovery on a full disk would not find it.
type merged struct {
	total        uint64
	newer, older uint64 // as of the two meta pages
}

// durable says that a checkpoint which knows of so many is the newer one.
//
//go:noinline
func (m *merged) durable(total uint64) { m.older, m.newer = m.newer, total }

// owed is how many pages a replay may take more than the commits since the older meta page did.
func (s *State) owed() uint64 {
	if sabotage.Is(sabotage.OwedForgotten) {
		return 0
	}
	return s.merged.total - s.merged.older
}

// IndexSparse reports whether so few slots are in use that buckets must fit into one another.
func (s *State) IndexSparse() bool { return s.Index.Sparsely(s.Keys + s.Tombstones) }

// Merging takes back, place by place, what deletes have left of the index. Its methods run under the turn, and commits may come between them.
type Merging struct {
	s  *State
	at index.Path

	Changes int // made so far
}

// BeginMerge begins at the first place.
func (s *State) BeginMerge() *Merging { return &Merging{s: s} }

// Look looks at the next place, and answers for how many index pages room must be found before Merge: what it takes, and what a replay may take
// more from then on. 0 says that there is nothing to be done. done says that all places were looked at. Nothing is stored. A page that the disk does not
// give is a panic, behind which Skip goes on.
func (m *Merging) Look() (pages uint64, done bool) {
	x := m.s.Index
	n, after, done := x.Sparse(m.at)
	m.at = after
	if n == 0 {
		return 0, done
	}
	return uint64(n + x.Gain()), done
}

// Skip leaves out the place at which Look was interrupted.
func (m *Merging) Skip() (done bool) {
	m.at, done = m.s.Index.Skip(m.at)
	return done
}

// Merge does what Look has found; room for its pages was made. An error leaves an index that must not be used.
func (m *Merging) Merge() error {
	s := m.s
	m.Changes++
	before := s.Index.Pages()
	if err := s.Index.Merge(); err != nil {
		return err
	}
	if root := s.Index.Root; root != s.Root() {
		s.SetRoot(root)
	}
	s.merged.total += before - s.Index.Pages()
	s.credit = 0 // it was granted without the room that replay may take now
	return nil
}
