package mapfile_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

func openTest(t testing.TB, path string, o *mapfile.Options) *mapfile.DB {
	t.Helper()
	db, err := mapfile.Open(path, o)
	require.NoError(t, err)
	return db
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.map")
	for _, mode := range []mapfile.SyncMode{mapfile.SyncAlways, mapfile.SyncInterval, mapfile.SyncNever} {
		t.Run(mode.String(), func(t *testing.T) {
			_ = os.Remove(path)
			db := openTest(t, path, &mapfile.Options{Sync: mode})
			n := 300
			for i := range n {
				require.NoError(t, db.Put(fmt.Appendf(nil, "key %d", i), fmt.Appendf(nil, "value %d", i)))
			}
			for i := range n {
				v, err := db.Get(fmt.Appendf(nil, "key %d", i))
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("value %d", i), string(v))
			}
			require.NoError(t, db.Delete([]byte("key 7")))
			require.EqualValues(t, n-1, db.Len())
			require.NoError(t, db.Close())
			info, err := os.Stat(path)
			require.NoError(t, err)
			t.Log("size", info.Size())
			db = openTest(t, path, nil)
			require.EqualValues(t, n-1, db.Len())
			for i := range n {
				v, err := db.Get(fmt.Appendf(nil, "key %d", i))
				if i == 7 {
					require.Equal(t, mapfile.ErrNotFound, err)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("value %d", i), string(v))
			}
			require.NoError(t, db.Close())
		})
	}
}

// TestModel runs random operations against a Go map, with checkpoints and reopening.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "model.map")
	model := map[string]string{}
	o := &mapfile.Options{Sync: mapfile.SyncNever}
	db := openTest(t, path, o)
	key := func() []byte { return fmt.Appendf(nil, "k%d", r.IntN(20000)) }
	for i := range 300000 {
		k := key()
		switch x := r.IntN(100); {
		case x < 55:
			v := make([]byte, r.IntN(200))
			for i := range v {
				v[i] = byte(r.Uint32())
			}
			require.NoError(t, db.Put(k, v))
			model[string(k)] = string(v)
		case x < 75:
			require.NoError(t, db.Delete(k))
			delete(model, string(k))
		case x < 99:
			v, err := db.Get(k)
			want, ok := model[string(k)]
			if !ok {
				require.Equal(t, mapfile.ErrNotFound, err)
			} else {
				require.NoError(t, err)
				require.Equal(t, want, string(v))
			}
		}
		require.EqualValues(t, len(model), db.Len())
		if i%20000 == 19999 {
			require.NoError(t, db.Checkpoint())
		}
		if i%75000 == 74999 {
			require.NoError(t, db.Close())
			db = openTest(t, path, o)
		}
	}
	seen := 0
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for k, v := range tx.All() {
			require.Equal(t, model[string(k)], string(v))
			seen++
		}
		return tx.Err()
	}))
	require.Equal(t, len(model), seen)
	t.Logf("%+v", db.Stats())
	require.NoError(t, db.Close())
}
