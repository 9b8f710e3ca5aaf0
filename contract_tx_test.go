//go:build linux || darwin || freebsd

package mapfile_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

func beginTx(t testing.TB, db *mapfile.DB, o *mapfile.TxOptions) *mapfile.Tx {
	t.Helper()
	tx, err := db.BeginTx(noContext, o)
	require.NoError(t, err)
	return tx
}

// TestSnapshot holds a snapshot while a writer changes, deletes and adds keys, with checkpoints in between.
func TestSnapshot(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	want := map[string]string{}
	putRange(t, db, want, 0, 3000)
	tx := beginTx(t, db, &mapfile.TxOptions{ReadOnly: true})
	defer tx.Rollback()
	for round := range 4 {
		putRange(t, db, map[string]string{}, 1000*round, 1000*round+2000)
		for i := range 400 {
			require.NoError(t, db.Delete(numbered(i+400*round)))
		}
		require.NoError(t, db.Checkpoint())
		requireTx(t, tx, want)
	}
	require.NotEqual(t, uint64(len(want)), db.Len())
}

// requireTx checks that a transaction sees exactly what is wanted: values, Len and All.
func requireTx(t *testing.T, tx *mapfile.Tx, want map[string]string) {
	t.Helper()
	require.EqualValues(t, len(want), tx.Len())
	got := map[string]string{}
	for k, v := range tx.All() {
		_, twice := got[string(k)]
		require.False(t, twice, "key %q comes twice", k)
		got[string(k)] = string(v)
	}
	require.NoError(t, tx.Err())
	require.Equal(t, want, got)
	for k, v := range want {
		got, err := tx.Get([]byte(k))
		require.NoError(t, err)
		require.Equal(t, v, string(got))
	}
	for i := range 100 {
		if _, ok := want[string(numbered(1e6+i))]; !ok {
			_, err := tx.Get(numbered(1e6 + i))
			require.Equal(t, mapfile.ErrNotFound, err)
		}
	}
}

// TestReadYourWrites looks at a read-write transaction's own writes from within, and from outside.
func TestReadYourWrites(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	want := map[string]string{}
	putRange(t, db, want, 0, 100)
	before := map[string]string{}
	for k, v := range want {
		before[k] = v
	}
	tx := beginTx(t, db, nil)
	defer tx.Rollback()
	for i := range 150 {
		k := numbered(i)
		switch i % 3 {
		case 0:
			require.NoError(t, tx.Delete(k))
			delete(want, string(k))
		case 1:
			require.NoError(t, tx.Put(k, []byte("first")))
			require.NoError(t, tx.Put(k, []byte("second")))
			want[string(k)] = "second"
		}
	}
	requireTx(t, tx, want)
	requireMap(t, db, before)
	require.NoError(t, tx.Commit())
	requireMap(t, db, want)
}

// TestWriteInLoop writes while a loop over All runs: the loop shows the transaction as it was when it began.
func TestWriteInLoop(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	want := map[string]string{}
	putRange(t, db, want, 0, 2000)
	tx := beginTx(t, db, nil)
	defer tx.Rollback()
	require.NoError(t, tx.Put([]byte("own"), []byte("1")))
	want["own"] = "1"
	seen := map[string]string{}
	i := 0
	for k, v := range tx.All() {
		seen[string(k)] = string(v)
		require.NoError(t, tx.Put(fmt.Appendf(nil, "new %d", i), nil))
		require.NoError(t, tx.Delete(k))
		require.NoError(t, tx.Delete(numbered(i)))
		require.NoError(t, tx.Put([]byte("own"), []byte("2")))
		i++
	}
	require.NoError(t, tx.Err())
	require.Equal(t, want, seen)
	require.NoError(t, tx.Commit())
	v, err := db.Get([]byte("own"))
	require.Equal(t, "2", string(v))
	require.NoError(t, err)
	require.EqualValues(t, len(want)+1, db.Len(), "the new keys and the own one") // each old key is deleted
}

// TestErr keeps the first error of any loop.
func TestErr(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("k"), nil))
	for _, readOnly := range []bool{true, false} {
		tx := beginTx(t, db, &mapfile.TxOptions{ReadOnly: readOnly})
		for range tx.All() {
			break
		}
		require.NoError(t, tx.Err(), "leaving a loop is no error")
		for range tx.All() {
			require.NoError(t, tx.Rollback())
		}
		require.ErrorIs(t, tx.Err(), mapfile.ErrTxDone)
		for range tx.All() {
			t.Error("a loop over a transaction that has ended")
		}
		require.ErrorIs(t, tx.Err(), mapfile.ErrTxDone)
	}
}

