package recovery

import (
	"fmt"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
)

// Who owns a page.
const (
	ownNone uint8 = iota
	ownFixed
	ownImages
	ownDry
	ownSegment
	ownIndexPage
	ownSpace
)

var owners = []string{"", "the fixed pages", "the images", "the units put aside", "a segment", "the index", "free, pending or due space"}

// accounts is the owner of each page, a byte each.
type accounts struct{ owner []uint8 }

func (a *accounts) own(r freelist.Run, who uint8) error {
	for p := uint64(r.Start); p < uint64(r.Start)+uint64(r.Pages); p++ {
		if p >= uint64(len(a.owner)) {
			return fmt.Errorf("page %d of %s lies behind the file's end at page %d", p, owners[who], len(a.owner))
		}
		if a.owner[p] != ownNone {
			return fmt.Errorf("page %d belongs to %s and to %s", p, owners[a.owner[p]], owners[who])
		}
		a.owner[p] = who
	}
	return nil
}

// Account checks that every page of the file has one owner: the fixed pages, the
// index, the images, the segments, or the free space. Errors: the first page that has none
// or two; damage of the index. The turn is held.
func (s *State) Account() error { return s.account(true) }

// account is Account; without withIndex the pages of the index, which are in use and nobody else's, are not asked for.
func (s *State) account(withIndex bool) error {
	a := &accounts{make([]uint8, s.Free.Pages())}
	for _, o := range []struct {
		run freelist.Run
		who uint8
	}{{freelist.Run{Start: 0, Pages: uint32(pager.FirstPage)}, ownFixed}, {s.image, ownImages}} {
		if err := a.own(o.run, o.who); err != nil {
			return err
		}
	}
	for _, r := range s.dry {
		if err := a.own(r, ownDry); err != nil {
			return err
		}
	}
	for _, g := range s.Tail.Segments() {
		if err := a.own(freelist.Run{Start: g.Start, Pages: g.Pages}, ownSegment); err != nil {
			return err
		}
	}
	if withIndex {
		if err := a.ownIndex(s); err != nil {
			return err
		}
	}
	return a.space(s.Free, withIndex)
}

// ownIndex walks the index.
func (a *accounts) ownIndex(s *State) error {
	return s.Index.Survey(s.Index.Root,
		func(p index.Place) error { return a.own(freelist.Run{Start: p.Page, Pages: 1}, ownIndexPage) },
		func(_ index.Place, err error) error { return err })
}

// space compares with what the allocator says; all says that the index is in the account.
func (a *accounts) space(free *freelist.Allocator, all bool) (err error) {
	free.Account(func(r freelist.Run, state freelist.State) {
		if err != nil {
			return
		}
		if state != freelist.StateUsed {
			err = a.own(r, ownSpace)
			return
		}
		for p := uint64(r.Start); all && p < uint64(r.Start)+uint64(r.Pages); p++ {
			if a.owner[p] == ownNone {
				err = fmt.Errorf("page %d is in use and nobody's", p)
				return
			}
		}
	})
	if err != nil || !all {
		return err
	}
	for p, who := range a.owner {
		if who == ownNone {
			return fmt.Errorf("page %d of %d is in no account", p, len(a.owner))
		}
	}
	return nil
}
