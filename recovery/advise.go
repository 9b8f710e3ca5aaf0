package recovery

import "github.com/mapfile-db/mapfile/pager"

// Advise tells the kernel how the file will be read. While it fits memory with room to spare,
// everything may lie in 2 MiB folios. A larger file keeps them for the index, which every
// look-up needs, and asks for single pages of records: read-ahead would only push others out, and
// in a range that is advised for huge pages each fault reads 2 MiB. It does so when the answer changes and when the file has
// grown by a quarter, and of segments written to since at each call. The turn is held.
func (s *State) Advise(memory uint64) {
	size := s.P.Pages() * pager.PageSize
	unit := uint64(s.P.Geo.UnitBytes())
	if size <= unit {
		return
	}
	fits := size <= memory/2
	if s.advised == 0 || fits != s.advisedFits || size > s.advised+s.advised/4 {
		s.advised, s.advisedFits, s.advisedLSN = size, fits, 0
		s.P.Advise(unit, size-unit, pager.AdviseHuge)
		s.P.Advise(unit, size-unit, pager.AdviseNormal)
	}
	if fits {
		return
	}
	for _, g := range s.Tail.Segments() {
		if g.Base() >= unit && g.EndLSN() >= s.advisedLSN {
			s.P.Advise(g.Base(), g.End()-g.Base(), pager.AdviseSmall)
			s.P.Advise(g.Base(), g.End()-g.Base(), pager.AdviseRandom)
		}
	}
	s.advisedLSN = s.Tail.LSN
}
