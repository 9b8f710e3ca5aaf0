//go:build linux || darwin || freebsd

package mapfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// backups is a whole backup of a map and two increments behind it, and what the map held at each.
type backups struct {
	db      *mapfile.DB
	streams [][]byte
	ends    []uint64
	states  []map[string]string
}

func newBackups(t *testing.T) *backups {
	b := &backups{db: newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})}
	require.NoError(t, b.db.Update(func(tx *mapfile.Tx) error {
		for i := range 2000 {
			require.NoError(t, tx.Put(fmt.Appendf(nil, "key %d", i), fmt.Appendf(nil, "%d", i)))
		}
		return tx.Put([]byte("large"), bytes.Repeat([]byte("large"), 200000))
	}))
	b.take(t)
	for i := range 500 {
		require.NoError(t, b.db.Delete(fmt.Appendf(nil, "key %d", 3*i)))
		require.NoError(t, b.db.Put(fmt.Appendf(nil, "key %d", i), nil))
	}
	b.take(t)
	require.NoError(t, b.db.Clear())
	require.NoError(t, b.db.Put(nil, []byte("the empty key")))
	b.take(t)
	return b
}

// take backs the map up, whole or behind the last time.
func (b *backups) take(t *testing.T) {
	var out bytes.Buffer
	var end uint64
	var err error
	if len(b.ends) == 0 {
		end, err = b.db.Backup(noContext, &out)
	} else {
		end, err = b.db.BackupSince(noContext, &out, b.ends[len(b.ends)-1])
	}
	require.NoError(t, err)
	b.streams, b.ends, b.states = append(b.streams, out.Bytes()), append(b.ends, end), append(b.states, allOf(t, b.db))
}

func allOf(t *testing.T, db *mapfile.DB) map[string]string {
	got := map[string]string{}
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for k, v := range tx.All() {
			got[string(k)] = string(v)
		}
		return tx.Err()
	}))
	return got
}

// TestRestore restores to each of the increments.
func TestRestore(t *testing.T) {
	b := newBackups(t)
	for n := range b.streams {
		path := newPath(t)
		require.NoError(t, mapfile.Restore(noContext, iotest.HalfReader(bytes.NewReader(bytes.Join(b.streams[:n+1], nil))), path))
		db := openTest(t, path, nil)
		require.Equal(t, b.states[n], allOf(t, db))
		for _, end := range b.ends[:n+1] {
			_, err := db.BackupSince(noContext, io.Discard, end)
			require.ErrorIs(t, err, mapfile.ErrHistoryGone, "the sequence %d of the map that was backed up", end)
		}
		// A chain of its own begins with it.
		var chain bytes.Buffer
		end, err := db.Backup(noContext, &chain)
		require.NoError(t, err)
		require.Greater(t, end, b.ends[n])
		require.NoError(t, db.Put([]byte("more"), nil))
		want := allOf(t, db)
		_, err = db.BackupSince(noContext, &chain, end)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		if n == 0 {
			again := newPath(t)
			require.NoError(t, mapfile.Restore(noContext, &chain, again))
			db = openTest(t, again, nil)
			require.Equal(t, want, allOf(t, db))
			require.NoError(t, db.Close())
		}
		requireAlone(t, path)
	}
}

// requireAlone: there is nothing else beside the file, nor the file itself if it is "".
func requireAlone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, filepath.Base(path), entries[0].Name())
}

// TestRestoreRefuses: what is no backup of a map is refused, and leaves nothing behind.
func TestRestoreRefuses(t *testing.T) {
	b := newBackups(t)
	full, one, two := b.streams[0], b.streams[1], b.streams[2]
	flipped := bytes.Clone(full)
	flipped[len(full)/2] ^= 8
	ctx, cancel := context.WithCancel(noContext)
	cause := errors.New("the network is down")
	join := func(all ...[]byte) io.Reader { return bytes.NewReader(bytes.Join(all, nil)) }
	for _, row := range []struct {
		name string
		in   io.Reader
		is   error
		says string
	}{
		{"nothing", join(), mapfile.ErrBackup, "stream 1: not a whole backup: byte 0: it is cut short"},
		{"something else", strings.NewReader(strings.Repeat("no backup\n", 100)), mapfile.ErrBackup, "byte 0: here is no frame of a backup"},
		{"an increment alone", join(one), mapfile.ErrBackup, "stream 1: not a whole backup: it goes on from sequence 1, and the whole backup before it is missing"},
		{"a flipped bit", join(flipped), mapfile.ErrBackup, "the sum of the frame does not hold"},
		{"cut short", join(full[:len(full)-1]), mapfile.ErrBackup, "cut short"},
		{"a second one cut short", join(full, one[:len(one)-40]), mapfile.ErrBackup, "stream 2: not a whole backup: byte"},
		{"an increment left out", join(full, two), mapfile.ErrBackup, "stream 2: not a whole backup: it goes on from sequence"},
		{"an increment twice", join(full, one, one), mapfile.ErrBackup, "stream 3"},
		{"two whole ones", join(full, full), mapfile.ErrBackup, "only increments follow"},
		{"a reader that fails", io.MultiReader(join(full, one[:100]), iotest.ErrReader(cause)), cause, "the network is down"},
		{"a context that is done", &cancelling{join(full), cancel}, context.Canceled, "canceled"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := newPath(t)
			use := noContext
			if row.is == context.Canceled {
				use = ctx
			}
			err := mapfile.Restore(use, row.in, path)
			require.ErrorIs(t, err, row.is)
			requireNames(t, err, path)
			require.ErrorContains(t, err, row.says)
			entries, err := os.ReadDir(filepath.Dir(path))
			require.NoError(t, err)
			require.Empty(t, entries)
		})
	}
}

