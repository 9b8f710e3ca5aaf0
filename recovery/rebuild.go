package recovery

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// rebuild makes the index anew from the log: all segments of the table, and those of the walked tail, in the order of the
// log, in which the last record of a key is its newest. It allocates from the free space that the images tell of, in which
// no page of the old index is, and the old index is let go of only by the state that BeginLife names, so that a
// crash at any moment leaves the old state or the new one.
//
// Its heap does not grow with the number of keys, but by eight bytes for each record of the largest commit.
type rebuild struct {
	s *State
	p *Repair
	w *tail.Walk

	segments []*tail.Segment
	pads     []pad
	rotten   []uint64 // the first records whose value does not hold, to be looked at again
	done     uint64   // bytes read
	total    uint64
	steps    int
	applied  int

	cleared  uint64   // sequence of the last CLEAR: what is older is gone
	sequence uint64   // of the commit being gathered
	commit   []uint64 // its records
	aborted  bool
}

// survey reads the whole log before anything is stored, and refuses what cannot be read unless that is accepted: the key
// of such a record is not known, and would show an older version.
func (b *rebuild) survey() error {
	if err := b.order(); err != nil {
		return err
	}
	_, mended := b.s.P.Mended()
	lost, last := &b.s.Report.Lost, uint64(0)
	lost.Tell = b.p.Tell
	defer func() { lost.Tell = nil }()
	err := b.scan(func(_ *tail.Segment, r *tail.Record) error {
		last = r.Sequence
		if r.Kind == tail.KindClear && !b.w.Aborted[r.Sequence] {
			b.cleared = max(b.cleared, r.Sequence)
		}
		if (r.Kind == tail.KindPut || r.Kind == tail.KindDelete) && !b.holds(r) && len(b.rotten) < maxListed {
			b.rotten = append(b.rotten, r.Position)
		}
		return nil
	}, func(g *tail.Segment, from, to uint64) error {
		b.pads = append(b.pads, pad{from, to, g.Salt, last})
		lost.Add(Loss{Structure: "log", Offset: from, LSN: g.FirstLSN + from - g.Base(), Bytes: to - from, Reason: "no record can be read here; its key is not known, and may show an older version"})
		return nil
	})
	if err == nil && len(b.pads) > 0 && !b.p.AcceptLoss {
		if err := b.s.P.Unmend(mended); err != nil { // what is refused stays as it was
			return err
		}
		return &errs.CorruptError{Path: b.s.P.Path(), Page: b.pads[0].from / pager.PageSize, Offset: int64(b.pads[0].from), Structure: "record",
			Reason: fmt.Sprintf("%d bytes of the log in %d places cannot be read: an index made without them could show older versions", lost.Bytes, len(b.pads))}
	}
	return err
}

// holds reports whether a record's value holds, if need be without a flipped bit.
func (b *rebuild) holds(r *tail.Record) bool {
	return r.ValueHolds(r.Value) || b.s.MendRecord(r.Position) && b.s.parse(r.Position, r) && r.ValueHolds(r.Value)
}

// order sorts the segments by the log, without those that the tail retires.
func (b *rebuild) order() error {
	ok, err := b.w.Each(b.s.P.View(), func(r *tail.Record) error {
		switch {
		case b.w.Aborted[r.Sequence]:
		case r.Kind == tail.KindClear:
			b.s.dropSegmentsBefore(b.w, r)
		case r.Kind != tail.KindRetire:
		case len(b.w.Gaps) > 0:
			b.s.applyRetireLossy(b.w, r)
		default:
			b.s.applyRetire(b.w, r)
		}
		return nil
	})
	if err == nil && !ok {
		err = &errs.CorruptError{Path: b.s.P.Path(), Page: b.w.RefPos / pager.PageSize, Structure: "log", Reason: "the log changed while it was read"}
	}
	b.segments = b.s.Tail.Segments()
	slices.SortFunc(b.segments, func(x, y *tail.Segment) int {
		return cmp.Or(cmp.Compare(x.FirstLSN, y.FirstLSN), cmp.Compare(x.Life, y.Life))
	})
	for _, g := range b.segments {
		b.total += 2 * g.Used // read twice
	}
	return err
}

// scan reads the segments up to where they are used, but for the gaps of the walk.
func (b *rebuild) scan(visit func(*tail.Segment, *tail.Record) error, rotten func(g *tail.Segment, from, to uint64) error) error {
	v := b.s.P.View()
	for _, g := range b.segments {
		at, end := g.Base()+tail.SegmentHeader, g.Base()+g.Used
		for _, gap := range b.w.Gaps {
			if s := &b.w.Segments[gap.Segment]; s.Start != g.Start || s.Salt != g.Salt || gap.From >= end {
				continue
			}
			if err := b.read(v, g, at, gap.From, visit, rotten); err != nil {
				return err
			}
			at = min(gap.To, end)
		}
		if err := b.read(v, g, at, end, visit, rotten); err != nil {
			return err
		}
	}
	return nil
}

func (b *rebuild) read(v *pager.View, g *tail.Segment, at, end uint64, visit func(*tail.Segment, *tail.Record) error, rotten func(g *tail.Segment, from, to uint64) error) error {
	return readRecords(v, g.Salt, at, end, g.End(), mender(b.s.P, g.Salt), func(r *tail.Record) error {
		b.done += r.Size()
		if b.steps++; b.steps%1024 == 0 {
			if err := b.p.step(min(b.done, b.total), b.total); err != nil {
				return err
			}
		}
		return visit(g, r)
	}, func(from, to uint64) error { return rotten(g, from, to) })
}

