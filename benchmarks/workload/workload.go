package workload

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
)

// Class says which engines a workload is for and how its table is cut.
type Class int

const (
	// Read: nothing is written, so engines of every durability stand in one table.
	Read Class = iota
	// Write: commits without a sync, one table for each durability.
	Write
	// Commit: each commit is synced when it returns.
	Commit
)

// Workload is one thing measured.
type Workload struct {
	Name       string // for flags and files
	Title      string // for tables
	Class      Class
	Needs      engine.Caps
	Goroutines int
	Per        int                       // keys of one operation
	Quick      bool                      // part of the quick form
	Latency    bool                      // single operations are timed too, in a pass of their own
	cold       bool                      // begins at once, for it uses up what there is
	beside     func(engine.Keeper) error // runs beside it, again and again
	draw       func(*Target, *rand.Rand) Draw
	op         func(*Target, *rand.Rand, Draw) Op
}

// All returns the workloads in the order in which they run: what reads comes
// before what changes the keys.
func All() []Workload {
	all := []Workload{
		{Name: "get-hit", Title: "Get hit, uniform", Quick: true, Latency: true, draw: uniform, op: get},
		{Name: "get-zipf", Title: "Get hit, zipfian 0.99", Quick: true, draw: zipfian, op: get},
		{Name: "get-miss", Title: "Get miss", Quick: true, draw: missing, op: getMissing},
	}
	for _, n := range []int{16, 64, 256} {
		all = append(all, Workload{
			Name: fmt.Sprintf("getmany-%d", n), Title: fmt.Sprintf("GetMany of %d, per key", n),
			Quick: true, Per: n, draw: uniform, op: getMany(n),
		})
	}
	for _, g := range []int{2, 4, 8} {
		all = append(all, Workload{
			Name: fmt.Sprintf("get-hit-%dg", g), Title: fmt.Sprintf("Get hit, %d goroutines", g),
			Goroutines: g, draw: uniform, op: get,
		})
	}
	for i := range all {
		all[i].Needs = engine.CanGet | engine.CanLoad
	}
	return append(append(all, writes()...), commits()...)
}

func writes() []Workload {
	all := []Workload{
		{Name: "put-over", Title: "Put over", Quick: true, Latency: true, draw: uniform, op: put},
		{Name: "put-over-1000", Title: "Put over, commits of 1,000, per key", Quick: true, Per: 1000, Needs: engine.CanBatch, draw: uniform, op: putBatch(1000)},
		{Name: "put-over-2g", Title: "Put over, 2 goroutines", Goroutines: 2, draw: uniform, op: put},
		{Name: "put-over-checkpoint", Title: "Put over, beside one checkpoint after another", Needs: engine.CanUpkeep, Latency: true, beside: engine.Keeper.Checkpoint, draw: uniform, op: put},
		{Name: "put-over-compact", Title: "Put over, beside one compaction after another", Needs: engine.CanUpkeep, Latency: true, beside: engine.Keeper.Compact, draw: uniform, op: put},
		{Name: "put-new", Title: "Put new", Quick: true, Latency: true, draw: fresh, op: put},
		{Name: "delete", Title: "Delete", Quick: true, Needs: engine.CanDelete, cold: true, draw: added, op: remove},
		{Name: "ycsb-a", Title: "YCSB A: half reads, half updates", draw: zipfian, op: mixed(50, put)},
		{Name: "ycsb-b", Title: "YCSB B: 95 % reads, 5 % updates", draw: zipfian, op: mixed(95, put)},
		{Name: "ycsb-c", Title: "YCSB C: reads", draw: zipfian, op: get},
		{Name: "ycsb-d", Title: "YCSB D: 95 % reads of the latest, 5 % inserts", draw: latest, op: mixed(95, putFresh)},
		{Name: "ycsb-f", Title: "YCSB F: half reads, half read-modify-write", draw: zipfian, op: mixed(50, modify)},
	}
	for i := range all {
		all[i].Class = Write
		all[i].Needs |= engine.CanPut | engine.CanLoad
	}
	return all
}

