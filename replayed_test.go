package mapfile

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/index"
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

// failingDisk is a disk on which the checkpoint behind a replay fails: writes of whole pages, which its images are, or syncs of the file.
type failingDisk struct {
	pager.Disk
	writes, syncs *atomic.Int64 // how many still fail
}

type failingFile struct {
	pager.File
	failingDisk
}

func (d failingDisk) Open(path string, readOnly bool) (pager.File, error) {
	f, err := d.Disk.Open(path, readOnly)
	return failingFile{f, d}, err
}

func (f failingFile) Reopen() (pager.File, error) {
	again, err := f.File.Reopen()
	return failingFile{again, f.failingDisk}, err
}

func (f failingFile) WriteAt(b []byte, off int64) error {
	if len(b)%pageSize == 0 && len(b) < 1<<20 && bytes.Contains(b[:16], []byte{index.TypeImage}) && f.writes.Add(-1) >= 0 {
		return syscall.ENOSPC
	}
	return f.File.WriteAt(b, off)
}

func (f failingFile) Sync() error {
	if f.syncs.Add(-1) >= 0 {
		return syscall.EIO
	}
	return f.File.Sync()
}

// TestReplayedFails: where there is no room for the checkpoint behind a replay the map reads as it should, and Close tries again, and starts nothing that
// goes on behind it; where a sync fails the map has failed. The log tells of both.
func TestReplayedFails(t *testing.T) {
	for _, row := range []struct {
		writes, syncs int64
		due           uint64
	}{{writes: 1}, {syncs: 1}} {
		path, log := killedCopy(t), bytes.Buffer{}
		o := Options{Sync: SyncInterval, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		disk := failingDisk{pager.OS(), &atomic.Int64{}, &atomic.Int64{}}
		disk.writes.Store(row.writes)
		disk.syncs.Store(row.syncs)
		db, err := open(path, o.withDefaults(), internals{disk: disk, geometry: pager.DefaultGeometry(), memory: pager.MemoryLimit, background: true})
		require.NoError(t, err)
		db.background.naming.Wait()
		require.True(t, db.s.Unnamed())
		require.Less(t, db.Stats().LogBytes, uint64(1<<20))
		_, err = db.Get(numberedKey(1))
		if row.syncs > 0 {
			require.ErrorIs(t, err, ErrFailed)
			require.Contains(t, log.String(), "and with it the map")
			require.NoError(t, db.Close())
			requireReplays(t, path, 1000)
			continue
		}
		require.NoError(t, err)
		require.Contains(t, log.String(), "will try again")
		disk.writes.Store(100)
		for i := range 30 {
			require.ErrorIs(t, db.Put(numberedKey(1), []byte("value")), ErrFull)
			if _, due := db.s.Free.Retired(); i == 0 {
				row.due = due
			} else {
				require.Equal(t, row.due, due, "what a try that failed has taken is free again")
			}
		}
		disk.writes.Store(0)
		require.NoError(t, db.Close())
		require.False(t, db.background.started.Load())
		requireReplays(t, path, 0)
	}
}
