package recovery

import (
	"context"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Repair says what an open may do beyond replaying a log that is whole. nil and the zero value: nothing.
type Repair struct {
	// RebuildIndex makes the index anew from the log. The old one is not looked at.
	RebuildIndex bool
	// AcceptLoss goes past what cannot be read in the log: keys may show an older version, or be gone.
	AcceptLoss bool

	Context  context.Context          // ends a rebuild before it changes anything; nil: never
	Progress func(done, total uint64) // bytes of log read; may be nil
	Tell     func(Loss)               // hears of each loss; may be nil
}

// repair is the repair of an open, never nil.
func (o *Options) repair() *Repair {
	if o.Repair != nil {
		return o.Repair
	}
	return &Repair{}
}

// step counts progress and looks at the context.
func (p *Repair) step(done, total uint64) error {
	if p.Progress != nil {
		p.Progress(done, total)
	}
	if p.Context != nil {
		return p.Context.Err()
	}
	return nil
}

// replayByKey applies the records of the whole commits where a part of the log is lost: what a record says of the slot
// before it may have been lost too, so slots are found by key.
func (s *State) replayByKey(w *tail.Walk) error {
	ok, err := w.Each(s.P.View(), func(r *tail.Record) error {
		switch {
		case w.Aborted[r.Sequence]:
			return nil
		case r.Kind == tail.KindRetire:
			s.applyRetireLossy(w, r)
			return nil
		case r.Kind == tail.KindPut || r.Kind == tail.KindDelete || r.Kind == tail.KindDrop:
			return s.applyKey(r)
		case r.Kind == tail.KindClear:
			return s.applyClear(w, r)
		}
		return nil
	})
	if err == nil && !ok {
		err = &errs.CorruptError{Path: s.P.Path(), Page: w.RefPos / pager.PageSize, Reason: "the log changed while it was read"}
	}
	return err
}

// applyKey applies a record to the slot of its key, whatever that leads to, and counts.
func (s *State) applyKey(r *tail.Record) error {
	hash := xxhash.Sum64(r.Key)
	old, was := r.Previous, r.Flags&tail.FlagNew == 0 // if the old record cannot be read
	found, err := s.Index.LookupPosition(hash, r.Key, r.Previous)
	if err != nil {
		return err
	}
	if !found {
		if old, found, err = s.Index.Lookup(hash, r.Key); err != nil {
			return fmt.Errorf("a part of the log is lost, and without it the index cannot be followed; rebuild it: %w", err)
		}
		was = found && s.Matched.Kind != tail.KindDelete
	} else if s.Record(old, &s.Matched, true) == nil {
		was = s.Matched.Kind != tail.KindDelete
	}
	return s.setKey(r, old, found, was)
}

// setKey makes the slot at the index's cursor lead to a record, or to nothing if that is a DROP. old is where it led if it
// was found, was tells whether the key was alive.
func (s *State) setKey(r *tail.Record, old uint64, found, was bool) error {
	size := int64(s.Matched.Size())
	if found {
		s.Tail.AddLive(old, -size)
	}
	if r.Kind == tail.KindDrop {
		s.Dropped(r)
		if !found {
			return nil
		}
		s.countKey(was, false, true, false)
		return s.Index.Drop()
	}
	if err := s.Index.Set(r.Position); err != nil {
		return err
	}
	s.Tail.AddLive(r.Position, int64(r.Size()))
	s.countKey(found && was, r.Kind == tail.KindPut, found, true)
	return nil
}

// countKey counts a key that was or is alive, and a slot that was or is there.
func (s *State) countKey(was, is, had, has bool) {
	if was {
		s.Keys--
	} else if had {
		s.Tombstones--
	}
	if is {
		s.Keys++
	} else if has {
		s.Tombstones++
	}
}

// applyRetireLossy keeps a segment that was retired, for what was moved out of it may be lost, unless its pages were used
// again.
func (s *State) applyRetireLossy(w *tail.Walk, r *tail.Record) {
	if g := s.retired(r); g != nil && s.reused(w, g) {
		s.applyRetire(w, r)
	}
}

// reused reports whether a walked segment holds pages of another one.
func (s *State) reused(w *tail.Walk, g *tail.Segment) bool {
	n := uint32(0)
	for _, run := range s.without(w, g) {
		n += run.Pages
	}
	return n < g.Pages
}

// dropReused takes segments out of the table whose pages walked segments hold: that they were retired may be lost.
func (s *State) dropReused(w *tail.Walk) {
	for _, g := range s.Tail.Segments() {
		if !s.reused(w, g) {
			continue
		}
		s.dropSegment(w, g)
	}
}

// padGaps makes PADs of what was given up in the log, when the state that does without it is named by both meta pages:
// from then on the log can be read from end to end again. Nothing reads these bytes, so a crash in here leaves
// them as they were, or padded. (I1: each byte of a segment is stored once; these are the exception, for they are lost.)
func (s *State) padGaps(gaps []pad) error {
	v := s.P.View()
	for _, g := range gaps {
		for n := uint64(0); g.from < g.to; g.from += n {
			n = min(g.to-g.from, 1<<30)
			if n < tail.MinPad {
				break
			}
			if err := s.P.WriteAt(tail.PadHeader(v.Bytes(g.from, n), g.from, g.salt, g.sequence), g.from); err != nil {
				return s.P.Fail(err)
			}
		}
	}
	if len(gaps) == 0 {
		return nil
	}
	if err := s.P.SyncFile(); err != nil {
		return s.P.Fail(err)
	}
	return nil
}

// pad is a part of a segment that is given up.
type pad struct {
	from, to uint64 // byte offsets
	salt     uint64
	sequence uint64 // of the record before
}

// walkedPads lists what a walk went past, as far as it lies in what is kept.
func (s *State) walkedPads(w *tail.Walk) (pads []pad) {
	for _, g := range w.Gaps {
		if g.Segment > w.EndIndex || g.Segment == w.EndIndex && g.To > w.End.Position {
			continue
		}
		pads = append(pads, pad{g.From, g.To, w.Segments[g.Segment].Salt, g.Sequence})
	}
	return pads
}
