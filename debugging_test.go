//go:build linux || darwin || freebsd

package mapfile_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// TestSelfWait calls what would wait for itself, in Update and Modify, with Debug.Callers: an error names both callers.
func TestSelfWait(t *testing.T) {
	db := newMap(t, &mapfile.Options{Debug: mapfile.DebugOptions{Callers: true}})
	k := []byte("k")
	calls := map[string]func() error{
		"Put":        func() error { return db.Put(k, nil) },
		"Delete":     func() error { return db.Delete(k) },
		"Update":     func() error { return db.Update(func(*mapfile.Tx) error { return nil }) },
		"BeginTx":    func() error { _, err := db.BeginTx(noContext, nil); return err },
		"Add":        func() error { _, err := db.Add(k, 1); return err },
		"Clear":      db.Clear,
		"Checkpoint": db.Checkpoint,
		"Compact":    func() error { return db.Compact(noContext) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			var inUpdate, inModify error
			require.NoError(t, db.Update(func(*mapfile.Tx) error { inUpdate = call(); return nil }))
			require.NoError(t, db.Modify(k, func([]byte, bool) ([]byte, bool, error) { inModify = call(); return nil, false, nil }))
			for _, err := range []error{inUpdate, inModify} {
				require.ErrorIs(t, err, mapfile.ErrSelfWait)
				requireNames(t, err, db.Path())
				require.Equal(t, 2, bytes.Count([]byte(err.Error()), []byte("debugging_test.go:")), "both callers: %v", err)
			}
		})
	}
	t.Run("another goroutine waits", func(t *testing.T) {
		done := make(chan error, 1)
		require.NoError(t, db.Update(func(*mapfile.Tx) error {
			go func() { done <- db.Put(k, nil) }()
			time.Sleep(10 * time.Millisecond)
			return nil
		}))
		require.NoError(t, <-done)
		require.NoError(t, db.Put(k, nil), "and behind it nobody has the turn")
	})
	t.Run("BeginTx with a context gets out and names the holder", func(t *testing.T) {
		holder := beginTx(t, db, nil)
		ctx, cancel := context.WithTimeout(noContext, 10*time.Millisecond)
		defer cancel()
		_, err := db.BeginTx(ctx, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Contains(t, err.Error(), "_test.go:")
		require.NoError(t, holder.Rollback())
	})
	t.Run("Stats inside Update", func(t *testing.T) {
		require.NoError(t, db.Update(func(*mapfile.Tx) error {
			require.Contains(t, db.Stats().Writer, "debugging_test.go:")
			return nil
		}))
		require.Empty(t, db.Stats().Writer)
	})
}

// TestOldestReader asks Stats for readers.
func TestOldestReader(t *testing.T) {
	for _, callers := range []bool{false, true} {
		db := newMap(t, &mapfile.Options{Debug: mapfile.DebugOptions{Callers: callers}})
		require.NoError(t, db.Put([]byte("k"), nil))
		require.Zero(t, db.Stats().Oldest)
		first := beginTx(t, db, &mapfile.TxOptions{ReadOnly: true})
		sequence := db.Stats().Published
		time.Sleep(20 * time.Millisecond)
		require.NoError(t, db.Put([]byte("k"), nil))
		second := beginTx(t, db, &mapfile.TxOptions{ReadOnly: true})
		st := db.Stats()
		require.Equal(t, 2, st.Readers)
		require.Equal(t, sequence, st.Oldest.Sequence)
		require.GreaterOrEqual(t, st.Oldest.Age, 20*time.Millisecond)
		require.Less(t, st.Oldest.Age, time.Minute)
		require.Equal(t, callers, bytes.Contains([]byte(st.Oldest.Caller), []byte("_test.go:")), "%q", st.Oldest.Caller)
		require.NoError(t, second.GetFunc([]byte("k"), func([]byte) error {
			require.Equal(t, 2, db.Stats().Readers, "a callback of a transaction is the transaction's")
			return nil
		}))
		require.NoError(t, first.Rollback())
		require.Equal(t, sequence+1, db.Stats().Oldest.Sequence)
		require.NoError(t, second.Rollback())
		require.NoError(t, db.GetFunc([]byte("k"), func([]byte) error {
			require.Equal(t, 1, db.Stats().Readers)
			require.Equal(t, sequence+1, db.Stats().Oldest.Sequence)
			return nil
		}))
		require.Zero(t, db.Stats().Oldest)
	}
}

// kept is what a mistaken program keeps of lent bytes.
var kept []byte

// lends are the ways to be lent bytes.
var lends = map[string]func(db *mapfile.DB, keep func([]byte)) error{
	"GetFunc": func(db *mapfile.DB, keep func([]byte)) error {
		return db.GetFunc([]byte("k"), func(v []byte) error { keep(v); return nil })
	},
	"GetMany": func(db *mapfile.DB, keep func([]byte)) error {
		return db.GetMany([][]byte{[]byte("k")}, func(_ int, v []byte, _ error) error { keep(v); return nil })
	},
	"Tx.GetFunc": func(db *mapfile.DB, keep func([]byte)) error {
		return db.View(func(tx *mapfile.Tx) error {
			return tx.GetFunc([]byte("k"), func(v []byte) error { keep(v); return nil })
		})
	},
	"All": func(db *mapfile.DB, keep func([]byte)) error {
		return db.View(func(tx *mapfile.Tx) error {
			for _, v := range tx.All() {
				keep(v)
			}
			return tx.Err()
		})
	},
	"Modify": func(db *mapfile.DB, keep func([]byte)) error {
		return db.Modify([]byte("k"), func(old []byte, _ bool) ([]byte, bool, error) { keep(old); return old, true, nil })
	},
}

