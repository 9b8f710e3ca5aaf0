//go:build linux || darwin || freebsd

package mapfile_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// collected is what a loop yields; a key that comes twice is an error.
func collected(t testing.TB, all func(yield func(key, value []byte) bool)) map[string]string {
	t.Helper()
	got := map[string]string{}
	for k, v := range all {
		_, twice := got[string(k)]
		require.False(t, twice, "%q comes twice", k)
		got[string(k)] = string(v)
	}
	return got
}

// TestScansSeeOneMoment takes snapshots of a map that is written, cleared, checkpointed and compacted all the time, and reads
// each of them to the end, much later, in every way: the whole in the order of the file, cut in ranges, by keys, and in pieces
// with a token between them.
func TestScansSeeOneMoment(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	model := map[string]string{}
	type moment struct {
		tx    *mapfile.Tx
		model map[string]string
	}
	var open []moment
	for i := range 8000 {
		k := fmt.Sprintf("key %d", r.IntN(1500))
		switch x := r.IntN(1000); {
		case x < 600:
			v := strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(300))
			require.NoError(t, db.Put([]byte(k), []byte(v)))
			model[k] = v
		case x < 700: // one hot key: long chains of versions
			v := fmt.Sprint(i)
			require.NoError(t, db.Put([]byte("hot"), []byte(v)))
			model["hot"] = v
		case x < 990:
			require.NoError(t, db.Delete([]byte(k)))
			delete(model, k)
		case x < 992:
			require.NoError(t, db.Compact(t.Context()))
		case x < 994:
			require.NoError(t, db.Checkpoint())
		case x == 994:
			require.NoError(t, db.Clear())
			model = map[string]string{}
		case x < 997 || len(open) == 0:
			open = append(open, moment{beginTx(t, db, &mapfile.TxOptions{ReadOnly: true}), maps.Clone(model)})
		default:
			n := r.IntN(len(open))
			m := open[n]
			requireScans(t, m.tx, m.model)
			require.NoError(t, m.tx.Rollback())
			open = append(open[:n], open[n+1:]...)
		}
	}
	for _, m := range open {
		requireScans(t, m.tx, m.model)
		require.NoError(t, m.tx.Rollback())
	}
}

// requireScans reads a transaction in every way.
func requireScans(t testing.TB, tx *mapfile.Tx, want map[string]string) {
	t.Helper()
	require.EqualValues(t, len(want), tx.Len())
	requireSame(t, want, collected(t, tx.All()), tx.Err())
	keys, values := 0, 0
	for k := range tx.Keys() {
		if _, there := want[string(k)]; there {
			keys++
		}
	}
	for range tx.Values() {
		values++
	}
	require.NoError(t, tx.Err())
	require.Equal(t, []int{len(want), len(want)}, []int{keys, values})
	for _, n := range []int{1, 3} {
		got := map[string]string{}
		for _, part := range (mapfile.Range{}).Split(n) {
			for k, v := range collected(t, tx.Scan(part).All()) {
				_, twice := got[k]
				require.False(t, twice, "%q is in two parts", k)
				got[k] = v
			}
		}
		requireSame(t, want, got, tx.Err())
	}
	requireSame(t, want, pieces(t, mapfile.Range{}, 7, func() (*mapfile.Tx, func()) { return tx, func() {} }), tx.Err())
}

// requireSame compares what a scan showed, with a short message.
func requireSame(t testing.TB, want, got map[string]string, err error) {
	t.Helper()
	require.NoError(t, err)
	require.True(t, maps.Equal(want, got), "%d entries were shown, %d are there", len(got), len(want))
}

// pieces scans a range in pieces of n entries with a token between them, each in the transaction that begin gives.
func pieces(t testing.TB, r mapfile.Range, n int, begin func() (*mapfile.Tx, func())) map[string]string {
	t.Helper()
	got := map[string]string{}
	left := r
	for more := true; more; {
		tx, end := begin()
		more = false
		scan := tx.Scan(left)
		taken := 0
		for k, v := range scan.All() {
			_, twice := got[string(k)]
			require.False(t, twice, "%q comes twice", k)
			got[string(k)] = string(v)
			if taken++; taken == n {
				more = true
				break
			}
		}
		token := scan.Token()
		end()
		var err error
		left, err = r.After(token)
		require.NoError(t, err)
	}
	require.Empty(t, collected(t, func(yield func(k, v []byte) bool) {
		tx, end := begin()
		defer end()
		tx.Scan(left).All()(yield)
	}), "nothing is left")
	return got
}

