package mapfile

import (
	"sync/atomic"
	"time"
)

// SlowestWrite is the slowest of the single writes (Put, Delete) of this DB that ran beside a checkpoint, the beginning of a life behind a replay, a compaction or growth ahead of
// need: no other one waits for the map itself, but for its own growth, which Waits.Growth has. It is zero while there was none.
type SlowestWrite struct {
	Took   time.Duration // until it was appended, or behind that until compaction had caught up; for its sync it may have waited in addition
	Waited time.Duration // of that, for what For names
	For    string        // "another writer", "the seal of a checkpoint", "the finish of a checkpoint", "the checkpoint of what an open replayed", "a step of compaction", "compaction that was behind", "growth", or "the kernel": a page fault, or a processor
}

// What a write can wait for.
const (
	forWriter     = "another writer"
	forSeal       = "the seal of a checkpoint"
	forFinish     = "the finish of a checkpoint"
	forBegin      = "the checkpoint of what an open replayed"
	forCompaction = "a step of compaction"
	forPace       = "compaction that was behind"
	forGrowth     = "growth"
	forKernel     = "the kernel"
)

// ownWork knows what of the map's own work a write may have to wait for, and the slowest write that met some.
type ownWork struct {
	running atomic.Int32           // checkpoints, compactions and growth ahead that are under way
	turn    atomic.Pointer[string] // what has the turn, if it is one of them
	slowest atomic.Pointer[SlowestWrite]
}

// run counts work that runs beside writers, and returns its end.
func (o *ownWork) run() (end func()) {
	o.running.Add(1)
	return func() { o.running.Add(-1) }
}

// holds says that the turn, which was just taken, is held for upkeep. The returned function must run before it is given up.
func (o *ownWork) holds(what string) (end func()) {
	o.turn.Store(&what)
	return func() { o.turn.Store(nil) }
}

func (o *ownWork) slowestWrite() SlowestWrite {
	if s := o.slowest.Load(); s != nil {
		return *s
	}
	return SlowestWrite{}
}

// watched is a write that is measured. The zero value is one that is not.
type watched struct {
	begun  time.Time
	turn   time.Duration // waited for the turn
	holder string
	growth int64 // what State.GrowthWaits was
}

// watch begins to measure a write, if there is something that it could wait for.
func (db *DB) watch() (w watched) {
	if db.work.running.Load() > 0 {
		w.begun, w.growth = time.Now(), db.s.GrowthWaits.Load()
	}
	return w
}

// waitsForTurn notes that a write finds the turn taken, and by whom. One that began before the work that has it is measured from here.
func (w *watched) waitsForTurn(db *DB) (begun time.Time) {
	what := db.work.turn.Load()
	if w.begun.IsZero() && what == nil {
		return begun
	}
	begun = time.Now()
	if w.begun.IsZero() {
		w.begun, w.growth = begun, db.s.GrowthWaits.Load()
	}
	w.holder = forWriter
	if what != nil {
		w.holder = *what
	}
	return begun
}

// hasTurn notes that it has got the turn.
func (w *watched) hasTurn(begun time.Time) {
	if !begun.IsZero() {
		w.turn = time.Since(begun)
	}
}

// watchedUntilNow keeps a write if it is the slowest so far.
func (db *DB) watchedUntilNow(w *watched) {
	if w.begun.IsZero() {
		return
	}
	took, growth := time.Since(w.begun), time.Duration(db.s.GrowthWaits.Load()-w.growth)
	db.work.keep(took, func() *SlowestWrite { return w.judge(took, growth) })
}

// keep keeps a write if it is the slowest so far.
func (o *ownWork) keep(took time.Duration, write func() *SlowestWrite) {
	for {
		was := o.slowest.Load()
		if was != nil && was.Took >= took || o.slowest.CompareAndSwap(was, write()) {
			return
		}
	}
}

// judge tells what most of a write's time went to.
func (w *watched) judge(took, growth time.Duration) *SlowestWrite {
	growth = min(growth, took-w.turn)
	out := &SlowestWrite{took, took - w.turn - growth, forKernel}
	if w.turn > out.Waited {
		out.Waited, out.For = w.turn, w.holder
	}
	if growth > out.Waited {
		out.Waited, out.For = growth, forGrowth
	}
	return out
}
