package mapfile

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
)

// The crash tests run short histories on the simulated disk and, at every store and sync, look at
// what a power cut could leave: each distinct image is opened, must hold the state after a prefix of the
// commits that is not older than the last acknowledged durable one, takes more operations, and is
// opened again.
var (
	crashImages = flag.Int("crash.images", 20000, "distinct images that TestCrash looks at")
	crashSeed   = flag.Uint64("crash.seed", 1, "seed of the first history, 0: the time")
	crashDeep   = flag.Bool("crash.deep", false, "look at many more outcomes at each point")
	crashOnly   = flag.Bool("crash.one", false, "run the history of crash.seed alone, at every point")
)

const crashPath = "/m.map"

// tinyGeometry makes twelve operations split buckets, change segments and grow the file. The seed chooses
// between units of four and eight pages.
func tinyGeometry(seed uint64) pager.Geometry {
	unit := [][2]uint32{{4, 1}, {4, 2}, {4, 4}, {8, 1}}[seed%4]
	return pager.Geometry{
		BucketLines: 1, FillPercent: 40, FanoutBits: uint8(1 + seed/4%2), UnitPages: unit[0], SmallPages: unit[1],
		GrowPages: 1, MaxGrowPages: 8, ReserveBytes: 1 << 20, CheckpointBytes: 1 << 40, MaxCheckpoint: 1 << 40,
	}
}

// kv is a state of the model.
type kv map[string]string

// crashRun is one history with its model.
type crashRun struct {
	t      testing.TB
	r      *rand.Rand // of the history
	side   *rand.Rand // of what is looked at: it must not change the history
	disk   *simdisk.Disk
	db     *DB
	seed   uint64
	states []kv // after each commit, the running one included
	acked  int  // index of the last state known to be durable
	budget int  // distinct images still to look at
	seen   map[uint64]bool
	depth  int // of crashes inside recovery that are still to be played
	trail  []string
}

// simOpen opens the map on a simulated disk; salts depend on the seed alone.
func simOpen(d *simdisk.Disk, shape, seed uint64, o Options) (*DB, error) {
	salts := rand.New(rand.NewPCG(seed, 0x5a17))
	o.LockTimeout, o.MaxSize = -1, d.Capacity()
	return open(crashPath, o.withDefaults(), internals{disk: d, geometry: tinyGeometry(shape), random: salts.Uint64, memory: func() uint64 { return 1 << 40 }})
}

func (c *crashRun) fail(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s\nhistory: %s\nrepeat: go test -tags mapfile_debug -run 'TestCrash$' -crash.seed=%d -crash.one .", fmt.Sprintf(format, args...), strings.Join(c.trail, "; "), c.seed)
}

func (c *crashRun) last() kv { return c.states[len(c.states)-1] }

// will notes the state that the operation now beginning leads to.
func (c *crashRun) will(change func(kv)) {
	next := maps.Clone(c.last())
	change(next)
	c.states = append(c.states, next)
}

func (c *crashRun) must(err error) {
	if err != nil {
		c.fail("%s: %v", c.trail[len(c.trail)-1], err)
	}
}

func (c *crashRun) say(format string, args ...any) {
	c.trail = append(c.trail, fmt.Sprintf(format, args...))
}

func (c *crashRun) key() string { return fmt.Sprintf("key%d", c.r.IntN(9)) }

func (c *crashRun) value() string {
	n := []int{0, 5, 60, 900, 3000, 7000}[c.r.IntN(6)]
	if c.r.IntN(40) == 0 {
		n = 20000
	}
	return strings.Repeat(string(rune('a'+c.r.IntN(26))), n)
}

// step runs one random operation.
func (c *crashRun) step(mode SyncMode) {
	db := c.db
	switch x := c.r.IntN(20); {
	case x < 9:
		k, v := c.key(), c.value()
		c.say("put %s %d", k, len(v))
		c.will(func(m kv) { m[k] = v })
		c.must(db.Put([]byte(k), []byte(v)))
		if mode == SyncAlways {
			c.acked = len(c.states) - 1
		}
	case x < 12:
		k := c.key()
		c.say("delete %s", k)
		c.will(func(m kv) { delete(m, k) })
		c.must(db.Delete([]byte(k)))
		if mode == SyncAlways {
			c.acked = len(c.states) - 1
		}
	case x < 15:
		c.tx()
	case x < 17:
		c.say("checkpoint")
		c.must(db.Checkpoint())
		c.acked = len(c.states) - 1
	case x < 18 && c.r.IntN(2) == 0:
		c.say("compact")
		c.must(db.Compact(c.t.Context()))
	case x < 18:
		c.say("sync")
		c.must(db.Sync())
		c.acked = len(c.states) - 1
	default:
		c.say("reopen")
		c.must(db.Close())
		c.acked = len(c.states) - 1
		c.open(mode)
	}
	for db.background.due.Swap(false) && c.db == db {
		c.must(db.Checkpoint())
	}
}

