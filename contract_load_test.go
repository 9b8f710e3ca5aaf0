//go:build linux || darwin || freebsd

package mapfile_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

type putFunc = func(key, value []byte) error

var errStop = errors.New("stop")

// requireLoaded checks that a map holds exactly what is wanted, by iteration, and by Get of some of it.
func requireLoaded(t *testing.T, db *mapfile.DB, want map[string]string) {
	t.Helper()
	require.EqualValues(t, len(want), db.Len())
	got := map[string]string{}
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for k, v := range tx.All() {
			got[string(k)] = string(v)
			if x, err := db.Get(k); len(got)%16 == 0 && (err != nil || string(x) != string(v)) {
				return fmt.Errorf("Get(%q): %w", k, cmp.Or(err, errStop))
			}
		}
		return tx.Err()
	}))
	require.True(t, maps.Equal(want, got), "%d keys, want %d", len(got), len(want))
}

// loadRange puts keys from one number up to another.
func loadRange(put putFunc, want map[string]string, from, to int, value string) error {
	for i := from; i < to; i++ {
		v := fmt.Sprint(value, i)
		if err := put(numbered(i), []byte(v)); err != nil {
			return err
		}
		if want != nil {
			want[string(numbered(i))] = v
		}
	}
	return nil
}

// TestBulkLoad loads into an empty map and into a filled one, in each mode; of equal keys the last counts, and it is one commit.
func TestBulkLoad(t *testing.T) {
	for _, o := range []mapfile.Options{{Sync: mapfile.SyncNever}, {Sync: mapfile.SyncAlways}, {Sync: mapfile.SyncAlways, PadCommits: true}, {Sync: mapfile.SyncInterval}} {
		t.Run(fmt.Sprint(o.Sync, o.PadCommits), func(t *testing.T) {
			db := newMap(t, &o)
			want := map[string]string{}
			require.NoError(t, db.BulkLoad(noContext, func(put putFunc) error {
				return errors.Join(loadRange(put, want, 0, 3000, "a"), loadRange(put, want, 2000, 5000, "b"), loadRange(put, want, 2990, 3100, "c"))
			}))
			requireLoaded(t, db, want)
			require.NoError(t, db.Delete(numbered(17)))
			delete(want, string(numbered(17)))
			putRange(t, db, want, 100, 400)
			before := db.Stats().Sequence
			require.NoError(t, db.BulkLoad(noContext, func(put putFunc) error {
				large := strings.Repeat("large", 700_000)
				want["large"] = large
				return errors.Join(loadRange(put, want, 0, 20, "d"), put([]byte("large"), []byte(large)), loadRange(put, want, 4000, 9000, "e"))
			}))
			require.Equal(t, before+1, db.Stats().Sequence)
			requireLoaded(t, db, want)
			again := openTest(t, crashed(t, db), &o)
			requireLoaded(t, again, want)
			require.NoError(t, again.Close())
			requireSound(t, db)
		})
	}
}

// requireSound closes a copy of a map and checks it.
func requireSound(t *testing.T, db *mapfile.DB) {
	t.Helper()
	report, err := mapfile.Check(noContext, crashed(t, db), nil)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	require.Equal(t, db.Len(), report.Keys)
}

