package mapfile_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// TestRestoreOrder reads from the system calls of a Restore that a power cut at any moment leaves either no map at the path or the whole one: what
// was written is synced before the file gets its name, nothing is written to it behind that, and the directory is synced at the end.
func TestRestoreOrder(t *testing.T) {
	strace := findStrace(t, "TestRestore and TestRestoreRefuses look at what a Restore leaves")
	dir := t.TempDir()
	full, dst, calls := filepath.Join(dir, "full"), filepath.Join(dir, "restored.map"), filepath.Join(dir, "calls")
	writeBackup(t, full)
	cmd := exec.Command(strace, "-f", "-qq", "-y", "-o", calls, "-e", "trace=fdatasync,fsync,pwrite64,pwritev2,ftruncate,fallocate,linkat,renameat,renameat2,rename",
		os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childVariable+"=restores", childVariable+"_ARGS="+full+"\n"+dst)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	b, err := os.ReadFile(calls)
	require.NoError(t, err)
	lines := slices.DeleteFunc(strings.Split(string(b), "\n"), func(line string) bool { return !strings.Contains(line, dir) })
	named := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, `"`+dst+`"`) })
	require.Positive(t, named, "%s", b)
	require.Contains(t, lines[named], "linkat", "a rename would take somebody's place")
	does := func(line, what, path string) bool {
		return strings.Contains(line, what+"(") && strings.Contains(line, path+">")
	}
	unsynced, syncs := false, 0
	for _, line := range lines[:named] {
		switch {
		case does(line, "pwrite64", "/new"):
			unsynced = true
		case does(line, "fdatasync", "/new"):
			require.Contains(t, line, "= 0")
			unsynced, syncs = false, syncs+1
		}
	}
	require.Positive(t, syncs)
	require.False(t, unsynced, "the file has its name before it is synced: %s", b)
	for _, line := range lines[named:] {
		for _, call := range []string{"pwrite64", "pwritev2", "ftruncate", "fallocate"} {
			require.False(t, does(line, call, "/new") || does(line, call, dst), "%s", line)
		}
	}
	require.True(t, slices.ContainsFunc(lines[named:], func(line string) bool {
		return does(line, "fsync", dir) && strings.Contains(line, "= 0")
	}), "the directory is not synced: %s", b)

	db := openTest(t, dst, nil)
	require.EqualValues(t, restoredKeys, db.Len())
	require.NoError(t, db.Close())
}

// restoredKeys is how many keys the backup of TestRestoreOrder has.
const restoredKeys = 5000

func writeBackup(t *testing.T, path string) {
	db := openTest(t, newPath(t), &mapfile.Options{Sync: mapfile.SyncNever})
	for i := range restoredKeys {
		require.NoError(t, db.Put(numbered(i), make([]byte, 1000)))
	}
	f, err := os.Create(path)
	require.NoError(t, err)
	_, err = db.Backup(t.Context(), f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, db.Close())
}

func init() {
	childRoles["restores"] = func(out io.Writer, args []string) error {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		if err := mapfile.Restore(context.Background(), f, args[1]); err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, "done")
		return err
	}
}
