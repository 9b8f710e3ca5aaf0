package mapfile

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// Upkeep is what goes on in the background behind writers: checkpoints that are due, compaction, and giving space back. It looks around every
// second while there are commits, and until there have been none for a second, and for 20 times as long as the last checkpoint took, which may be longer; then
// it rests until the next: an idle machine is not woken.
// Only what a reader holds makes it look again, less and less often.
const (
	lookEvery    = time.Second
	lookSeldom   = 32 * time.Second
	lookBytes    = 16 << 20 // of log, behind which it looks sooner
	idleShare    = 20       // times as long as the last checkpoint took there are no commits: the map is idle
	idleMost     = 5 * time.Minute
	pendingShare = 16          // of the file: when idle, a checkpoint brings back as much as that, or more
	pendingLoad  = 5           // the same beside writers
	pendingAfter = 10          // looks after the last one
	laterAfter   = 2           // looks, behind which what retired segments keep from being retired is worth the checkpoints that let these go
	giveRest     = time.Minute // behind a failure to give space back, until it is tried again
)

// upkeep is the worker. Its fields are its own.
type upkeep struct {
	db  *DB
	ctx context.Context

	seen       uint64        // log position at the last look
	busy       time.Time     // when commits were last seen
	wait       time.Duration // until the next look at what readers hold
	checkpoint time.Time     // when upkeep made the last one
	units      uint64        // turnover of free units then
	used       uint64        // units used between two checkpoints, of late
	pages      uint64        // turnover of index pages
	copied     uint64        // pages copied between the last two checkpoints
	failed     time.Time     // when giving back failed
	later      time.Time     // since when segments with DROPs wait for retired ones; zero if none does
	pacer      pacer
}

func newUpkeep(ctx context.Context, db *DB) *upkeep {
	u := &upkeep{db: db, ctx: ctx, wait: db.background.every}
	u.pacer.u = u
	return u
}

// run looks around until the map is closed.
func (u *upkeep) run() {
	b, timer := &u.db.background, time.NewTimer(u.db.background.every)
	for again := time.Duration(0); ; {
		select {
		case <-u.ctx.Done():
			timer.Stop()
			return
		case <-b.commits:
			u.seen, u.wait, u.busy = u.db.dur.appended.Load(), b.every, time.Now()
			timer.Reset(b.every)
			continue
		case <-b.checkpoint:
			again = u.lookGuarded(false)
		case <-b.grown:
			again = u.lookGuarded(false)
		case <-timer.C:
			again = u.lookGuarded(u.idle())
		}
		if again > 0 {
			timer.Reset(again)
			continue
		}
		b.awake.Store(false)
		if u.db.dur.appended.Load() != u.seen { // a commit came between look and rest
			b.committed()
		}
	}
}

// idle reports whether there have been no commits for so long that what is done for an idle map is worth its time: a writer who comes back pays for
// it again. The last look has been over for a while; between two looks in a row there are seldom any commits.
func (u *upkeep) idle() bool {
	return u.db.dur.appended.Load() == u.seen && time.Since(u.busy) >= min(idleShare*time.Duration(u.db.counters.took.Load()), idleMost)
}

// lookGuarded looks around once and answers when to look again, 0: behind the next commit.
func (u *upkeep) lookGuarded(idle bool) (again time.Duration) {
	defer u.db.work.run()()
	err := u.db.guarded(func() (err error) {
		again, err = u.look(idle)
		return err
	})
	if err == nil || u.ctx.Err() != nil {
		return again
	}
	u.db.log.Error("mapfile: a background checkpoint or compaction failed", "error", err)
	if u.db.ready() != nil {
		return 0
	}
	return lookSeldom
}

