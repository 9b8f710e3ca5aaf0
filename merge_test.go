package mapfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

func mergeKey(i int) []byte {
	return binary.BigEndian.AppendUint64([]byte("a key of"), uint64(i)*0x9E3779B97F4A7C15)
}

func mergeMap(t *testing.T) *DB {
	t.Helper()
	o := Options{Sync: SyncNever}
	db, err := open(filepath.Join(t.TempDir(), "m"), o.withDefaults(), internals{disk: pager.OS(), geometry: pager.DefaultGeometry(), memory: pager.MemoryLimit})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// fill sets keys 0 to n-1, and deletes all but one of so many again.
func fill(t *testing.T, db *DB, n, keep int) {
	t.Helper()
	for i := range n {
		require.NoError(t, db.Put(mergeKey(i), fmt.Append(nil, i)))
	}
	for i := range n {
		if i%keep != keep-1 {
			require.NoError(t, db.Delete(mergeKey(i)))
		}
	}
}

// TestCompactShrinksTheIndex: when nine keys of ten are deleted, or all, Compact leaves an index and tombstones as in a map that never had
// more.
func TestCompactShrinksTheIndex(t *testing.T) {
	for _, row := range []struct {
		name    string
		n, keep int
	}{
		{"one of ten stays", 40_000, 10},
		{"nothing stays", 40_000, 40_001},
		{"nothing stays of a log of one segment", 400, 401},
	} {
		t.Run(row.name, func(t *testing.T) {
			db, fresh := mergeMap(t), mergeMap(t)
			fill(t, db, row.n, row.keep)
			for i := row.keep - 1; i < row.n; i += row.keep {
				require.NoError(t, fresh.Put(mergeKey(i), fmt.Append(nil, i)))
			}
			full := db.Stats().IndexPages
			require.NoError(t, db.Compact(t.Context()))
			st := db.Stats()
			t.Logf("%d index pages when full, %d now, %d in a fresh map; %d tombstones", full, st.IndexPages, fresh.Stats().IndexPages, st.Tombstones)
			require.LessOrEqual(t, st.IndexPages, fresh.Stats().IndexPages*3/2)
			require.LessOrEqual(t, st.Tombstones, st.Keys/leastKeys)
			require.EqualValues(t, row.n/row.keep, st.Keys)
			for i := range row.n {
				has, err := db.Has(mergeKey(i))
				require.NoError(t, err)
				require.Equal(t, i%row.keep == row.keep-1, has)
			}
		})
	}
}

// TestTombstonesStayForOldReaders: what a snapshot sees that is older than a deletion is there until it ends; snapshots that begin later do
// not keep tombstones.
func TestTombstonesStayForOldReaders(t *testing.T) {
	db := mergeMap(t)
	const n = 3000
	for i := range n {
		require.NoError(t, db.Put(mergeKey(i), fmt.Append(nil, i)))
	}
	old, err := db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
	require.NoError(t, err)
	for i := range n {
		require.NoError(t, db.Delete(mergeKey(i)))
	}
	require.NoError(t, db.Compact(t.Context()))
	require.EqualValues(t, n, db.Stats().Tombstones)
	young, err := db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
	require.NoError(t, err)
	for i := range n {
		v, err := old.Get(mergeKey(i))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(v))
	}
	require.NoError(t, old.Rollback())
	require.NoError(t, db.Compact(t.Context()))
	require.Less(t, db.Stats().Tombstones, uint64(n/8), "some share a segment with the DROPs of others, which waits for what the reader keeps")
	for range young.All() {
		require.Fail(t, "there is nothing")
	}
	require.NoError(t, young.Err())
	require.NoError(t, young.Rollback())
	require.NoError(t, db.Compact(t.Context()))
	require.Zero(t, db.Stats().Tombstones)
	require.EqualValues(t, 2, db.Stats().IndexPages)
}

