//go:build mapfile_debug

package mapfile

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests of this file play what it takes to see a mistake of BulkLoad, where random histories seldom come.

// unload is a load of so many keys, of values of n bytes, that is taken back.
func (h *lifeHistory) unload(prefix string, keys, n int) {
	h.t.Helper()
	err := h.db.BulkLoad(h.t.Context(), func(put func(key, value []byte) error) error {
		for i := range keys {
			require.NoError(h.t, put(fmt.Append(nil, prefix, i), make([]byte, n)))
		}
		return errUnload
	})
	require.Equal(h.t, errUnload, err)
}

// TestFoundAbortStays: an ABORT stays for as long as a scan of the log finds a record of its commit, though its segment is the first to be empty.
func TestFoundAbortStays(t *testing.T) {
	for n := range 10 {
		h := newFound(t, 1<<20, SyncNever)
		for i := range 3 {
			h.set(fmt.Sprint("key", i), strings.Repeat("v", 3000))
		}
		h.unload("gone", 12+n, 1500)
		h.set("key3", strings.Repeat("v", 14000))
		h.set("key4", strings.Repeat("v", 14000))
		for range 6 {
			if err := h.compactOne(); err != nil {
				require.ErrorIs(t, err, errKept)
				require.NoError(t, h.db.Compact(t.Context()))
			}
			h.raw()
			require.NoError(t, h.db.Checkpoint())
			h.raw()
			h.requireOn(h.disk.Kill(), h.states[0], "a load was taken back")
		}
	}
}

// TestFoundLoadFull: wherever a load meets the end of the space, it is taken back, and the map goes on.
func TestFoundLoadFull(t *testing.T) {
	for n := range 40 {
		h := newFound(t, 80<<12, SyncMode(1+n%3))
		h.set("key0", "value")
		h.set("gone0", strings.Repeat("v", 29*n))
		err := h.db.BulkLoad(t.Context(), func(put func(key, value []byte) error) error {
			for i := 0; ; i++ {
				if err := put(fmt.Append(nil, "gone", i%50), make([]byte, 40+8*(n%40))); err != nil {
					return nil // what put said counts all the same
				}
			}
		})
		require.ErrorIs(t, err, ErrFull)
		require.False(t, errors.Is(err, ErrFailed), "%d: %v", n, err)
		require.NoError(t, h.db.Delete([]byte("gone0")))
		delete(h.states[0], "gone0")
		require.Equal(t, h.brief(h.states[0]), h.brief(h.contents()))
		h.account()
		h.requireOn(h.disk.Kill(), h.states[0], fmt.Sprint("load that met the end of the space, ", n))
	}
}

// TestFoundLoad: a load is seen when it has ended, one that is taken back never, by readers, in what a kill leaves, and behind a replay.
func TestFoundLoad(t *testing.T) {
	for _, fails := range []bool{false, true} {
		for stage := range 3 {
			h := newFound(t, 1<<20, SyncNever)
			h.db.loadStage = 1 + stage
			for i := range 4 {
				h.set(fmt.Sprint("key", i), "before")
			}
			require.NoError(t, h.db.Delete([]byte("key3")))
			delete(h.states[0], "key3")
			before := h.brief(h.states[0])
			err := h.db.BulkLoad(t.Context(), func(put func(key, value []byte) error) error {
				for i := range 30 {
					require.NoError(t, put(fmt.Append(nil, "key", i%6), fmt.Append(nil, "load ", i, strings.Repeat("v", 900))))
					require.Equal(t, before, h.brief(h.contents()))
				}
				if fails {
					return errUnload
				}
				for i := 24; i < 30; i++ {
					h.states[0][fmt.Sprint("key", i%6)] = fmt.Sprint("load ", i, strings.Repeat("v", 900))
				}
				return nil
			})
			require.Equal(t, fails, err == errUnload, "%v", err)
			require.Equal(t, h.brief(h.states[0]), h.brief(h.contents()))
			h.requireOn(h.disk.Kill(), h.states[0], "behind a load")
			h.set("key1", "a commit on")
			h.requireOn(h.disk.Kill(), h.states[0], "a commit on")
			require.NoError(t, h.db.Checkpoint())
			h.set("key3", "a checkpoint on")
			h.requireOn(h.disk.Kill(), h.states[0], "a checkpoint on")
		}
	}
}
