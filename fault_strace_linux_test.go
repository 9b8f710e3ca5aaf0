package mapfile_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// straceRows are faults that strace injects into the system calls of a real process on a real file. (A short result is
// one that strace cannot inject: it does not make the call, and the bytes it tells of are not written. Those of
// the seam are in TestFaultMatrix, and in TestOSWriteAll.)
var straceRows = []struct {
	name   string
	inject string
	sync   mapfile.SyncMode
	any    bool   // any file, and calls without one; else calls on the map's path alone
	want   string // what the child must say, "" for nothing but good
	may    string // what it may say besides
}{
	{"a sync fails", "fdatasync:error=EIO:when=2", mapfile.SyncNever, false, "failed", "open"},
	{"a sync finds no room", "fdatasync:error=ENOSPC:when=3", mapfile.SyncNever, false, "failed", "open"},
	{"a synced write fails", "pwritev2:error=EIO:when=6", mapfile.SyncAlways, false, "failed", "open"},
	{"a synced write finds the quota used up", "pwritev2:error=EDQUOT:when=7", mapfile.SyncAlways, false, "failed", "open full"},
	{"a synced write is not supported", "pwritev2:error=EOPNOTSUPP", mapfile.SyncAlways, false, "", ""},
	{"a sync of the mapping fails", "msync:error=EIO:when=1", mapfile.SyncNever, true, "failed", "open"},
	{"a write fails", "pwrite64:error=EIO:when=9..10", mapfile.SyncAlways, false, "failed", "open"},
	{"a write makes no progress", "pwrite64:retval=0:when=9..10", mapfile.SyncAlways, false, "failed", "open"},
	{"the disk is full", "fallocate:error=ENOSPC:when=4+", mapfile.SyncNever, false, "full", ""},
	{"growth fails", "fallocate:error=EIO:when=4+", mapfile.SyncAlways, false, "full", ""},
	{"blocks cannot be reserved", "fallocate:error=EOPNOTSUPP", mapfile.SyncNever, false, "", ""},
	{"the file cannot be cut", "ftruncate:error=EIO", mapfile.SyncNever, false, "", ""},
	{"nothing can be mapped", "mmap:error=ENOMEM:when=1..25", mapfile.SyncNever, false, "open", ""},
	{"a read fails", "pread64:error=EIO:when=1", mapfile.SyncNever, false, "open", ""},
	{"the directory cannot be synced", "fsync:error=EIO:when=1", mapfile.SyncNever, true, "open", "failed"},
	{"a stat fails", "fstat:error=EIO:when=8..30", mapfile.SyncAlways, false, "", "open full"},
	{"signals break calls off", "pread64,pwrite64,pwritev2,fallocate,ftruncate,fdatasync:error=EINTR:when=1+2", mapfile.SyncNever, false, "", ""},
	{"signals break synced calls off", "pread64,pwrite64,pwritev2,fallocate,ftruncate,fdatasync,fsync,msync:error=EINTR:when=1+2", mapfile.SyncAlways, false, "", ""},
}

// findStrace gives the path of strace, or skips the test: instead says what there is besides.
func findStrace(t *testing.T, instead string) string {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed: " + instead)
	}
	if out, err := exec.Command(strace, "-qq", "-o", os.DevNull, os.Args[0], "-test.run=^$").CombinedOutput(); err != nil {
		t.Skipf("strace may not trace here (%v: %s)", err, out)
	}
	return strace
}

// TestStrace injects faults into the system calls of a child process.
func TestStrace(t *testing.T) {
	strace := findStrace(t, "TestFaultMatrix makes the same calls fail on a simulated disk")
	for i, row := range straceRows {
		if testing.Short() && i%3 > 0 {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			path := newPath(t)
			args := []string{"-f", "-qq", "-o", os.DevNull, "-e", "trace=" + strings.SplitN(row.inject, ":", 2)[0], "-e", "inject=" + row.inject}
			if !row.any {
				args = append(args, "-P", path)
			}
			cmd := exec.Command(strace, append(args, os.Args[0], "-test.run=^TestChild$")...)
			cmd.Env = append(os.Environ(), childVariable+"=traced", childVariable+"_ARGS="+path+"\n"+fmt.Sprint(int(row.sync)))
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			said := strings.Split(strings.TrimSpace(string(out)), "\n")
			require.Equal(t, "done", said[len(said)-1], "%s", out)
			for _, what := range []string{"failed", "full", "open"} {
				if strings.Contains(row.may, what) {
					continue
				}
				is := slices.ContainsFunc(said, func(line string) bool { return strings.HasPrefix(line, what+" ") })
				require.Equal(t, what == row.want, is, "%q: %s", what, out)
			}
			requireTraced(t, path, said)
		})
	}
}

