package mapfile

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// Put sets key to value; both are copied. A commit of its own, durable as Options.Sync says when it returns.
// Errors: ErrKeyTooLarge, ErrValueTooLarge, ErrReadOnly, ErrFull (nothing changed), ErrFailed, ErrClosed.
//
// Inside an Update callback of the same goroutine it would wait for itself: use the Tx there.
func (db *DB) Put(key, value []byte) error {
	if err := checkSizes(key, value); err != nil {
		return errs.At(db.s.P.Path(), "", err)
	}
	return db.one(tail.KindPut, key, value)
}

// Delete removes key. A missing key is nil and writes nothing. Like Put it is a commit of its own.
func (db *DB) Delete(key []byte) error {
	if len(key) > MaxKeySize {
		return db.writable()
	}
	return db.one(tail.KindDelete, key, nil)
}

func checkSizes(key, value []byte) error {
	if len(key) > MaxKeySize {
		return errs.Join(errs.ErrKeyTooLarge, fmt.Errorf("%d bytes, at most %d", len(key), MaxKeySize))
	}
	if uint64(len(value)) > MaxValueSize {
		return errs.Join(errs.ErrValueTooLarge, fmt.Errorf("%d bytes, at most %d", len(value), uint64(MaxValueSize)))
	}
	return nil
}

// writable answers why the map cannot be written, nil if it can.
func (db *DB) writable() error {
	if err := db.ready(); err != nil {
		return err
	}
	if db.opts.ReadOnly {
		return errs.At(db.s.P.Path(), "write", errs.ErrReadOnly)
	}
	return db.waitsForItself()
}

// one is a commit of one record.
func (db *DB) one(kind tail.Kind, key, value []byte) error {
	if err := db.writable(); err != nil {
		return err
	}
	hash := xxhash.Sum64(key)
	attempts := db.attempts.Load()
	w := db.watch()
	at, err := db.appendOne(kind, hash, key, value, &w)
	if errors.Is(err, errs.ErrFull) && db.makeSpace(tail.Size(len(key), uint64(len(value))), attempts) {
		w = watched{}
		at, err = db.appendOne(kind, hash, key, value, &w)
	}
	db.watchedUntilNow(&w)
	if err != nil {
		return err
	}
	return db.settle(at, db.opts.Sync == SyncAlways)
}

// place is where the log stood behind a commit: what must be published, and, if that was demanded,
// synced before it is acknowledged. For one that appended nothing: what it saw.
type place struct{ sequence, end uint64 }

// latest is the place behind the last commit appended. The turn is held.
func (db *DB) latest() place { return place{db.s.Tail.Sequence, db.s.Tail.LSN} }

// takeTurnFor takes the turn for a write of key. If another has it, the time is used to probe for the key,
// so that the critical section meets a warm cache; what that reads is not believed.
func (db *DB) takeTurnFor(hash uint64, key []byte, w *watched) {
	if db.turn.TryLock() {
		return
	}
	begun := w.waitsForTurn(db)
	g := db.s.Generation.Load()
	if db.ready() == nil {
		_ = db.tryHas(hash, key, g)
	}
	if w.holder == "" || w.holder == forWriter || !db.pollTurn() { // for another writer's turn it would only burn a processor
		db.turn.Lock()
	}
	w.hasTurn(begun)
}

// pollTurn takes the turn if it becomes free within pollFor: between one writer and compaction it changes hands every few ten microseconds, and a
// goroutine that sleeps wakes too late. One goroutine does so at a time; the others sleep, and the mutex gives them the turn before it when they have
// slept for a millisecond.
func (db *DB) pollTurn() bool {
	if db.turn.TryLock() {
		return true
	}
	if !db.polls || !db.polling.CompareAndSwap(false, true) {
		return false
	}
	defer db.polling.Store(false)
	for begin := time.Now(); time.Since(begin) < pollFor; {
		if db.turn.TryLock() {
			return true
		}
	}
	return false
}

