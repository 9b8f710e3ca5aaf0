//go:build linux || darwin || freebsd

package mapfile_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// TestReplayAhead: replay looks 64 records ahead. Whatever stands at the edges of these groups, the map opens as it was when its process died.
func TestReplayAhead(t *testing.T) {
	for _, n := range []int{1, 63, 64, 65, 127, 128, 129, 200} {
		for _, clear := range []int{-1, 0, 62, 63, 64, 65, 128} {
			if clear < n {
				t.Run(fmt.Sprintf("%d records, clear at %d", n, clear), func(t *testing.T) { replayAhead(t, n, clear) })
			}
		}
	}
}

func replayAhead(t *testing.T, n, clear int) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	want := map[string]string{}
	put := func(k, v string) {
		require.NoError(t, db.Put([]byte(k), []byte(v)))
		want[k] = v
	}
	for i := range 50 {
		put(fmt.Sprint("key ", i), "before the checkpoint")
	}
	require.NoError(t, db.Checkpoint())
	for i := range n {
		k := fmt.Sprint("key ", i%80)
		switch {
		case i == clear:
			require.NoError(t, db.Clear())
			want = map[string]string{}
		case i%7 == 3:
			require.NoError(t, db.Delete([]byte(k)))
			delete(want, k)
		default:
			put(k, fmt.Sprint("record ", i))
		}
	}
	failed := errors.New("taken back")
	require.Equal(t, failed, db.BulkLoad(noContext, func(put func(key, value []byte) error) error {
		for i := range n {
			require.NoError(t, put(fmt.Appendf(nil, "key %d", i), []byte("loaded")))
		}
		return failed
	}))
	put("last", "one")
	path := crashed(t, db)
	for _, readOnly := range []bool{true, false} {
		again := openTest(t, path, &mapfile.Options{ReadOnly: readOnly})
		got := map[string]string{}
		require.NoError(t, again.View(func(tx *mapfile.Tx) error {
			for k, v := range tx.All() {
				got[string(k)] = string(v)
			}
			return tx.Err()
		}))
		require.Equal(t, want, got, "read-only %v", readOnly)
		require.EqualValues(t, len(want), again.Len())
		require.NotZero(t, again.Stats().Recovery.Records)
		require.NoError(t, again.Close())
	}
}