// cancelling cancels when it is read.
type cancelling struct {
	r      io.Reader
	cancel func()
}

func (c *cancelling) Read(b []byte) (int, error) {
	c.cancel()
	return c.r.Read(b)
}

// TestRestoreTakesNobodysPlace: what has the name stays as it is.
func TestRestoreTakesNobodysPlace(t *testing.T) {
	b := newBackups(t)
	path := newPath(t)
	for name, make := range map[string]func() error{
		"a file":      func() error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"a directory": func() error { return os.Mkdir(path, 0o700) },
		"a link":      func() error { return os.Symlink("nowhere", path) },
	} {
		require.NoError(t, make())
		require.ErrorIs(t, mapfile.Restore(noContext, bytes.NewReader(b.streams[0]), path), fs.ErrExist, name)
		requireAlone(t, path)
		require.NoError(t, os.Remove(path))
	}
	// It comes to be while the map is made.
	in := &cancelling{bytes.NewReader(b.streams[0]), func() { require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600)) }}
	require.ErrorIs(t, mapfile.Restore(noContext, in, path), fs.ErrExist)
	requireAlone(t, path)
	require.Equal(t, "mine", string(readFile(t, path)))
}

// TestBackupErrors: what the caller's writer and context answer comes back, and the map goes on.
func TestBackupErrors(t *testing.T) {
	b := newBackups(t)
	cause := errors.New("no room there")
	for n := range 3 {
		_, err := b.db.Backup(noContext, &failingWriter{n, cause})
		require.ErrorIs(t, err, cause)
		requireNames(t, err, b.db.Path())
	}
	ctx, cancel := context.WithCancel(noContext)
	cancel()
	_, err := b.db.Backup(ctx, io.Discard)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, b.db.Stats().Oldest.Age, "no snapshot is left")
	require.NoError(t, b.db.Close())
	_, err = b.db.Backup(noContext, io.Discard)
	require.ErrorIs(t, err, mapfile.ErrClosed)
}

type failingWriter struct {
	left int
	err  error
}

func (f *failingWriter) Write(b []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, f.err
	}
	return len(b), nil
}

// TestBackupHoldsNoLock: while a backup is written others write, checkpoint and compact, and it shows the moment at which it began.
func TestBackupHoldsNoLock(t *testing.T) {
	b := newBackups(t)
	for i := range 3000 {
		require.NoError(t, b.db.Put(fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte{byte(i)}, 300)))
	}
	want := allOf(t, b.db)
	var out bytes.Buffer
	_, err := b.db.Backup(noContext, writerFunc(func(p []byte) (int, error) {
		for i := range 200 {
			require.NoError(t, b.db.Put(fmt.Appendf(nil, "key %d", 7*i), []byte("later")))
			require.NoError(t, b.db.Delete(fmt.Appendf(nil, "key %d", 7*i+1)))
		}
		require.NoError(t, b.db.Compact(noContext))
		require.NoError(t, b.db.Checkpoint())
		return out.Write(p)
	}))
	require.NoError(t, err)
	path := newPath(t)
	require.NoError(t, mapfile.Restore(noContext, &out, path))
	db := openTest(t, path, nil)
	require.Equal(t, want, allOf(t, db))
	require.NoError(t, db.Close())
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestVerifyBackup: what the streams say of themselves.
func TestVerifyBackup(t *testing.T) {
	b := newBackups(t)
	got, err := mapfile.VerifyBackup(noContext, bytes.NewReader(bytes.Join(b.streams, nil)))
	require.NoError(t, err)
	require.Len(t, got, 3)
	of, err := mapfile.ReadInfo(b.db.Path())
	require.NoError(t, err)
	for i, info := range got {
		require.Equal(t, of.UUID, info.UUID)
		require.Equal(t, i > 0, info.Increment)
		require.Equal(t, b.ends[i], info.Sequence)
		require.EqualValues(t, len(b.states[i]), info.Keys)
		require.EqualValues(t, len(b.streams[i]), info.Size)
	}
	require.Equal(t, []uint64{0, b.ends[0], b.ends[1]}, []uint64{got[0].Base, got[1].Base, got[2].Base})
	require.EqualValues(t, 2001, got[0].Puts)
	require.EqualValues(t, 1, got[2].Clears)
	alone, err := mapfile.VerifyBackup(noContext, bytes.NewReader(b.streams[1]))
	require.NoError(t, err, "an increment may be the first")
	require.Equal(t, got[1:2], alone)
	short, err := mapfile.VerifyBackup(noContext, bytes.NewReader(bytes.Join(b.streams, nil)[:len(b.streams[0])+10]))
	require.ErrorIs(t, err, mapfile.ErrBackup)
	require.Equal(t, got[:1], short)
}
