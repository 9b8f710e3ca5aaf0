package recovery

import (
	"cmp"
	"slices"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/pager"
)

// Free space is handed out only where it has blocks on disk, so that a full disk is found out at admission,
// before a byte of a commit is stored. What the file had when it was opened may be holes: units that Close punched, and
// anything in a sparse copy. Free units of it are dry, put aside, until they have got blocks; arenas get theirs when
// the life begins; segments are dry when they come free.

// dryUp puts the wholly free units aside.
func (s *State) dryUp() {
	s.growMu.Lock()
	defer s.growMu.Unlock()
	for _, r := range s.Free.FreeUnitRuns() {
		s.putAside(r)
	}
}

// putAside makes a run of whole units, free or handed over by TakeDue, dry. growMu is held.
func (s *State) putAside(r freelist.Run) {
	s.Free.MarkUsed(r)
	s.addDry(r)
}

// addDry adds a run that the allocator counts as used to the dry ones. growMu is held.
func (s *State) addDry(r freelist.Run) {
	s.dry = append(s.dry, r)
	slices.SortFunc(s.dry, func(a, b freelist.Run) int { return cmp.Compare(a.Start, b.Start) })
	all := s.dry[:1]
	for _, r := range s.dry[1:] {
		if last := &all[len(all)-1]; uint64(last.Start)+uint64(last.Pages) == uint64(r.Start) {
			last.Pages += r.Pages
		} else {
			all = append(all, r)
		}
	}
	s.dry = all
}

// takeDry takes pages, which lie in one run, from the dry ones. growMu is held.
func (s *State) takeDry(start pager.PageNo, pages uint32) {
	for i, r := range s.dry {
		if r.Start <= start && uint64(start)+uint64(pages) <= uint64(r.Start)+uint64(r.Pages) {
			s.dry = slices.Replace(s.dry, i, i+1, runsWithout(r, start, pages)...)
			return
		}
	}
}

// free gives the pages of a retired run to the free space, or puts them aside if they may be holes.
func (s *State) free(e freelist.Entry) {
	unit := s.P.Geo.UnitPages
	if e.Kind != freelist.KindSegment || uint32(e.Start) < unit || s.P.Prepared(e.Start, e.Pages) {
		s.Free.Free(e.Run)
		return
	}
	s.growMu.Lock()
	defer s.growMu.Unlock()
	s.putAside(e.Run)
}

// wet gains n pages from the units put aside: the shortest run that has them, of those without a hole if there is one. growMu is held.
func (s *State) wet(n uint64) (bool, error) {
	unit := uint64(s.P.Geo.UnitPages)
	whole := (n + unit - 1) / unit * unit
	if whole > pager.MaxPages {
		return false, nil
	}
	start, ok := s.dryWindow(uint32(whole), false)
	if !ok {
		start, ok = s.dryWindow(uint32(whole), true)
	}
	if !ok {
		return false, nil
	}
	if err := s.P.Prepare(start, uint32(whole)); err != nil {
		return false, err
	}
	s.takeDry(start, uint32(whole))
	s.Free.Free(freelist.Run{Start: start, Pages: uint32(whole)})
	return true, nil
}

// dryWindow finds so many pages, whole units, in the shortest dry run that has them, with or without units among them that were punched.
func (s *State) dryWindow(want uint32, holes bool) (start pager.PageNo, ok bool) {
	least := uint32(0)
	for _, r := range s.dry {
		if r.Pages < want || ok && r.Pages >= least {
			continue
		}
		for at := uint32(0); at+want <= r.Pages; at += s.P.Geo.UnitPages {
			if page := r.Start + pager.PageNo(at); holes || !s.P.Punched(page, want) {
				start, least, ok = page, r.Pages, true
				break
			}
		}
	}
	return start, ok
}

// DryPages is the number of pages put aside.
func (s *State) DryPages() (n uint64) {
	s.growMu.Lock()
	defer s.growMu.Unlock()
	for _, r := range s.dry {
		n += uint64(r.Pages)
	}
	return n
}

// FreeUnits is the number of wholly free units, those put aside among them.
func (s *State) FreeUnits() uint64 {
	return s.Free.FreeUnits() + s.DryPages()/uint64(s.P.Geo.UnitPages)
}

// reserveArenas gives blocks to the units that index pages may be taken from, once in a life: whoever is
// admitted must not find that a free page is a hole on a full disk. Errors: ErrFull.
func (s *State) reserveArenas() error {
	if s.blocks {
		return nil
	}
	for _, r := range s.Free.ArenaRuns() {
		if err := s.P.Reserve(r.Start, r.Pages); err != nil {
			return err
		}
	}
	s.blocks = true
	return nil
}
