package mapfile

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	invariants "github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
)

const (
	crashPath  = "/m.map"
	crashDepth = 3       // cuts in recovery, one in another
	crashDisk  = 1 << 20 // bytes that a file may have
	crashSteps = 12      // operations of a history, at most
)

// tinyGeometry makes twelve operations split buckets, change segments, grow the file and use up the reserved
// address space. The shape chooses between units of four and eight pages.
func tinyGeometry(shape uint64) pager.Geometry {
	unit := [][2]uint32{{4, 1}, {4, 2}, {4, 4}, {8, 1}}[shape%4]
	reserve := []int64{1 << 12, 1 << 20}[shape/8%2]
	return pager.Geometry{
		BucketLines: 1, FillPercent: 40, FanoutBits: uint8(1 + shape/4%2), UnitPages: unit[0], SmallPages: unit[1],
		GrowPages: 1, MaxGrowPages: 8, ReserveBytes: reserve, CheckpointBytes: 1 << 40, MaxCheckpoint: 1 << 40,
	}
}

// crashHistory is a short life of a map, told by its operations.
type crashHistory struct {
	name  string // it can be repeated by
	seed  uint64 // of salts, random operations, and what is looked at
	shape uint64
	mode  SyncMode
	pad   bool
	ops   []string // of a scripted one; see crashRun.op
	shows []string // what must occur in it
}

// randomHistory is one whose operations the seed chooses.
func randomHistory(seed uint64) crashHistory {
	r := rand.New(rand.NewPCG(seed, 3))
	return crashHistory{
		name: fmt.Sprintf("random/%d", seed), seed: seed, shape: seed,
		mode: []SyncMode{SyncAlways, SyncNever, SyncInterval}[r.IntN(3)], pad: r.IntN(3) == 0,
	}
}

// historyNamed finds the history of a name.
func historyNamed(t *testing.T, name string) crashHistory {
	if seed, ok := strings.CutPrefix(name, "random/"); ok {
		n, err := strconv.ParseUint(seed, 10, 64)
		require.NoError(t, err)
		return randomHistory(n)
	}
	for _, h := range scriptedHistories() {
		if h.name == name {
			return h
		}
	}
	t.Fatalf("there is no history %q", name)
	return crashHistory{}
}

// kv is a state of the model.
type kv map[string]string

// crashRun plays one history beside its model.
type crashRun struct {
	crashHistory
	search *crashSearch
	r      *rand.Rand // of the history; what is looked at must not change it
	disk   *simdisk.Disk
	db     *DB
	held   *Tx // a snapshot, and what it must show
	shown  kv
	states []kv           // after each commit, the running one included
	at     map[int]uint64 // sequence of the map in a state, by its index
	before int            // index of the last state before the operation
	acked  int            // index of the last state known to be durable
	broken bool           // a sync was made to fail: operations may
	trail  []string
	seen   map[uint64]int32 // images, and which state they led to
	occurs occurrences

	point   string // what is looked at
	images  int64  // distinct ones looked at
	skip    int    // events that an earlier run looked at
	reached atomic.Pointer[crashOpen]
}

func newCrashRun(h crashHistory, s *crashSearch) *crashRun {
	return &crashRun{
		crashHistory: h, search: s, r: rand.New(rand.NewPCG(h.seed, 1)), disk: simdisk.New(crashDisk), states: []kv{{}},
		seen: map[uint64]int32{}, at: map[int]uint64{}, occurs: newOccurrences(),
	}
}

// crashFailure is what went wrong, on its way to play.
type crashFailure struct{ error }

// fail ends the history.
func (c *crashRun) fail(format string, args ...any) {
	panic(crashFailure{fmt.Errorf(format, args...)})
}

// caught makes an error of a panic: the engine's own, or fail's.
func (c *crashRun) caught(r any, test, flags string) error {
	var f crashFailure
	err, _ := r.(error)
	if !errors.As(err, &f) {
		f.error = fmt.Errorf("%s: panic: %v\n%s", c.point, r, debug.Stack())
	}
	tags := ""
	if invariants.On {
		tags = "-tags mapfile_debug "
	}
	return fmt.Errorf("%w\nhistory %s (mode %v, shape %d, padded %t): %s\nrepeat: go test %s-run '%s$' %s .",
		f.error, c.name, c.mode, c.shape, c.pad, strings.Join(c.trail, "; "), tags, test, flags)
}

// play runs the history, looking at crash images at each event.
func (c *crashRun) play() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = c.caught(r, "TestCrash", fmt.Sprintf("-crash.level=%s -crash.one=%s", c.search.level, c.name))
		}
	}()
	defer c.disk.Release()
	c.disk.OnEvent = func(e simdisk.Event) {
		c.notice()
		c.occurs.event(e)
		c.look(e)
	}
	c.run()
	return nil
}

// run runs the operations, and Close.
func (c *crashRun) run() {
	c.open()
	c.observe()
	for i := range crashSteps {
		c.before = len(c.states) - 1
		if c.ops == nil {
			c.random()
		} else if i < len(c.ops) {
			c.op(c.ops[i])
		}
		c.remember()
		c.observe()
	}
	c.release()
	c.say("close")
	c.must(c.db.Close())
	c.acked = len(c.states) - 1
	c.disk.OnEvent = nil
	c.disk.Notice()
	c.point = "after Close"
	c.verify(c.disk.Kill(), 0, 0)
}

// notice tells the disk of stores through the mapping where the build does not: before each sync, which makes
// durable what the disk knows of.
func (c *crashRun) notice() {
	if !invariants.On {
		c.disk.Notice()
	}
}

func (c *crashRun) last() kv { return c.states[len(c.states)-1] }

// will notes the state that the operation now beginning leads to.
func (c *crashRun) will(change func(kv)) {
	next := maps.Clone(c.last())
	change(next)
	c.states = append(c.states, next)
}

func (c *crashRun) must(err error) {
	switch {
	case err == nil:
	case c.broken:
		panic(crashStopped{err})
	default:
		c.fail("%s: %v", c.doing(), err)
	}
}

// crashStopped is the error of an operation under which a sync was made to fail.
type crashStopped struct{ error }

// doing is the operation at hand.
func (c *crashRun) doing() string {
	if len(c.trail) == 0 {
		return "open"
	}
	return c.trail[len(c.trail)-1]
}

func (c *crashRun) say(format string, args ...any) {
	c.trail = append(c.trail, fmt.Sprintf(format, args...))
}

// simOpen opens the map on a simulated disk; salts depend on the seed alone.
func simOpen(d *simdisk.Disk, shape, seed uint64, o Options) (*DB, error) {
	salts := rand.New(rand.NewPCG(seed, 0x5a17))
	o.LockTimeout, o.MaxSize = -1, d.Capacity()
	return open(crashPath, o.withDefaults(), internals{disk: d, geometry: tinyGeometry(shape), random: salts.Uint64, memory: func() uint64 { return 1 << 40 }, loadStage: 1 + int(seed%3)})
}

func (c *crashRun) open() {
	db, err := c.openOn(c.disk, uint64(len(c.trail)), c.mode)
	c.must(err)
	c.db = db
}

// openOn opens the map of the history on a disk; each number of an open has salts of its own.
func (c *crashRun) openOn(d *simdisk.Disk, number uint64, mode SyncMode) (*DB, error) {
	return simOpen(d, c.shape, c.seed^number, Options{Sync: mode, PadCommits: c.pad})
}