// tx is a commit of several records, synced or not whatever the map's mode.
func (c *crashRun) tx() {
	sync := SyncMode(c.r.IntN(4))
	c.say("tx %v", sync)
	tx, err := c.db.BeginTx(c.t.Context(), &TxOptions{Sync: sync})
	c.must(err)
	next := maps.Clone(c.last())
	for range 1 + c.r.IntN(4) {
		k, v := c.key(), c.value()
		if c.r.IntN(4) == 0 {
			delete(next, k)
			c.must(tx.Delete([]byte(k)))
		} else {
			next[k] = v
			c.must(tx.Put([]byte(k), []byte(v)))
		}
	}
	c.states = append(c.states, next)
	c.must(tx.Commit())
	if sync == SyncAlways || sync == SyncDefault && c.db.opts.Sync == SyncAlways {
		c.acked = len(c.states) - 1
	}
}

func (c *crashRun) open(mode SyncMode) {
	db, err := simOpen(c.disk, c.seed, c.seed^uint64(len(c.trail)), Options{Sync: mode})
	c.must(err)
	c.db = db
}

// history runs so many operations, looking at crash images at each event.
func (c *crashRun) history(steps int) {
	mode := []SyncMode{SyncAlways, SyncNever, SyncInterval}[c.r.IntN(3)]
	c.say("mode %v", mode)
	c.disk.OnEvent = func(e simdisk.Event) {
		if !debug.On {
			c.disk.Notice()
		}
		c.look(e)
	}
	c.open(mode)
	for i := 0; i < steps && c.budget > 0; i++ {
		c.step(mode)
	}
	c.disk.OnEvent = func(simdisk.Event) {
		if !debug.On {
			c.disk.Notice() // before each sync: it makes durable what it knows of
		}
	}
	if c.budget > 0 {
		c.say("close")
		c.must(c.db.Close())
		c.disk.Notice()
		c.verify(c.disk.Kill(), c.depth, "after Close")
	}
}

// look opens what a power cut at this event could leave.
func (c *crashRun) look(e simdisk.Event) {
	if c.budget <= 0 {
		return
	}
	o := simdisk.StateOptions{Sample: 6}
	if *crashDeep {
		o = simdisk.StateOptions{Random: 50, Pairs: 200, Exhaustive: 10}
	}
	c.disk.States(rand.New(rand.NewPCG(c.seed, uint64(e.Count))), o, func(img *simdisk.Disk) bool {
		defer img.Release()
		if h := img.Hash(); !c.seen[h] {
			c.seen[h] = true
			c.budget--
			c.verify(img, c.depth, fmt.Sprintf("at event %d (%v)", e.Count, e))
		}
		return c.budget > 0
	})
	if _, err := c.disk.Stat(crashPath); err != nil {
		return
	}
	kill := c.disk.Kill()
	if h := ^xxhash.Sum64(kill.Bytes(crashPath)); !c.seen[h] {
		c.seen[h] = true
		c.verifyKill(kill, e)
	}
	kill.Release()
}

// verifyKill looks at what a killed process leaves: P3, nothing that returned is lost.
func (c *crashRun) verifyKill(img *simdisk.Disk, e simdisk.Event) {
	acked := c.acked
	c.acked = max(c.acked, len(c.states)-2)
	c.verify(img, 0, fmt.Sprintf("killed at event %d (%v)", e.Count, e))
	c.acked = acked
}

// verify opens an image and checks everything that is promised.
func (c *crashRun) verify(img *simdisk.Disk, depth int, where string) {
	if depth > 0 && c.side.IntN(50) == 0 {
		c.crashAgain(img, depth, where)
	}
	db, err := simOpen(img, c.seed, c.seed+1, Options{Sync: SyncNever})
	if err != nil {
		c.fail("%s: open: %v", where, err)
	}
	got := contents(c, db, where)
	at := -1
	for i := len(c.states) - 1; i >= c.acked && at < 0; i-- {
		if maps.Equal(got, c.states[i]) {
			at = i
		}
	}
	if at < 0 {
		c.fail("%s: the state is that after no allowed prefix (acknowledged %d of %d)\ngot %v\nnewest %v", where, c.acked, len(c.states)-1, brief(got), brief(c.last()))
	}
	c.account(db, where)
	model := maps.Clone(c.states[at])
	r := rand.New(rand.NewPCG(c.seed, uint64(at)))
	for range 20 {
		k, v := fmt.Sprintf("key%d", r.IntN(9)), strings.Repeat("z", r.IntN(500))
		if r.IntN(4) == 0 {
			delete(model, k)
			err = db.Delete([]byte(k))
		} else {
			model[k] = v
			err = db.Put([]byte(k), []byte(v))
		}
		if err != nil {
			c.fail("%s: going on: %v", where, err)
		}
		if r.IntN(20) == 0 {
			if err := db.Compact(c.t.Context()); err != nil {
				c.fail("%s: compact: %v", where, err)
			}
		}
		if r.IntN(10) == 0 {
			if err := db.Checkpoint(); err != nil {
				c.fail("%s: checkpoint: %v", where, err)
			}
		}
	}
	c.account(db, where+", 20 operations on")
	if err := db.Close(); err != nil {
		c.fail("%s: close: %v", where, err)
	}
	if db, err = simOpen(img, c.seed, c.seed+2, Options{}); err != nil {
		c.fail("%s: second open: %v", where, err)
	}
	if got := contents(c, db, where); !maps.Equal(got, model) {
		c.fail("%s: after 20 operations and a reopening: got %v, want %v", where, brief(got), brief(model))
	}
	c.account(db, where+", reopened")
	if err := db.Close(); err != nil {
		c.fail("%s: second close: %v", where, err)
	}
}

