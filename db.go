package mapfile

import (
	"cmp"
	"errors"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// DB is an open map. It is safe for any number of goroutines. A file is opened once per
// process at a time for writing.
type DB struct {
	// Locks, in the order in which they may be taken: checkpointMu, turn, dur.syncMu (never
	// with the turn), the recovery state's syncMu, dur.mu, and the leaves inside the packages below.

	s      *recovery.State
	opts   Options
	log    *slog.Logger
	pins   pins
	closed atomic.Bool
	memory uint64 // bytes that this process may use
	polls  bool   // there are processors to poll for the turn

	_ [pager.CacheLine]byte // what every read looks at is above, what every write changes below

	dur     durability
	closeMu sync.Mutex // one Close at a time

	// turn is the writer's turn: who holds it may append and change the index.
	turn    sync.Mutex
	polling atomic.Bool // somebody polls for it
	// The next six belong to it.
	lookAt      uint64        // log position behind which upkeep looks around
	lastMark    uint64        // the mark that the last MARK record carried
	lastSegment *tail.Segment // the segment of the last commit
	scratch     batch         // the running commit
	loadStage   int           // puts that a load looks up side by side
	counter     [8]byte       // what Add stores

	holder atomic.Pointer[holder] // with Debug.Callers: who holds the turn

	checkpointMu sync.Mutex   // one checkpoint or compaction at a time
	clearing     atomic.Int32 // calls of Clear that wait for checkpointMu: compaction makes way for them
	tombs        tombstones
	merged       uint64        // keys and tombstones when the index was last merged; with checkpointMu
	hopeless     uint64        // what was reclaimable when making space last ended; with checkpointMu
	attempts     atomic.Uint64 // how often making space has ended
	allowed      atomic.Uint64 // log position behind which commits wait for compaction, see brake
	background   background
	counters     counters
	work         ownWork
}

// counters are what Stats reports of this open map.
type counters struct {
	checkpoints atomic.Uint64
	took        atomic.Int64  // by the last checkpoint, once it was sealed, or half of what the one before took, in ns
	seal        longest       // the turn held to seal a checkpoint
	finish      longest       // the turn held to release what a checkpoint freed
	compacted   atomic.Uint64 // bytes of the log that background compaction looked at
}

// longest keeps the longest of some durations.
type longest struct{ ns atomic.Int64 }

func (l *longest) since(begin time.Time) {
	for d := int64(time.Since(begin)); ; {
		if was := l.ns.Load(); d <= was || l.ns.CompareAndSwap(was, d) {
			return
		}
	}
}

func (l *longest) get() time.Duration { return time.Duration(l.ns.Load()) }

// Open opens the map in the file at path, and creates it if there is none. An existing
// file of size 0 becomes a new map. opts may be nil.
//
// A map that was not closed is recovered: automatically, in time proportional to the
// part of the log written since its last checkpoint. What was recovered is durable when Open returns. The checkpoint that saves the
// next open from doing the same follows in the background; should it fail for a sync, the map is ErrFailed, as by any checkpoint.
//
// Errors: ErrNotMapfile, ErrVersion, ErrLocked, ErrCorrupt, ErrUnsupported, ErrFull and ErrFailed where a recovery
// needs room or syncs, and those of the system (fs.ErrNotExist for a ReadOnly open, fs.ErrPermission, syscall.EIO …).
func Open(path string, opts *Options) (*DB, error) {
	return open(path, opts.withDefaults(), internals{disk: pager.OS(), geometry: pager.DefaultGeometry(), memory: pager.MemoryLimit, background: true})
}

// internals is what tests replace.
type internals struct {
	disk       pager.Disk
	geometry   pager.Geometry
	random     func() uint64
	memory     func() uint64
	background bool          // run checkpoints, growth and interval syncs in goroutines
	every      time.Duration // between two looks of upkeep; 0: lookEvery
	repair     *recovery.Repair
	loadStage  int // 0: as many as is good
}

func open(path string, o Options, in internals) (*DB, error) {
	s, err := recovery.Open(recovery.Options{
		OpenOptions: pager.OpenOptions{
			Disk: in.disk, Path: path, ReadOnly: o.ReadOnly, Mode: o.Mode, LockTimeout: o.LockTimeout,
			MaxBytes: uint64(o.MaxSize), AllowNetwork: o.AllowNetwork, Geometry: in.geometry.Within(uint64(o.MaxSize) / pageSize),
		},
		ByWrite: o.Sync == SyncAlways, Padded: o.PadCommits, Beside: in.background, Random: in.random, Repair: in.repair,
	})
	if err != nil {
		return nil, err
	}
	db := &DB{s: s, opts: o, polls: runtime.GOMAXPROCS(0) > 1, log: o.Logger.With("path", s.P.Path()), loadStage: cmp.Or(in.loadStage, mostStaged)}
	db.allowed.Store(math.MaxUint64)
	s.OldestPin = db.pins.oldest
	db.memory = in.memory()
	s.Advise(db.memory)
	db.dur.init(s)
	flips, _ := s.P.Mended()
	for _, f := range flips {
		db.mended(f)
	}
	s.P.OnMend = db.mended
	db.background.enabled, db.background.every = in.background && !o.ReadOnly, cmp.Or(in.every, lookEvery)
	if in.background {
		db.background.watchRot(db)
	}
	if _, begun := s.Life(); begun {
		db.lifeBegun()
	}
	if s.Unnamed() {
		db.background.nameReplayed(db)
	}
	if r := s.Report; r.Records > 0 || r.Cut > 0 || r.FellBack != nil || len(r.Damaged) > 0 {
		db.log.Info("mapfile: recovered", "records", r.Records, "bytes", r.Bytes, "cut", r.Cut, "damaged", len(r.Damaged), "fell back", r.FellBack, "took", r.Duration)
	}
	return db, nil
}

// mended tells of a flipped bit that was taken back.
func (db *DB) mended(f pager.Flip) {
	db.log.Warn("mapfile: mended a flipped bit", "in", f.What, "page", f.Off/pageSize, "offset", f.Off)
}

// lifeBegun starts what runs beside writers. The turn is held, or nobody else knows db yet.
func (db *DB) lifeBegun() {
	life, _ := db.s.Life()
	db.dur.life.Store(life)
	db.dur.appended.Store(db.s.Tail.LSN)
	db.dur.synced.Store(db.s.Tail.LSN) // BeginLife synced the segment's header
	db.lastMark = db.s.Tail.LSN
	if !db.closed.Load() { // Close, which sets it before it takes the turn, has stopped the background
		db.background.start(db)
	}
}

// beginLife begins the life, if it has not begun. The turn is held. Errors: ErrFull, and that of a sync, which is final.
func (db *DB) beginLife() error {
	if _, begun := db.s.Life(); begun {
		return nil
	}
	if err := db.s.BeginLife(); err != nil {
		return errs.At(db.s.P.Path(), "", err)
	}
	db.lifeBegun()
	return nil
}

// nameReplayed begins the life behind a replay, in the background: the state that it led to is named by the meta pages then, and no later open
// replays it again.
func (db *DB) nameReplayed() error {
	defer db.work.run()()
	db.turn.Lock()
	owed := db.s.Unnamed()
	db.turn.Unlock()
	if owed {
		if err := db.s.WriteAhead(); err != nil {
			return err
		}
	}
	db.turn.Lock()
	defer db.turn.Unlock()
	if err := db.s.P.Failed(); err != nil {
		return err
	}
	return db.beginReplayed()
}

// beginReplayed is beginLife for upkeep.
func (db *DB) beginReplayed() error {
	defer db.work.holds(forBegin)()
	return db.beginLife()
}

// ready answers the error of a map that cannot be used, nil while it can.
func (db *DB) ready() error {
	if db.closed.Load() {
		return errs.At(db.s.P.Path(), "", errs.ErrClosed)
	}
	if sabotage.Is(sabotage.FailedMapReads) {
		return nil
	}
	return db.s.P.Failed()
}

// Path is the absolute path of the file.
func (db *DB) Path() string { return db.s.P.Path() }

// Len is the number of keys, as readers see them now. After Close it stays what it was.
func (db *DB) Len() uint64 { return db.dur.keys.Load() }

// Sync makes every commit that has returned durable against power loss. Its error is final.
func (db *DB) Sync() error {
	if err := db.ready(); err != nil || db.opts.ReadOnly || sabotage.Is(sabotage.DropExplicitSync) {
		return err
	}
	return db.guarded(func() error { return db.dur.sync(db.dur.appended.Load()) })
}

// Checkpoint makes the index durable up to now, so that an open after a crash has nothing to
// replay, and releases space. Checkpoints run by themselves when the log since the last one
// has grown; there is seldom a reason to call it. A map in which nothing was written, and whose open recovered nothing, writes nothing.
// Inside Update it would wait for itself.
func (db *DB) Checkpoint() error {
	if err := db.ready(); err != nil {
		return err
	}
	if db.opts.ReadOnly {
		return errs.At(db.s.P.Path(), "checkpoint", errs.ErrReadOnly)
	}
	if err := db.waitsForItself(); err != nil {
		return err
	}
	return db.guarded(func() error {
		db.lockUpkeep()
		defer db.checkpointMu.Unlock()
		if err := db.ready(); err != nil {
			return err
		}
		return db.checkpointLocked(false)
	})
}

// guarded runs f, which holds no lock that a fault would leave held, under the fault guard.
func (db *DB) guarded(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = db.dur.fail(db.s.P.Fault(r))
		}
	}()
	return f()
}