// pollFor is longer than most steps of compaction, and about what it takes to wake a goroutine on a machine that is not busy.
const pollFor = 200 * time.Microsecond

// settle waits, without the turn, until a commit may be acknowledged.
func (db *DB) settle(at place, demanded bool) error {
	sabotage.Yield(sabotage.CommitAppended)
	if demanded && db.dur.synced.Load() < at.end {
		if err := db.guarded(func() error { return db.dur.sync(at.end) }); err != nil {
			return err
		}
	}
	if at.end > db.allowed.Load() {
		db.brake(at.end)
	}
	return db.dur.await(at.sequence)
}

// appendOne appends a record and sets its slot, under the turn. A delete that finds nothing appends nothing.
func (db *DB) appendOne(kind tail.Kind, hash uint64, key, value []byte, w *watched) (at place, err error) {
	db.takeTurnFor(hash, key, w)
	defer db.turn.Unlock()
	old, storing := debug.SetPanicOnFault(true), false
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = db.writeFault(r, storing)
		}
	}()
	if err := db.ready(); err != nil {
		return at, err
	}
	previous, found, err := db.s.Index.Lookup(hash, key)
	if err != nil {
		return at, err
	}
	alive := found && db.s.Matched.Kind != tail.KindDelete
	if kind == tail.KindDelete && !alive {
		return db.latest(), nil
	}
	oldSize := int64(0)
	if found {
		oldSize = int64(db.s.Matched.Size())
	}
	storing = true
	return db.append(kind, key, value, slotBefore{previous, oldSize, found, alive})
}

// slotBefore is what the index's cursor, left by Lookup, says of a key before a change.
type slotBefore struct {
	previous uint64 // where its slot leads
	size     int64  // of the record there
	found    bool   // there is a slot
	alive    bool   // the key is there
}

// append is the rest of a commit of one record, behind the look-up of its key. The turn is held.
func (db *DB) append(kind tail.Kind, key, value []byte, was slotBefore) (at place, err error) {
	size := tail.Size(len(key), uint64(len(value)))
	urgency := recovery.Ordinary
	if kind == tail.KindDelete {
		urgency = recovery.Urgent
	}
	if err := db.admit(1, size, size, urgency); err != nil {
		return at, err
	}
	b := db.newBatch(db.opts.Sync == SyncAlways)
	r := &b.record
	r.Kind, r.Key, r.Value, r.Previous = kind, key, value, was.previous
	r.Flags = tail.FlagFirst | tail.FlagLast
	if err := b.append(was.alive); err != nil {
		return at, b.abandon(err)
	}
	if err := b.flush(); err != nil {
		return at, db.s.P.Fail(err)
	}
	if err := b.slot(r.Position, was.found, was.alive, was.size); err != nil {
		return at, db.s.P.Fail(err)
	}
	b.finish()
	return db.latest(), nil
}

// writeFault is the error of a panic with the turn held. While nothing was stored it is that of a page that cannot be
// read, unless the file was cut or taken away. Then what was stored is in doubt, so the map has failed.
func (db *DB) writeFault(r any, storing bool) error {
	defer func() {
		if again := recover(); again != nil { // not a fault of ours: goes on as it was
			_ = db.s.P.Fail(errors.New("a panic interrupted a commit"))
			panic(again)
		}
	}()
	fault := db.damage(db.s.P.Fault(r))
	if !storing && !errors.Is(fault, errs.ErrReplaced) {
		return fault
	}
	return db.dur.fail(fault)
}

// admit makes room for a commit, and begins the life with the first. The turn is held.
func (db *DB) admit(records int, bytes, largest uint64, urgency recovery.Urgency) error {
	if db.s.Tail.Sequence >= tail.MaxSequence {
		return errs.At(db.s.P.Path(), "", errs.Join(errs.ErrFull, errors.New("sequences are used up")))
	}
	if db.s.Unnamed() { // that gives room back, which Admit would look for
		if err := db.beginLife(); err != nil {
			return err
		}
	}
	if err := db.s.Admit(records, bytes, largest, urgency); err != nil {
		return errs.At(db.s.P.Path(), "", err)
	}
	return db.beginLife()
}

