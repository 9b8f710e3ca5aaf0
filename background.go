package mapfile

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mapfile-db/mapfile/internal/sabotage"
)

// background is what runs beside the calls of an open map: checkpoints, growth ahead of
// need, and the syncs of SyncInterval. It starts with the life, at the first write or behind an open that replayed, and ends in Close. Under the simulated
// disk it is off, and tests step it by hand.
type background struct {
	enabled    bool
	every      time.Duration // between two looks of upkeep
	started    atomic.Bool
	checkpoint chan struct{}
	commits    chan struct{} // the first one behind a rest
	awake      atomic.Bool   // upkeep looks around every second
	grown      chan struct{} // the log, by some segments
	growth     chan struct{}
	sync       chan struct{} // a transaction asked for SyncInterval in a map of another mode
	cancel     context.CancelFunc
	done       sync.WaitGroup
	naming     sync.WaitGroup // of what a replay led to
	rot        rotWatch
	due        atomic.Bool // a checkpoint was asked for (read by tests that step by hand)
}

// start begins the work. The turn is held, or nobody else knows db.
func (b *background) start(db *DB) {
	if !b.enabled || b.started.Load() {
		return
	}
	b.checkpoint = make(chan struct{}, 1)
	b.commits = make(chan struct{}, 1)
	b.grown = make(chan struct{}, 1)
	b.growth = make(chan struct{}, 1)
	b.sync = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.done.Go(newUpkeep(ctx, db).run)
	b.done.Go(func() { b.grow(ctx, db) })
	if db.opts.Sync == SyncInterval {
		b.done.Go(func() { b.syncs(ctx, db) })
	} else {
		b.done.Go(func() { b.syncsLater(ctx, db) })
	}
	b.started.Store(true)
}

// trustFor is how long an index page that was verified is trusted before its next use verifies it again.
const trustFor = time.Minute

// rotWatch ends the trust in verified pages now and then.
type rotWatch struct {
	mu      sync.Mutex // held while it works; a leaf
	timer   *time.Timer
	stopped bool
}

// watchRot begins the watch. Nobody else knows db yet.
func (b *background) watchRot(db *DB) {
	w := &b.rot
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(trustFor, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.stopped {
			db.s.Distrust()
			w.timer.Reset(trustFor)
		}
	})
}

func (w *rotWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// stop ends the work and waits for it.
func (b *background) stop() {
	b.rot.stop()
	b.naming.Wait()
	if b.started.Load() {
		b.cancel()
		b.done.Wait()
	}
}

// nameReplayed begins the life behind an open that replayed. Nobody else knows db yet.
func (b *background) nameReplayed(db *DB) {
	if !b.enabled {
		return
	}
	b.naming.Go(func() {
		switch err := db.guarded(db.nameReplayed); {
		case err == nil:
		case db.s.P.Failed() != nil:
			db.log.Error("mapfile: the checkpoint of what was replayed failed, and with it the map", "error", err)
		default:
			db.log.Warn("mapfile: no checkpoint of what was replayed; the first write, Checkpoint or Close will try again", "error", err)
		}
	})
}

func (b *background) wantCheckpoint() {
	b.due.Store(true)
	if b.started.Load() {
		select {
		case b.checkpoint <- struct{}{}:
		default: // one is asked for already
		}
	}
}

// committed wakes upkeep, if it rests.
func (b *background) committed() {
	if b.started.Load() && !b.awake.Load() {
		b.awake.Store(true)
		select {
		case b.commits <- struct{}{}:
		default:
		}
	}
}

// logGrown wakes upkeep between two of its looks: garbage grows fast.
func (b *background) logGrown() {
	if b.started.Load() {
		select {
		case b.grown <- struct{}{}:
		default:
		}
	}
}

func (b *background) wantGrowth() {
	if b.started.Load() {
		select {
		case b.growth <- struct{}{}:
		default:
		}
	}
}

func (b *background) wantSync() {
	if b.started.Load() {
		select {
		case b.sync <- struct{}{}:
		default:
		}
	}
}

// checkpointDue reports whether the log since the last seal has passed its bound.
func (db *DB) checkpointDue() bool {
	db.turn.Lock()
	defer db.turn.Unlock()
	return db.s.Tail.LSN-db.s.LastSeal() > db.checkpointBound()
}

// grow keeps room ahead of the writers, so that growth does not sit in their calls.
func (b *background) grow(ctx context.Context, db *DB) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.growth:
		}
		// An error here is the business of the writer that will need the room.
		end := db.work.run()
		_ = db.guarded(func() error { _, err := db.s.GrowAhead(); return err })
		end()
	}
}

// syncs makes the log durable every SyncEvery.
func (b *background) syncs(ctx context.Context, db *DB) {
	tick := time.NewTicker(db.opts.SyncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		db.syncInterval()
	}
}

// syncsLater makes the log durable SyncEvery after it was asked to.
func (b *background) syncsLater(ctx context.Context, db *DB) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.sync:
		}
		select {
		case <-ctx.Done():
			return // Close makes it durable
		case <-time.After(db.opts.SyncEvery):
		}
		db.syncInterval()
	}
}

func (db *DB) syncInterval() {
	if sabotage.Is(sabotage.DropIntervalSync) {
		return
	}
	if err := db.guarded(func() error { return db.dur.sync(db.dur.appended.Load()) }); err != nil {
		db.log.Error("mapfile: a background sync failed", "error", err)
	}
}
