package mapfile

import (
	"runtime/debug"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// Clear removes every key, in one step and one commit, durable as Options.Sync says when it returns. The time that it takes
// grows with the size of the file in units of 2 MiB, not with the number of keys. It waits for a checkpoint
// that is being made. Snapshots that are older go on seeing what they saw; the space is free when they have ended and two
// more checkpoints are made. Errors: ErrReadOnly, ErrFull (nothing changed), ErrFailed, ErrClosed. Inside Update it would wait for itself.
func (db *DB) Clear() error {
	if err := db.writable(); err != nil {
		return err
	}
	at, err := db.clearOne()
	if err != nil {
		return err
	}
	return db.settle(at, db.opts.Sync == SyncAlways)
}

// clearOne appends the CLEAR and begins an empty index. checkpointMu keeps checkpoints and compaction out: they move pages
// and segments between index, log and free space.
func (db *DB) clearOne() (at place, err error) {
	db.clearing.Add(1)
	db.lockUpkeep()
	db.clearing.Add(-1)
	defer db.checkpointMu.Unlock()
	db.turn.Lock()
	defer db.turn.Unlock()
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = db.writeFault(r, true)
		}
	}()
	if err := db.ready(); err != nil {
		return at, err
	}
	if db.s.Keys == 0 && db.s.Tombstones == 0 {
		return db.latest(), nil
	}
	size := tail.Size(0, 0)
	if err := db.admit(1, size, size, recovery.Urgent); err != nil {
		return at, err
	}
	b := db.newBatch(db.opts.Sync == SyncAlways)
	b.record.Kind, b.record.Flags = tail.KindClear, tail.FlagFirst|tail.FlagLast
	if err := b.append(true); err != nil {
		return at, b.abandon(err)
	}
	if err := db.s.Tail.Flush(); err != nil {
		return at, db.dur.fail(err)
	}
	if err := db.s.Clear(); err != nil {
		return at, db.dur.fail(errs.At(db.s.P.Path(), "clear", err))
	}
	b.finish()
	return db.latest(), nil
}
