//go:build linux || darwin || freebsd

package mapfile_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// stormKeys is the number of keys that a storm reads and writes.
const stormKeys = 64

func stormKey(i int) []byte   { return fmt.Appendf(nil, "storm %02d", i) }
func stormValue(i int) string { return fmt.Sprintf("value of key %02d", i) }

// stormCalls are the calls that run against Close. Each answers nil or ErrClosed, and right values only.
var stormCalls = []struct {
	name string
	call func(db *mapfile.DB, i int) error
}{
	{"Get", func(db *mapfile.DB, i int) error {
		v, err := db.Get(stormKey(i))
		return right(i, v, err)
	}},
	{"GetFunc", func(db *mapfile.DB, i int) error {
		return db.GetFunc(stormKey(i), func(v []byte) error { return right(i, v, nil) })
	}},
	{"Has", func(db *mapfile.DB, i int) error {
		found, err := db.Has(stormKey(i))
		if err == nil && !found {
			return fmt.Errorf("key %d is gone", i)
		}
		return err
	}},
	{"GetMany", func(db *mapfile.DB, i int) error {
		return db.GetMany([][]byte{stormKey(i), stormKey(0)}, func(at int, v []byte, err error) error {
			return right(i*(1-at), v, err)
		})
	}},
	{"View", func(db *mapfile.DB, i int) error {
		return db.View(func(tx *mapfile.Tx) error {
			if tx.Len() != stormKeys {
				return fmt.Errorf("Len is %d", tx.Len())
			}
			v, err := tx.Get(stormKey(i))
			return right(i, v, err)
		})
	}},
	{"Put", func(db *mapfile.DB, i int) error { return db.Put(stormKey(i), []byte(stormValue(i))) }},
	{"Update", func(db *mapfile.DB, i int) error {
		return db.Update(func(tx *mapfile.Tx) error { return tx.Put(stormKey(i), []byte(stormValue(i))) })
	}},
	{"Delete of a missing key", func(db *mapfile.DB, i int) error { return db.Delete([]byte("missing")) }},
	{"Sync", func(db *mapfile.DB, i int) error { return db.Sync() }},
	{"Checkpoint", func(db *mapfile.DB, i int) error { return db.Checkpoint() }},
	{"Stats", func(db *mapfile.DB, i int) error { db.Stats(); return nil }},
}

func right(i int, v []byte, err error) error {
	if err == nil && string(v) != stormValue(i) {
		return fmt.Errorf("key %d has the value %q", i, v)
	}
	return err
}

// TestCloseStorm closes maps while each kind of call, and all of them mixed, come from eight goroutines.
func TestCloseStorm(t *testing.T) {
	for at, c := range stormCalls {
		t.Run(c.name, func(t *testing.T) {
			storm(t, 12, func(*rand.Rand) int { return at })
		})
	}
	t.Run("mixed", func(t *testing.T) {
		storm(t, 60, func(r *rand.Rand) int { return r.IntN(len(stormCalls)) })
	})
}

func storm(t *testing.T, cycles int, choose func(*rand.Rand) int) {
	seed := rand.Uint64()
	path := filepath.Join(t.TempDir(), "storm.map")
	o := &mapfile.Options{Sync: mapfile.SyncNever}
	fill(t, path, o)
	for cycle := range cycles {
		db := openTest(t, path, o)
		if cycle%2 == 0 { // with, and without, a life that has begun
			require.NoError(t, db.Put(stormKey(0), []byte(stormValue(0))))
		}
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for g := range errs {
			wg.Go(func() { errs[g] = stormUntilClosed(db, rand.New(rand.NewPCG(seed, uint64(cycle*8+g))), choose) })
		}
		time.Sleep(time.Duration(cycle%8) * 200 * time.Microsecond)
		require.NoError(t, db.Close(), "seed %d, cycle %d", seed, cycle)
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err, "seed %d, cycle %d", seed, cycle)
		}
	}
	db := openTest(t, path, o)
	defer db.Close()
	require.EqualValues(t, stormKeys, db.Len())
	for i := range stormKeys {
		v, err := db.Get(stormKey(i))
		require.NoError(t, right(i, v, err), "seed %d", seed)
	}
}

func fill(t *testing.T, path string, o *mapfile.Options) {
	t.Helper()
	db := openTest(t, path, o)
	for i := range stormKeys {
		require.NoError(t, db.Put(stormKey(i), []byte(stormValue(i))))
	}
	require.NoError(t, db.Close())
}