// batch is a commit while it is appended. The turn is held.
type batch struct {
	db       *DB
	demanded bool
	record   tail.Record
	began    uint64 // position before the first record
	keys     uint64 // before
	appended int
}

// newBatch takes the next sequence.
func (db *DB) newBatch(demanded bool) *batch {
	t := db.s.Tail
	t.Sequence++
	b := &db.scratch
	*b = batch{db: db, demanded: demanded, keys: db.s.Keys}
	b.began, _ = t.Position()
	b.record.Sequence = t.Sequence
	return b
}

// append stores b.record, whose key is alive already or not. The first one carries the mark, if it advanced.
func (b *batch) append(alive bool) error {
	r := &b.record
	if !alive && r.Kind == tail.KindPut {
		r.Flags |= tail.FlagNew
	}
	if r.Flags&tail.FlagFirst != 0 && b.demanded {
		if mark := b.db.dur.synced.Load(); mark > b.db.lastMark {
			r.Flags |= tail.FlagMark
			r.Extra = mark
		}
	}
	if err := b.db.s.Tail.Append(r); err != nil {
		return err
	}
	if r.Flags&tail.FlagMark != 0 {
		b.db.lastMark = r.Extra
	}
	b.appended++
	return nil
}

// flush puts what was appended into the file: slots may lead there then.
func (b *batch) flush() error {
	if sabotage.Is(sabotage.SlotBeforeRecord) {
		return nil
	}
	return b.db.s.Tail.Flush()
}

// abandon ends a batch that could not be appended whole. If nothing was stored its sequence is given back.
func (b *batch) abandon(cause error) error {
	t := b.db.s.Tail
	if now, _ := t.Position(); b.appended == 0 && now == b.began && (errors.Is(cause, errs.ErrFull) || errors.Is(cause, errs.ErrCorrupt)) {
		t.Sequence--
		return errs.At(b.db.s.P.Path(), "", cause)
	}
	return b.db.dur.fail(cause)
}

// slot makes the slot at the index's cursor lead to a record that was appended, and counts.
func (b *batch) slot(position uint64, found, alive bool, oldSize int64) error {
	s, r := b.db.s, &b.record
	if err := s.Index.Set(position); err != nil {
		return err
	}
	s.Tail.AddLive(position, int64(r.Size()))
	if found {
		s.Tail.AddLive(r.Previous, -oldSize)
	}
	switch {
	case r.Kind == tail.KindDelete:
		s.Keys--
		s.Tombstones++
	case !alive:
		s.Keys++
		if found {
			s.Tombstones--
		}
	}
	return nil
}

// finish publishes the commit, or queues its demand, and wakes who works in the background.
func (b *batch) finish() {
	db := b.db
	if sabotage.Is(sabotage.SlotBeforeRecord) {
		_ = db.s.Tail.Flush()
	}
	if root := db.s.Index.Root; root != db.s.Root() {
		db.s.SetRoot(root)
	}
	t := db.s.Tail
	db.dur.commit(t.Sequence, t.LSN, b.keys, db.s.Keys, b.demanded)
	if m := t.LSN - db.s.LastSeal(); m > db.checkpointBound() {
		db.background.wantCheckpoint()
	}
	db.background.committed()
	if _, segment := t.Position(); segment != db.lastSegment {
		db.lastSegment = segment
		db.background.wantGrowth()
		if t.LSN > db.lookAt {
			db.lookAt = t.LSN + lookBytes
			db.background.logGrown()
		}
	}
}

// checkpointBound is how long the log may grow between checkpoints: a checkpoint rewrites the index, so a
// larger index asks for a longer log, and replay time caps it.
func (db *DB) checkpointBound() uint64 {
	g := &db.s.P.Geo
	return min(max(uint64(g.CheckpointBytes), db.s.Index.Bytes()), uint64(g.MaxCheckpoint))
}
