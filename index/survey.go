package index

import "github.com/mapfile-db/mapfile/pager"

// Place is a page of the index and where it stands.
type Place struct {
	Page      pager.PageNo
	Directory bool
	Level     int // directory pages above it
}

// Survey visits every page that a root leads to, as Visit does, and goes on behind a page that does not hold: damaged
// is told of it, and nothing below it is visited. An error of either ends the survey. The caller has a pin, or the turn.
func (x *Index) Survey(root pager.Ref, visit func(Place) error, damaged func(Place, error) error) error {
	how, err := x.VerifyRoot(root, true)
	if err != nil {
		return damaged(Place{root.Page, true, 0}, err)
	}
	s := &survey{x: x, visit: visit, damaged: damaged, seen: make([]uint64, x.p.Pages()/64+1)}
	s.first(root.Page)
	return s.below(Place{root.Page, true, 0}, how)
}

// survey is one Survey.
type survey struct {
	x       *Index
	visit   func(Place) error
	damaged func(Place, error) error
	seen    []uint64 // a bit for each page: two directories that lead to one page would make the way endless
}

// first reports whether a page was not met before.
func (s *survey) first(page pager.PageNo) bool {
	word, bit := &s.seen[page/64], uint64(1)<<(page%64)
	was := *word&bit != 0
	*word |= bit
	return !was
}

func (s *survey) below(dir Place, how uint32) error {
	x := s.x
	if err := s.visit(dir); err != nil {
		return err
	}
	if dir.Level >= 2*x.levels {
		return s.damaged(dir, x.corrupt(dir.Page, "the directory is deeper than it can be"))
	}
	last := dir.Page
	for i := range uint64(1) << width(how) {
		page, below, err := x.child(dir.Page, dir.Level, width(how), i, true)
		// (A damaged child's number is in its entry all the same.)
		if page == last {
			continue // several entries lead to one bucket
		}
		last = page
		child := Place{page, below&isDirectory != 0, dir.Level + 1}
		switch {
		case err != nil:
			child.Directory = x.looksLikeDirectory(page)
			err = s.damaged(child, err)
		case !s.first(page):
			err = s.damaged(child, x.corrupt(page, "two places of the index lead to this page"))
		case child.Directory:
			err = s.below(child, below)
		default:
			err = s.visit(child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// looksLikeDirectory says what a damaged page says it is.
func (x *Index) looksLikeDirectory(page pager.PageNo) bool {
	return uint64(page) < x.p.Pages() && x.p.View().Page(page)[offType] == TypeDirectory
}