// look does what there is to do. Each part makes room for the next.
func (u *upkeep) look(idle bool) (again time.Duration, err error) {
	db := u.db
	db.checkpointMu.Lock()
	defer db.checkpointMu.Unlock()
	idle = idle && db.dur.appended.Load() == u.seen // it may have waited long for checkpointMu
	if err := db.ready(); err != nil {
		return 0, nil
	}
	if db.checkpointDue() {
		if err := u.makeCheckpoint(); err != nil {
			return 0, err
		}
	}
	for _, part := range []func(idle bool) error{u.compact, u.merge, u.release, u.tidy, u.giveBack} {
		if err := part(idle); err != nil || u.ctx.Err() != nil {
			return 0, err
		}
	}
	end := db.dur.appended.Load()
	rest := idle && end == u.seen
	if end != u.seen {
		u.seen, u.busy = end, time.Now()
	}
	if !rest {
		u.wait = db.background.every
		return u.wait, nil
	}
	if _, due := db.s.Free.Retired(); due < uint64(db.s.P.Geo.UnitPages) {
		return 0, nil
	}
	u.wait = min(2*u.wait, lookSeldom)
	return u.wait, nil
}

// makeCheckpoint makes a checkpoint, notes what was used since the last, and gives back what the next will not need.
func (u *upkeep) makeCheckpoint() error {
	u.checkpoint = time.Now()
	if err := u.db.checkpointLocked(false); err != nil {
		return err
	}
	units, pages := u.db.s.Free.Turnover()
	u.used, u.copied = (u.used+units-u.units)/2, pages-u.pages
	u.units, u.pages = units, pages
	return u.giveBack(false)
}

// usage is how the file is used, in bytes.
type usage struct {
	live, garbage uint64 // records
	index         uint64 // pages in use
	pending       uint64 // pages that wait for checkpoints
	tombstones    uint64 // of live: about what is kept of keys that were deleted
}

// tombstoneBytes is about what a tombstone takes.
const tombstoneBytes = 48

// usage adds up how the file is used. The turn is held.
func (db *DB) usage() usage {
	used, live := db.s.Tail.Totals()
	pending, _ := db.s.Free.Retired()
	return usage{live, used - live, db.s.Index.Bytes(), pending * pageSize, db.s.Tombstones * tombstoneBytes}
}

func (w usage) held() uint64 { return w.live + w.garbage + w.index + w.pending }

// share is the part of all that is neither a live record nor a live page.
func (w usage) share() float64 { return float64(w.garbage+w.pending) / float64(max(w.held(), 1)) }

// release makes the checkpoints that bring back what waits for them, and takes what readers have let go of.
func (u *upkeep) release(idle bool) error {
	db := u.db
	db.turn.Lock()
	w := db.usage()
	db.turn.Unlock()
	least, share := uint64(db.s.P.Geo.UnitBytes()), uint64(pendingShare)
	if !idle {
		share = pendingLoad
	}
	if w.pending > max(least, w.held()/share) && (idle || time.Since(u.checkpoint) > pendingAfter*db.background.every) {
		u.checkpoint = time.Now()
		if idle {
			return db.release()
		}
		return u.makeCheckpoint()
	}
	return u.reclaim()
}

// reclaim takes what readers had held when the last checkpoint was made. Most of them read for microseconds.
func (u *upkeep) reclaim() error {
	if _, due := u.db.s.Free.Retired(); due < uint64(u.db.s.P.Geo.UnitPages) {
		return nil
	}
	if err := u.db.s.Reclaim(); err != nil {
		return u.db.s.P.Fail(err)
	}
	return nil
}

// tidyBuckets is how many buckets a step of tidying looks at.
const tidyBuckets = 64

// tidy empties arenas when much of them is free, more than the next checkpoints will use.
func (u *upkeep) tidy(bool) error {
	db := u.db
	_, pages := db.s.Free.Turnover()
	busy := max(u.copied, pages-u.pages)
	db.turn.Lock()
	index := db.s.Index.Pages()
	db.turn.Unlock()
	if db.s.LoosePages() < 2*busy+index/4+4*uint64(db.s.P.Geo.UnitPages) {
		return nil
	}
	defer db.s.Free.SparseArenas(-1)
	if err := u.tidyOnce(); err != nil {
		return err
	}
	return db.release()
}