// build makes the index. Nothing leads to it before BeginLife.
func (b *rebuild) build() error {
	s := b.s
	if err := s.Index.Renew(); err != nil {
		return err
	}
	s.Keys, s.Tombstones = 0, 0
	s.history.cleared.Store(max(s.history.cleared.Load(), b.cleared))
	s.Tail.ClearLive()
	err := b.scan(b.gather, func(*tail.Segment, uint64, uint64) error { return nil })
	if err == nil {
		err = b.apply()
	}
	if err == nil {
		err = b.tellRotten()
	}
	if err != nil {
		return err
	}
	s.Report.Rebuilt = true
	if !s.P.ReadOnly() {
		s.retireOldIndex(func(page pager.PageNo) bool { return s.P.Verified(page) != 0 })
	}
	return nil
}

// gather collects the records of a commit, which count when it is known that no ABORT ends it.
func (b *rebuild) gather(_ *tail.Segment, r *tail.Record) error {
	if r.Kind == tail.KindLink || r.Kind == tail.KindPad || r.Sequence < b.cleared {
		return nil
	}
	if r.Sequence != b.sequence {
		if err := b.apply(); err != nil {
			return err
		}
		b.sequence = r.Sequence
	}
	switch r.Kind {
	case tail.KindAbort:
		b.aborted = true
	case tail.KindPut, tail.KindDelete, tail.KindDrop:
		b.commit = append(b.commit, r.Position)
	}
	return nil
}

// apply sets the slots of the commit that was gathered.
func (b *rebuild) apply() error {
	s := b.s
	var r tail.Record
	for _, position := range b.commit {
		if b.aborted {
			break
		}
		if err := s.Record(position, &r, true); err != nil {
			return err
		}
		old, found, err := s.Index.Lookup(xxhash.Sum64(r.Key), r.Key)
		if err != nil {
			return err
		}
		if found && newer(&s.Matched, &r) {
			continue
		}
		if err := s.setKey(&r, old, found, found && s.Matched.Kind != tail.KindDelete); err != nil {
			return err
		}
		if b.applied++; b.applied%(1<<16) == 0 && !s.P.ReadOnly() {
			if err := s.Reclaim(); err != nil { // what splits of this epoch left
				return err
			}
		}
	}
	b.commit, b.aborted = b.commit[:0], false
	return nil
}

// newer reports whether a is a newer version than b, by the sequence from which readers see it and then by its own. In a
// log that is whole the later record never is older.
func newer(a, b *tail.Record) bool {
	return cmp.Or(cmp.Compare(a.Visible(), b.Visible()), cmp.Compare(a.Sequence, b.Sequence)) > 0
}

// tellRotten reports the keys whose newest record has a value that does not hold: their slots lead to it, never to an
// older version.
func (b *rebuild) tellRotten() error {
	s := b.s
	s.Report.Lost.Tell = b.p.Tell
	defer func() { s.Report.Lost.Tell = nil }()
	s.Report.Damaged = nil
	for _, position := range b.rotten {
		var r tail.Record
		if err := s.Record(position, &r, true); err != nil {
			return err
		}
		at, found, err := s.Index.Lookup(xxhash.Sum64(r.Key), r.Key)
		if err != nil {
			return err
		}
		if found && at == position && r.Kind == tail.KindPut {
			s.Report.Damaged = append(s.Report.Damaged, position)
			s.Report.Lost.Add(Loss{Structure: "record", Offset: position, Bytes: r.Size(), Key: keyOf(&r), Reason: "the value is damaged: its key answers that, never an older version"})
		}
	}
	return nil
}

// retireOldIndex retires every page that is in use and is neither fixed, nor of the images, a segment, set aside, nor of the
// new index: the old one. They stay as they are until both meta pages name the new one. No page is on its way in or out of
// use but under the turn.
func (s *State) retireOldIndex(isNew func(pager.PageNo) bool) {
	var used []freelist.Run
	s.Free.Account(func(r freelist.Run, state freelist.State) {
		if state == freelist.StateUsed {
			used = append(used, r)
		}
	})
	owned := append([]freelist.Run{{Start: 0, Pages: uint32(pager.FirstPage)}, s.image}, s.dry...)
	for _, g := range s.Tail.Segments() {
		owned = append(owned, freelist.Run{Start: g.Start, Pages: g.Pages})
	}
	slices.SortFunc(owned, func(x, y freelist.Run) int { return cmp.Compare(x.Start, y.Start) })
	for _, r := range used {
		end := uint64(r.Start) + uint64(r.Pages)
		for at := uint64(r.Start); at < end; {
			for len(owned) > 0 && uint64(owned[0].Start)+uint64(owned[0].Pages) <= at {
				owned = owned[1:]
			}
			if len(owned) > 0 && uint64(owned[0].Start) <= at {
				at = uint64(owned[0].Start) + uint64(owned[0].Pages)
				continue
			}
			n := uint64(0)
			for at+n < end && (len(owned) == 0 || at+n < uint64(owned[0].Start)) && !isNew(pager.PageNo(at+n)) {
				n++
			}
			if n > 0 {
				s.Free.Retire(freelist.Entry{Run: freelist.Run{Start: pager.PageNo(at), Pages: uint32(n)}, Kind: freelist.KindPage, Epoch: s.Index.Epoch, Generation: s.Generation.Load()}, 0)
			}
			at += max(n, 1)
		}
	}
}
