package recovery

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Each visits the records that count (PUT, DELETE and DROP), in the order of the log. doubt says that it is not known
// whether the record's segment was still in use: a newer version may have been there. The record's key and
// value alias the mapping, and a read of the value may fault. With lost it also reports what cannot be read.
func (s *Salvage) Each(ctx context.Context, lost *Losses, visit func(r *tail.Record, doubt bool) error) error {
	s.Orphans = 0
	for _, g := range s.segments {
		limit := s.life(g.Life).limit
		steps := 0
		err := s.read(g, func(r *tail.Record) error {
			if steps++; steps%256 == 0 {
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			if r.Kind != tail.KindPut && r.Kind != tail.KindDelete && r.Kind != tail.KindDrop {
				return nil
			}
			id := commitID{g.Life, r.Sequence}
			switch {
			case r.Sequence >= limit:
				s.Orphans++
				return nil
			case s.aborted[id] || r.Sequence < s.cleared:
				return nil
			case id == s.torn:
				if lost != nil {
					lost.Add(Loss{Structure: "commit", Offset: r.Position, LSN: g.lsn(r.Position), Bytes: r.Size(), Key: keyOf(r), Reason: "the end of its commit is not there"})
				}
				return nil
			}
			return visit(r, g.doubt)
		}, func(from, to uint64, reason string) {
			if lost != nil {
				s.unreadable(lost, g, from, to, reason)
			}
		})
		if err != nil {
			return err
		}
	}
	if lost != nil {
		s.cutOff(lost)
	}
	return nil
}

// ValueHolds reports whether the value of the record being visited can be read and is the one that its sum was made of,
// if need be without a flipped bit.
func (s *Salvage) ValueHolds(r *tail.Record) (holds bool) {
	err := s.guarded(func() error {
		holds = r.ValueHolds(r.Value)
		return nil
	})
	if err == nil && !holds {
		err = s.guarded(func() error {
			g, limit := s.reading, min(s.reading.End(), s.Size)
			holds = tail.Mend(s.p, r.Position, g.Salt, limit) && tail.ParseHeader(s.p.View(), r.Position, g.Salt, limit, r) && r.ValueHolds(r.Value)
			return nil
		})
	}
	return holds && err == nil
}

// Value copies a record's value behind dst; ok is false if it does not hold.
func (s *Salvage) Value(dst []byte, r *tail.Record) (value []byte, ok bool) {
	err := s.guarded(func() error {
		value = append(dst, r.Value...)
		return nil
	})
	return value, err == nil && r.ValueHolds(value[len(dst):])
}

// life is what is known of a life that a segment is of.
func (s *Salvage) life(n uint32) *lifeSeen {
	i := sort.Search(len(s.lives), func(i int) bool { return s.lives[i].life >= n })
	return &s.lives[i]
}

// lsn is the LSN of a place in the segment.
func (g *found) lsn(at uint64) uint64 { return g.FirstLSN + at - g.Base() }

// end is where reading a segment ends.
func (s *Salvage) end(g *found) uint64 {
	end := g.End()
	if g.known {
		end = min(end, g.Base()+g.Used)
	}
	return min(end, s.Size)
}

// read visits what can be read of a segment, in order, and tells of the rest. A page that the system cannot give is gone
// past like any other damage.
func (s *Salvage) read(g *found, visit func(*tail.Record) error, rotten func(from, to uint64, reason string)) error {
	if rotten == nil {
		rotten = func(uint64, uint64, string) {}
	}
	at, end := g.Base()+tail.SegmentHeader, s.end(g)
	s.reading = g
	mend := mender(s.p, g.Salt)
	for at < end {
		err := s.guarded(func() error {
			return readRecords(s.p.View(), g.Salt, at, end, min(g.End(), s.Size), mend, func(r *tail.Record) error {
				err := visit(r)
				at = r.Position + r.Size()
				return err
			}, func(from, to uint64) error {
				rotten(from, to, s.noRecord())
				at = to
				return nil
			})
		})
		var fault *pager.FaultError
		if !errors.As(err, &fault) {
			return err
		}
		behind := min(max((fault.Page+1)*pager.PageSize, at+8), end)
		rotten(at, behind, fmt.Sprintf("the system cannot read page %d", fault.Page))
		at = behind
	}
	return nil
}

// noRecord says what it means that no record can be read.
func (s *Salvage) noRecord() string {
	if s.state != nil {
		return "no record can be read here; its key is not known"
	}
	return "no record can be read here; its key is not known, and may show an older version"
}

// unreadable reports a part of a segment in which no record was found, as far as it is known that one was there.
func (s *Salvage) unreadable(lost *Losses, g *found, from, to uint64, reason string) {
	if to == s.end(g) {
		to = min(to, s.written(g, from))
	}
	if to <= from || s.usedAgain(g, from, to) {
		return
	}
	lost.Add(Loss{Structure: "log", Offset: from, LSN: g.lsn(from), Bytes: to - from, Reason: reason})
}

// written is how far records are known to have been written behind a place in a segment behind which none was found: up to
// the end that a table knows, up to the next segment of the life, or, in its last, up to what was synced.
func (s *Salvage) written(g *found, from uint64) uint64 {
	if g.known {
		return g.Base() + g.Used
	}
	lsn := g.lsn(from)
	to := max(lsn, g.next)
	if g.next == 0 {
		to = max(to, s.synced(g.Life))
	}
	return min(from+to-lsn, g.End())
}

// synced is an LSN up to which the log of a life was synced, as meta and mark page tell; 0 where they tell nothing of it.
func (s *Salvage) synced(life uint32) (to uint64) {
	m := s.newest()
	if m == nil {
		return 0
	}
	if m.Life == life {
		to = m.LSN
	}
	if mark, of, ok := s.p.ReadMark(m.FileSalt); ok && of == life {
		to = max(to, mark)
	}
	return to
}

// cutOff reports the end of the log if it was synced and is in no segment that was found: the file was cut short, or the
// segment's header is gone and nothing else tells its salt. Only of the end is that known: a segment in the
// middle may have been retired.
func (s *Salvage) cutOff(lost *Losses) {
	m := s.newest()
	if m == nil {
		return
	}
	end := uint64(1) // of an empty log
	for _, g := range s.segments {
		end = max(end, g.lsn(s.end(g)))
	}
	if s.find(m.Segment, m.Salt) == nil && m.Position%pager.PageSize == tail.SegmentHeader {
		end += tail.SegmentHeader // of the life's first segment, which may never have been written
	}
	if to := s.synced(m.Life); to > end {
		lost.Add(Loss{Structure: "log", LSN: end, Bytes: to - end, Reason: "the end of the log is not in the file; its keys are not known, and may show older versions"})
	}
}

// usedAgain reports whether another segment holds a part of a range: then it was retired, and the range is not lost.
func (s *Salvage) usedAgain(g *found, from, to uint64) bool {
	for _, o := range s.segments {
		if o != g && o.Base() < to && from < o.End() && !o.doubt {
			return true
		}
	}
	return false
}
