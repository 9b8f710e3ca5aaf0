package recovery

import "github.com/mapfile-db/mapfile/pager"

// Advise tells the kernel how the file will be read. While it fits memory with room to spare,
// everything may lie in 2 MiB folios. A larger file keeps them for the index, which every
// look-up needs, and asks for single pages of records: read-ahead would only push others out.
// It does so when the answer changes, and for what the file has grown by. The turn is held.
func (s *State) Advise(memory uint64) {
	size := s.P.Pages() * pager.PageSize
	unit := uint64(s.P.Geo.UnitBytes())
	if size <= unit {
		return
	}
	fits := size <= memory/2
	if s.advised > 0 && fits == s.advisedFits && size <= s.advised+s.advised/4 {
		return
	}
	s.advised, s.advisedFits = size, fits
	s.P.Advise(unit, size-unit, pager.AdviseHuge)
	if fits {
		return
	}
	for _, g := range s.Tail.Segments() {
		if g.Base() >= unit {
			s.P.Advise(g.Base(), g.End()-g.Base(), pager.AdviseRandom)
		}
	}
}
