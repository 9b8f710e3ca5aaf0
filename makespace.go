package mapfile

import (
	"context"
	"errors"

	"github.com/mapfile-db/mapfile/internal/errs"
)

// makeSpace is what a writer does that found no room: two checkpoints release all that is pending, arenas that
// are mostly free are emptied, and garbage is compacted until there is room for so many bytes of records. It answers false if there was nothing to gain since
// the last time, unless that ended behind the number of attempts that the writer noted before it looked for room: then it may find what another one made.
func (db *DB) makeSpace(bytes, attempts uint64) bool {
	db.lockUpkeep()
	defer db.checkpointMu.Unlock()
	if db.ready() != nil {
		return false
	}
	before := db.reclaimable()
	if before == db.hopeless {
		return db.attempts.Load() != attempts
	}
	err := db.guarded(func() error {
		for range 2 {
			if err := db.checkpointLocked(false); err != nil {
				return err
			}
		}
		if err := errors.Join(db.mergeSparse(context.Background(), func() {}), db.gather()); err != nil {
			return err
		}
		err := db.compact(context.Background(), 0, enoughUnits+2*bytes/uint64(db.s.P.Geo.UnitBytes()))
		return errors.Join(err, db.gather())
	})
	if err != nil && !errors.Is(err, errs.ErrFull) {
		db.log.Warn("mapfile: no room could be made", "error", err)
	}
	db.hopeless = db.reclaimable()
	db.attempts.Add(1)
	return true
}

// gather makes units of free pages that lie scattered in arenas, for as long as that gains some.
func (db *DB) gather() error {
	defer db.s.Free.SparseArenas(-1) // allocate anywhere again
	for {
		before := db.s.FreeUnits()
		if err := errors.Join(db.tidy(), db.release()); err != nil {
			return err
		}
		if db.s.FreeUnits() <= before {
			return nil
		}
	}
}

// reclaimable is a measure of what compaction and checkpoints could free, in bytes.
func (db *DB) reclaimable() uint64 {
	db.turn.Lock()
	defer db.turn.Unlock()
	sum := db.s.Free.Stats().Pending * pageSize
	for _, g := range db.s.Tail.Segments() {
		sum += g.Used - min(db.s.Tail.Live(g), g.Used)
	}
	return sum
}