// TestTxDone uses transactions that have ended.
func TestTxDone(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("k"), nil))
	ends := map[string]func(*mapfile.Tx) error{"Commit": (*mapfile.Tx).Commit, "Rollback": (*mapfile.Tx).Rollback}
	for name, end := range ends {
		for _, readOnly := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, read-only %v", name, readOnly), func(t *testing.T) {
				tx := beginTx(t, db, &mapfile.TxOptions{ReadOnly: readOnly})
				require.NoError(t, end(tx))
				_, getErr := tx.Get([]byte("k"))
				_, hasErr := tx.Has([]byte("k"))
				for what, err := range map[string]error{
					"Get": getErr, "Has": hasErr, "Commit": tx.Commit(), "Rollback": tx.Rollback(),
					"GetFunc": tx.GetFunc([]byte("k"), func([]byte) error { return nil }),
					"Put":     tx.Put([]byte("k"), nil), "Delete": tx.Delete([]byte("k")),
				} {
					require.ErrorIs(t, err, mapfile.ErrTxDone, what)
				}
			})
		}
	}
	t.Run("View's Tx after View", func(t *testing.T) {
		var kept *mapfile.Tx
		require.NoError(t, db.View(func(tx *mapfile.Tx) error { kept = tx; return nil }))
		_, err := kept.Get([]byte("k"))
		require.ErrorIs(t, err, mapfile.ErrTxDone)
	})
}

// TestCallbackErrors gives errors from callbacks: they come back unchanged, and roll back.
func TestCallbackErrors(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("k"), []byte("v")))
	mine := errors.New("the caller's own")
	rows := []struct {
		name string
		call func() error
	}{
		{"GetFunc", func() error { return db.GetFunc([]byte("k"), func([]byte) error { return mine }) }},
		{"GetMany", func() error {
			return db.GetMany([][]byte{[]byte("k"), []byte("missing")}, func(i int, _ []byte, _ error) error {
				require.Zero(t, i, "an error stops it")
				return mine
			})
		}},
		{"View", func() error { return db.View(func(*mapfile.Tx) error { return mine }) }},
		{"Update", func() error {
			return db.Update(func(tx *mapfile.Tx) error {
				require.NoError(t, tx.Put([]byte("k"), []byte("rolled back")))
				return mine
			})
		}},
		{"Tx.GetFunc", func() error {
			return db.View(func(tx *mapfile.Tx) error { return tx.GetFunc([]byte("k"), func([]byte) error { return mine }) })
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			require.True(t, row.call() == mine, "unchanged")
			requireValue(t, db, []byte("k"), []byte("v"))
		})
	}
}

// TestCallbackPanics panics and exits in callbacks: that goes on, and the map works.
func TestCallbackPanics(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("k"), []byte("v")))
	rows := []struct {
		name string
		call func(leave func())
	}{
		{"GetFunc", func(leave func()) { _ = db.GetFunc([]byte("k"), func([]byte) error { leave(); return nil }) }},
		{"GetMany", func(leave func()) {
			_ = db.GetMany([][]byte{[]byte("k")}, func(int, []byte, error) error { leave(); return nil })
		}},
		{"View", func(leave func()) { _ = db.View(func(*mapfile.Tx) error { leave(); return nil }) }},
		{"Update", func(leave func()) {
			_ = db.Update(func(tx *mapfile.Tx) error {
				require.NoError(t, tx.Put([]byte("k"), []byte("rolled back")))
				leave()
				return nil
			})
		}},
		{"All", func(leave func()) {
			_ = db.Update(func(tx *mapfile.Tx) error {
				for range tx.All() {
					leave()
				}
				return nil
			})
		}},
	}
	leaves := []struct {
		name  string
		leave func()
		want  any
	}{
		{"panic", func() { panic("the caller's own") }, "the caller's own"},
		{"nil dereference", func() { var p *int; *p = 1 }, "runtime error: invalid memory address or nil pointer dereference"},
		{"Goexit", runtime.Goexit, nil},
	}
	for _, row := range rows {
		for _, l := range leaves {
			t.Run(row.name+", "+l.name, func(t *testing.T) {
				got, returned := any(nil), false
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { got = recover() }()
					row.call(l.leave)
					returned = true
				}()
				<-done
				require.False(t, returned, "it does not go on behind the call")
				if l.want == nil {
					require.Nil(t, got)
				} else {
					require.Equal(t, l.want, fmt.Sprint(got))
				}
				requireValue(t, db, []byte("k"), []byte("v"))
				require.NoError(t, db.Put([]byte("other"), nil), "the turn is free")
				require.Zero(t, db.Stats().Readers, "no pin stays")
			})
		}
	}
}