// TestTokenOutlivesItsTransaction resumes a scan in other transactions while the map splits, moves and grows: what is there all
// the time is shown once.
func TestTokenOutlivesItsTransaction(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	want := map[string]string{}
	putRange(t, db, want, 0, 3000)
	n := 3000
	got := pieces(t, mapfile.Range{}, 100, func() (*mapfile.Tx, func()) {
		for range 40 {
			require.NoError(t, db.Put(fmt.Appendf(nil, "other %d", n), nil))
			n++
		}
		require.NoError(t, db.Compact(t.Context()))
		tx := beginTx(t, db, &mapfile.TxOptions{ReadOnly: true})
		return tx, func() { require.NoError(t, tx.Rollback()) }
	})
	for k, v := range want {
		require.Equal(t, v, got[k])
	}
}

// TestScanOfOwnWrites scans read-write transactions: their own writes are shown, in their places, and those made in the loop are not.
func TestScanOfOwnWrites(t *testing.T) {
	db := newMap(t, nil)
	want := map[string]string{}
	putRange(t, db, want, 0, 500)
	require.NoError(t, db.Update(func(tx *mapfile.Tx) error {
		for i := range 300 {
			k := numbered(2 * i)
			if i%3 == 0 {
				delete(want, string(k))
				require.NoError(t, tx.Delete(k))
				continue
			}
			want[string(k)] = "mine"
			require.NoError(t, tx.Put(k, []byte("mine")))
		}
		requireScans(t, tx, want)
		for k := range tx.Scan(mapfile.Range{}).All() {
			require.NoError(t, tx.Put(append([]byte("in the loop "), k...), nil))
		}
		require.EqualValues(t, 2*len(want), tx.Len())
		return tx.Err()
	}))
}

// TestBadTokens gives bytes that are no token of the range.
func TestBadTokens(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("k"), nil))
	halves := mapfile.Range{}.Split(2)
	var token []byte
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for _, half := range halves {
			scan := tx.Scan(half)
			for range scan.All() {
				token = scan.Token()
			}
		}
		return tx.Err()
	}))
	require.NotNil(t, token)
	in := 0
	for _, half := range halves {
		if _, err := half.After(token); err == nil {
			in++
		} else {
			require.ErrorIs(t, err, mapfile.ErrToken)
		}
	}
	require.Equal(t, 1, in, "a token is of one half")
	for _, b := range [][]byte{nil, {}, token[:16], append(token[:16:16], 0, 0), append([]byte{2}, token[1:]...)} {
		_, err := mapfile.Range{}.After(b)
		require.ErrorIs(t, err, mapfile.ErrToken)
	}
}

// TestScansBesideWriters counts, in snapshots beside writers, splits and compaction, tokens that writers move between
// keys: no snapshot may see one twice or miss one.
func TestScansBesideWriters(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	const tokens, keys = 50, 4000
	for i := range tokens {
		require.NoError(t, db.Put(fmt.Appendf(nil, "place %d", i*keys/tokens), []byte("token")))
	}
	var writers, upkeep sync.WaitGroup
	stop := make(chan struct{})
	writers.Go(func() {
		r := rand.New(rand.NewPCG(1, 2))
		for range 4000 {
			from, to := fmt.Appendf(nil, "place %d", r.IntN(keys)), fmt.Appendf(nil, "place %d", r.IntN(keys))
			err := db.Update(func(tx *mapfile.Tx) error {
				if a, _ := tx.Has(from); !a {
					return tx.Put(fmt.Appendf(nil, "fill %d", r.IntN(100000)), make([]byte, 200))
				}
				if b, err := tx.Has(to); b {
					return err
				}
				if err := tx.Delete(from); err != nil {
					return err
				}
				return tx.Put(to, []byte("token"))
			})
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	upkeep.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := db.Compact(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		require.NoError(t, db.View(func(tx *mapfile.Tx) error {
			n := 0
			for k := range tx.Keys() {
				if strings.HasPrefix(string(k), "place ") {
					n++
				}
			}
			require.NoError(t, tx.Err())
			require.Equal(t, tokens, n)
			n = 0
			for k := range tx.Scan(mapfile.Range{}).All() {
				if strings.HasPrefix(string(k), "place ") {
					n++
				}
			}
			require.Equal(t, tokens, n)
			return tx.Err()
		}))
	}
	close(stop)
	upkeep.Wait()
}

// TestTokenOfNothingShown: the token of a scan that has shown nothing yet stands at its begin, of the whole order of hashes and of each part.
func TestTokenOfNothingShown(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	const keys = 100
	for i := range keys {
		require.NoError(t, db.Put(fmt.Append(nil, i), nil))
	}
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for n := range 4 {
			seen := 0
			for _, part := range (mapfile.Range{}).Split(n) {
				left, err := part.After(tx.Scan(part).Token())
				require.NoError(t, err)
				require.Equal(t, part, left)
				for range tx.Scan(left).All() {
					seen++
				}
			}
			require.Equal(t, keys, seen, "%d parts", n)
		}
		return tx.Err()
	}))
}
