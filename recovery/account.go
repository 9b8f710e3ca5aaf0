package recovery

import (
	"fmt"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
)

// Account checks that every page of the file has one owner: the fixed pages, the
// index, the images, the segments, or the free space. Errors: the first page that has none
// or two; damage of the index. The turn is held.
func (s *State) Account() error {
	owner := make([]string, s.Free.Pages())
	own := func(r freelist.Run, who string) error {
		for p := uint64(r.Start); p < uint64(r.Start)+uint64(r.Pages); p++ {
			if p >= uint64(len(owner)) {
				return fmt.Errorf("page %d of %s lies behind the file's end at page %d", p, who, len(owner))
			}
			if owner[p] != "" {
				return fmt.Errorf("page %d belongs to %s and to %s", p, owner[p], who)
			}
			owner[p] = who
		}
		return nil
	}
	if err := own(freelist.Run{Start: 0, Pages: uint32(pager.FirstPage)}, "the fixed pages"); err != nil {
		return err
	}
	if err := own(s.image, "the images"); err != nil {
		return err
	}
	for _, r := range s.dry {
		if err := own(r, "the units put aside"); err != nil {
			return err
		}
	}
	for _, g := range s.Tail.Segments() {
		if err := own(freelist.Run{Start: g.Start, Pages: g.Pages}, "a segment"); err != nil {
			return err
		}
	}
	err := s.Index.Visit(s.Index.Root, func(page pager.PageNo, _ bool, _ int, _ index.Path) error {
		return own(freelist.Run{Start: page, Pages: 1}, "the index")
	})
	if err != nil {
		return err
	}
	s.Free.Account(func(r freelist.Run, state freelist.State) {
		if err != nil {
			return
		}
		if state != freelist.StateUsed {
			err = own(r, "free, pending or due space")
			return
		}
		for p := uint64(r.Start); p < uint64(r.Start)+uint64(r.Pages); p++ {
			if owner[p] == "" {
				err = fmt.Errorf("page %d is in use and nobody's", p)
				return
			}
		}
	})
	if err != nil {
		return err
	}
	for p, who := range owner {
		if who == "" {
			return fmt.Errorf("page %d of %d is in no account", p, len(owner))
		}
	}
	return nil
}
