//go:build linux || darwin || freebsd

package mapfile_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// TestAtomicOperations runs each operation on a key that has a value, an empty one, or none, and compares what it answers and
// what is there afterwards.
func TestAtomicOperations(t *testing.T) {
	db := newMap(t, nil)
	type answer struct {
		value string
		ok    bool
	}
	of := func(value []byte, ok bool, err error) (answer, error) { return answer{string(value), ok}, err }
	only := func(ok bool, err error) (answer, error) { return answer{ok: ok}, err }
	none := "\x00none"
	key := []byte("k")
	rows := []struct {
		name     string
		before   string
		call     func() (answer, error)
		want     answer
		after    string
		appended bool
	}{
		{"GetOrPut of a missing key", none, func() (answer, error) { return of(db.GetOrPut(key, []byte("v"))) }, answer{"v", false}, "v", true},
		{"GetOrPut of a key", "w", func() (answer, error) { return of(db.GetOrPut(key, []byte("v"))) }, answer{"w", true}, "w", false},
		{"GetOrPut of an empty value", "", func() (answer, error) { return of(db.GetOrPut(key, []byte("v"))) }, answer{"", true}, "", false},
		{"GetAndDelete of a missing key", none, func() (answer, error) { return of(db.GetAndDelete(key)) }, answer{"", false}, none, false},
		{"GetAndDelete of a key", "w", func() (answer, error) { return of(db.GetAndDelete(key)) }, answer{"w", true}, none, true},
		{"Swap of a missing key", none, func() (answer, error) { return of(db.Swap(key, []byte("v"))) }, answer{"", false}, "v", true},
		{"Swap of a key", "w", func() (answer, error) { return of(db.Swap(key, []byte("v"))) }, answer{"w", true}, "v", true},
		{"CompareAndSwap that matches", "w", func() (answer, error) { return only(db.CompareAndSwap(key, []byte("w"), []byte("v"))) }, answer{ok: true}, "v", true},
		{"CompareAndSwap of another value", "x", func() (answer, error) { return only(db.CompareAndSwap(key, []byte("w"), []byte("v"))) }, answer{}, "x", false},
		{"CompareAndSwap of an empty value", "", func() (answer, error) { return only(db.CompareAndSwap(key, nil, []byte("v"))) }, answer{ok: true}, "v", true},
		{"CompareAndSwap of a missing key, old empty", none, func() (answer, error) { return only(db.CompareAndSwap(key, nil, []byte("v"))) }, answer{}, none, false},
		{"CompareAndDelete that matches", "w", func() (answer, error) { return only(db.CompareAndDelete(key, []byte("w"))) }, answer{ok: true}, none, true},
		{"CompareAndDelete of another value", "x", func() (answer, error) { return only(db.CompareAndDelete(key, []byte("w"))) }, answer{}, "x", false},
		{"CompareAndDelete of a missing key, old empty", none, func() (answer, error) { return only(db.CompareAndDelete(key, nil)) }, answer{}, none, false},
		{"Modify that keeps", "w", func() (answer, error) {
			return answer{}, db.Modify(key, func(old []byte, ok bool) ([]byte, bool, error) { return append(old, '!'), ok, nil })
		}, answer{}, "w!", true},
		{"Modify that keeps a part of old", "word", func() (answer, error) {
			return answer{}, db.Modify(key, func(old []byte, ok bool) ([]byte, bool, error) { return old[1:3], true, nil })
		}, answer{}, "or", true},
		{"Modify that deletes", "w", func() (answer, error) {
			return answer{}, db.Modify(key, func([]byte, bool) ([]byte, bool, error) { return nil, false, nil })
		}, answer{}, none, true},
		{"Modify of a missing key", none, func() (answer, error) {
			return answer{}, db.Modify(key, func(old []byte, ok bool) ([]byte, bool, error) { return []byte("new"), !ok && old == nil, nil })
		}, answer{}, "new", true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			require.NoError(t, db.Delete(key))
			if row.before != none {
				require.NoError(t, db.Put(key, []byte(row.before)))
			}
			was := db.Stats().Sequence
			got, err := row.call()
			require.NoError(t, err)
			require.Equal(t, row.want, got)
			require.Equal(t, row.appended, db.Stats().Sequence != was, "appended something")
			if row.after == none {
				_, err := db.Get(key)
				require.ErrorIs(t, err, mapfile.ErrNotFound)
			} else {
				requireValue(t, db, key, []byte(row.after))
			}
			st := db.Stats()
			require.Equal(t, st.Appended, st.Durable, "SyncAlways: what it saw is durable")
		})
	}
}

// TestModifyErrors returns errors and panics from Modify: nothing has changed, and the turn is free.
func TestModifyErrors(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("k"), []byte("v")))
	mine := errors.New("the caller's own")
	require.True(t, mine == db.Modify([]byte("k"), func([]byte, bool) ([]byte, bool, error) { return nil, false, mine }))
	require.PanicsWithValue(t, "mine", func() {
		_ = db.Modify([]byte("k"), func([]byte, bool) ([]byte, bool, error) { panic("mine") })
	})
	requireNames(t, db.Modify([]byte("k"), func(old []byte, _ bool) ([]byte, bool, error) { old[0] = 'X'; return nil, false, nil }), db.Path())
	requireValue(t, db, []byte("k"), []byte("v"))
	require.NoError(t, db.Put([]byte("other"), nil), "the map has not failed")
}