// crashAgain cuts the power inside recovery, at every event of it.
func (c *crashRun) crashAgain(img *simdisk.Disk, depth int, where string) {
	again := img.Clone()
	defer again.Release()
	again.OnEvent = func(e simdisk.Event) {
		if !debug.On {
			again.Notice()
		}
		again.States(rand.New(rand.NewPCG(c.seed, uint64(e.Count))), simdisk.StateOptions{Sample: 2}, func(deeper *simdisk.Disk) bool {
			defer deeper.Release()
			if h := deeper.Hash(); !c.seen[h] {
				c.seen[h] = true
				c.budget--
				c.verify(deeper, depth-1, fmt.Sprintf("%s; in recovery at event %d (%v)", where, e.Count, e))
			}
			return true
		})
	}
	db, err := simOpen(again, c.seed, c.seed+3, Options{Sync: SyncAlways})
	if err != nil {
		c.fail("%s: open: %v", where, err)
	}
	again.OnEvent = nil
	if err := db.Close(); err != nil {
		c.fail("%s: close: %v", where, err)
	}
}

func (c *crashRun) account(db *DB, where string) {
	db.turn.Lock()
	defer db.turn.Unlock()
	if err := db.s.Account(); err != nil {
		var segments []string
		for _, g := range db.s.Tail.Segments() {
			segments = append(segments, fmt.Sprintf("%d+%d", g.Start, g.Pages))
		}
		c.fail("%s: %v\nsegments %v, meta %+v, recovery %+v", where, err, segments, db.s.Meta(), db.s.Report)
	}
}

// contents reads the whole map, by iteration and by Get.
func contents(c *crashRun, db *DB, where string) kv {
	got := kv{}
	err := db.View(func(tx *Tx) error {
		for k, v := range tx.All() {
			if _, twice := got[string(k)]; twice {
				c.fail("%s: key %q twice", where, k)
			}
			got[string(k)] = string(v)
		}
		return tx.Err()
	})
	if err != nil {
		c.fail("%s: read: %v", where, err)
	}
	if n := db.Len(); n != uint64(len(got)) {
		c.fail("%s: Len is %d, there are %d keys: %v; recovery %+v", where, n, len(got), brief(got), db.s.Report)
	}
	for i := range 9 {
		k := fmt.Sprintf("key%d", i)
		v, err := db.Get([]byte(k))
		want, ok := got[k]
		if ok && (err != nil || string(v) != want) || !ok && err != ErrNotFound {
			c.fail("%s: Get(%s) is %d bytes, %v; the iteration says %v", where, k, len(v), err, ok)
		}
	}
	return got
}

func brief(m kv) string {
	var b strings.Builder
	for i := range 9 {
		k := fmt.Sprintf("key%d", i)
		if v, ok := m[k]; ok {
			fmt.Fprintf(&b, " %s=%.1s*%d", k, v, len(v))
		}
	}
	return b.String()
}

func TestCrash(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	begin, images, histories := time.Now(), 0, 0
	for left := *crashImages; left > 0; seed++ {
		c := &crashRun{t: t, r: rand.New(rand.NewPCG(seed, 1)), side: rand.New(rand.NewPCG(seed, 2)), seed: seed, disk: simdisk.New(1 << 20), states: []kv{{}}, budget: min(left, 3000), seen: map[uint64]bool{}, depth: 2}
		if *crashOnly {
			c.budget = 1 << 40
		}
		before := c.budget
		c.history(12)
		left -= before - c.budget
		images += before - c.budget
		histories++
		c.disk.Release()
		if *crashOnly {
			break
		}
	}
	d := time.Since(begin)
	t.Logf("%d distinct images of %d histories in %v: %.0f a second", images, histories, d.Round(time.Millisecond), float64(images)/d.Seconds())
	if os.Getenv("CRASH_VERBOSE") != "" {
		fmt.Printf("crash images: %d\n", images)
	}
}
