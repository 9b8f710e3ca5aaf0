package mapfile_test

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// TestFullDisk fills a small file system. The rows behind the first three refused deletions once: where index pages lay in two
// arenas that were never emptied, where only the first unit and one more had room, and where no arena was left to copy a bucket to.
func TestFullDisk(t *testing.T) {
	rows := []struct{ size, room int }{ // bytes of a value, MiB
		{100, 8}, {4000, 8}, {100000, 8},
		{200, 24}, {200, 4}, {1000, 28},
	}
	for _, row := range rows {
		size := row.size
		t.Run(fmt.Sprintf("values of %d bytes, %d MiB", size, row.room), func(t *testing.T) {
			dir := t.TempDir()
			if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", row.room+4)); err != nil {
				t.Skipf("no file system can be mounted here (%v): TestFileSizeLimit stands in", err)
			}
			t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
			ballast := filepath.Join(dir, "ballast")
			require.NoError(t, os.WriteFile(ballast, make([]byte, 4<<20), 0o600))
			require.NoError(t, fullDisk(filepath.Join(dir, "a.map"), size, func() error { return os.Remove(ballast) }))
		})
	}
	t.Run("creation", func(t *testing.T) {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8k"); err != nil {
			t.Skipf("no file system can be mounted here (%v)", err)
		}
		t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
		path := filepath.Join(dir, "a.map")
		_, err := mapfile.Open(path, nil)
		require.ErrorIs(t, err, mapfile.ErrFull)
		require.ErrorIs(t, err, syscall.ENOSPC)
		requireNames(t, err, path)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries, "nothing half-made stays")
	})
}

func init() {
	// full fills a map under a limit of the size of files.
	childRoles["full"] = func(out io.Writer, args []string) error {
		signal.Ignore(syscall.SIGXFSZ)
		size, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
		set := func(n uint64) error {
			return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: limit.Max})
		}
		most, err := strconv.ParseUint(args[2], 10, 64)
		if err != nil {
			return err
		}
		if err := set(most); err != nil {
			return err
		}
		if err := fullDisk(args[0], size, func() error { return set(limit.Cur) }); err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, "good")
		return err
	}
}

// TestFileSizeLimit lets a child process write under RLIMIT_FSIZE. The smaller limits are met inside the first unit of the
// file, where admission once asked for a segment as long as it would like, and deletions were refused.
func TestFileSizeLimit(t *testing.T) {
	rows := []struct {
		limit uint64
		size  int
	}{
		{800 << 10, 200}, {1900 << 10, 4000}, {8 << 20, 100}, {8 << 20, 4000}, {8 << 20, 100000},
	}
	for _, row := range rows {
		t.Run(fmt.Sprintf("%d KiB, values of %d bytes", row.limit>>10, row.size), func(t *testing.T) {
			c := startChild(t, "full", newPath(t), strconv.Itoa(row.size), strconv.FormatUint(row.limit, 10))
			require.Equal(t, []string{"good"}, c.rest())
		})
	}
}
