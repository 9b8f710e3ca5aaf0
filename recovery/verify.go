package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// Verify looks at an open map as Check does at a file: the account of its pages, every slot, every record. The error
// is the first thing that does not hold. The turn is held.
func (s *State) Verify() error {
	if err := s.Account(); err != nil {
		return err
	}
	c := &checker{ctx: context.Background(), s: s, o: CheckOptions{MaxErrors: 1}, out: &CheckReport{}}
	err := c.index()
	if err == nil {
		err = c.log()
	}
	for _, f := range c.out.Findings {
		err = cmp.Or(err, errEnough)
		if errors.Is(err, errEnough) {
			err = fmt.Errorf("%s, page %d, offset %d: %s", f.Structure, f.Page, f.Offset, f.Reason)
		}
	}
	return err
}