// requireTraced opens the map that a child left: each key has its last acknowledged value, or one that was begun after.
func requireTraced(t *testing.T, path string, said []string) {
	t.Helper()
	acked, begun := map[int]int{}, map[int]int{}
	for _, line := range said {
		var k, n int
		if c, _ := fmt.Sscanf(line, "begin %d %d", &k, &n); c == 2 {
			begun[k] = n
		}
		if c, _ := fmt.Sscanf(line, "done %d %d", &k, &n); c == 2 {
			acked[k] = n
		}
		if c, _ := fmt.Sscanf(line, "refused %d %d", &k, &n); c == 2 {
			begun[k] = acked[k]
		}
	}
	require.NotEmpty(t, acked)
	db := openTest(t, path, nil)
	for k, n := range begun {
		v, err := db.Get(numbered(k))
		if acked[k] == 0 && err == mapfile.ErrNotFound {
			continue
		}
		require.NoError(t, err, "key %d", k)
		var is int
		_, err = fmt.Sscanf(string(v), "value %d of", &is)
		require.NoError(t, err)
		require.Equal(t, tracedValue(k, is), v)
		require.True(t, acked[k] <= is && is <= n, "key %d has value %d, acknowledged %d, begun %d", k, is, acked[k], n)
	}
	require.NoError(t, db.Close())
}

// tracedValue is value n of a key. Some are longer than what is synced by writing it again.
func tracedValue(k, n int) []byte {
	size := 300 + k*100
	if n%24 == 13 {
		size = 1_300_000
	}
	v := fmt.Appendf(make([]byte, 0, size), "value %d of %d ", n, k)
	for len(v) < size {
		v = append(v, byte('a'+n%26))
	}
	return v
}

func init() {
	// traced writes to a map whose system calls fail, and says what came of it.
	childRoles["traced"] = func(out io.Writer, args []string) error {
		runtime.LockOSThread() // strace counts the calls of each thread for itself
		sync := mapfile.SyncAlways
		if args[1] == fmt.Sprint(int(mapfile.SyncNever)) {
			sync = mapfile.SyncNever
		}
		c := tracedChild{out: out, path: args[0], o: mapfile.Options{Sync: sync}}
		if err := c.run(); err != nil {
			return err
		}
		_, err := fmt.Fprintln(out, "done")
		return err
	}
}

// causeTold reports whether an error shows the one of the system.
func causeTold(err error) bool {
	var cause syscall.Errno
	return errors.As(err, &cause) || errors.Is(err, io.ErrShortWrite)
}

// tracedChild is the child under strace.
type tracedChild struct {
	out  io.Writer
	path string
	o    mapfile.Options
	db   *mapfile.DB
}

func (c *tracedChild) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

// run puts, syncs, makes checkpoints, compacts and closes.
func (c *tracedChild) run() error {
	for n := 1; n <= 60; n++ {
		if err := c.open(); err != nil {
			return err
		}
		if err := c.put(n%15, n); err != nil {
			return err
		}
		var err error
		switch {
		case c.db == nil:
		case n%12 == 2:
			err = c.told(c.db.Sync())
		case n%12 == 7:
			err = c.told(c.db.Checkpoint())
		case n == 40:
			err = c.told(c.db.Compact(noContext))
		case n == 30:
			err = c.close()
		}
		if err != nil {
			return err
		}
	}
	return c.close()
}

// close closes the map. A sync of its checkpoints may be the one that fails.
func (c *tracedChild) close() error {
	if c.db == nil {
		return nil
	}
	err := c.db.Close()
	if c.db = nil; err == nil {
		return nil
	}
	if !errors.Is(err, mapfile.ErrFailed) || !causeTold(err) {
		return fmt.Errorf("close: %w", err)
	}
	c.say("failed %v", err)
	return nil
}

// open opens the map if it is not open, again if that fails.
func (c *tracedChild) open() (err error) {
	for try := 0; c.db == nil && try < 6; try++ {
		c.db, err = mapfile.Open(c.path, &c.o)
		if err != nil && (!causeTold(err) || errors.Is(err, mapfile.ErrCorrupt)) {
			return fmt.Errorf("open: the cause is not told: %w", err)
		}
		if err != nil {
			c.say("open %v", err)
		}
	}
	return err
}

func (c *tracedChild) put(k, n int) error {
	c.say("begin %d %d", k, n)
	err := c.db.Put(numbered(k), tracedValue(k, n))
	switch {
	case err == nil:
		c.say("done %d %d", k, n)
	case errors.Is(err, mapfile.ErrFull):
		c.say("refused %d %d", k, n)
	}
	return c.told(err)
}

// told says what an error is, which must be a documented one, and gives up a map that has failed.
func (c *tracedChild) told(err error) error {
	full, failed := errors.Is(err, mapfile.ErrFull), errors.Is(err, mapfile.ErrFailed)
	switch {
	case err == nil:
		return nil
	case full == failed, !causeTold(err):
		return fmt.Errorf("no documented error with its cause: %w", err)
	case full:
		c.say("full %v", err)
		return nil
	}
	c.say("failed %v", err)
	if _, err := c.db.Get(numbered(0)); !errors.Is(err, mapfile.ErrFailed) {
		return fmt.Errorf("a read of a failed map: %w", err)
	}
	db := c.db
	c.db = nil
	return db.Close()
}
