package recovery

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// recover walks the tail, decides where it ends, and replays it. A crash anywhere
// in it leads to the same state again: the walk stores nothing; what replay stores lies in
// pages that neither meta page nor the walked tail needs; BeginLife names it in one step. Damage that
// stands in its way is met before anything is stored.
func (s *State) recover(o *Options) error {
	p := o.repair()
	_, mended := s.P.Mended()
	w, err := s.walk(p.AcceptLoss)
	if err == nil && !p.RebuildIndex && len(w.Gaps) == 0 {
		err = s.probeIndex(o, w)
	}
	if err != nil {
		return cmp.Or(s.P.Unmend(mended), err) // what is refused stays as it was
	}
	if err := s.P.WriteMended(); err != nil {
		return err
	}
	s.Report.Records, s.Report.Bytes = w.Records, w.End.LSN-s.meta.LSN
	s.Report.Cut = w.Refused - w.End.LSN
	for _, d := range w.Damaged {
		s.Report.Damaged = append(s.Report.Damaged, d.Position)
	}
	if s.Report.Bytes == 0 && len(w.Gaps) == 0 && !p.RebuildIndex {
		if !o.ReadOnly {
			s.dryUp()
		}
		return nil // the loaded images serve; the life begins with the first append
	}
	s.Report.Clean = false
	s.takeWalked(w)
	if len(w.Gaps) > 0 {
		s.acceptGaps(p, w)
	}
	b := &rebuild{s: s, p: p, w: w}
	if p.RebuildIndex {
		if err := b.survey(); err != nil {
			return err
		}
	}
	if err := s.replayBy(o, w, b); err != nil {
		return err
	}
	if len(w.Gaps)+len(b.pads) > 0 && !sabotage.Is(sabotage.LossKeepsFloor) {
		s.history.lost(s.Tail.Sequence, w.Mark-min(w.End.LSN, w.Mark))
	}
	s.SetRoot(s.Index.Root)
	s.Published.Store(s.Tail.Sequence)
	if o.ReadOnly && !sabotage.Is(sabotage.ReadOnlyBegins) {
		return nil
	}
	if sabotage.Is(sabotage.SameSegment) {
		s.Tail.Resume(w.End)
	}
	if !sabotage.Is(sabotage.ReplayPinned) {
		s.Generation.Add(1) // nobody who reads from here on can hold what replay gave up: headers are zeroed in the order of the log
	}
	if s.unnamed = true; o.Repair == nil && !s.oneLed {
		return nil // who reads need not wait until the index is on the disk
	}
	if err := s.BeginLife(); err != nil {
		return err
	}
	return s.padGaps(append(s.walkedPads(w), b.pads...))
}

// replayBy brings the index to the end of the log, in the way that the options ask for, and makes the log durable meanwhile.
func (s *State) replayBy(o *Options, w *tail.Walk, b *rebuild) error {
	rewritten := func() error { return nil }
	if !o.ReadOnly {
		if err := s.readyToStore(w); err != nil {
			return err
		}
		rewritten = s.beside(o, func() error { return s.rewriteTail(w) })
	}
	err := s.guard(func() error {
		if err := s.P.Failed(); err != nil {
			return err // I7: nothing is stored behind a sync that failed
		}
		switch {
		case b.p.RebuildIndex:
			return b.build()
		case len(w.Gaps) > 0:
			return s.replayByKey(w)
		}
		return s.replay(w)
	})
	return cmp.Or(rewritten(), err)
}

// acceptGaps reports what is lost in the gaps of a walk. The log goes on behind all that is known to have been synced: an
// LSN is never used again, and an old mark must not reach into what is written from now on.
func (s *State) acceptGaps(p *Repair, w *tail.Walk) {
	s.Report.Lost.Tell = p.Tell
	s.Report.Lost.addGaps(s.P.View(), w)
	s.Report.Lost.Tell = nil
	s.Tail.LSN = max(s.Tail.LSN, w.Mark)
	s.dropReused(w)
}

// readyToStore is what goes before the first store of a recovery in a file.
func (s *State) readyToStore(w *tail.Walk) error {
	if err := s.zeroStale(w); err != nil {
		return err
	}
	for i := range w.Segments[:min(w.EndIndex+1, len(w.Segments))] {
		if sabotage.Is(sabotage.HeaderCopyLeft) {
			break
		}
		if _, err := s.mendHeader(&w.Segments[i]); err != nil {
			return err
		}
	}
	s.dryUp()
	return s.reserveArenas()
}