// stormUntilClosed answers nil once a call says ErrClosed, any other error at once. Stats says nothing,
// so a Get ends its loop.
func stormUntilClosed(db *mapfile.DB, r *rand.Rand, choose func(*rand.Rand) int) error {
	for {
		c, i := stormCalls[choose(r)], r.IntN(stormKeys)
		err := c.call(db, i)
		if err == nil && c.name == "Stats" {
			_, err = db.Has(stormKey(i))
		}
		switch {
		case errors.Is(err, mapfile.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
}

// TestCloseAgainstFirstWrite closes maps while the first write begins: what that starts in the background must end too.
func TestCloseAgainstFirstWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "first.map")
	o := &mapfile.Options{Sync: mapfile.SyncInterval, SyncEvery: time.Millisecond}
	fill(t, path, o)
	before := runtime.NumGoroutine()
	for cycle := range 100 {
		db := openTest(t, path, o)
		put := make(chan error, 1)
		go func() { put <- db.Put(stormKey(1), []byte(stormValue(1))) }()
		time.Sleep(time.Duration(cycle) * time.Microsecond)
		require.NoError(t, db.Close())
		if err := <-put; !errors.Is(err, mapfile.ErrClosed) {
			require.NoError(t, err)
		}
	}
	for deadline := time.Now().Add(3 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before, "goroutines stay behind")
}

// TestCloseWaits holds the map open in every way there is: Close must not return before that ends.
func TestCloseWaits(t *testing.T) {
	rows := []struct {
		name string
		hold func(db *mapfile.DB, entered chan<- struct{}, leave <-chan struct{}) error
	}{
		{"GetFunc", func(db *mapfile.DB, entered chan<- struct{}, leave <-chan struct{}) error {
			return db.GetFunc(stormKey(1), func(v []byte) error {
				close(entered)
				<-leave
				return right(1, v, nil)
			})
		}},
		{"GetMany", func(db *mapfile.DB, entered chan<- struct{}, leave <-chan struct{}) error {
			return db.GetMany([][]byte{stormKey(1), stormKey(2)}, func(i int, v []byte, err error) error {
				if i == 0 {
					close(entered)
					<-leave
				}
				return right(1+i, v, err)
			})
		}},
		{"View", func(db *mapfile.DB, entered chan<- struct{}, leave <-chan struct{}) error {
			return db.View(func(tx *mapfile.Tx) error {
				close(entered)
				<-leave
				v, err := tx.Get(stormKey(1))
				return right(1, v, err)
			})
		}},
		{"Update", func(db *mapfile.DB, entered chan<- struct{}, leave <-chan struct{}) error {
			return db.Update(func(tx *mapfile.Tx) error {
				close(entered)
				<-leave
				return tx.Put([]byte("late"), []byte("kept"))
			})
		}},
		{"read-only Tx", func(db *mapfile.DB, entered chan<- struct{}, leave <-chan struct{}) error {
			tx, err := db.BeginTx(noContext, &mapfile.TxOptions{ReadOnly: true})
			if err != nil {
				return err
			}
			close(entered)
			<-leave
			if v, err := tx.Get(stormKey(1)); right(1, v, err) != nil {
				return right(1, v, err)
			}
			return tx.Rollback()
		}},
		{"read-write Tx", func(db *mapfile.DB, entered chan<- struct{}, leave <-chan struct{}) error {
			tx, err := db.BeginTx(noContext, nil)
			if err != nil {
				return err
			}
			close(entered)
			<-leave
			if err := tx.Put([]byte("late"), []byte("kept")); err != nil {
				return err
			}
			return tx.Commit()
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "wait.map")
			fill(t, path, nil)
			db := openTest(t, path, nil)
			entered, leave := make(chan struct{}), make(chan struct{})
			held, closed := make(chan error, 1), make(chan error, 1)
			go func() { held <- row.hold(db, entered, leave) }()
			<-entered
			go func() { closed <- db.Close() }()
			select {
			case err := <-closed:
				t.Fatalf("Close did not wait: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
			_, err := db.Get(stormKey(1))
			require.ErrorIs(t, err, mapfile.ErrClosed, "new calls find the map closed")
			close(leave)
			require.NoError(t, <-held)
			require.NoError(t, <-closed)
			require.NoError(t, db.Close(), "a second Close is nil")
		})
	}
}

// TestAfterClose calls everything on a closed map.
func TestAfterClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "closed.map")
	fill(t, path, nil)
	db := openTest(t, path, nil)
	require.NoError(t, db.Close())
	for _, c := range append(stormCalls, closedCalls...) {
		if c.name == "Stats" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			err := c.call(db, 1)
			require.ErrorIs(t, err, mapfile.ErrClosed)
			requireNames(t, err, path)
		})
	}
	require.Zero(t, db.Stats().Keys)
	require.EqualValues(t, stormKeys, db.Len(), "Len stays what it was")
}

// closedCalls are further calls that a closed map must refuse.
var closedCalls = []struct {
	name string
	call func(db *mapfile.DB, i int) error
}{
	{"AppendGet", func(db *mapfile.DB, i int) error { _, err := db.AppendGet(nil, stormKey(i)); return err }},
	{"Get of a key too large", func(db *mapfile.DB, i int) error { _, err := db.Get(tooLargeKey); return err }},
	{"Has of a key too large", func(db *mapfile.DB, i int) error { _, err := db.Has(tooLargeKey); return err }},
	{"Delete of a key too large", func(db *mapfile.DB, i int) error { return db.Delete(tooLargeKey) }},
	{"BeginTx read-only", func(db *mapfile.DB, i int) error {
		_, err := db.BeginTx(noContext, &mapfile.TxOptions{ReadOnly: true})
		return err
	}},
	{"BeginTx", func(db *mapfile.DB, i int) error { _, err := db.BeginTx(noContext, nil); return err }},
}
