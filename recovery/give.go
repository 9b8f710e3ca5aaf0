package recovery

import (
	"errors"
	"sync"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
)

// A map in use gives back what it does not need: units at the end of the file are cut off, others are punched. Only free units go: neither
// meta page needs what is in them, no reader can reach it, and the generation was raised since it could (Reclaim). They are put aside
// first, under the turn, so that no commit that was admitted counts on them, and come back with blocks, like all that is dry, or by growth.
//
// A crash leaves blocks gone that no meta page needs, and the file shorter than the meta pages say, but not than what they need.

// giveUnits is how many units a step gives back: writers that want to grow meanwhile wait for it, some milliseconds.
const giveUnits = 8

// GiveBack gives back some of the free units beyond keep. It answers true if there are more. The turn, which it takes for a moment, keeps admitted
// commits away; no checkpoint is under way. Errors of the system leave the map as good as it was.
func (s *State) GiveBack(keep uint64, turn sync.Locker) (more bool, err error) {
	turn.Lock()
	s.growMu.Lock()
	defer s.growMu.Unlock()
	begun := s.begun
	excess := s.takeSpare(keep)
	turn.Unlock()
	if !begun || s.P.Pages() <= uint64(s.P.Geo.UnitPages) {
		return false, nil // what a life has not begun to change is as Close left it
	}
	before := s.P.Pages()
	if err := s.cutDry(excess); err != nil || s.P.Pages() < before {
		return err == nil, err
	}
	if excess == 0 {
		return false, nil
	}
	if sabotage.Is(sabotage.GiveUntaken) {
		return s.giveUntaken(excess)
	}
	return s.punchDry(excess)
}

// takeSpare puts free units aside, as many as a step gives back, if more than keep are idle: free, or dry and not known to be holes. It
// answers how many more there are, at most giveUnits. Turn and growMu are held.
func (s *State) takeSpare(keep uint64) (excess uint64) {
	if !s.begun || s.P.Pages() <= uint64(s.P.Geo.UnitPages) {
		return 0
	}
	dry, free := s.DryBlocks(), s.Free.FreeUnits()
	if dry+free <= keep {
		return 0
	}
	excess = min(dry+free-keep, giveUnits)
	for _, r := range s.Free.TakeUnits(excess-min(dry, excess), 0) {
		s.addDry(r)
	}
	return excess
}

// DryBlocks is the number of units put aside that may have blocks. growMu is held, or nothing grows.
func (s *State) DryBlocks() (n uint64) {
	s.dryUnits(func(page pager.PageNo) bool {
		if !s.P.Punched(page, 1) {
			n++
		}
		return true
	})
	return n
}

// dryUnits visits the units put aside, the highest first, while visit answers true. growMu is held.
func (s *State) dryUnits(visit func(page pager.PageNo) bool) {
	unit := s.P.Geo.UnitPages
	for i := len(s.dry) - 1; i >= 0; i-- {
		for n := s.dry[i].Pages; n > 0; n -= unit {
			if !visit(s.dry[i].Start + pager.PageNo(n-unit)) {
				return
			}
		}
	}
}

// cutDry cuts the units off that are put aside at the end of the file and that neither meta page needs (I4): of those with blocks at most excess. growMu
// is held.
func (s *State) cutDry(excess uint64) error {
	unit := s.P.Geo.UnitPages
	least := max(s.needs[0], s.needs[1], uint64(unit))
	if sabotage.Is(sabotage.CutNeeded) {
		least = uint64(unit)
	}
	end := s.P.Pages()
	s.dryUnits(func(page pager.PageNo) bool {
		blocks := !s.P.Punched(page, 1)
		if uint64(page)+uint64(unit) != end || uint64(page) < least || blocks && excess == 0 {
			return false
		}
		if blocks {
			excess--
		}
		end = uint64(page)
		return true
	})
	was := s.P.Pages()
	if end == was {
		return nil
	}
	if err := s.P.Cut(end); err != nil {
		return err
	}
	s.takeDry(pager.PageNo(end), uint32(was-end))
	s.Free.DropEnd(end)
	return nil
}

// punchDry punches so many units that are put aside. It answers false if the file system cannot. growMu is held.
func (s *State) punchDry(units uint64) (more bool, err error) {
	if s.noHoles {
		return false, nil
	}
	s.dryUnits(func(page pager.PageNo) bool {
		if s.P.Punched(page, 1) {
			return true
		}
		err = s.P.Punch(page, s.P.Geo.UnitPages)
		units--
		return err == nil && units > 0
	})
	if errors.Is(err, errors.ErrUnsupported) {
		s.noHoles = true
		return false, nil
	}
	return err == nil, err
}

// Spare is the number of free units that GiveBack is to leave, though nobody may want them soon: what is grown ahead of writers would come back
// at once.
func (s *State) Spare() uint64 { return s.aheadUnits() }

// needs of the two meta pages: pages that the file must have for the one just written, or loaded, and for the one before.
func (s *State) needed(pages uint64) { s.needs = [2]uint64{pages, s.needs[0]} }

// runsWithout is what is left of a run of units without a part of it.
func runsWithout(r freelist.Run, start pager.PageNo, pages uint32) (left []freelist.Run) {
	if r.Start < start {
		left = append(left, freelist.Run{Start: r.Start, Pages: uint32(start - r.Start)})
	}
	if end, last := uint64(start)+uint64(pages), uint64(r.Start)+uint64(r.Pages); end < last {
		left = append(left, freelist.Run{Start: pager.PageNo(end), Pages: uint32(last - end)})
	}
	return left
}
