package mapfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
)

// TestCrashLyingSync: one sync answers success and makes nothing durable. A power cut later may take back what was promised, but
// what opens is the state after some prefix of the commits, or ErrCorrupt: a wrong value is never returned.
func TestCrashLyingSync(t *testing.T) {
	step := 24
	if *crashLevel != levelQuick {
		step = 1
	}
	s := &crashSearch{level: levelCore, target: 1 << 40}
	var lies, older, corrupt atomic.Int64
	each(scriptedHistories(), func(i int, h crashHistory) bool {
		for n := 1 + i%step; ; n += step {
			c := newCrashRun(h, s)
			l := lie{crashRun: c, n: n}
			if err := l.play(); err != nil {
				t.Errorf("%v", err)
				return false
			}
			if !l.told {
				return !t.Failed()
			}
			lies.Add(1)
			older.Add(l.older)
			corrupt.Add(l.corrupt)
		}
	})
	t.Logf("%d lies, %d images: %d older than promised, %d corrupt", lies.Load(), s.images.Load(), older.Load(), corrupt.Load())
	require.Greater(t, lies.Load(), int64(20))
	require.NotZero(t, older.Load()+corrupt.Load(), "the lies had no effect")
}

// lie plays a history in which the n-th sync lies.
type lie struct {
	*crashRun
	n, syncs       int
	told           bool
	older, corrupt int64
}

func (l *lie) play() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = l.caught(r, "TestCrashLyingSync", fmt.Sprintf("-crash.level=core (sync %d)", l.n))
		}
	}()
	defer l.disk.Release()
	l.disk.Lie = func() bool {
		l.syncs++
		l.told = l.told || l.syncs == l.n
		return l.syncs == l.n
	}
	l.disk.OnEvent = func(e simdisk.Event) {
		l.notice()
		if r := rand.New(rand.NewPCG(l.seed, uint64(e.Count))); l.told && r.IntN(32) == 0 {
			l.look(e, r)
		}
	}
	l.run()
	return nil
}

// look opens what a power cut could leave behind the lie.
func (l *lie) look(e simdisk.Event, r *rand.Rand) {
	o := simdisk.StateOptions{Sample: 2, TrashAll: l.pad}
	o.Known = func(hash uint64) bool { _, ok := l.seen[hash]; return ok }
	l.disk.States(r, o, func(img *simdisk.Disk) bool {
		defer img.Release()
		l.point = fmt.Sprintf("sync %d lied, at %v, %v", l.n, e, img.Plan())
		l.seen[img.Hash()] = 0
		l.count(crashDepth)
		l.judgeLied(img)
		return true
	})
}

// judgeLied: some prefix, or ErrCorrupt; what is read of a map that has damage is a value that the key had.
func (l *lie) judgeLied(img *simdisk.Disk) {
	img.Untrack()
	db, err := l.openOn(img, 1, SyncNever)
	if err != nil {
		l.damaged(err)
		return
	}
	got, damage := l.readLied(db)
	if damage != nil {
		l.damaged(damage)
	} else if at := l.findAny(got); at < 0 {
		l.fail("%s: the state is that after no prefix: %v, newest %v", l.point, brief(got), brief(l.last()))
	} else if at < l.acked {
		l.older++
	}
	if err := db.Close(); err != nil && damage == nil {
		l.fail("%s: close: %v", l.point, err)
	}
}

func (l *lie) damaged(err error) {
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
		l.fail("%s: %v, want ErrCorrupt", l.point, err)
	}
	l.corrupt++
}

// readLied gets every key. With damage elsewhere each must have a value that it had, or be absent as it was, in some state.
func (l *lie) readLied(db *DB) (got kv, damage error) {
	got = kv{}
	for _, k := range crashKeys {
		v, err := db.Get([]byte(k))
		switch {
		case err == nil:
			got[k] = text(v)
		case errors.Is(err, ErrCorrupt):
			damage = err
			continue
		case !errors.Is(err, ErrNotFound):
			l.fail("%s: get %s: %v", l.point, k, err)
		}
		value, there := got[k]
		if !slices.ContainsFunc(l.states, func(m kv) bool { was, had := m[k]; return had == there && was == value }) {
			l.fail("%s: %s is %d bytes, which it never was", l.point, k, len(v))
		}
	}
	return got, damage
}

// findAny finds the newest state that equals what was read, -1 if there is none.
func (l *lie) findAny(got kv) int {
	acked := l.acked
	l.acked = 0
	defer func() { l.acked = acked }()
	return l.find(got)
}
