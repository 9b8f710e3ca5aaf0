package recovery

import (
	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Reclaim takes what is due from retirement to free, in the order of the protocol:
// the generation goes up, no pin is left at or below the generation of the retirement,
// a segment's header is zeroed, and then the pages are handed over.
func (s *State) Reclaim() error {
	late := sabotage.Is(sabotage.ReuseBeforeBump)
	if !late && !sabotage.Is(sabotage.GenerationNotRaised) {
		s.Generation.Add(1)
	}
	for _, e := range s.Free.TakeDue(s.oldestPin()) {
		if err := s.handOver(&e); err != nil {
			return err
		}
	}
	sabotage.Yield(sabotage.ReclaimFreed)
	if late {
		s.Generation.Add(1)
	}
	if s.P.HasOldViews() {
		s.P.ReleaseViews(s.Generation.Load(), s.oldestPin())
	}
	return nil
}

// handOver gives a due run to the allocator: readers have gone, and nothing tells of its old use any more.
func (s *State) handOver(e *freelist.Entry) error {
	if e.Kind == freelist.KindSegment {
		s.zeroing(e.Run)
		s.Tail.Reused(e.Start, e.Pages)
		late := sabotage.Is(sabotage.ZeroHeaderLate)
		if late {
			s.free(*e)
		}
		zeros := make([]byte, tail.SegmentHeader)
		if sabotage.Is(sabotage.ZeroHeaderOmitted) {
			zeros = nil
		}
		if err := s.P.WriteAt(zeros, uint64(e.Start)*pager.PageSize); err != nil {
			return err
		}
		if late {
			return nil
		}
	} else {
		for i := range e.Pages {
			s.P.SetVerified(e.Start+pager.PageNo(i), 0)
		}
	}
	s.free(*e)
	return nil
}

// oldestPin is the lowest generation that a reader has pinned.
func (s *State) oldestPin() uint64 {
	if sabotage.Is(sabotage.PinsIgnored) {
		return ^uint64(0)
	}
	return s.OldestPin()
}

// retirePage is Index.Retire.
func (s *State) retirePage(page pager.PageNo, built uint32) {
	s.Free.Retire(freelist.Entry{
		Run: freelist.Run{Start: page, Pages: 1}, Kind: freelist.KindPage,
		Epoch: s.Index.Epoch, Generation: s.Generation.Load(),
	}, built)
}

// RetireSegment takes a segment out of the live state; its RETIRE record has been appended. puts says that there may be PUT records in it: until
// it is gone, a salvage must find what says that they are deleted.
func (s *State) RetireSegment(g *tail.Segment, puts bool) {
	s.Tail.Retire(g, s.Generation.Load())
	if puts {
		s.leaving = append(s.leaving, leaving{run: freelist.Run{Start: g.Start, Pages: g.Pages}, firstSeq: g.FirstSeq, lastSeq: g.LastSeq})
	}
	s.Free.Retire(freelist.Entry{
		Run: freelist.Run{Start: g.Start, Pages: g.Pages}, Kind: freelist.KindSegment,
		Epoch: s.Index.Epoch, EndLSN: g.EndLSN(), Generation: s.Generation.Load(),
	}, 0)
	if sabotage.Is(sabotage.PunchRetired) {
		s.punchRetired(freelist.Run{Start: g.Start, Pages: g.Pages})
	}
}

// leaving is a segment with PUT records that has been retired and whose header is not yet durably zeroed: a salvage
// could still read it.
type leaving struct {
	run      freelist.Run
	firstSeq uint64
	lastSeq  uint64
	zeroed   uint64 // number of the checkpoint that will make it durable, 0 before it is zeroed
}

// zeroing notes that the headers in a run are being overwritten: durable with the next checkpoint but
// one, if one runs already.
func (s *State) zeroing(r freelist.Run) {
	for i := range s.leaving {
		if l := &s.leaving[i]; l.run.Start >= r.Start && uint64(l.run.Start) < uint64(r.Start)+uint64(r.Pages) {
			l.zeroed = s.meta.Number + 2
		}
	}
}

// OldestSequence is the lowest sequence that a segment other than g may hold, among those in use and those
// that are not durably gone.
func (s *State) OldestSequence(g *tail.Segment) uint64 {
	return min(s.OldestInUse(g), s.OldestLeaving())
}

// OldestInUse is the lowest sequence that a segment in use other than g may hold.
func (s *State) OldestInUse(g *tail.Segment) uint64 {
	low := uint64(tail.MaxSequence)
	s.inUse(g, func(first, _ uint64) { low = min(low, first) })
	return low
}

// OldestLeaving is the lowest sequence that a segment with PUT records may hold that was retired and is not durably gone.
func (s *State) OldestLeaving() uint64 {
	low := uint64(tail.MaxSequence)
	s.notGone(func(first, _ uint64) { low = min(low, first) })
	return low
}

// MayHold reports whether a segment other than g may hold a PUT record of a sequence, among those in use and those that are not durably gone.
func (s *State) MayHold(sequence uint64, g *tail.Segment) (may bool) {
	look := func(first, last uint64) { may = may || first <= sequence && sequence <= last }
	s.inUse(g, look)
	s.notGone(look)
	return may
}

// inUse visits the first and the last sequence of each segment but g that is in use.
func (s *State) inUse(g *tail.Segment, visit func(first, last uint64)) {
	s.Tail.Each(func(o *tail.Segment) {
		if o.Start != g.Start {
			visit(o.FirstSeq, o.LastSeq)
		}
	})
}

// notGone visits the same of each segment with PUT records that was retired and is not durably gone.
func (s *State) notGone(visit func(first, last uint64)) {
	if sabotage.Is(sabotage.LeavingForgotten) {
		s.leaving = nil
	}
	keep := s.leaving[:0]
	for _, l := range s.leaving {
		if l.zeroed != 0 && l.zeroed <= s.meta.Number {
			continue
		}
		keep = append(keep, l)
		visit(l.firstSeq, l.lastSeq)
	}
	s.leaving = keep
}
