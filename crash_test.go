package mapfile

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The crash tests run short histories on the simulated disk and, at every store and sync, look at
// what a power cut could leave: each distinct image is opened, must hold the state after a prefix of the
// commits that is not older than the last acknowledged durable one, is checked in full, takes 20 more
// operations, and is opened and checked again.
var (
	crashImages   = flag.Int64("crash.images", 20000, "distinct images that TestCrash looks at")
	crashLevel    = flag.String("crash.level", "quick", "quick: one point of eight; core: every point, none, all, each alone, all but one and six more; deep: every outcome")
	crashSeed     = flag.Uint64("crash.seed", 1, "seed of the first random history, 0: the time")
	crashOne      = flag.String("crash.one", "", "run this history alone, at every point")
	crashProgress = flag.String("crash.progress", "", "file that keeps how far TestCrash came: the next run goes on there")
)

// levels of looking.
const (
	levelQuick = "quick"
	levelCore  = "core"
	levelDeep  = "deep"
)

// crashSearch runs histories on all processors until enough images were looked at.
type crashSearch struct {
	level            string
	seed             uint64 // of the first random history
	target           int64
	stop             atomic.Bool // something failed
	images           atomic.Int64
	gone, increments atomic.Int64                 // answers of BackupSince behind a crash
	depths           [crashDepth + 1]atomic.Int64 // images by number of cuts in recovery before them

	mu      sync.Mutex // protects what follows
	saved   crashSaved
	running map[int]*crashRun
	begun   int // histories
	failure error
}

// history is number n: the scripted ones and random ones in turn, then random ones.
func (s *crashSearch) history(n int) crashHistory {
	if all := scriptedHistories(); n%2 == 0 && n/2 < len(all) {
		return all[n/2]
	} else {
		return randomHistory(s.seed + uint64(n-min((n+1)/2, len(all))))
	}
}

func TestCrash(t *testing.T) {
	require.Contains(t, []string{levelQuick, levelCore, levelDeep}, *crashLevel, "-crash.level")
	s := &crashSearch{level: *crashLevel, seed: *crashSeed, target: *crashImages, running: map[int]*crashRun{}}
	if s.seed == 0 {
		s.seed = uint64(time.Now().UnixNano())
	}
	if *crashOne != "" {
		s.target = 1 << 40
		c := newCrashRun(historyNamed(t, *crashOne), s)
		require.NoError(t, c.play())
		t.Logf("%d distinct images", s.images.Load())
		return
	}
	defer tuned()()
	s.load(t)
	begin, before := time.Now(), s.images.Load()
	s.run()
	require.NoError(t, s.failure)
	d, n := time.Since(begin), s.images.Load()-before
	if n >= 10000 { // fewer need not come to the script of dropped tombstones
		require.NotZero(t, s.gone.Load())
		require.Greater(t, s.increments.Load(), n/20)
	}
	t.Logf("backups behind a crash: %d increments, history gone %d times", s.increments.Load(), s.gone.Load())
	t.Logf("%d distinct images of %d histories in %v: %.0f a second; cut again in recovery once %d, twice %d, three times %d; %d in all",
		n, s.begun, d.Round(time.Millisecond), float64(n)/d.Seconds(), s.depths[1].Load(), s.depths[2].Load(), s.depths[3].Load(), s.images.Load())
}

// tuned sets the heap up for many short-lived maps, and answers how to undo it.
func tuned() func() {
	rate, percent := runtime.MemProfileRate, debug.SetGCPercent(400)
	runtime.MemProfileRate = 0
	return func() {
		runtime.MemProfileRate = rate
		debug.SetGCPercent(percent)
	}
}

// run plays histories, one on each processor at a time, and tells and saves now and then how far it is.
func (s *crashSearch) run() {
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(s.work)
	}
	done := make(chan struct{})
	go func() { workers.Wait(); close(done) }()
	begin, before := time.Now(), s.images.Load()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-tick.C:
		}
		s.save()
		if *crashProgress != "" {
			n := s.images.Load()
			fmt.Fprintf(os.Stderr, "%v: %d images, %.0f a second\n", time.Since(begin).Round(time.Second), n, float64(n-before)/time.Since(begin).Seconds())
		}
	}
}

// work plays the next history until there are enough.
func (s *crashSearch) work() {
	for {
		n, c := s.next()
		if c == nil {
			return
		}
		err := c.play()
		s.ended(n, err)
	}
}

// enough reports whether the search is over.
func (s *crashSearch) enough() bool { return s.stop.Load() || s.images.Load() >= s.target }

// next takes the next history that has not been played to its end, nil if the search is over.
func (s *crashSearch) next() (int, *crashRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enough() {
		return 0, nil
	}
	n := s.saved.Next
	for s.running[n] != nil || slices.Contains(s.saved.Done, n) {
		n++
	}
	c := newCrashRun(s.history(n), s)
	c.skip, c.images = s.saved.Open[n].Event, s.saved.Open[n].Images
	s.running[n] = c
	s.begun++
	return n, c
}

// ended notes that a history was played, to its end unless the search was over.
func (s *crashSearch) ended(n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.failure == nil {
		s.failure = err
		s.stop.Store(true) // the others stop at their next point
	}
	if s.enough() {
		return // what it reached is saved as that of an open one
	}
	s.saved.Images += s.running[n].images
	delete(s.running, n)
	delete(s.saved.Open, n)
	s.saved.Done = append(s.saved.Done, n)
	for slices.Contains(s.saved.Done, s.saved.Next) {
		s.saved.Done = slices.DeleteFunc(s.saved.Done, func(n int) bool { return n == s.saved.Next })
		s.saved.Next++
	}
}