// TestEndInsideCallback calls Commit and Rollback inside View and Update.
func TestEndInsideCallback(t *testing.T) {
	db := newMap(t, nil)
	body := func(tx *mapfile.Tx) error {
		requireNames(t, tx.Commit(), db.Path())
		requireNames(t, tx.Rollback(), db.Path())
		return nil
	}
	require.NoError(t, db.View(body))
	require.NoError(t, db.Update(func(tx *mapfile.Tx) error {
		require.NoError(t, tx.Put([]byte("k"), []byte("v")))
		return body(tx)
	}))
	requireValue(t, db, []byte("k"), []byte("v"))
}

// TestInsideCallbacks runs other calls of the map inside callbacks.
func TestInsideCallbacks(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("k"), []byte("v")))
	inside := func() error {
		requireValue(t, db, []byte("k"), []byte("v"))
		db.Stats()
		require.NoError(t, db.Put([]byte("other"), nil))
		return db.Checkpoint()
	}
	require.NoError(t, db.GetFunc([]byte("k"), func([]byte) error { return inside() }))
	require.NoError(t, db.View(func(*mapfile.Tx) error { return inside() }))
	require.NoError(t, db.GetMany([][]byte{[]byte("k")}, func(int, []byte, error) error { return inside() }))
}

// TestContext cancels while a transaction waits for its turn, and before it commits.
func TestContext(t *testing.T) {
	db := newMap(t, nil)
	t.Run("while waiting", func(t *testing.T) {
		holder := beginTx(t, db, nil)
		ctx, cancel := context.WithTimeout(noContext, 20*time.Millisecond)
		defer cancel()
		_, err := db.BeginTx(ctx, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		requireNames(t, err, db.Path())
		require.NoError(t, holder.Rollback())
		tx := beginTx(t, db, nil) // the turn that was given up is free
		require.NoError(t, tx.Rollback())
	})
	t.Run("already cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(noContext)
		cancel()
		_, err := db.BeginTx(ctx, nil)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("before Commit", func(t *testing.T) {
		ctx, cancel := context.WithCancel(noContext)
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		require.NoError(t, tx.Put([]byte("k"), []byte("v")))
		cancel()
		require.ErrorIs(t, tx.Commit(), context.Canceled)
		require.ErrorIs(t, tx.Rollback(), mapfile.ErrTxDone)
		found, err := db.Has([]byte("k"))
		require.NoError(t, err)
		require.False(t, found)
		require.NoError(t, db.Put([]byte("k"), nil), "the turn is free")
	})
	t.Run("many waiters", func(t *testing.T) {
		holder := beginTx(t, db, nil)
		ctx, cancel := context.WithCancel(noContext)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := db.BeginTx(ctx, nil); !errors.Is(err, context.Canceled) {
					t.Errorf("BeginTx: %v", err)
				}
			})
		}
		cancel()
		wg.Wait()
		require.NoError(t, holder.Commit())
		require.NoError(t, db.Put([]byte("k"), nil))
	})
}

// TestWritersWait lets writers of every kind wait for a read-write transaction, and counts that no increment is lost.
func TestWritersWait(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	require.NoError(t, db.Put([]byte("n"), []byte("0")))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				err := db.Update(func(tx *mapfile.Tx) error {
					v, err := tx.Get([]byte("n"))
					var n int
					if _, scanErr := fmt.Sscan(string(v), &n); err != nil || scanErr != nil {
						return errors.Join(err, scanErr)
					}
					return tx.Put([]byte("n"), fmt.Append(nil, n+1))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	requireValue(t, db, []byte("n"), []byte("400"))
}

// TestLargeTransaction commits 100,000 records in one step, and then deletes them in another.
func TestLargeTransaction(t *testing.T) {
	db := openTest(t, newPath(t), &mapfile.Options{Sync: mapfile.SyncNever})
	want := map[string]string{}
	putRange(t, db, want, 0, 100000)
	copied := crashed(t, db)
	require.NoError(t, db.Close())
	for _, path := range []string{db.Path(), copied} {
		db := openTest(t, path, nil)
		requireMap(t, db, want)
		require.NoError(t, db.Update(func(tx *mapfile.Tx) error {
			for i := range 100000 {
				if err := tx.Delete(numbered(i)); err != nil {
					return err
				}
			}
			require.Zero(t, tx.Len())
			return nil
		}))
		require.Zero(t, db.Len())
		require.NoError(t, db.Close())
	}
}
