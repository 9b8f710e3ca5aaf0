package mapfile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// Compaction moves what is alive in a segment to the end of the log and retires the segment.
// Its bytes are free when the checkpoints, and the readers, that may need them are gone.
// Every change of a slot it makes is a record of the log, like a writer's (I2).
const (
	stepRecords   = 64        // most records moved while the turn is held
	paddedRecords = 256       // the same where each commit is padded: else the padding would outweigh what is moved
	paddedLeast   = 32        // and the fewest, where there is hardly room
	stepBytes     = 128 << 10 // and most bytes read
	warmShare     = 4         // times as many records a step finds warm at most
	enoughUnits   = 4         // free units with which a writer that found no room is content
)

// Compact moves what is alive out of every segment that holds garbage, and makes the checkpoints that free
// the space for new records. It runs beside readers and writers, in small steps, and rests between them while others commit, until done or until
// ctx is. Tombstones go, but for those that a reader is older than, and the index becomes as small as its keys allow. Free space is given back to the file system in the background and at Close. Compaction also runs by
// itself, as Options.Compaction says. Inside Update it would wait for itself.
func (db *DB) Compact(ctx context.Context) error {
	if err := db.writable(); err != nil {
		return err
	}
	db.lockUpkeep()
	defer db.checkpointMu.Unlock()
	if err := db.ready(); err != nil {
		return err
	}
	return db.guarded(func() error {
		if err := db.compact(ctx, 0, 0); err != nil {
			return err
		}
		return db.mergeIndex(ctx, func() {})
	})
}

// compact works until garbage is at most percent of the log or, if units is not 0, until so many units are free.
// checkpointMu is held.
func (db *DB) compact(ctx context.Context, percent int, units uint64) error {
	defer db.work.run()()
	skip := map[uint64]bool{} // salts of segments that cannot be retired now
	retired, some := 0, false // since the last checkpoints; at all
	w := way{db: db}
	db.turn.Lock()
	began := db.s.Tail.Sequence
	db.turn.Unlock()
	db.beginTombstones(units > 0)
	for {
		g, ok := db.oldest(skip, began)
		if !ok {
			g, ok = db.emptiest(skip, began, percent, units > 0)
		}
		if db.clearing.Load() > 0 {
			return ctx.Err() // Clear waits, and does it better
		}
		if !ok {
			more, err := db.again(ctx, skip)
			if err != nil {
				return err
			}
			if more {
				continue
			}
		}
		if !ok || ctx.Err() != nil {
			break
		}
		err := db.compactSegment(ctx, &g, w.make)
		switch {
		case err == nil:
			retired, some = retired+1, true
		case errors.Is(err, errKept):
			skip[g.Salt] = true
			if errors.Is(err, errLater) {
				db.tombs.later = append(db.tombs.later, g.Salt)
			}
		case errors.Is(err, errs.ErrFull) && retired > 0: // what has been retired makes room
		default:
			return err
		}
		if retired >= 16 || (err != nil || units > 0) && retired > 0 {
			if err := db.release(); err != nil {
				return err
			}
			retired = 0
		}
		if units > 0 && db.s.FreeUnits() >= units {
			break
		}
	}
	if !some && percent > 0 {
		return ctx.Err() // nothing was done: what is pending waits for the checkpoints that come anyway
	}
	return errors.Join(ctx.Err(), db.release())
}

// release makes the checkpoints that free what is retired: a segment retired in this epoch is free when the next
// one is the newer and, at the latest, when it is the older.
func (db *DB) release() error {
	for range 2 {
		if db.s.Free.Stats().Pending == 0 {
			return nil
		}
		if err := db.checkpointLocked(false); err != nil {
			return err
		}
	}
	return nil
}