// TestAtomicTooLarge gives keys and values that are too large.
func TestAtomicTooLarge(t *testing.T) {
	db := newMap(t, nil)
	_, _, err := db.GetOrPut(tooLargeKey, nil)
	require.ErrorIs(t, err, mapfile.ErrKeyTooLarge)
	_, _, err = db.Swap(tooLargeKey, nil)
	require.ErrorIs(t, err, mapfile.ErrKeyTooLarge)
	_, err = db.Add(tooLargeKey, 1)
	require.ErrorIs(t, err, mapfile.ErrKeyTooLarge)
	require.ErrorIs(t, db.Modify(tooLargeKey, nil), mapfile.ErrKeyTooLarge)
	_, loaded, err := db.GetAndDelete(tooLargeKey)
	require.NoError(t, err)
	require.False(t, loaded)
	for _, call := range []func() (bool, error){
		func() (bool, error) { return db.CompareAndSwap(tooLargeKey, nil, nil) },
		func() (bool, error) { return db.CompareAndDelete(tooLargeKey, nil) },
	} {
		ok, err := call()
		require.NoError(t, err)
		require.False(t, ok)
	}
}

// TestAdd counts, over the ends of int64, and over values that are no counters.
func TestAdd(t *testing.T) {
	db := newMap(t, nil)
	counter := func(n int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }
	rows := []struct {
		name   string
		before []byte
		delta  int64
		want   int64
		err    error
	}{
		{"a missing key", nil, 5, 5, nil},
		{"zero to a missing key", nil, 0, 0, nil},
		{"a number", counter(40), 2, 42, nil},
		{"a negative one", counter(1), -3, -2, nil},
		{"up to the largest", counter(math.MaxInt64 - 1), 1, math.MaxInt64, nil},
		{"beyond the largest", counter(math.MaxInt64), 1, 0, mapfile.ErrOverflow},
		{"down to the smallest", counter(math.MinInt64 + 1), -1, math.MinInt64, nil},
		{"beyond the smallest", counter(math.MinInt64), -1, 0, mapfile.ErrOverflow},
		{"the smallest to the smallest", counter(math.MinInt64), math.MinInt64, 0, mapfile.ErrOverflow},
		{"seven bytes", make([]byte, 7), 1, 0, mapfile.ErrNotCounter},
		{"nine bytes", make([]byte, 9), 1, 0, mapfile.ErrNotCounter},
		{"no bytes", []byte{}, 1, 0, mapfile.ErrNotCounter},
	}
	key := []byte("n")
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			require.NoError(t, db.Delete(key))
			if row.before != nil {
				require.NoError(t, db.Put(key, row.before))
			}
			got, err := db.Add(key, row.delta)
			require.ErrorIs(t, err, row.err)
			require.Equal(t, row.want, got)
			if err != nil {
				requireNames(t, err, db.Path())
				requireValue(t, db, key, row.before)
			} else {
				requireValue(t, db, key, counter(row.want))
			}
		})
	}
	t.Run("many goroutines", func(t *testing.T) {
		db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 500 {
					if _, err := db.Add(key, 1); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		requireValue(t, db, key, counter(4000))
	})
}

// TestClear clears maps of several sizes: nothing is there, also after a crash, after a salvage of what a crash left and after Close; older
// snapshots see what they saw; and the space comes back.
func TestClear(t *testing.T) {
	for _, n := range []int{0, 1, 600} {
		path := newPath(t)
		db := openTest(t, path, &mapfile.Options{Sync: mapfile.SyncNever})
		want := map[string]string{}
		putRange(t, db, want, 0, n)
		if n > 1 {
			require.NoError(t, db.Checkpoint())
			putRange(t, db, want, n, n+n/2)
			for i := range 130 { // some segments: few large values, for each is read many times
				k, v := fmt.Sprint("large ", i), strings.Repeat("x", 32<<10)
				want[k] = v
				require.NoError(t, db.Put([]byte(k), []byte(v)))
			}
		}
		before := beginTx(t, db, &mapfile.TxOptions{ReadOnly: true})
		require.NoError(t, db.Clear())
		require.Zero(t, db.Len())
		requireMap(t, db, map[string]string{})
		after := map[string]string{}
		putRange(t, db, after, 10, 20)
		requireScans(t, before, want)
		require.NoError(t, db.Checkpoint())
		require.NoError(t, db.Checkpoint())
		requireScans(t, before, want)
		require.NoError(t, before.Rollback())
		left := crashed(t, db)
		require.NoError(t, db.Checkpoint())
		require.NoError(t, db.Checkpoint())
		if n > 1 {
			st := db.Stats()
			require.LessOrEqual(t, st.Segments, uint64(2), "the old segments have left the log")
			require.Greater(t, st.FreeBytes, int64(1<<20), "their space can be used")
		}
		require.NoError(t, db.Close())
		for _, p := range []string{path, left} {
			db := openTest(t, p, nil)
			requireMap(t, db, after)
			require.NoError(t, db.Close())
		}
		salvaged := newPath(t)
		_, err := mapfile.Salvage(t.Context(), left, salvaged, nil)
		require.NoError(t, err)
		db = openTest(t, salvaged, nil)
		requireMap(t, db, after)
		require.NoError(t, db.Close())
		_, err = mapfile.Recover(t.Context(), left, &mapfile.RecoverOptions{RebuildIndex: true})
		require.NoError(t, err)
		db = openTest(t, left, nil)
		requireMap(t, db, after)
		require.NoError(t, db.Close())
	}
}
