//go:build mapfile_debug

package mapfile

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
)

// TestCreatorDiesBeforeTheNameIsDurable: who finds a map whose creator was killed between giving it its name and
// syncing the directory makes the name durable before a commit is acknowledged in it.
func TestCreatorDiesBeforeTheNameIsDurable(t *testing.T) {
	h := &lifeHistory{t: t, disk: simdisk.New(1 << 20)}
	var left *simdisk.Disk
	h.disk.OnEvent = func(e simdisk.Event) {
		if _, err := h.disk.Stat(lifePath); err == nil && e.Kind == simdisk.EventSync && left == nil {
			left = h.disk.Kill()
		}
	}
	db, err := h.open(h.disk, SyncAlways)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.True(t, left.EntryUnsynced())
	db, err = h.open(left, SyncAlways)
	require.NoError(t, err)
	require.NoError(t, db.Put([]byte("key"), []byte("value")))
	cut := left.Crash(nil, nil, false, false)
	db, err = h.open(cut, SyncAlways)
	require.NoError(t, err)
	v, err := db.Get([]byte("key"))
	require.NoError(t, err)
	require.Equal(t, "value", string(v))
	require.NoError(t, db.Close())
}

// TestFoundReplacedWhileLocking: who waits for the lock of a file that is replaced meanwhile opens the new one.
func TestFoundReplacedWhileLocking(t *testing.T) {
	h := newFound(t, 1<<20, SyncNever)
	h.set("key0", "old")
	require.NoError(t, h.db.Close())
	d, other := h.disk.Kill(), newFound(t, 1<<20, SyncNever)
	other.set("key0", "new")
	require.NoError(t, other.db.Close())
	replaced := false
	d.Fail = func(c simdisk.Call) error {
		if c.Name == "Lock" && !replaced {
			replaced = true
			f, err := d.CreateTemp(lifePath, 0o600)
			require.NoError(t, err)
			require.NoError(t, f.WriteAt(other.disk.Bytes(lifePath), 0))
			require.NoError(t, d.Link(f, lifePath, true))
			require.NoError(t, f.Close())
		}
		return nil
	}
	h.requireOn(d, other.states[0], "a file that was replaced")
}
