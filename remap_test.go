package mapfile

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// TestRemap lets a file outgrow its reservation many times under readers with and without pins:
// no address becomes invalid under them, and the mappings that were replaced go in the end.
func TestRemap(t *testing.T) {
	g := pager.DefaultGeometry()
	g.ReserveBytes, g.CheckpointBytes, g.MaxCheckpoint = 1<<16, 4<<20, 4<<20
	o := (&Options{Sync: SyncNever}).withDefaults()
	db, err := open(filepath.Join(t.TempDir(), "a.map"), o, internals{disk: pager.OS(), geometry: g, memory: pager.MemoryLimit, background: true})
	require.NoError(t, err)
	var put atomic.Int64
	value := func(i int) []byte { return fmt.Appendf(make([]byte, 0, 400), "%400d", i) }
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for !done.Load() {
				n := int(put.Load())
				if n == 0 {
					continue
				}
				i := rand.IntN(n)
				got, err := db.Get(fmt.Appendf(nil, "key%d", i))
				if err != nil || string(got) != string(value(i)) {
					t.Errorf("key %d: %q, %v", i, got, err)
					return
				}
				err = db.GetFunc(fmt.Appendf(nil, "key%d", i), func(v []byte) error {
					if string(v) != string(value(i)) {
						return fmt.Errorf("lent %q", v)
					}
					return nil
				})
				if err != nil {
					t.Errorf("key %d: %v", i, err)
					return
				}
			}
		})
	}
	first := db.s.P.View()
	for i := range 50000 {
		require.NoError(t, db.Put(fmt.Appendf(nil, "key%d", i), value(i)))
		put.Store(int64(i + 1))
	}
	done.Store(true)
	readers.Wait()
	require.NotEqual(t, first, db.s.P.View())
	for range 3 {
		require.NoError(t, db.Put([]byte("one more"), nil))
		require.NoError(t, db.Checkpoint())
	}
	require.False(t, db.s.P.HasOldViews())
	require.NoError(t, db.Close())
}

// TestRemapUnderACallback: bytes that are lent stay where they are while the file outgrows its reservation, until the callback returns.
func TestRemapUnderACallback(t *testing.T) {
	g := pager.DefaultGeometry()
	g.ReserveBytes = 1 << 16
	o := (&Options{Sync: SyncNever}).withDefaults()
	db, err := open(filepath.Join(t.TempDir(), "a.map"), o, internals{disk: pager.OS(), geometry: g, memory: pager.MemoryLimit})
	require.NoError(t, err)
	require.NoError(t, db.Put([]byte("key"), []byte("value")))
	first := db.s.P.View()
	require.NoError(t, db.GetFunc([]byte("key"), func(v []byte) error {
		for i := range 20 {
			require.NoError(t, db.Put(fmt.Append(nil, "large", i), make([]byte, 1<<20)))
			require.NoError(t, db.Checkpoint())
		}
		require.Equal(t, "value", string(v))
		return nil
	}))
	require.NotEqual(t, first, db.s.P.View())
	require.NoError(t, db.Close())
}
