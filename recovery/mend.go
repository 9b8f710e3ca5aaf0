package recovery

import (
	"context"

	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// MendAll reads the whole index and the whole log, so that each single flipped bit in them is taken back, as a read that met it would do.
// What is damaged worse stays as it is: Check finds it. It runs under the turn. The error is that of ctx, or the system's.
func (s *State) MendAll(ctx context.Context, progress func(done, total uint64)) error {
	c := newChecker(ctx, CheckOptions{Progress: progress})
	c.s, c.recovered, c.mending = s, true, true
	c.total = s.Index.Bytes()
	for _, g := range s.Tail.Segments() {
		c.total += g.Used
	}
	if err := c.index(); err != nil {
		return err
	}
	return c.records()
}

// MendHeaders writes the copies of segments' headers anew that do not hold while the other one does, and makes durable what was mended.
// Nobody but a salvage would miss them. It runs under the turn, and answers how many copies it wrote.
func (s *State) MendHeaders() (copies uint64, err error) {
	for _, g := range s.Tail.Segments() {
		mended, err := s.mendHeader(g)
		if err != nil {
			return copies, err
		}
		if mended {
			copies++
		}
	}
	if _, flips := s.P.Mended(); flips+copies == 0 {
		return 0, nil
	}
	if err := s.P.SyncFile(); err != nil {
		return copies, s.P.Fail(err)
	}
	return copies, nil
}

// mendHeader is MendHeaders for one segment, without a sync. (I1: the copy gets the bytes that the life which began the segment
// stored.)
func (s *State) mendHeader(g *tail.Segment) (mended bool, err error) {
	at, right, ok := g.MendHeader(s.P.View(), s.P.Pages()*pager.PageSize)
	if !ok {
		return false, nil
	}
	return true, s.P.WriteAt(right, at)
}

// OneLed reports whether one of the meta pages, or what it leads to, did not hold when the map was opened: the beginning of a life writes
// both anew.
func (s *State) OneLed() bool { return s.oneLed }
