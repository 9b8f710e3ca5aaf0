package mapfile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/simdisk"
)

// crashBreak is one way of losing writes: it sets the disk of a run up so that the n-th chance is taken, and answers
// whether there was one.
type crashBreak func(c *crashRun, n int) (taken *bool)

// failSync makes the n-th sync fail, of whatever kind. Behind its own events nothing may change any more: I7.
func failSync(c *crashRun, n int) *bool {
	syncs, at := 0, 0
	c.disk.Fail = func(call simdisk.Call) error {
		if call.Name != "Sync" && call.Name != "WriteSync" && call.Name != "SyncRange" {
			return nil
		}
		if syncs++; syncs != n {
			return nil
		}
		c.broken, at = true, c.disk.Events()
		return syscall.EIO
	}
	c.disk.OnEvent = func(e simdisk.Event) {
		c.notice()
		if c.broken && e.Count > at+2 {
			c.fail("%v behind a failed sync", e)
		}
	}
	return &c.broken
}

// failWriteback loses, before the n-th event, what the kernel was writing back.
func failWriteback(c *crashRun, n int) *bool {
	c.disk.OnEvent = func(e simdisk.Event) {
		c.notice()
		if e.Count == n {
			c.broken = c.disk.FailWriteback(syscall.EIO)
		}
	}
	taken := true
	return &taken
}

// TestCrashWriteErrors: the cache keeps what the disk has lost, and the error is told once to each description. The map has
// failed then for good, and Close writes nothing; whether the cache is kept, dropped, or cut off with the power, the next
// open finds all that was promised.
func TestCrashWriteErrors(t *testing.T) {
	rows := []struct {
		name string
		how  crashBreak
		step int // every how many chances is taken in a quick run
	}{{"a sync", failSync, 24}, {"a writing back", failWriteback, 96}}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			step := row.step
			if *crashLevel != levelQuick {
				step = 1
			}
			cases, images := breakAll(t, row.how, step)
			t.Logf("%d errors, %d images", cases, images)
			require.Greater(t, cases, int64(20))
		})
	}
}

// breakAll plays the scripted histories again and again, each time with another loss.
func breakAll(t *testing.T, how crashBreak, step int) (cases, images int64) {
	s := &crashSearch{level: levelCore, target: 1 << 40}
	var count atomic.Int64
	each(scriptedHistories(), func(i int, h crashHistory) bool {
		for n := 1 + i%step; ; n += step {
			c := newCrashRun(h, s)
			there, err := c.breakOnce(how, n)
			if err != nil {
				t.Errorf("%v", err)
				return false
			}
			if !there {
				return !t.Failed()
			}
			count.Add(1)
		}
	})
	return count.Load(), s.images.Load()
}

// each calls visit with each history, on all processors, until it answers false.
func each(all []crashHistory, visit func(i int, h crashHistory) bool) {
	var workers sync.WaitGroup
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)) && visit(int(i), all[i]); i = next.Add(1) - 1 {
			}
		})
	}
	workers.Wait()
}

// breakOnce plays the history until the loss shows, and looks at what is left. there is false if the history has no n-th chance.
func (c *crashRun) breakOnce(how crashBreak, n int) (there bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = c.caught(r, "TestCrashWriteErrors", fmt.Sprintf("-crash.level=core (loss %d)", n))
		}
	}()
	defer c.disk.Release()
	taken := how(c, n)
	if !c.stopped() {
		return *taken && c.disk.Events() >= n, nil // what was lost was not needed
	}
	c.point = fmt.Sprintf("behind loss %d", n)
	c.failedForGood()
	c.disk.OnEvent, c.disk.Fail = nil, nil
	c.leftBehind(uint64(n))
	return true, nil
}

// stopped runs the history and reports whether an operation failed under the loss.
func (c *crashRun) stopped() (stopped bool) {
	defer func() {
		r := recover()
		if s, ok := r.(crashStopped); ok {
			if !errors.Is(s.error, ErrFailed) && c.db != nil && !c.db.closed.Load() {
				c.fail("%s: %v, want ErrFailed", c.doing(), s.error)
			}
			stopped = true
		} else if r != nil {
			panic(r)
		}
	}()
	c.run()
	return false
}

// failedForGood: every call answers ErrFailed, and Close returns nil and writes nothing.
func (c *crashRun) failedForGood() {
	if c.db == nil || c.db.closed.Load() {
		return // the open failed, or Close itself
	}
	before := c.disk.Events()
	if c.held != nil {
		_ = c.held.Rollback()
	}
	_, get := c.db.Get([]byte("key0"))
	_, begin := c.db.BeginTx(context.Background(), nil)
	view := c.db.View(func(*Tx) error { return nil })
	calls := map[string]error{
		"Get": get, "BeginTx": begin, "View": view, "Put": c.db.Put([]byte("key0"), nil), "Delete": c.db.Delete([]byte("key0")),
		"Sync": c.db.Sync(), "Checkpoint": c.db.Checkpoint(), "Compact": c.db.Compact(context.Background()),
	}
	for name, err := range calls {
		if !errors.Is(err, ErrFailed) {
			c.fail("%s: %s answers %v, want ErrFailed", c.point, name, err)
		}
	}
	if err := c.db.Close(); err != nil {
		c.fail("%s: close: %v", c.point, err)
	}
	if after := c.disk.Events(); after != before {
		c.fail("%s: %d changes of a failed map", c.point, after-before)
	}
}

// leftBehind looks at the disk with the cache kept, dropped, and cut off with the power.
func (c *crashRun) leftBehind(seed uint64) {
	point, acked := c.point, c.acked
	if _, err := c.disk.Stat(crashPath); err == nil {
		kept := c.disk.Kill()
		c.point = point + ", cache kept"
		c.acked = max(acked, c.before)
		if debug.On { // else the simulated disk does not see that the bytes which the cache has are stored again
			c.settles(kept)
		}
		c.verify(kept, 0, 0)
		c.acked = acked
		kept.Release()
		dropped := c.disk.Kill()
		dropped.Evict()
		c.point = point + ", cache dropped"
		c.settles(dropped)
		c.verify(dropped, 0, 0)
		dropped.Release()
		c.images += 2
		c.search.images.Add(2)
	}
	c.point = point + ", power cut"
	c.cuts(c.disk, rand.New(rand.NewPCG(c.seed, seed)), simdisk.StateOptions{Sample: 2, TrashAll: c.pad}, 0, simdisk.Event{})
	c.point = point
}

// settles: what an open found is on the disk when the next commit is, although the cache counted it as clean.
func (c *crashRun) settles(img *simdisk.Disk) {
	again := img.Clone()
	defer again.Release()
	again.OnEvent = func(simdisk.Event) { again.Notice() }
	db, err := c.openOn(again, 4, SyncAlways)
	if err != nil {
		c.fail("%s: open: %v", c.point, err)
	}
	model := maps.Clone(c.contents(db))
	model["key8"] = letters[0][:10]
	if err := db.Put([]byte("key8"), []byte(model["key8"])); err != nil {
		c.fail("%s: put: %v", c.point, err)
	}
	cut := again.Crash(nil, nil, false, false)
	defer cut.Release()
	states, acked, point := c.states, c.acked, c.point
	c.states, c.acked, c.point = []kv{model}, 0, point+", put, power cut"
	c.verify(cut, 0, 0)
	c.states, c.acked, c.point = states, acked, point
	again.OnEvent = nil
	if err := db.Close(); err != nil {
		c.fail("%s: close: %v", c.point, err)
	}
}