func init() {
	childRoles["misuse"] = func(out io.Writer, args []string) error {
		debug.SetTraceback("none")
		db, err := mapfile.Open(args[0], &mapfile.Options{Debug: mapfile.DebugOptions{Poison: true}})
		if err != nil {
			return err
		}
		if err := db.Put([]byte("k"), []byte("value")); err != nil {
			return err
		}
		keep := func(v []byte) { kept = v }
		if args[2] == "store" {
			keep = func(v []byte) {
				fmt.Fprintf(out, "%s\n", v)
				v[0] = 'X'
			}
		}
		if err := lends[args[1]](db, keep); err != nil {
			return err
		}
		fmt.Fprintln(out, "value")
		fmt.Fprintf(out, "%s\n", kept)
		return nil
	}
}

// TestPoison misuses lent bytes in child processes, with Debug.Poison: a read behind the loan, and a store within it, end the process.
func TestPoison(t *testing.T) {
	for name := range lends {
		for _, how := range []string{"read", "store"} {
			t.Run(name+", "+how, func(t *testing.T) {
				c := startChild(t, "misuse", newPath(t), name, how)
				require.Equal(t, "value", c.line())
				require.NotContains(t, c.rest(), "value", "the child went on")
				require.Error(t, c.cmd.Wait())
				require.Equal(t, 2, c.cmd.ProcessState.ExitCode(), "a fault")
			})
		}
	}
}

// TestPoisonLendsTheValues runs ordinary reads with Debug.Poison.
func TestPoisonLendsTheValues(t *testing.T) {
	db := newMap(t, &mapfile.Options{Debug: mapfile.DebugOptions{Poison: true, Callers: true}, Sync: mapfile.SyncNever})
	want := map[string]string{}
	putRange(t, db, want, 0, 300)
	require.NoError(t, db.Put(nil, bytes.Repeat([]byte("large"), 5000)))
	want[""] = string(bytes.Repeat([]byte("large"), 5000))
	require.NoError(t, db.View(func(tx *mapfile.Tx) error { requireScans(t, tx, want); return nil }))
	for k, v := range want {
		require.NoError(t, db.GetFunc([]byte(k), func(got []byte) error { require.Equal(t, v, string(got)); return nil }))
	}
}

// TestEverythingInsideCallbacks runs every call of the map but Close inside callbacks.
func TestEverythingInsideCallbacks(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	k := []byte("k")
	all := func(t *testing.T) {
		require.NoError(t, db.Put(k, []byte("v")))
		_, err := db.Get(k)
		require.NoError(t, err)
		_, err = db.AppendGet(nil, k)
		require.NoError(t, err)
		_, err = db.Has(k)
		require.NoError(t, err)
		require.NoError(t, db.GetFunc(k, func([]byte) error { return nil }))
		require.NoError(t, db.GetMany([][]byte{k}, func(int, []byte, error) error { return nil }))
		require.NoError(t, db.View(func(tx *mapfile.Tx) error {
			for range tx.All() {
				break
			}
			return tx.Err()
		}))
		require.NoError(t, db.Update(func(tx *mapfile.Tx) error { return tx.Put(k, nil) }))
		_, _, err = db.GetOrPut(k, nil)
		require.NoError(t, err)
		_, _, err = db.Swap(k, nil)
		require.NoError(t, err)
		_, err = db.CompareAndSwap(k, nil, nil)
		require.NoError(t, err)
		_, err = db.CompareAndDelete(k, nil)
		require.NoError(t, err)
		_, _, err = db.GetAndDelete(k)
		require.NoError(t, err)
		_, err = db.Add([]byte("n"), 1)
		require.NoError(t, err)
		require.NoError(t, db.Modify(k, func([]byte, bool) ([]byte, bool, error) { return nil, true, nil }))
		require.NoError(t, db.Delete(k))
		require.NoError(t, db.Sync())
		require.NoError(t, db.Checkpoint())
		require.NoError(t, db.Compact(t.Context()))
		require.NoError(t, db.Clear())
		require.NotZero(t, db.Stats().Readers)
		require.Zero(t, db.Len())
		require.NoError(t, db.Put(k, []byte("v")))
	}
	require.NoError(t, db.Put(k, []byte("v")))
	for name, run := range map[string]func(f func()) error{
		"GetFunc": func(f func()) error { return db.GetFunc(k, func([]byte) error { f(); return nil }) },
		"GetMany": func(f func()) error {
			return db.GetMany([][]byte{k}, func(int, []byte, error) error { f(); return nil })
		},
		"View": func(f func()) error { return db.View(func(*mapfile.Tx) error { f(); return nil }) },
	} {
		t.Run(name, func(t *testing.T) { require.NoError(t, run(func() { all(t) })) })
	}
}
