package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/mapfile-db/mapfile/pager"
)

// Verify looks at an open map as Check does at a file: the account of its pages, every slot, every record. The error
// is the first thing that does not hold. The turn is held.
func (s *State) Verify() error {
	if err := s.Account(); err != nil {
		return err
	}
	c := newChecker(context.Background(), CheckOptions{MaxErrors: 1})
	c.s, c.recovered = s, true
	for _, g := range s.Tail.Segments() {
		if stands := g.HeaderStands(s.P.View(), s.P.Pages()*pager.PageSize); !s.P.ReadOnly() && (!stands[0] || !stands[1]) {
			return fmt.Errorf("page %d: of the two copies of the segment's header stand %v", g.Start, stands)
		}
	}
	err := c.index()
	if err == nil {
		err = c.records()
	}
	for _, f := range c.out.Findings {
		err = cmp.Or(err, errEnough)
		if errors.Is(err, errEnough) {
			err = fmt.Errorf("%s, page %d, offset %d: %s", f.Structure, f.Page, f.Offset, f.Reason)
		}
	}
	return err
}
