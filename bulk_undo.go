package mapfile

import (
	"cmp"
	"runtime/debug"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/tail"
)

// undo takes back what the load has stored: each slot leads again to where it led before it, and an ABORT ends the commit, so that a
// replay leaves it out. All slots lie in pages of the running epoch, and there is room for the ABORT: it takes no space. A crash in the middle leaves a commit that is not
// whole, as without it. An error fails the map, and recovery cuts the commit off.
func (l *load) undo() (err error) {
	db := l.db
	if l.batch == nil || db.s.P.Failed() != nil {
		return nil // nothing was stored, or nothing may be
	}
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = db.writeFault(r, true)
		}
	}()
	b := l.batch
	if b.appended == 0 {
		db.s.Tail.Sequence-- // it was taken and not used
		return nil
	}
	u := undoing{load: l, segments: l.segments()}
	if !sabotage.Is(sabotage.UndoOmitted) {
		if err := u.slots(); err != nil {
			return db.dur.fail(err)
		}
	}
	db.s.Keys, db.s.Tombstones = b.keys, l.tombstones
	b.record = tail.Record{Kind: tail.KindAbort, Flags: tail.FlagLast, Sequence: db.s.Tail.Sequence}
	if !sabotage.Is(sabotage.AbortOmitted) {
		db.s.Tail.ByStore = true
		err := b.append(true)
		db.s.Tail.ByStore = false
		if err != nil {
			return db.dur.fail(err)
		}
	}
	b.demanded = false // nobody waits for it
	b.finish()
	return nil
}

// segments lists those that hold records of the load, by page.
func (l *load) segments() []*tail.Segment {
	return slices.DeleteFunc(l.db.s.Tail.Segments(), func(g *tail.Segment) bool { return g.FirstLSN < l.first.FirstLSN })
}

// undoing is a load that is being taken back.
type undoing struct {
	*load
	segments []*tail.Segment
	records  []tail.Record // the next whose slots are looked at
}

// slots visits the records of the load, in any order: a slot leads to one of a key's at most.
func (u *undoing) slots() error {
	for _, g := range u.segments {
		at, end := g.Base()+tail.SegmentHeader, g.Base()+g.Used
		if g == u.first {
			at = u.began
		}
		for at < end {
			var r tail.Record
			if err := u.db.s.Record(at, &r, true); err != nil {
				return err
			}
			if at += r.Size(); r.Kind != tail.KindPut {
				continue // a LINK
			}
			if u.records = append(u.records, r); len(u.records) == mostStaged {
				if err := u.restore(); err != nil {
					return err
				}
			}
		}
	}

	return u.restore()
}

// restore takes back the slots that lead to a group of records.
func (u *undoing) restore() error {
	x := u.db.s.Index
	for i := range u.records {
		if err := x.Stage(&u.staged[i], xxhash.Sum64(u.records[i].Key), u.records[i].Key); err != nil {
			return err
		}
	}
	u.lines = u.lines[:0]
	for i := range u.records {
		u.lines = x.AppendStaged(u.lines, &u.staged[i])
	}
	u.db.s.P.View().PrefetchWritable(u.lines, 1)
	for i := range u.records {
		if err := u.restoreOne(&u.records[i]); err != nil {
			return err
		}
	}
	u.records = u.records[:0]
	return nil
}

// restoreOne takes back the slot that leads to a record, if one does: of a key that was put more than once only the last.
func (u *undoing) restoreOne(r *tail.Record) error {
	s := u.db.s
	found, err := s.Index.LookupPosition(xxhash.Sum64(r.Key), r.Key, r.Position)
	if err != nil || !found {
		return err
	}
	s.Tail.AddLive(r.Position, -int64(r.Size()))
	var before tail.Record
	for before.Previous = r.Previous; u.own(before.Previous) && !sabotage.Is(sabotage.UndoToOwn); {
		if err := s.Record(before.Previous, &before, true); err != nil {
			return err
		}
	}
	to := before.Previous
	if to == 0 {
		if sabotage.Is(sabotage.UndoKeepsNew) {
			return nil
		}
		return s.Index.Drop()
	}
	if s.Record(to, &before, true) == nil { // if not, the hint is off
		s.Tail.AddLive(to, int64(before.Size()))
	}
	return s.Index.Set(to)
}

// own reports whether a position is that of a record of the load.
func (u *undoing) own(position uint64) bool {
	i, found := slices.BinarySearchFunc(u.segments, position, func(g *tail.Segment, position uint64) int { return cmp.Compare(g.Base(), position) })
	if !found {
		i--
	}
	if i < 0 || position >= u.segments[i].End() {
		return false
	}
	return u.segments[i] != u.first || position >= u.began
}