// checkpointLocked makes one checkpoint, with checkpointMu held. clean says that it is Close's last.
func (db *DB) checkpointLocked(clean bool) error {
	defer db.work.run()()
	c, err := db.seal(clean)
	if c == nil || err != nil {
		return err
	}
	if sabotage.Is(sabotage.ReleaseBeforeMeta) {
		newest := db.s.Meta()
		_ = c.Release(freelist.Meta{Epoch: newest.Epoch, LSN: newest.LSN})
	}
	begin := time.Now()
	err = db.writeCheckpoint(c)
	db.counters.took.Store(max(int64(time.Since(begin)), db.counters.took.Load()/2)) // one right behind another has little to write
	older, err := db.finish(c, err)
	if err != nil {
		return err
	}
	db.counters.checkpoints.Add(1)
	db.noteSeen()
	if err := c.Release(older); err != nil {
		return db.s.P.Fail(err)
	}
	return nil
}

// finish makes a checkpoint that was written the newer one, under the turn, or gives up one that was not.
func (db *DB) finish(c *recovery.Checkpoint, err error) (older freelist.Meta, _ error) {
	db.turn.Lock()
	defer db.turn.Unlock()
	defer db.work.holds(forFinish)()
	defer db.counters.finish.since(time.Now())
	if err != nil {
		c.Abandon()
		return older, err
	}
	c.Finish()
	db.s.Advise(db.memory)
	return db.s.Older(), nil
}