// TestFoundScanBesideMerges: a scan in the order of hashes, and a token of one, go on rightly where buckets were joined behind them, and in
// front of them.
func TestFoundScanBesideMerges(t *testing.T) {
	const n, keep = 40_000, 12
	for _, stop := range []int{1, 700, 1500, 2600} {
		t.Run(fmt.Sprintf("%d shown", stop), func(t *testing.T) {
			db := mergeMap(t)
			fill(t, db, n, keep)
			db.checkpointMu.Lock()
			require.NoError(t, db.compact(t.Context(), 0, 0))
			db.checkpointMu.Unlock()
			require.NoError(t, db.Put(mergeKey(keep-1), []byte("the root is of this epoch"))) // so that the scan's root changes beneath it
			merge := func() {
				before := db.s.Index.Pages()
				db.checkpointMu.Lock()
				defer db.checkpointMu.Unlock()
				require.NoError(t, db.mergeIndex(t.Context(), func() {}))
				require.Less(t, db.s.Index.Pages(), before/2)
			}
			tx, err := db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }() // a failure must not leave Close waiting
			other, err := db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
			require.NoError(t, err)
			defer func() { _ = other.Rollback() }() // a failure must not leave Close waiting
			seen := map[string]bool{}
			take := func(key []byte) {
				require.False(t, seen[string(key)], "%x comes twice", key)
				seen[string(key)] = true
			}
			half := other.Scan(Range{})
			for range half.All() {
				if len(seen)+1 == stop {
					break
				}
				seen[fmt.Sprint("half", len(seen))] = true
			}
			token := half.Token()
			clear(seen)
			scan := tx.Scan(Range{})
			for key := range scan.All() {
				if take(key); len(seen) == stop {
					merge()
				}
			}
			require.NoError(t, tx.Err())
			require.Len(t, seen, n/keep)
			require.NoError(t, tx.Rollback())
			require.NoError(t, other.Rollback())
			later, err := db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
			require.NoError(t, err)
			defer func() { _ = later.Rollback() }() // a failure must not leave Close waiting
			rest, err := Range{}.After(token)
			require.NoError(t, err)
			clear(seen)
			scan = later.Scan(rest)
			for key := range scan.All() {
				take(key)
			}
			require.NoError(t, later.Err())
			require.Len(t, seen, n/keep-stop, "behind the token")
			require.NoError(t, later.Rollback())
		})
	}
}

// TestReadersBesideMerges: who reads while buckets split and are joined misses nothing that is there, and finds nothing that is not.
func TestReadersBesideMerges(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	db := mergeMap(t)
	const n, keep = 6_000, 20
	fill(t, db, n, keep) // those that are kept stay, the others come and go
	var stop atomic.Bool
	var readers sync.WaitGroup
	for r := range 3 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(r)))
			for !stop.Load() {
				i := rng.IntN(n)
				there := i%keep == keep-1
				var got string
				err := db.GetFunc(mergeKey(i), func(v []byte) error { got = string(v); return nil })
				if r == 0 {
					var v []byte
					v, err = db.Get(mergeKey(i))
					got = string(v)
				}
				if err == nil && got != fmt.Sprint(i) || there && err != nil || err != nil && !errors.Is(err, ErrNotFound) {
					t.Errorf("key %d: %q, %v", i, got, err)
					return
				}
			}
		})
	}
	readers.Go(func() {
		for !stop.Load() {
			seen := map[string]int{}
			tx, err := db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
			if err != nil {
				t.Error(err)
				return
			}
			scan := tx.Scan(Range{})
			for key := range scan.All() {
				seen[string(key)]++
			}
			if tx.Err() != nil || uint64(len(seen)) != tx.Len() {
				t.Errorf("%d keys, want %d: %v", len(seen), tx.Len(), tx.Err())
			}
			for i := keep - 1; i < n; i += keep {
				if seen[string(mergeKey(i))] != 1 {
					t.Errorf("key %d comes %d times", i, seen[string(mergeKey(i))])
				}
			}
			if err := tx.Rollback(); err != nil {
				t.Error(err)
			}
		}
	})
	least, most := ^uint64(0), uint64(0)
	for range 3 {
		require.NoError(t, db.Compact(t.Context()))
		least = min(least, db.Stats().IndexPages)
		for i := range n {
			if i%keep != keep-1 {
				require.NoError(t, db.Put(mergeKey(i), fmt.Append(nil, i)))
			}
		}
		most = max(most, db.Stats().IndexPages)
		for i := range n {
			if i%keep != keep-1 {
				require.NoError(t, db.Delete(mergeKey(i)))
			}
		}
	}
	stop.Store(true)
	readers.Wait()
	require.Less(t, least, most/2)
}

// TestMergeSparse: an index that is much too large is merged, and not again before it has lost more.
func TestMergeSparse(t *testing.T) {
	db := mergeMap(t)
	fill(t, db, 20_000, 20)
	db.checkpointMu.Lock()
	defer db.checkpointMu.Unlock()
	require.NoError(t, db.compact(t.Context(), 0, 0))
	before := db.s.Index.Pages()
	require.NoError(t, db.mergeSparse(t.Context(), func() {}))
	merged := db.s.Index.Pages()
	require.Less(t, merged, before/2)
	checkpoints := db.counters.checkpoints.Load()
	require.NoError(t, db.mergeSparse(t.Context(), func() {}))
	require.Equal(t, checkpoints, db.counters.checkpoints.Load(), "there was nothing to do")
}

// TestUpkeepShrinksTheIndex: a map from which most was deleted has a small index soon, without a call.
func TestUpkeepShrinksTheIndex(t *testing.T) {
	db := newKept(t, Options{})
	fill(t, db, 20_000, 20)
	require.Eventually(t, func() bool { st := db.Stats(); return st.IndexPages < 20 && st.Tombstones < 3000 }, 30*time.Second, 10*time.Millisecond)
	for i := 19; i < 20_000; i += 20 {
		v, err := db.Get(mergeKey(i))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(v))
	}
}