// rewriteTail makes the walked log durable, before anybody reads it: no crash takes back what was seen. The cache may hold what the disk has lost
// (hole 6); below the mark a sync did succeed.
func (s *State) rewriteTail(w *tail.Walk) error {
	spans := w.Spans(w.Mark)
	if !sabotage.Is(sabotage.DropTailRewrite) {
		for _, span := range spans {
			if err := s.P.Rewrite(span.From, span.To-span.From); err != nil {
				return err
			}
		}
	}
	if !sabotage.Is(sabotage.DropReplaySync) {
		for _, span := range spans {
			if err := s.P.SyncWritten(span.From, span.To-span.From); err != nil {
				return s.P.Fail(err)
			}
		}
	}
	if len(w.Gaps) > 0 || w.End.LSN <= w.Mark || sabotage.Is(sabotage.ReplayUnmarked) {
		return nil
	}
	return s.P.WriteMark(s.meta.FileSalt, w.End.LSN, s.life) // the next open knows it, if no meta page comes to
}

// beside runs a part of a recovery in a goroutine, if that is allowed, else at once, and answers how to wait for its error: it must have ended before
// the mapping does.
func (s *State) beside(o *Options, part func() error) (wait func() error) {
	if !o.Beside {
		err := part()
		return func() error { return err }
	}
	ended := make(chan error, 1)
	go func() { ended <- s.guard(part) }()
	return func() error { return <-ended }
}

// walk reads the log from the start of replay and tells a torn tail from damage: by
// the marks and by nothing else (holes 1 and 2). With past it goes past damage.
func (s *State) walk(past bool) (*tail.Walk, error) {
	m := &s.meta
	mark := m.LSN
	if n, _, ok := s.P.ReadMark(m.FileSalt); ok && !sabotage.Is(sabotage.MarkIgnored) {
		mark = max(mark, n)
	}
	from := tail.Start{Segment: m.Segment, Salt: m.Salt, Position: m.Position, LSN: m.LSN, Sequence: m.Sequence}
	var known *tail.Segment
	if m.Segment != 0 {
		known = s.Tail.Lookup(m.Segment)
		if known == nil || known.Salt != m.Salt || m.Position < known.Base()+tail.SegmentHeader || m.Position > known.End() || m.Position%8 != 0 {
			return nil, &errs.CorruptError{Path: s.P.Path(), Page: uint64(m.Segment), Structure: "meta", Reason: "the segment table does not know the start of replay"}
		}
	}
	walk := tail.NewWalk
	if past {
		walk = tail.NewWalkPast
	}
	w := walk(s.P.View(), s.P.Pages()*pager.PageSize, m.UUID, from, mark, known, func(position, salt, limit uint64) bool {
		return tail.Mend(s.P, position, salt, limit)
	})
	if w.Refused < w.Mark && !past && !sabotage.Is(sabotage.CutAtFirstBad) {
		return nil, &errs.CorruptError{Path: s.P.Path(), Page: w.RefPos / pager.PageSize, Offset: int64(w.RefPos), LSN: w.Refused, Structure: "log",
			Reason: fmt.Sprintf("a record of the tail does not hold, and the log is known to have been synced up to %d", w.Mark)}
	}
	return w, nil
}

// probeIndex goes the way to the bucket of every record that replay will look up, so that the index pages on it are verified.
// That is mostly the work of a processor: if it may, a second goroutine takes every other segment of the tail.
func (s *State) probeIndex(o *Options, w *tail.Walk) error {
	var next atomic.Int64
	probe := func() error {
		for i := int(next.Add(1)) - 1; i < w.Parts(); i = int(next.Add(1)) - 1 {
			ok, err := w.EachOf(s.P.View(), i, func(r *tail.Record) error {
				if !hasSlot(r.Kind) {
					return nil
				}
				_, _, err := s.Index.Find(s.meta.Root, xxhash.Sum64(r.Key), r.Key, true)
				return err
			})
			if err == nil && !ok {
				err = s.changed(w)
			}
			if err != nil {
				next.Store(int64(w.Parts())) // what else there is does not matter any more
				return err
			}
		}
		return nil
	}
	helped := s.beside(o, probe)
	err := s.guard(probe)
	return cmp.Or(err, helped())
}