// emptiest chooses the segment with the least live share; counters choose, they never decide. Moving what is nearly all
// alive gains too little, the more so where there is hardly room to move it to. Segments that began behind a sequence are
// left alone, unless nothing in them is alive; of those the newest goes first, for a DROP waits only for retired segments that are older (tombstones.go). With padded commits what compaction itself wrote has garbage, and it would never end.
func (db *DB) emptiest(skip map[uint64]bool, began uint64, percent int, pressed bool) (best tail.Segment, ok bool) {
	db.turn.Lock()
	defer db.turn.Unlock()
	_, current := db.s.Tail.Position()
	var used, garbage uint64
	share := 1.0
	db.s.Tail.Each(func(g *tail.Segment) {
		if g == current {
			return
		}
		size := g.Used - tail.SegmentHeader
		live := min(db.s.Tail.Live(g), size)
		used, garbage = used+size, garbage+size-live
		if s := float64(live) / float64(max(size, 1)); (s < share || ok && s == share && g.FirstSeq > best.FirstSeq) && !skip[g.Salt] && (g.FirstSeq <= began || live == 0) {
			best, share, ok = *g, s, true
		}
	})
	most := 0.95
	if pressed {
		most = 0.8
	}
	if garbage*100 <= used*uint64(percent) || share > most {
		return best, false
	}
	return best, ok
}

// first chooses the segment that comes first in the log behind an LSN, of those that began up to a sequence.
func (db *DB) first(behind, began uint64) (best tail.Segment, ok bool) {
	db.turn.Lock()
	defer db.turn.Unlock()
	_, current := db.s.Tail.Position()
	db.s.Tail.Each(func(g *tail.Segment) {
		if g != current && g.FirstLSN > behind && g.FirstSeq <= began && (!ok || g.FirstLSN < best.FirstLSN) {
			best, ok = *g, true
		}
	})
	return best, ok
}

// errKept says that a segment holds something that can neither be read nor moved: it stays.
var errKept = errors.New("the segment cannot be retired now")

// way lets writers go on beside a compaction that somebody waits for: behind each step in whose time others committed it rests twice as long as the
// step took.
type way struct {
	db    *DB
	since time.Time // when the last rest ended
	seen  uint64    // sequence published then
}

// make is called behind a step, which is a commit itself.
func (w *way) make(uint64) {
	published := w.db.s.Published.Load()
	if !w.since.IsZero() && published > w.seen+1 {
		time.Sleep(2 * time.Since(w.since))
	}
	w.since, w.seen = time.Now(), w.db.s.Published.Load()
}

// compactSegment moves the live records of a segment in steps, and retires it. It tells pace, behind each step, how many bytes it has looked at. pace holds no
// lock but checkpointMu, and may let go of that: a segment that has left the table meanwhile is errKept.
func (db *DB) compactSegment(ctx context.Context, g *tail.Segment, pace func(looked uint64)) error {
	c := compaction{db: db, g: g, at: g.Base() + tail.SegmentHeader, most: stepRecords, least: 1}
	if db.opts.PadCommits {
		c.most, c.least = paddedRecords, paddedLeast
	}
	for done, released := sabotage.Is(sabotage.TrustCounters) && db.s.Tail.Live(g) == 0, false; !done; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if db.clearing.Load() > 0 {
			return errKept
		}
		if c.at >= c.warmed {
			c.warm()
		}
		from := c.at
		var err error
		if done, err = c.step(); err == nil {
			released = false
			pace(c.at - from)
			continue
		}
		switch full := errors.Is(err, errs.ErrFull); {
		case full && c.most > c.least: // fewer records copy fewer buckets
			c.most /= 8
		case full && !released: // checkpoints bring back what the copies replaced
			released = true
			if err := db.gather(); err != nil {
				return err
			}
		default:
			return err
		}
	}
	// What supersedes its records must be published before it is retired (hole 19).
	db.turn.Lock()
	at := db.latest()
	db.turn.Unlock()
	if sabotage.Is(sabotage.RetireBeforePublished) {
		return c.retire()
	}
	if err := db.dur.settle(at); err != nil {
		return err
	}
	return c.retire()
}

// compaction is the work on one segment.
type compaction struct {
	db      *DB
	g       *tail.Segment
	at      uint64 // next byte to look at
	warmed  uint64 // warm has come up to here, or given up: then the segment's end
	most    int    // records that a step moves at most
	least   int    // and at least, however little room there is
	group   []movedRecord
	puts    bool   // PUT records were seen in it
	touched uint64 // keeps the compiler from leaving out loads that only warm the cache
}

// movedRecord is a live record on its way.
type movedRecord struct {
	hash   uint64
	old    tail.Record // in the mapping
	record tail.Record // its copy
}

