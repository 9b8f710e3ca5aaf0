package mapfile

import (
	"runtime/debug"

	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/tail"
)

// What the longer of the planted bugs do (internal/sabotage). Nothing of it is in a production build.

// beginReadLate is beginRead in the wrong order.
func (db *DB) beginReadLate(tx *Tx) error {
	sequence, keys := db.dur.snapshot()
	tx.at = db.now()
	tx.at.sequence, tx.keys, tx.at.mend = sequence, keys, true
	tx.logEnd = db.dur.appended.Load()
	tx.pin = db.pins.acquire(&db.s.Generation)
	tx.generation = tx.pin.generation.Load()
	tx.pin.note(sequence, db.opts.Debug.Callers)
	if err := db.ready(); err != nil {
		tx.pin.release()
		return err
	}
	return nil
}

// pinnedLate is pinned in the wrong order.
func (db *DB) pinnedLate(f func(at snapshot) error) (err error) {
	at := db.now()
	pin := db.pins.acquire(&db.s.Generation)
	defer pin.release()
	if err := db.ready(); err != nil {
		return err
	}
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = db.damage(db.s.P.Fault(r))
		}
	}()
	return f(at)
}

// sumFirst is the end of appendGet in the wrong order.
func (at *snapshot) sumFirst(dst []byte, r *tail.Record) ([]byte, error) {
	if !r.ValueHolds(r.Value) {
		return dst, at.corrupt(r, valueDamaged)
	}
	sabotage.Yield(sabotage.ReaderHasCopy)
	return append(dst, r.Value...), nil
}

// dropUnlogged makes the slot at the index's cursor, which leads to a tombstone, dead, and leaves no record of it.
func (c *compaction) dropUnlogged(r *tail.Record) error {
	s := c.db.s
	s.Tombstones--
	s.Tail.AddLive(r.Position, -int64(r.Size()))
	err := s.Index.Drop()
	s.SetRoot(s.Index.Root)
	return err
}