// seal fixes the content of a checkpoint; nil if this life has appended nothing, and its open replayed nothing.
func (db *DB) seal(clean bool) (*recovery.Checkpoint, error) {
	db.turn.Lock()
	defer db.turn.Unlock()
	if err := db.s.P.Failed(); err != nil {
		return nil, err
	}
	if db.s.Unnamed() {
		if err := db.beginReplayed(); err != nil {
			return nil, err
		}
	}
	if _, begun := db.s.Life(); !begun {
		return nil, nil
	}
	defer db.work.holds(forSeal)()
	defer db.counters.seal.since(time.Now())
	if err := db.s.MaySeal(); err != nil {
		return nil, errs.At(db.s.P.Path(), "checkpoint", err)
	}
	c := db.s.Seal()
	if clean {
		c.MarkClean()
	}
	return c, nil
}

// writeCheckpoint runs the steps of a checkpoint that go beside writers.
func (db *DB) writeCheckpoint(c *recovery.Checkpoint) error {
	if err := c.Store(); err != nil {
		return err
	}
	if sabotage.Is(sabotage.MetaBeforeSync) {
		_ = c.WriteMeta()
	}
	if err := c.Sync(); err != nil {
		return db.dur.fail(err)
	}
	db.dur.syncMu.Lock()
	defer db.dur.syncMu.Unlock()
	if err := db.s.P.Failed(); err != nil {
		return err
	}
	if err := db.s.P.CheckPath(); err != nil {
		return db.dur.fail(err)
	}
	if !sabotage.Is(sabotage.RetireBeforePublished) {
		db.dur.advanceTo(c.LSN())
	}
	if err := c.WriteMeta(); err != nil {
		return db.dur.fail(err)
	}
	return nil
}

