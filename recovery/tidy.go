package recovery

import (
	"math"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
)

// sparsePercent is how much of an arena may be in use for Tidy to empty it.
const sparsePercent = 80

// Tidying moves index pages out of arenas that are mostly free into others, so that units become free.
type Tidying struct {
	s      *State
	sparse map[uint32]bool // units
	at     index.Path
}

// BeginTidy chooses the arenas to empty, the emptiest where there is little room to copy into; nil if that gives back no unit. Until
// SparseArenas(-1) neither index pages nor images go to them: the checkpoints that let the old copies go would store their images there. It runs
// under the turn.
func (s *State) BeginTidy() *Tidying {
	s.Free.AvoidCurrent() // else the arena in use would not count as sparse
	// Besides what lies in them, the directories above are copied.
	sparse := s.Free.EmptiestArenas(sparsePercent, s.imagePages()+s.worstIndexPages(1)+uint64(s.Index.Directories))
	if len(sparse) == 0 {
		return nil
	}
	return &Tidying{s: s, sparse: sparse}
}

// Step looks at so many buckets and moves those that lie in the chosen arenas. It runs under the turn, and commits may come between two steps. It
// answers true when all is done, or there is no room to go on.
func (t *Tidying) Step(buckets int) (done bool, err error) {
	s := t.s
	in := func(p pager.PageNo) bool { return t.sparse[s.Free.Unit(p)] }
	least := s.Free.Stats().Avoided + s.imagePages() + s.worstIndexPages(1) // nothing comes free there meanwhile: that takes a checkpoint
	for range buckets {
		if s.Free.FreePages() < least {
			return true, nil
		}
		if t.at, done, err = s.Index.Evacuate(t.at, in); err != nil {
			return false, err
		}
		if root := s.Index.Root; root != s.Root() {
			s.SetRoot(root)
		}
		if done {
			return true, nil
		}
	}
	return false, nil
}

// Tidy is all of it at once.
func (s *State) Tidy() error {
	t := s.BeginTidy()
	if t == nil {
		return nil
	}
	_, err := t.Step(math.MaxInt)
	return err
}
