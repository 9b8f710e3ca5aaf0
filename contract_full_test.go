//go:build linux || darwin || freebsd

package mapfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// fillUp puts values until there is no room, and gives the number of keys put.
func fillUp(db *mapfile.DB, size int) (n int, err error) {
	v := bytes.Repeat([]byte("full "), size/5)
	for ; err == nil && n < 1<<20; n++ {
		err = db.Put(numbered(n), v)
	}
	return n - 1, err
}

// goesOn checks what must work on a full map: reads, deletes, checkpoints. It deletes the lower half of the keys.
func goesOn(db *mapfile.DB, n, size int) error {
	v := bytes.Repeat([]byte("full "), size/5)
	if got := db.Len(); got != uint64(n) {
		return fmt.Errorf("Len is %d of %d", got, n)
	}
	for i := range n {
		got, err := db.Get(numbered(i))
		if err != nil || !bytes.Equal(got, v) {
			return fmt.Errorf("key %d: %d bytes, %w", i, len(got), err)
		}
	}
	for i := range n / 2 {
		if err := db.Delete(numbered(i)); err != nil {
			return fmt.Errorf("delete %d of %d: %w", i, n, err)
		}
	}
	if err := db.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := db.Checkpoint(); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if got := db.Len(); got != uint64(n-n/2) {
		return fmt.Errorf("Len is %d behind the deletions", got)
	}
	return nil
}

// TestMaxSize reaches Options.MaxSize: ErrFull, and then everything but Put goes on.
func TestMaxSize(t *testing.T) {
	rows := []struct {
		mode  mapfile.SyncMode
		size  int
		limit int64
	}{
		{mapfile.SyncNever, 100, 12 << 20},
		{mapfile.SyncNever, 4000, 12 << 20},
		{mapfile.SyncNever, 100000, 12 << 20},
		{mapfile.SyncNever, 100, 32 << 20},
		{mapfile.SyncNever, 100, 1 << 20},
		{mapfile.SyncNever, 4000, 3 << 20},
		{mapfile.SyncAlways, 4000, 6 << 20}, // (smaller values take too many syncs)
		{mapfile.SyncAlways, 100000, 6 << 20},
	}
	for _, row := range rows {
		mode, size := row.mode, row.size
		t.Run(fmt.Sprintf("%v, values of %d bytes, %d MiB", mode, size, row.limit>>20), func(t *testing.T) {
			t.Parallel()
			o := &mapfile.Options{Sync: mode, MaxSize: row.limit}
			db := openTest(t, newPath(t), o)
			n, err := fillUp(db, size)
			require.ErrorIs(t, err, mapfile.ErrFull)
			requireNames(t, err, db.Path())
			require.LessOrEqual(t, stat(t, db.Path()).Size(), o.MaxSize)
			require.Greater(t, int64(n*size), o.MaxSize/3, "much of the room was used")
			require.ErrorIs(t, db.Update(func(tx *mapfile.Tx) error { return tx.Put([]byte("big"), make([]byte, 4<<20)) }), mapfile.ErrFull)
			require.NoError(t, goesOn(db, n, size))
			require.NoError(t, db.Close())
			require.LessOrEqual(t, stat(t, db.Path()).Size(), o.MaxSize)
			db = openTest(t, db.Path(), &mapfile.Options{Sync: mode})
			require.EqualValues(t, n-n/2, db.Len())
			require.NoError(t, db.Put([]byte("more"), make([]byte, size)), "with a larger limit Put works again")
			require.NoError(t, db.Close())
		})
	}
}

// fullDisk is what a test of a full disk does in a directory with little room; free gives room back.
func fullDisk(path string, size int, free func() error) error {
	db, err := mapfile.Open(path, &mapfile.Options{Sync: mapfile.SyncNever})
	if err != nil {
		return err
	}
	n, err := fillUp(db, size)
	if !errors.Is(err, mapfile.ErrFull) {
		return fmt.Errorf("want ErrFull: %w", err)
	}
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("the cause is not visible: %w", err)
	}
	if err := goesOn(db, n, size); err != nil {
		return err
	}
	if err := free(); err != nil {
		return err
	}
	if err := db.Put([]byte("again"), bytes.Repeat([]byte("x"), size)); err != nil {
		return fmt.Errorf("Put after space was freed: %w", err)
	}
	if err := db.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if db, err = mapfile.Open(path, nil); err != nil {
		return fmt.Errorf("reopen: %w", err)
	}
	if got := db.Len(); got != uint64(n-n/2+1) {
		return fmt.Errorf("Len is %d after reopening", got)
	}
	return db.Close()
}
