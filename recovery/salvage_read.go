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
				rotten(from, to, "no record can be read here; its key is not known")
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
// the end that a table knows, up to the next segment of the life, or up to what was synced.
func (s *Salvage) written(g *found, from uint64) uint64 {
	if g.known {
		return g.Base() + g.Used
	}
	lsn := g.lsn(from)
	to := max(lsn, g.next)
	if m := s.newest(); m != nil {
		if m.Life == g.Life {
			to = max(to, m.LSN)
		}
		if mark, life, ok := s.p.ReadMark(m.FileSalt); ok && life == g.Life {
			to = max(to, mark)
		}
	}
	return min(from+to-lsn, g.End())
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