// hasSlot reports whether replay looks the key of such a record up.
func hasSlot(kind tail.Kind) bool {
	return kind == tail.KindPut || kind == tail.KindDelete || kind == tail.KindDrop
}

// changed is the error of a log that does not read as it did.
func (s *State) changed(w *tail.Walk) error {
	return &errs.CorruptError{Path: s.P.Path(), Page: w.RefPos / pager.PageSize, Structure: "log", Reason: "the log changed while it was read"}
}

// takeWalked takes the pages of the walked segments out of the free space, before anything
// is allocated (hole 7), and puts the segments into the table.
func (s *State) takeWalked(w *tail.Walk) {
	for i := range w.Segments[:min(w.EndIndex+1, len(w.Segments))] {
		g := w.Segments[i]
		if i == w.EndIndex {
			g.Used = w.End.Position - g.Base()
		}
		if i == 0 {
			first := s.Tail.Lookup(g.Start)
			first.Used, first.LastSeq = g.Used, g.LastSeq
			continue
		}
		if old := s.Tail.Lookup(g.Start); old != nil && old.Salt != g.Salt {
			s.dropSegment(w, old) // the log retires it, but under its page will stand the new one: what that leaves of it would be nobody's
		}
		if !sabotage.Is(sabotage.AllocateBeforeWalk) {
			s.Free.MarkUsed(freelist.Run{Start: g.Start, Pages: g.Pages})
		}
		s.Tail.AddWalked(g)
	}
	s.Tail.LSN, s.Tail.Sequence = w.End.LSN, w.End.Sequence
}

// replay applies the records of the whole commits, in order. It finds slots by position and
// reads no record but those of the tail (hole 10c): that the slot is where the record says
// is also a check of the index against the log.
func (s *State) replay(w *tail.Walk) error {
	var a ahead
	ok, err := w.Each(s.P.View(), func(r *tail.Record) error {
		if w.Aborted[r.Sequence] && !sabotage.Is(sabotage.AbortIgnored) {
			return nil
		}
		if a.next = append(a.next, *r); len(a.next) < aheadRecords {
			return nil
		}
		return s.replayAhead(w, &a)
	})
	if err != nil {
		return err
	}
	if !ok {
		return s.changed(w)
	}
	if err := s.replayAhead(w, &a); err != nil {
		return err
	}
	return s.replayAhead(w, &a) // of the last ones
}

// aheadRecords is how many records replay looks ahead: enough that what it asks for has come when their turn comes.
const aheadRecords = 64

// ahead is the records that replay has read and not applied yet, those of now before those of next, and the cache lines that it asks for.
type ahead struct {
	now, next []tail.Record
	lines     []uint64
}

// replayAhead asks for the cache lines that the next records will need, and applies meanwhile those that it did so for before.
func (s *State) replayAhead(w *tail.Walk, a *ahead) error {
	if err := s.P.Failed(); err != nil {
		return err // by the sync of the log, beside
	}
	a.lines = a.lines[:0]
	for i := range a.next {
		r := &a.next[i]
		if !hasSlot(r.Kind) {
			continue
		}
		if bucket, hash, err := s.Index.Find(s.Index.Root, xxhash.Sum64(r.Key), r.Key, false); err == nil { // else apply will meet it
			a.lines = s.Index.AppendLines(a.lines, bucket, hash)
		}
	}
	s.P.View().PrefetchWritable(a.lines, 1)
	for i := range a.now {
		if err := s.apply(w, &a.now[i]); err != nil {
			return err
		}
	}
	a.now, a.next = a.next, a.now[:0]
	return nil
}

func (s *State) apply(w *tail.Walk, r *tail.Record) error {
	if r.Kind == tail.KindDrop && sabotage.Is(sabotage.ReplaySkipsDrop) || r.Kind == tail.KindRetire && sabotage.Is(sabotage.ReplaySkipsRetire) {
		return nil
	}
	switch r.Kind {
	case tail.KindPut, tail.KindDelete, tail.KindDrop:
		return s.applySlot(r)
	case tail.KindRetire:
		s.applyRetire(w, r)
	case tail.KindClear:
		return s.applyClear(w, r)
	}
	return nil
}