// warm touches the records that the next steps will look at, and the slots that lead to them, without the turn: so a step, which keeps writers
// waiting, meets a warm cache. What it reads is not believed.
func (c *compaction) warm() {
	end, from, n := c.g.Base()+c.g.Used, c.at, 0
	c.warmed = end
	_ = c.db.pinnedAs(false, func(at snapshot) error {
		var buckets, hashes [stage]uint64
		var r tail.Record
		for p := from; p < end; c.warmed = p {
			group := 0
			for ; group < stage && p < end; group++ {
				if err := at.s.Record(p, &r, false); err != nil {
					return err
				}
				var err error
				if buckets[group], hashes[group], err = at.s.Index.Find(at.root, xxhash.Sum64(r.Key), r.Key, false); err != nil {
					return err
				}
				p += r.Size()
			}
			for i := range group {
				c.touched += at.s.Index.PrefetchSlots(buckets[i], hashes[i])
			}
			if n += group; n >= warmShare*c.most || p-from >= stepBytes {
				end = p
			}
		}
		return nil
	})
}

// step looks at some records of the segment and moves the live ones, as one commit.
func (c *compaction) step() (done bool, err error) {
	err = c.atTurn(func(*tail.Segment) error {
		from := c.at
		bytes, largest, err := c.gather()
		if err != nil || len(c.group) == 0 {
			return err
		}
		if err := c.db.admit(len(c.group), bytes, largest, recovery.Upkeep); err != nil {
			c.at = from
			return err
		}
		return c.move()
	})
	return c.at >= c.g.Base()+c.g.Used, err
}

// atTurn runs f under the writer's turn and the fault guard, with the segment, if it is still in use.
func (c *compaction) atTurn(f func(g *tail.Segment) error) (err error) {
	return c.db.atTurn(func() error {
		g := c.db.s.Tail.Lookup(c.g.Start)
		if g == nil || g.Salt != c.g.Salt {
			return errKept
		}
		return f(g)
	})
}

// atTurn runs f under the writer's turn and the fault guard.
func (db *DB) atTurn(f func() error) (err error) {
	if !db.pollTurn() {
		db.turn.Lock()
	}
	defer db.turn.Unlock()
	defer db.work.holds(forCompaction)()
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = db.writeFault(r, true)
		}
	}()
	if err := db.ready(); err != nil {
		return err
	}
	return f()
}

// gather finds the next live records. What cannot be read is alive (hole 23): the segment stays. So does one on a page that
// the disk does not give: nothing was stored yet, so the map goes on.
func (c *compaction) gather() (bytes, largest uint64, err error) {
	defer func() {
		if r := recover(); r != nil { // the guard of atTurn is up
			_ = c.db.s.P.Fault(r)
			err = errKept
		}
	}()
	s := c.db.s
	at, end, from := snapshot{s: s, mend: true}, c.g.Base()+c.g.Used, c.at
	if !c.db.opts.PadCommits { // behind that the cache is cold; but where commits are padded they must not be small
		end = min(end, max(c.warmed, from+1))
	}
	c.group = c.group[:0]
	for c.at < end && len(c.group) < c.most && c.at-from < stepBytes {
		var r tail.Record
		if s.Record(c.at, &r, true) != nil {
			if sabotage.Is(sabotage.RetireUnread) {
				c.at = end
				break
			}
			return 0, 0, errKept
		}
		c.at += r.Size()
		if r.Kind == tail.KindClear && s.OldestSequence(c.g) < r.Sequence {
			return 0, 0, errKept // a salvage would bring back what it cleared
		}
		if r.Kind == tail.KindAbort && s.MayHold(r.Sequence, c.g) && !sabotage.Is(sabotage.AbortDroppedEarly) {
			return 0, 0, errKept // or what was taken back
		}
		if r.Kind == tail.KindDrop && s.OldestLeaving() < r.Sequence && !sabotage.Is(sabotage.DropStandsAlone) {
			return 0, 0, errLater // or what the tombstone hid
		}
		c.puts = c.puts || r.Kind == tail.KindPut
		if r.Kind != tail.KindPut && r.Kind != tail.KindDelete {
			continue
		}
		hash := xxhash.Sum64(r.Key)
		alive, err := s.Index.LookupPosition(hash, r.Key, r.Position)
		if err != nil {
			return 0, 0, errKept
		}
		if !alive {
			continue
		}
		if sabotage.Is(sabotage.RetireRotten) && at.whole(&r) != nil {
			continue
		}
		if at.whole(&r) != nil && !sabotage.Is(sabotage.MoveUnverified) {
			return 0, 0, errKept
		}
		if sabotage.Is(sabotage.DropUnlogged) && r.Kind == tail.KindDelete && r.Visible() <= c.db.droppable(c.g) {
			if err := c.dropUnlogged(&r); err != nil {
				return 0, 0, err
			}
			continue
		}
		size := tail.Size(len(r.Key), uint64(len(r.Value)))
		bytes, largest = bytes+size, max(largest, size)
		c.group = append(c.group, movedRecord{hash: hash, old: r})
	}
	return bytes, largest, nil
}