// TestBulkLoadFails: whatever ends a load early, nothing of it stays, the map goes on, and compaction takes its garbage.
func TestBulkLoadFails(t *testing.T) {
	canceled := func(t *testing.T) context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		return ctx
	}
	rows := []struct {
		name string
		load func(t *testing.T, db *mapfile.DB) error
		want error // exactly
	}{
		{"error of the function", func(t *testing.T, db *mapfile.DB) error {
			return db.BulkLoad(noContext, func(put putFunc) error {
				return cmp.Or(loadRange(put, nil, 500, 4000, "bad"), loadRange(put, nil, 1500, 1700, "worse"), errStop)
			})
		}, errStop},
		{"error before a put", func(t *testing.T, db *mapfile.DB) error {
			return db.BulkLoad(noContext, func(putFunc) error { return errStop })
		}, errStop},
		{"panic", func(t *testing.T, db *mapfile.DB) (err error) {
			defer func() { err, _ = recover().(error) }()
			return db.BulkLoad(noContext, func(put putFunc) error {
				require.NoError(t, loadRange(put, nil, 500, 3000, "bad"))
				panic(errStop)
			})
		}, errStop},
		{"Goexit", func(t *testing.T, db *mapfile.DB) error {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = db.BulkLoad(noContext, func(put putFunc) error {
					_ = loadRange(put, nil, 500, 3000, "bad")
					runtime.Goexit()
					return nil
				})
			}()
			<-done
			return errStop
		}, errStop},
		{"done context, put says so", func(t *testing.T, db *mapfile.DB) error {
			ctx, cancel := context.WithCancel(noContext)
			return db.BulkLoad(ctx, func(put putFunc) error {
				require.NoError(t, loadRange(put, nil, 500, 900, "bad"))
				cancel()
				require.ErrorIs(t, loadRange(put, nil, 900, 3000, "bad"), context.Canceled)
				return nil
			})
		}, context.Canceled},
		{"done context at the end", func(t *testing.T, db *mapfile.DB) error {
			ctx, cancel := context.WithCancel(noContext)
			return db.BulkLoad(ctx, func(put putFunc) error {
				defer cancel()
				return loadRange(put, nil, 500, 900, "bad")
			})
		}, context.Canceled},
		{"done context before", func(t *testing.T, db *mapfile.DB) error {
			ctx, cancel := context.WithCancel(canceled(t))
			cancel()
			err := db.BulkLoad(ctx, func(putFunc) error { return errStop })
			require.ErrorIs(t, err, context.Canceled)
			return context.Canceled
		}, context.Canceled},
	}
	for i, row := range rows {
		mode := []mapfile.SyncMode{mapfile.SyncNever, mapfile.SyncAlways}[i%2]
		t.Run(row.name, func(t *testing.T) {
			db := newMap(t, &mapfile.Options{Sync: mode})
			want := map[string]string{}
			require.NoError(t, db.BulkLoad(noContext, func(put putFunc) error { return loadRange(put, want, 0, 1000, "good") }))
			require.NoError(t, db.Delete(numbered(700)))
			delete(want, string(numbered(700)))
			for range 2 {
				require.True(t, row.load(t, db) == row.want)
				requireLoaded(t, db, want)
			}
			require.NoError(t, db.BulkLoad(noContext, func(put putFunc) error { return loadRange(put, want, 800, 2000, "better") }))
			requireLoaded(t, db, want)
			again := openTest(t, crashed(t, db), nil)
			requireLoaded(t, again, want)
			require.NoError(t, again.Close())
			requireSound(t, db)
			for range 3 { // the ABORT goes when its records have
				require.NoError(t, db.Compact(noContext))
			}
			requireLoaded(t, db, want)
			st := db.Stats()
			require.Less(t, st.GarbageBytes, st.LiveBytes/2+4096, "%+v", st)
		})
	}
}

// TestBulkLoadOneEntry: an entry that is too large is left out, and costs nothing else.
func TestBulkLoadOneEntry(t *testing.T) {
	db := newMap(t, nil)
	var kept putFunc
	require.NoError(t, db.BulkLoad(noContext, func(put putFunc) error {
		kept = put
		require.NoError(t, put(nil, nil))
		require.ErrorIs(t, put(tooLargeKey, nil), mapfile.ErrKeyTooLarge)
		return put([]byte("key"), []byte("value"))
	}))
	require.ErrorIs(t, kept([]byte("late"), nil), mapfile.ErrTxDone)
	requireLoaded(t, db, map[string]string{"": "", "key": "value"})
	before := db.Stats().Sequence
	require.NoError(t, db.BulkLoad(noContext, func(putFunc) error { return nil }))
	require.Equal(t, before, db.Stats().Sequence, "a load of nothing is no commit")
}