func commits() []Workload {
	var all []Workload
	for _, g := range []int{1, 4, 16, 64} {
		all = append(all, Workload{
			Name: fmt.Sprintf("commit-%d", g), Title: fmt.Sprintf("Put with sync, %d at once", g),
			Class: Commit, Needs: engine.CanPut, Goroutines: g, Quick: g <= 16, Latency: true, draw: uniform, op: put,
		})
	}
	for _, n := range []int{10, 1000} {
		all = append(all, Workload{
			Name: fmt.Sprintf("tx-%d", n), Title: fmt.Sprintf("Transaction of %d with sync, per key", n),
			Class: Commit, Needs: engine.CanPut | engine.CanBatch, Per: n, Latency: true, draw: uniform, op: putBatch(n),
		})
	}
	return all
}

// ByName finds a workload.
func ByName(name string) (Workload, error) {
	for _, w := range All() {
		if w.Name == name {
			return w, nil
		}
	}
	return Workload{}, fmt.Errorf("workload: no workload is called %q", name)
}

// For tells whether the workload is measured on e.
func (w Workload) For(e engine.Engine) bool {
	return e.Can(w.Needs) && (w.Class == Commit) == (e.Durability == engine.Commit)
}

// Target is an open store and what the loops know about its content.
type Target struct {
	Store  engine.Store
	Values *Values
	Keys   uint64 // loaded: the keys 0 to Keys-1
	next   atomic.Uint64
	low    atomic.Uint64
	writes atomic.Uint64
}

// NewTarget describes a store that holds the first keys keys.
func NewTarget(s engine.Store, v *Values, keys uint64) *Target {
	t := &Target{Store: s, Values: v, Keys: keys}
	t.next.Store(keys)
	t.low.Store(keys)
	return t
}

// WarmShare is how much of a measurement's time goes before it, and does not count. While others had their turns, the processor's caches and the
// host's page tables have forgotten the store: the first hundred thousand look-ups would say how fast it comes back, in a turn of half a second for a third of it.
const WarmShare = 4

// Run measures w for about the time given, behind a part that does not count, and single operations in a pass of
// half that time where the workload asks for them.
func Run(w Workload, t *Target, about time.Duration, seed uint64) (Sample, error) {
	if beside := w.beside; beside != nil {
		stop := repeat(func() error { return beside(t.Store.(engine.Keeper)) })
		w.beside = nil
		s, err := Run(w, t, about, seed)
		return s, errors.Join(err, stop())
	}
	ops := make([]Op, max(w.Goroutines, 1))
	for g := range ops {
		r := rand.New(rand.NewPCG(seed, uint64(g)))
		ops[g] = w.op(t, r, w.draw(t, r))
	}
	if w.Class == Commit { // the clock is nothing beside a sync
		return perKey(w)(Timed(ops, about))
	}
	if !w.cold {
		if _, err := Rate(ops, about/WarmShare); err != nil {
			return Sample{}, err
		}
	}
	s, err := perKey(w)(Rate(ops, about))
	if err != nil || !w.Latency {
		return s, err
	}
	lat, err := Timed(ops, about/2)
	s.Latency = lat.Latency
	return s, err
}

// repeat calls f again and again until it fails or stop is called, which waits for the last call and returns its error.
func repeat(f func() error) (stop func() error) {
	var ended atomic.Bool
	failed := make(chan error)
	go func() {
		var err error
		for err == nil && !ended.Load() {
			err = f()
		}
		failed <- err
	}()
	return func() error {
		ended.Store(true)
		return <-failed
	}
}

// perKey turns operations into keys.
func perKey(w Workload) func(Sample, error) (Sample, error) {
	return func(s Sample, err error) (Sample, error) {
		s.Ops *= uint64(max(w.Per, 1))
		return s, err
	}
}
