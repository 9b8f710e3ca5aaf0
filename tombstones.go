package mapfile

import (
	"context"
	"errors"
	"slices"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// A tombstone may go when no record that is older than it can be met any more: not by readers, and not by a salvage, which reads
// all that stands in the file. Segments in use must all be younger than it, but for its own. For those that are retired
// and not durably gone the DROP stands in its place, and stays in the log for as long as there are any. So the oldest segments
// go first, one after the other, with no checkpoint between them, and take their tombstones with them.
//
// Compact leaves one tombstone for leastKeys keys at most; bury.go has what is done in the background.
const leastKeys = 16

// errLater says that a segment holds a DROP that somebody may still need.
var errLater = errors.Join(errKept, errors.New("retired segments are not gone yet"))

// tombstones is what a compaction knows of the tombstones that it may drop. checkpointMu protects it.
type tombstones struct {
	seen    []seen // ascending
	pressed bool   // it is done for a writer that found no room
	rolled  bool   // the segment that was being appended to is none any more
	waited  bool   // for retired segments to be gone
	later   []uint64
}

// mostSeen is how many of them are kept, at most.
const mostSeen = 32

// seen is what whoever pins a generation, or a later one, has seen at least.
type seen struct {
	generation uint64
	published  uint64 // sequence
	tombstones uint64 // that there were
}

// beginTombstones begins a compaction.
func (db *DB) beginTombstones(pressed bool) {
	db.tombs = tombstones{seen: db.tombs.seen, pressed: pressed}
	db.noteSeen()
}

// noteSeen notes what all readers from now on see, and forgets what no reader needs to be asked about. checkpointMu is held.
func (db *DB) noteSeen() {
	db.turn.Lock()
	defer db.turn.Unlock()
	now := seen{published: db.s.Published.Load(), tombstones: db.s.Tombstones}
	if now.published < db.s.LastClear() {
		return // the index before it was retired at this generation: who does not see the CLEAR must not pin a later one
	}
	if sabotage.Is(sabotage.GenerationNotRaised) || sabotage.Is(sabotage.ReuseBeforeBump) {
		return // to raise it here would make up for what is left out there
	}
	now.generation = db.s.Generation.Add(1) // behind the load: who pins it loads published later
	t := &db.tombs
	if n := len(t.seen); n == 0 || t.seen[n-1].published < now.published {
		t.seen = append(t.seen, now)
	}
	if n := len(t.seen); n > mostSeen { // while one reader stays for very long
		t.seen = slices.Delete(t.seen, n/2, n/2+1)
	}
	for oldest := db.pins.oldest(); len(t.seen) > 1 && t.seen[1].generation <= oldest; {
		t.seen = t.seen[1:]
	}
}

// byAll is what all readers have seen, zero if nothing is known.
func (db *DB) byAll() (all seen) {
	oldest := db.pins.oldest()
	for _, s := range db.tombs.seen {
		if s.generation <= oldest {
			all = s
		}
	}
	return all
}

// forgotten is how many tombstones there are at most that no reader is older than. The turn is held.
func (db *DB) forgotten() uint64 { return min(db.s.Tombstones, db.byAll().tombstones) }

// manyTombstones reports whether there are so many tombstones that may go that segments are compacted for their sake. For a writer that found
// no room there never are: a DROP takes as much as it gives back in the end. The turn is held.
func (db *DB) manyTombstones() bool {
	return !db.tombs.pressed && db.forgotten()*leastKeys > db.s.Keys
}

// oldest chooses the segment that comes first in the log, if there are many tombstones and it may go: those of no other one can be dropped before.
func (db *DB) oldest(skip map[uint64]bool, began uint64) (g tail.Segment, ok bool) {
	db.turn.Lock()
	defer db.turn.Unlock()
	if !db.manyTombstones() {
		return g, false
	}
	_, current := db.s.Tail.Position()
	for _, o := range db.s.Tail.Segments() {
		if o != current && (!ok || o.FirstLSN < g.FirstLSN) {
			g, ok = *o, true
		}
	}
	return g, ok && !skip[g.Salt] && g.FirstSeq <= began
}

// again finds more to be done where no segment is left to choose: the one that is being appended to may hold many tombstones, and what
// was kept for the sake of retired segments need not wait any longer when these are gone.
func (db *DB) again(ctx context.Context, skip map[uint64]bool) (bool, error) {
	t := &db.tombs
	if ctx.Err() != nil || db.clearing.Load() > 0 {
		return false, nil
	}
	if !t.rolled {
		t.rolled = true
		if ok, err := db.roll(); ok || err != nil {
			return ok, err
		}
	}
	if t.waited || len(t.later) == 0 {
		return false, nil
	}
	t.waited = true
	for range goneAfter {
		if db.s.OldestLeaving() == tail.MaxSequence {
			break
		}
		if err := db.checkpointLocked(false); err != nil {
			return false, err
		}
	}
	for _, salt := range t.later {
		delete(skip, salt)
	}
	return true, nil
}

// roll goes on in a new segment, if there are many tombstones and the one that is being appended to has records.
func (db *DB) roll() (ok bool, err error) {
	err = db.atTurn(func() error {
		_, current := db.s.Tail.Position()
		if !db.manyTombstones() || current == nil || current.Used == tail.SegmentHeader {
			return nil
		}
		err := db.admit(1, current.End()-current.Base(), 0, recovery.Upkeep) // more than it has room for
		if err == nil {
			ok, err = true, db.s.Tail.Roll()
		}
		if errors.Is(err, errs.ErrFull) {
			ok, err = false, nil
		} else if err != nil {
			err = db.dur.fail(err)
		}
		return err
	})
	return ok, err
}

// droppable is the sequence up to which tombstones in g may go: no reader is older, and no other segment that is in use can hold an
// older record of their keys. The turn is held; what is droppable stays so.
func (db *DB) droppable(g *tail.Segment) uint64 {
	published := db.byAll().published
	if sabotage.Is(sabotage.TombstoneDroppedEarly) {
		return published
	}
	return min(published, db.s.OldestInUse(g))
}