// move appends the group's records and points the slots at them.
func (c *compaction) move() error {
	db, s := c.db, c.db.s
	b, droppable := db.newBatch(false), uint64(0)
	if slices.ContainsFunc(c.group, func(m movedRecord) bool { return m.old.Kind == tail.KindDelete }) {
		droppable = db.droppable(c.g)
	}
	for i := range c.group {
		m := &c.group[i]
		b.record = tail.Record{
			Kind: m.old.Kind, Key: m.old.Key, Value: m.old.Value, Sequence: s.Tail.Sequence,
			Previous: m.old.Position, Flags: tail.FlagMoved, Extra: m.old.Visible(),
		}
		if m.old.Kind == tail.KindDelete && m.old.Visible() <= droppable {
			b.record.Kind = tail.KindDrop // which tells of the tombstone's sequence, too: history begins behind it
		}
		if sabotage.Is(sabotage.MovedWithoutSequence) {
			b.record.Flags, b.record.Extra = 0, 0
		}
		if i == 0 {
			b.record.Flags |= tail.FlagFirst
		}
		if i == len(c.group)-1 {
			b.record.Flags |= tail.FlagLast
		}
		if err := b.append(true); err != nil {
			return b.abandon(err)
		}
		m.record = b.record
	}
	if err := s.Tail.Flush(); err != nil {
		return db.dur.fail(err)
	}
	for i := range c.group {
		if err := c.slot(&c.group[i]); err != nil {
			return db.dur.fail(err)
		}
	}
	b.finish()
	return nil
}

// slot makes the slot of a moved record lead to its copy, or a dropped tombstone's slot dead.
func (c *compaction) slot(m *movedRecord) error {
	s := c.db.s
	found, err := s.Index.LookupPosition(m.hash, m.old.Key, m.old.Position)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("the slot of the record at %d is gone", m.old.Position)
	}
	s.Tail.AddLive(m.old.Position, -int64(m.old.Size()))
	if m.record.Kind == tail.KindDrop {
		s.Tombstones--
		if !sabotage.Is(sabotage.DropKeepsFloor) {
			s.Dropped(&m.record)
		}
		return s.Index.Drop()
	}
	s.Tail.AddLive(m.record.Position, int64(m.record.Size()))
	return s.Index.Set(m.record.Position)
}

// retire logs that the segment leaves the table, and lets go of it.
func (c *compaction) retire() error {
	db := c.db
	return c.atTurn(func(g *tail.Segment) error {
		size := tail.Size(0, 16)
		if err := db.admit(1, size, size, recovery.Upkeep); err != nil {
			return err
		}
		if sabotage.Is(sabotage.RetireUnlogged) {
			db.s.RetireSegment(g, c.puts)
			return nil
		}
		var value [16]byte
		binary.LittleEndian.PutUint64(value[:], uint64(g.Start))
		binary.LittleEndian.PutUint64(value[8:], g.Salt)
		b := db.newBatch(false)
		b.record.Kind, b.record.Value, b.record.Flags = tail.KindRetire, value[:], tail.FlagFirst|tail.FlagLast
		if err := b.append(true); err != nil {
			return b.abandon(err)
		}
		if err := db.s.Tail.Flush(); err != nil {
			return db.dur.fail(err)
		}
		db.s.RetireSegment(g, c.puts)
		b.finish()
		return nil
	})
}
