//go:build linux || darwin || freebsd

package mapfile_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// TestGetManyCounts: whatever the number of keys, each is answered once, in order, with its own value or error. Groups are 32 keys, three of them
// under way at a time.
func TestGetManyCounts(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	key := func(i int) []byte { return fmt.Appendf(nil, "key %d", i) }
	for i := range 300 {
		if i%3 != 0 {
			require.NoError(t, db.Put(key(i), fmt.Appendf(nil, "value %d", i)))
		}
	}
	for _, n := range []int{0, 1, 31, 32, 33, 63, 64, 65, 95, 96, 97, 129, 300} {
		keys := make([][]byte, n)
		for i := range keys {
			if keys[i] = key(i); i%10 == 7 {
				keys[i] = tooLargeKey
			}
		}
		next := 0
		err := db.GetMany(keys, func(i int, v []byte, err error) error {
			require.Equal(t, next, i)
			next++
			if i%3 == 0 || i%10 == 7 {
				require.ErrorIs(t, err, mapfile.ErrNotFound, "key %d of %d", i, n)
				require.Nil(t, v)
				return nil
			}
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("value %d", i), string(v), "key %d of %d", i, n)
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, n, next)
	}
}

// TestGetManyInside: the callback stops it, and may change the map; the moment stays the one of the call.
func TestGetManyInside(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	var keys [][]byte
	for i := range 200 {
		keys = append(keys, fmt.Appendf(nil, "key %d", i))
		require.NoError(t, db.Put(keys[i], []byte("old")))
	}
	enough, calls := errors.New("enough"), 0
	require.Equal(t, enough, db.GetMany(keys, func(i int, _ []byte, _ error) error {
		if calls++; i == 70 {
			return enough
		}
		return nil
	}))
	require.Equal(t, 71, calls)
	for name, change := range map[string]func(){
		"Put":    func() { require.NoError(t, db.Put(keys[100], []byte("new"))) },
		"Delete": func() { require.NoError(t, db.Delete(keys[150])) },
		"split": func() {
			for i := range 20_000 {
				require.NoError(t, db.Put(fmt.Appendf(nil, "other %d", i), []byte("new")))
			}
		},
		"Checkpoint": func() { require.NoError(t, db.Checkpoint()) },
		"Clear":      func() { require.NoError(t, db.Clear()) },
	} {
		for _, when := range []int{0, 1, 31, 32, 33, 64, 199} {
			for _, k := range keys {
				require.NoError(t, db.Put(k, []byte("old")))
			}
			require.NoError(t, db.GetMany(keys, func(i int, v []byte, err error) error {
				require.NoError(t, err, "%s at %d: key %d", name, when, i)
				require.Equal(t, "old", string(v), "%s at %d: key %d", name, when, i)
				if i == when {
					change()
				}
				return nil
			}))
		}
	}
}
