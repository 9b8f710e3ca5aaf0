package mapfile

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/recovery"
)

// What deletes leave empty of the index is taken back behind compaction, which drops the tombstones: in small steps, each under
// the turn.
const (
	mergeLooks   = 64 // places that a step looks at, at most
	mergeChanges = 4  // and changes, which build a page or two each and copy the directories above
)

// mergeIndex goes once through the index, and makes the checkpoints that free what it gave up. Where there is no room it does what can be
// done. checkpointMu is held; rest, between two steps, may let go of it.
func (db *DB) mergeIndex(ctx context.Context, rest func()) error {
	m, waited := db.s.BeginMerge(), false
	for done := false; !done; rest() {
		if ctx.Err() != nil || db.clearing.Load() > 0 {
			break
		}
		var err error
		if done, err = db.mergeStep(m); errors.Is(err, errs.ErrFull) {
			if waited {
				break
			}
			waited = true // checkpoints bring back what the steps before gave up
			err = db.release()
		}
		if err != nil {
			return err
		}
	}
	db.turn.Lock()
	db.merged = db.s.Keys + db.s.Tombstones
	db.turn.Unlock()
	if m.Changes == 0 {
		return ctx.Err()
	}
	return errors.Join(ctx.Err(), db.release())
}

// mergeSparse is mergeIndex if the index is much larger than it needs to be, and has lost an eighth of its slots since the last time.
func (db *DB) mergeSparse(ctx context.Context, rest func()) error {
	db.turn.Lock()
	slots := db.s.Keys + db.s.Tombstones
	due := db.s.IndexSparse() && (db.merged == 0 || slots < db.merged-db.merged/8)
	db.merged = max(db.merged, slots)
	db.turn.Unlock()
	if !due {
		return nil
	}
	return db.mergeIndex(ctx, rest)
}

// mergeStep looks at some places and changes a few. What cannot be read stays as it is.
func (db *DB) mergeStep(m *recovery.Merging) (done bool, err error) {
	db.turn.Lock()
	defer db.turn.Unlock()
	defer db.work.holds(forCompaction)()
	old, storing := debug.SetPanicOnFault(true), false
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			if err = db.writeFault(r, storing); !storing && !errors.Is(err, errs.ErrReplaced) {
				done, err = m.Skip(), nil
			}
		}
	}()
	if err := db.ready(); err != nil {
		return false, err
	}
	for looks, changes := 0, 0; looks < mergeLooks && changes < mergeChanges; looks++ {
		var pages uint64
		if pages, done = m.Look(); done {
			return true, nil
		}
		if pages == 0 {
			continue
		}
		if err := db.admitMerge(pages); err != nil {
			return false, err
		}
		storing = true
		if err := m.Merge(); err != nil {
			return false, db.dur.fail(err)
		}
		storing = false
		changes++
	}
	return false, nil
}

// admitMerge makes room for so many index pages, and begins the life if need be. The turn is held.
func (db *DB) admitMerge(pages uint64) error {
	if _, begun := db.s.Life(); !begun {
		if err := db.admit(1, 0, 0, recovery.Upkeep); err != nil {
			return err
		}
	}
	return errs.At(db.s.P.Path(), "", db.s.AdmitPages(pages))
}