// tidyOnce moves what lies in sparse arenas, in steps.
func (u *upkeep) tidyOnce() error {
	db := u.db
	var t *recovery.Tidying
	for done := false; !done && u.ctx.Err() == nil; u.pacer.rest(tidyBuckets * pageSize) {
		err := func() error {
			db.turn.Lock()
			defer db.turn.Unlock()
			defer db.work.holds(forCompaction)()
			if err := db.ready(); err != nil {
				return err
			}
			if t == nil {
				t = db.s.BeginTidy()
			}
			var err error
			if done = t == nil; !done {
				done, err = t.Step(tidyBuckets)
			}
			return err
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// giveBack gives free units back to the file system, but for those that writers will want before the next checkpoints bring back more.
func (u *upkeep) giveBack(idle bool) error {
	db := u.db
	if idle {
		u.used = 0
	}
	keep := db.s.Spare() + u.used
	if !u.failed.IsZero() && time.Since(u.failed) < giveRest {
		return nil
	}
	u.failed = time.Time{}
	if err := db.giveBack(u.ctx, keep); err != nil {
		u.failed = time.Now()
		db.log.Warn("mapfile: space could not be given back", "error", err) // all is as good as it was
	}
	return nil
}

// giveBack gives free units beyond keep back to the file system, in steps, while the map is in use. checkpointMu is held.
func (db *DB) giveBack(ctx context.Context, keep uint64) error {
	for more := true; more && ctx.Err() == nil; {
		var err error
		if more, err = db.s.GiveBack(keep, &db.turn); err != nil {
			return err
		}
	}
	return nil
}

// compact takes garbage back when there is too much of it, and tombstones when they are too many.
func (u *upkeep) compact(bool) error {
	db, o := u.db, &u.db.opts.Compaction
	if o.Off {
		return nil
	}
	db.turn.Lock()
	w := db.usage()
	db.turn.Unlock()
	defer db.allowed.Store(math.MaxUint64)
	soft, least := float64(o.Garbage)/100-waitBelow-beginBelow, uint64(db.s.P.Geo.UnitBytes())
	if w.garbage > least && w.share() > soft {
		u.pacer.begin(u, soft)
		if err := u.empty(); err != nil {
			return err
		}
	}
	if w.buried(least) {
		u.pacer.begin(u, soft)
		return u.bury(least)
	}
	return nil
}

// merge takes back what deletes have left of the index.
func (u *upkeep) merge(bool) error {
	return u.db.mergeSparse(u.ctx, func() { u.pacer.rest(mergeLooks * pageSize) })
}

// empty compacts the emptiest segments until there is little garbage.
func (u *upkeep) empty() error {
	u.db.beginTombstones(false)
	began, skip := u.db.s.Published.Load(), map[uint64]bool{}
	for u.goesOn() && u.pacer.over() {
		g, ok := u.db.emptiest(skip, began, 0, true)
		if !ok {
			break
		}
		if err := u.compactOne(&g, skip); err != nil {
			return err
		}
		if !u.later.IsZero() && time.Since(u.later) > laterAfter*u.db.background.every {
			u.later = time.Time{}
			if err := u.gone(); err != nil {
				return err
			}
			clear(skip)
		}
	}
	return u.pacer.err
}

// goesOn reports whether compaction may go on: Clear does it better.
func (u *upkeep) goesOn() bool {
	return u.ctx.Err() == nil && u.db.clearing.Load() == 0 && u.pacer.err == nil
}

// compactOne compacts one segment. One that cannot be retired now is noted, and what finds no room is left to whoever needs that.
func (u *upkeep) compactOne(g *tail.Segment, skip map[uint64]bool) error {
	err := u.db.compactSegment(u.ctx, g, u.pacer.pace)
	if errors.Is(err, errKept) || errors.Is(err, errs.ErrFull) || u.ctx.Err() != nil {
		if skip[g.Salt] = true; errors.Is(err, errLater) && u.later.IsZero() {
			u.later = time.Now()
		}
		return nil
	}
	return err
}