// TestBulkLoadRefused: what cannot be written is not loaded.
func TestBulkLoadRefused(t *testing.T) {
	db := openTest(t, newPath(t), &mapfile.Options{Debug: mapfile.DebugOptions{Callers: true}})
	require.NoError(t, db.BulkLoad(noContext, func(put putFunc) error {
		require.ErrorIs(t, db.Put([]byte("key"), nil), mapfile.ErrSelfWait)
		require.ErrorIs(t, db.BulkLoad(noContext, func(putFunc) error { return nil }), mapfile.ErrSelfWait)
		require.Contains(t, db.Stats().Writer, "contract_load_test.go")
		return nil
	}))
	require.Empty(t, db.Stats().Writer)
	require.NoError(t, db.Close())
	require.ErrorIs(t, db.BulkLoad(noContext, func(putFunc) error { return nil }), mapfile.ErrClosed)
	db = openTest(t, db.Path(), &mapfile.Options{ReadOnly: true})
	require.ErrorIs(t, db.BulkLoad(noContext, func(putFunc) error { return nil }), mapfile.ErrReadOnly)
	require.NoError(t, db.Close())
}

// TestBulkLoadBeside: readers go on during loads and see each whole or not at all, a snapshot none, and writers wait.
func TestBulkLoadBeside(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	want := map[string]string{}
	putRange(t, db, want, 0, 500)
	snapshot := beginTx(t, db, &mapfile.TxOptions{ReadOnly: true})
	defer snapshot.Rollback()
	var readers sync.WaitGroup
	var done atomic.Bool
	var reads atomic.Int64
	for range 2 {
		readers.Go(func() {
			for !done.Load() {
				require.NoError(t, db.View(func(tx *mapfile.Tx) error {
					first, err := tx.Get([]byte("first"))
					if err == mapfile.ErrNotFound {
						first, err = nil, nil
					}
					n := 0
					for v := range tx.Values() {
						if strings.HasPrefix(string(v), "round") && len(v) > 6 {
							n++
							require.Equal(t, string(first), string(v[:6]))
						}
					}
					require.Contains(t, []int{0, 4000}, n)
					return errors.Join(err, tx.Err())
				}))
				reads.Add(1)
			}
		})
	}
	for round := range 4 {
		value := fmt.Sprint("round", round)
		wrote := make(chan error, 1)
		var inside atomic.Bool
		err := db.BulkLoad(noContext, func(put putFunc) error {
			inside.Store(true)
			defer inside.Store(false)
			go func() {
				err := db.Put([]byte("beside"), nil)
				if inside.Load() {
					err = errors.New("a Put came between")
				}
				wrote <- err
			}()
			err := errors.Join(put([]byte("first"), []byte(value)), loadRange(put, nil, 300, 4300, value+" bad"), loadRange(put, nil, 300, 4300, value))
			time.Sleep(5 * time.Millisecond)
			if round%2 == 1 {
				return errStop
			}
			return err
		})
		require.Equal(t, map[bool]error{true: errStop}[round%2 == 1], err)
		require.NoError(t, <-wrote)
		requireTx(t, snapshot, want)
		if round == 2 {
			require.NoError(t, db.Compact(noContext))
		}
	}
	done.Store(true)
	readers.Wait()
	require.Positive(t, reads.Load())
	requireTx(t, snapshot, want)
}

// TestBulkLoadHeap: what a load keeps on the heap does not grow with the number of puts.
func TestBulkLoadHeap(t *testing.T) {
	const most = 4 << 20
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	require.NoError(t, db.BulkLoad(noContext, func(put putFunc) error {
		var key [8]byte
		value := make([]byte, 400)
		for i := range 200_000 {
			copy(key[:], fmt.Append(key[:0], i))
			if err := put(key[:], value); err != nil {
				return err
			}
			if i%50_000 == 49_999 {
				require.Less(t, heap(), before+most, "%d puts", i)
			}
		}
		return nil
	}))
	require.EqualValues(t, 200_000, db.Len())
}
