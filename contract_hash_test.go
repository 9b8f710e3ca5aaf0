//go:build linux || darwin || freebsd

package mapfile_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// hashAttacks choose the hash of key number i.
var hashAttacks = []struct {
	name string
	hash func(i uint64) uint64
}{
	{"all the same", func(uint64) uint64 { return 0x0123456789abcdef }},
	{"all zero", func(uint64) uint64 { return 0 }},
	{"all one", func(uint64) uint64 { return ^uint64(0) }},
	{"low bits constant", func(i uint64) uint64 { return i << 48 }},
	{"high bits constant", func(i uint64) uint64 { return i }},
	{"middle bits only", func(i uint64) uint64 { return i << 24 }},
	{"groups of 128", func(i uint64) uint64 { return (i / 128) * 0x9e3779b97f4a7c15 }},
}

// attackKeys is the number of keys of an attack.
const attackKeys = 10000

// TestHashAttacks puts, reads, overwrites and deletes keys that an attacker has chosen, and reopens in between. With
// chains of colliding keys this would take minutes.
func TestHashAttacks(t *testing.T) {
	for _, a := range hashAttacks {
		t.Run(a.name, func(t *testing.T) {
			keys := make([][]byte, attackKeys)
			for i := range keys {
				keys[i] = mapfile.KeyWithHash(uint64(i), a.hash(uint64(i)))
				require.Equal(t, a.hash(uint64(i)), xxhash.Sum64(keys[i]))
			}
			begin := time.Now()
			path := attack(t, keys)
			require.Less(t, time.Since(begin), 10*time.Second, "%d keys", len(keys))
			db := openTest(t, path, nil)
			require.Less(t, db.Stats().IndexPages, uint64(2000), "the index has a size in the keys")
			require.NoError(t, db.Close())
		})
	}
}

// attack runs the operations and gives the path of the closed map.
func attack(t *testing.T, keys [][]byte) string {
	o := &mapfile.Options{Sync: mapfile.SyncNever}
	db := openTest(t, newPath(t), o)
	want := map[string]string{}
	put := func(i int, v string) {
		want[string(keys[i])] = v
		require.NoError(t, db.Put(keys[i], []byte(v)))
	}
	for i := range keys {
		put(i, fmt.Sprint("first ", i))
	}
	requireMap(t, db, want)
	copied := crashed(t, db)
	require.NoError(t, db.Close())
	db = openTest(t, copied, o)
	requireMap(t, db, want)
	for i := range keys {
		switch i % 3 {
		case 0:
			delete(want, string(keys[i]))
			require.NoError(t, db.Delete(keys[i]))
		case 1:
			put(i, fmt.Sprint("second ", i))
		}
	}
	require.NoError(t, db.GetMany(keys, func(i int, v []byte, err error) error {
		w, ok := want[string(keys[i])]
		if ok != (err == nil) || string(v) != w {
			return fmt.Errorf("key %d is %q, %v; want %q", i, v, err, w)
		}
		return nil
	}))
	require.NoError(t, db.Close())
	db = openTest(t, copied, o)
	requireMap(t, db, want)
	require.NoError(t, db.Close())
	return copied
}
