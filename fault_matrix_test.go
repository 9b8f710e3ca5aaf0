package mapfile

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	build "github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/simdisk"
)

// The fault matrix: each call of the seam that a script makes fails, in each of seven ways, once, for ever with all
// that follow, and for ever with those of its kind; the cache then keeps what a failed sync did not
// write, or loses it. A sample runs by default.
var (
	faultEvery = flag.Bool("fault.all", false, "TestFaultMatrix makes every run")
	faultRuns  = flag.Int("fault.runs", 300, "runs that TestFaultMatrix samples")
	faultSeed  = flag.Uint64("fault.seed", 0, "seed of the sample, 0: the time")
	faultOne   = flag.String("fault.one", "", "make the runs whose line, as a failure prints it, contains this")
)

// How long a fault lasts.
const (
	faultOnce = iota
	faultKind // the calls with its name fail from there on
	faultAll  // all calls do
)

var faultHow = []string{"once", "its kind for ever", "all for ever"}

var faultErrors = []faultError{
	{"EIO", syscall.EIO}, {"ENOSPC", syscall.ENOSPC}, {"EDQUOT", syscall.EDQUOT}, {"EFBIG", syscall.EFBIG},
	{"ENOMEM", syscall.ENOMEM}, {"EINTR", syscall.EINTR}, {"short", nil},
}

// fault is one row of the matrix.
type fault struct {
	script string
	call   int // of the script, from 1
	err    faultError
	how    int
	evict  bool // the cache loses what a failed sync did not write
}

func (f *fault) String() string {
	return fmt.Sprintf("%s, call %d, %s, %s, evict %t", f.script, f.call, f.err.name, faultHow[f.how], f.evict)
}

// faultBase is a script and the disk that it begins with.
type faultBase struct {
	script *faultScript
	disk   *simdisk.Disk
	states []kv
	acked  int
	names  []string // of the calls that it makes without a fault
}

// newRun prepares a run of the script.
func (b *faultBase) newRun(t testing.TB, f fault) *faultRun {
	f.script = b.script.name
	r := &faultRun{t: t, f: f, o: Options{Sync: b.script.sync}, disk: b.disk.Clone(), states: slices.Clone(b.states), acked: b.acked}
	r.live = len(r.states) - 1
	r.floor = r.live
	r.disk.OnEvent = r.event
	return r
}

// newBase runs a script without a fault.
func newBase(t testing.TB, script *faultScript) *faultBase {
	b := &faultBase{script: script, disk: simdisk.New(script.capacity), states: []kv{{}}}
	if script.before != nil {
		r := b.newRun(t, fault{})
		script.before(r)
		r.disk.Notice()
		b.states, b.acked = r.states, r.acked
		b.disk = r.disk.Kill()
	}
	r := b.newRun(t, fault{})
	r.disk.Fail = func(c simdisk.Call) error {
		b.names = append(b.names, c.Name)
		return nil
	}
	r.play(script)
	return b
}

// play runs the script, and what comes after it: the disk is whole again.
func (r *faultRun) play(script *faultScript) {
	hung := time.AfterFunc(30*time.Second, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("this run hangs: %v, %v, %v", &r.f, r.hit, r.trail))
	})
	defer hung.Stop()
	script.run(r)
	r.disk.Fail = nil
	r.over = false
	r.say("healed")
	r.put(3, 800)
	r.sync()
	r.endSnapshot()
	r.close()
	r.crash("at the end")
	r.disk.Release()
}

// run makes one run.
func (b *faultBase) run(t testing.TB, f fault) {
	r := b.newRun(t, f)
	r.disk.Fail = r.inject
	r.play(b.script)
	if r.hit == nil {
		r.fail("the call to fail was not made")
	}
}

// rows lists the runs of a script.
func (b *faultBase) rows() (all []fault) {
	for i, name := range b.names {
		for _, e := range faultErrors {
			for how := range faultHow {
				// A build that does not announce its stores does not see that a page is stored again with the bytes that the
				// cache has kept: it plays the cache that loses them alone.
				f := fault{b.script.name, i + 1, e, how, !build.On}
				all = append(all, f)
				if syncEvents[name] > 0 && !f.evict {
					f.evict = true
					all = append(all, f)
				}
			}
		}
	}
	return all
}

// TestFaultMatrix fails each call of the seam.
func TestFaultMatrix(t *testing.T) {
	seed := *faultSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	bases, made := map[string]*faultBase{}, map[string]int{}
	var rows []fault
	for i := range faultScripts {
		b := newBase(t, &faultScripts[i])
		bases[b.script.name] = b
		rows = append(rows, b.rows()...)
		for _, name := range b.names {
			made[name]++
		}
		t.Logf("%s: %d calls", b.script.name, len(b.names))
	}
	for _, name := range []string{
		"Open", "CreateTemp", "Link", "SyncDir", "Stat", "Network", "Resolve", "ReadAt", "WriteAt", "WriteSync", "Sync", "Allocate",
		"Truncate", "Punch", "FileStat", "Reopen", "Lock", "Map", "Close", "Populate", "SyncRange", "Unmap",
	} {
		require.NotZero(t, made[name], "no script makes the call %s", name)
	}
	rows = chosen(rows, r)
	require.NotEmpty(t, rows)
	begin := time.Now()
	type distinct struct {
		script, err string
		call, how   int
	}
	seen := map[distinct]bool{}
	for _, f := range rows {
		t.Run(f.String(), func(t *testing.T) { bases[f.script].run(t, f) })
		seen[distinct{f.script, f.err.name, f.call, f.how}] = true
	}
	t.Logf("%d runs, %d distinct of (call, error, how long), in %v", len(rows), len(seen), time.Since(begin).Round(time.Millisecond))
}

// chosen is what the flags leave of the rows.
func chosen(rows []fault, r *rand.Rand) []fault {
	switch {
	case *faultOne != "":
		return slices.DeleteFunc(rows, func(f fault) bool { return !strings.Contains(f.String(), *faultOne) })
	case *faultEvery:
		return rows
	}
	r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	runs := *faultRuns
	if testing.Short() {
		runs /= 4
	}
	return rows[:min(runs, len(rows))]
}
