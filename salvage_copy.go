package mapfile

import (
	"context"
	"errors"
	"fmt"

	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// Commits of a salvage, or a restore, have so many records or bytes at most, or one record.
const (
	salvageRecords = 1000
	salvageBytes   = 8 << 20
)

// writes collects writes to a map and commits them in groups. Keys and values are copied.
type writes struct {
	ctx   context.Context
	db    *DB
	tx    *Tx
	n     int
	bytes int
}

// begin gives the running transaction.
func (w *writes) begin() (*Tx, error) {
	var err error
	if w.tx == nil {
		w.tx, err = w.db.BeginTx(w.ctx, nil)
	}
	return w.tx, err
}

// wrote counts a write of so many bytes and commits when the group is full.
func (w *writes) wrote(bytes int) error {
	w.n++
	if w.bytes += bytes; w.n < salvageRecords && w.bytes < salvageBytes {
		return nil
	}
	return w.end(nil)
}

// end commits, unless err says that the work was stopped.
func (w *writes) end(err error) error {
	if w.tx == nil {
		return err
	}
	tx := w.tx
	w.tx, w.n, w.bytes = nil, 0, 0
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// find fills the work map: the last record of a key in the log is its newest, of those whose key can be read.
func (s *salvager) find() error {
	w := &writes{ctx: s.ctx, db: s.work}
	watch := s.watch("finding the newest records")
	return w.end(s.from.Each(s.ctx, &s.from.Lost, func(r *tail.Record, doubt bool) error {
		watch(r)
		tx, err := w.begin()
		if err != nil {
			return err
		}
		switch {
		case doubt && !s.o.Older:
			if r.Kind == tail.KindPut {
				s.from.Lost.Add(recovery.Loss{Structure: "segment", Offset: r.Position, Bytes: r.Size(), Key: append([]byte{}, r.Key...),
					Reason: "the header of its segment is gone, and nothing tells whether the segment was still in use"})
			}
			return nil
		case r.Kind != tail.KindPut:
			err = tx.Delete(r.Key)
		default:
			err = s.note(tx, r, doubt)
		}
		if err != nil {
			return err
		}
		return w.wrote(len(r.Key) + placeBytes)
	}))
}

// note makes a record the newest of its key in the work map.
func (s *salvager) note(tx *Tx, r *tail.Record, doubt bool) error {
	p := keyPlace{position: r.Position}
	if doubt {
		p.how |= placeDoubted
	}
	if s.from.Behind(r) {
		p.how |= placeBehind
	}
	if !s.from.ValueHolds(r) {
		p.how |= placeRotten
		was, err := tx.Get(r.Key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil {
			before, err := readPlace(was)
			if err != nil {
				return err
			}
			p.older = before.good()
		}
	}
	return tx.Put(r.Key, p.encode())
}

// copy writes the newest record of each key into the new map, in the order of the log.
func (s *salvager) copy() error {
	w := &writes{ctx: s.ctx, db: s.into}
	watch := s.watch("copying")
	return w.end(s.from.Each(s.ctx, nil, func(r *tail.Record, _ bool) error {
		watch(r)
		if r.Kind != tail.KindPut {
			return nil
		}
		take, err := s.wanted(r)
		if err != nil || !take {
			return err
		}
		// Out of the mapping: a fault in it must not come in the middle of a write.
		value, ok := s.from.Value(s.value[:0], r)
		if !ok {
			s.from.Lost.Add(recovery.Loss{Structure: "record", Offset: r.Position, Bytes: r.Size(), Key: append([]byte{}, r.Key...), Reason: "the value could be read once, and not again"})
			return nil
		}
		s.value = value
		tx, err := w.begin()
		if err != nil {
			return err
		}
		if err := tx.Put(r.Key, s.value); err != nil {
			return err
		}
		s.report.Keys++
		return w.wrote(len(r.Key) + len(s.value))
	}))
}

// wanted reports whether a record goes into the new map, and tells of those that are lost.
func (s *salvager) wanted(r *tail.Record) (take bool, err error) {
	where, err := s.work.Get(r.Key)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	p, err := readPlace(where)
	if err != nil || r.Position != p.position && r.Position != p.good() {
		return false, err
	}
	standing, at := recovery.Unjudged, uint64(0)
	if p.how&placeBehind == 0 {
		standing, at = s.from.Judge(r.Key, p.position)
	}
	if standing == recovery.NotInside {
		return false, nil
	}
	outdated := standing == recovery.Outdated || p.how&placeRotten != 0
	if outdated && r.Position == p.position {
		s.outdated(r, p.good(), at)
	}
	if r.Position != p.good() || outdated && !s.o.Older {
		return false, nil
	}
	if outdated || p.how&placeDoubted != 0 {
		s.report.Older++
	}
	if standing == recovery.Unjudged {
		s.report.Unjudged++
	}
	return true, nil
}

// outdated tells that the newest version of a key is damaged: r, the last one of which a key can be read, or another at at, unless that
// is 0. older is the last good one, 0 if there is none.
func (s *salvager) outdated(r *tail.Record, older, at uint64) {
	what, loss := "newest value", recovery.Loss{Structure: "record", Offset: r.Position, Bytes: r.Size(), Key: r.Key, Older: older}
	if at != 0 {
		what, loss.Offset, loss.Bytes = "newest version", at, 0 // of an unknown size, and told as a part of the log
	}
	loss.Reason = fmt.Sprintf("the %s is damaged, and there is no older one", what)
	if older != 0 {
		loss.Reason = fmt.Sprintf("the %s is damaged; an older one was found at %d", what, older)
	}
	s.from.Lost.Add(loss)
}

// watch makes what tells the progress of a pass over the records.
func (s *salvager) watch(what string) func(r *tail.Record) {
	tell, done, n := s.progress(what), uint64(0), 0
	total := s.from.Size
	return func(r *tail.Record) {
		done += r.Size()
		if n++; tell != nil && n%1024 == 0 {
			tell(min(done, total), total)
		}
	}
}