// Close ends the map: it waits for calls and transactions in progress, makes all durable,
// gives back the space that is no longer needed, and lets go of the file. A log line tells
// after 10 s what it waits for. A second Close returns nil. On a failed map it writes nothing
// and returns nil. Errors: ErrFailed; ErrFull and those of the system, behind which all is durable.
func (db *DB) Close() error {
	db.closeMu.Lock()
	defer db.closeMu.Unlock()
	if db.closed.Swap(true) {
		return nil
	}
	watch := time.AfterFunc(10*time.Second, func() {
		db.log.Warn("mapfile: Close waits for calls and transactions in progress", "readers", db.pins.count(), "writers", db.writers())
	})
	defer watch.Stop()
	db.turn.Lock()
	db.turn.Unlock() //nolint:staticcheck // the last writer is out: later ones find the map closed, and start nothing
	db.background.stop()
	db.lockUpkeep()
	defer db.checkpointMu.Unlock()
	db.waitPins()
	err := db.guarded(db.closeState)
	db.dur.syncMu.Lock() // a sync that is still under way ends before its file does
	defer db.dur.syncMu.Unlock()
	if !sabotage.Is(sabotage.CloseUnbumped) {
		db.s.Generation.Add(1) // before the mapping goes: optimistic readers find out
	}
	return errs.At(db.s.P.Path(), "close", errors.Join(err, db.s.Close()))
}

// writers is 1 while a call or transaction holds the writer's turn.
func (db *DB) writers() int {
	if db.turn.TryLock() {
		db.turn.Unlock()
		return 0
	}
	return 1
}

// waitPins waits until no reader has a pin.
func (db *DB) waitPins() {
	for wait := 10 * time.Microsecond; db.pins.count() > 0 && !sabotage.Is(sabotage.CloseIgnoresPins); wait = min(2*wait, 5*time.Millisecond) {
		time.Sleep(wait)
	}
}

// closeState makes the last checkpoints. Both meta pages come to name the final state, so that
// everything else is free, and the file can be cut.
func (db *DB) closeState() error {
	if db.s.P.Failed() != nil {
		return nil
	}
	if _, begun := db.s.Life(); !begun {
		if !db.s.Unnamed() {
			return nil
		}
		if err := db.nameReplayed(); err != nil {
			return err // the next open will replay it again
		}
	}
	if err := db.tidy(); err != nil && db.s.P.Failed() == nil {
		db.log.Warn("mapfile: Close could not tidy up", "error", err) // space only
	}
	for range 3 { // the third has hardly anything left to list as retired: the next open reads less
		if err := db.checkpointLocked(true); err != nil {
			return cmp.Or(db.dur.sync(db.dur.appended.Load()), err)
		}
	}
	if err := db.s.Shrink(); err != nil {
		db.log.Warn("mapfile: Close could not give space back", "error", err) // all is durable
	}
	return nil
}

// tidy moves index pages out of arenas that are mostly free, so that their space can be given back.
func (db *DB) tidy() error {
	db.turn.Lock()
	defer db.turn.Unlock()
	return db.s.Tidy()
}