func (s *State) applySlot(r *tail.Record) error {
	found, err := s.Index.LookupPosition(xxhash.Sum64(r.Key), r.Key, r.Previous)
	if sabotage.Is(sabotage.ReplayReadsOld) {
		_, found, err = s.Index.Lookup(xxhash.Sum64(r.Key), r.Key)
	}
	if err != nil {
		return err
	}
	if found != (r.Previous != 0) || !found && r.Kind == tail.KindDrop {
		return &errs.CorruptError{Path: s.P.Path(), Page: r.Position / pager.PageSize, Offset: int64(r.Position), Structure: "index",
			Reason: fmt.Sprintf("%v: no slot leads to the previous position %d of the record", errDamaged, r.Previous)}
	}
	if r.Kind == tail.KindDrop {
		s.Tombstones--
		if !sabotage.Is(sabotage.ReplayKeepsFloor) {
			s.Dropped(r)
		}
		return s.Index.Drop()
	}
	if err := s.Index.Set(r.Position); err != nil {
		return err
	}
	s.count(r, found)
	return nil
}

// count keeps the numbers of keys and tombstones, and the hint of live bytes, which takes the
// record before for as long as this one.
func (s *State) count(r *tail.Record, found bool) {
	size := int64(r.Size())
	s.Tail.AddLive(r.Position, size)
	if found {
		s.Tail.AddLive(r.Previous, -size)
	}
	moved := r.Flags&tail.FlagMoved != 0 && !sabotage.Is(sabotage.MovedCounted)
	switch {
	case moved:
	case r.Kind == tail.KindDelete:
		s.Keys--
		s.Tombstones++
	case r.Flags&tail.FlagNew != 0 && !(found && sabotage.Is(sabotage.LenMiscounted)):
		s.Keys++
		if found {
			s.Tombstones--
		}
	}
}

// applyRetire takes a segment out of the table. Pages of it that a walked segment holds,
// because they were reused since, stay in use.
func (s *State) applyRetire(w *tail.Walk, r *tail.Record) {
	g := s.retired(r)
	if g == nil {
		return // an older image of the table did not know it either
	}
	s.dropSegment(w, g)
}

// dropSegment takes a segment out of the table, and retires what no walked segment holds of it.
func (s *State) dropSegment(w *tail.Walk, g *tail.Segment) {
	s.Tail.Remove(g.Start, g.Salt)
	for _, run := range s.without(w, g) {
		s.Free.Retire(freelist.Entry{Run: run, Kind: freelist.KindSegment, Epoch: s.Index.Epoch, EndLSN: g.EndLSN(), Generation: s.Generation.Load()}, 0)
	}
}

// retired is the segment of the table that a RETIRE names, nil if there is none.
func (s *State) retired(r *tail.Record) *tail.Segment {
	if len(r.Value) != 16 {
		return nil
	}
	n := binary.LittleEndian.Uint64(r.Value)
	if n > pager.MaxPages {
		return nil
	}
	g := s.Tail.Lookup(pager.PageNo(n))
	if g == nil || g.Salt != binary.LittleEndian.Uint64(r.Value[8:]) {
		return nil
	}
	return g
}

// without is what a segment's pages are but for those of other walked segments; w may be nil.
func (s *State) without(w *tail.Walk, g *tail.Segment) []freelist.Run {
	step := s.granule(g.Start)
	var walked []tail.Segment
	if w != nil {
		walked = w.Segments[:min(w.EndIndex+1, len(w.Segments))]
	}
	var runs []freelist.Run
	for at := uint32(g.Start); at < uint32(g.Start)+g.Pages; at += step {
		held := false
		for _, o := range walked {
			if o.Start == g.Start && o.Salt == g.Salt {
				continue // the segment itself: retired as a whole, and kept while a meta page needs it
			}
			held = held || at < uint32(o.Start)+o.Pages && uint32(o.Start) < at+step
		}
		if held {
			continue
		}
		if k := len(runs) - 1; k >= 0 && uint32(runs[k].Start)+runs[k].Pages == at {
			runs[k].Pages += step
			continue
		}
		runs = append(runs, freelist.Run{Start: pager.PageNo(at), Pages: step})
	}
	return runs
}
