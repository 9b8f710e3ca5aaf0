package mapfile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// killedCopy is a file as a killed process leaves it: no checkpoint knows of its 1,000 keys.
func killedCopy(t *testing.T) string {
	db := newKeptEvery(t, Options{}, time.Hour)
	for i := range 1000 {
		require.NoError(t, db.Put(numberedKey(i), []byte("value")))
	}
	b, err := os.ReadFile(db.Path())
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "killed.map")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// requireReplays opens a copy of a file as it is now, and counts the records that are replayed.
func requireReplays(t *testing.T, path string, records uint64) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	again := filepath.Join(t.TempDir(), "again.map")
	require.NoError(t, os.WriteFile(again, b, 0o600))
	db, err := Open(again, &Options{Sync: SyncNever})
	require.NoError(t, err)
	require.Equal(t, records, db.Stats().Recovery.Records)
	for i := range 1000 {
		value, err := db.Get(numberedKey(i))
		require.NoError(t, err)
		require.Equal(t, "value", string(value))
	}
	require.NoError(t, db.Close())
}

// TestReplayedOnce: what an open replayed is named by the meta pages soon, without a write, and by Checkpoint and Close before they return; it may be
// read, and written to, at once.
func TestReplayedOnce(t *testing.T) {
	rows := map[string]func(t *testing.T, db *DB){
		"soon": func(t *testing.T, db *DB) {
			require.Eventually(t, func() bool { return db.Stats().LogBytes == 0 }, 20*time.Second, time.Millisecond)
		},
		"Checkpoint": func(t *testing.T, db *DB) { require.NoError(t, db.Checkpoint()) },
		"Close":      func(t *testing.T, db *DB) { require.NoError(t, db.Close()) },
		"Put": func(t *testing.T, db *DB) {
			require.NoError(t, db.Put(numberedKey(0), []byte("value")))
			require.NoError(t, db.Checkpoint())
		},
	}
	for name, do := range rows {
		t.Run(name, func(t *testing.T) {
			path := killedCopy(t)
			requireReplays(t, path, 1000)
			db, err := Open(path, &Options{Sync: SyncNever})
			require.NoError(t, err)
			require.EqualValues(t, 1000, db.Stats().Recovery.Records)
			do(t, db)
			requireReplays(t, path, 0)
			require.NoError(t, db.Close())
			requireReplays(t, path, 0)
		})
	}
}

// TestReplayedUnnamed: in a map that was opened and has not begun to write, reads see what was replayed, Sync and Backup have nothing to wait for, and who opens the
// file as it is comes to the same state.
func TestReplayedUnnamed(t *testing.T) {
	path := killedCopy(t)
	o := Options{Sync: SyncNever}
	db, err := open(path, o.withDefaults(), internals{disk: pager.OS(), geometry: pager.DefaultGeometry(), memory: pager.MemoryLimit}) // nothing in the background
	require.NoError(t, err)
	require.True(t, db.s.Unnamed())
	require.EqualValues(t, 1000, db.Len())
	require.NoError(t, db.Sync())
	var stream bytes.Buffer
	_, err = db.Backup(t.Context(), &stream)
	require.NoError(t, err)
	requireReplays(t, path, 1000)
	require.True(t, db.s.Unnamed())
	require.NoError(t, db.Close())
	requireReplays(t, path, 0)
}
