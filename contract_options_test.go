//go:build linux || darwin || freebsd

package mapfile_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// TestDefaults compares each default with what the field's comment says.
func TestDefaults(t *testing.T) {
	for _, row := range []struct {
		name string
		o    *mapfile.Options
	}{{"nil", nil}, {"zero", &mapfile.Options{}}} {
		t.Run(row.name, func(t *testing.T) {
			path := newPath(t)
			old := syscall.Umask(0)
			db := openTest(t, path, row.o)
			syscall.Umask(old)
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "Mode")
			require.LessOrEqual(t, db.Stats().Allocated, int64(64<<10), "an empty map is at most 64 KiB on disk")

			require.NoError(t, db.Put([]byte("k"), nil), "not ReadOnly")
			st := db.Stats()
			require.Equal(t, st.Appended, st.Durable, "Sync: SyncAlways")

			begin := time.Now()
			_, err = mapfile.Open(path, nil)
			require.ErrorIs(t, err, mapfile.ErrLocked)
			requireTook(t, begin, time.Second)
			require.NoError(t, db.Close())
		})
	}
	t.Run("SyncEvery is one second", func(t *testing.T) {
		db := newMap(t, &mapfile.Options{Sync: mapfile.SyncInterval})
		require.NoError(t, db.Put([]byte("k"), nil))
		st := db.Stats()
		require.Less(t, st.Durable, st.Appended)
		begin := time.Now()
		require.Eventually(t, func() bool { st := db.Stats(); return st.Durable == st.Appended }, 5*time.Second, 10*time.Millisecond)
		requireTook(t, begin, time.Second)
	})
	t.Run("zero SyncMode is SyncDefault", func(t *testing.T) {
		require.Equal(t, mapfile.SyncDefault, mapfile.Options{}.Sync)
		require.Equal(t, mapfile.SyncDefault, mapfile.TxOptions{}.Sync)
	})
}

// requireTook checks that something took so long: nearly, as clocks and tickers go, and not
// much longer, as a busy machine goes.
func requireTook(t *testing.T, begin time.Time, want time.Duration) {
	t.Helper()
	took := time.Since(begin)
	require.Greater(t, took, want*3/4)
	require.Less(t, took, want+3*time.Second)
}

// TestMode creates files with other permissions; umask applies.
func TestMode(t *testing.T) {
	old := syscall.Umask(0o027)
	defer syscall.Umask(old)
	for _, row := range []struct{ mode, want os.FileMode }{{0o600, 0o600}, {0o644, 0o640}, {0o666, 0o640}} {
		t.Run(row.mode.String(), func(t *testing.T) {
			db := newMap(t, &mapfile.Options{Mode: row.mode})
			info, err := os.Stat(db.Path())
			require.NoError(t, err)
			require.Equal(t, row.want, info.Mode().Perm())
		})
	}
}

// TestOptionsAreCopied changes the options after Open.
func TestOptionsAreCopied(t *testing.T) {
	o := &mapfile.Options{Sync: mapfile.SyncNever, MaxSize: 1 << 30}
	db := newMap(t, o)
	*o = mapfile.Options{ReadOnly: true, Sync: mapfile.SyncAlways, MaxSize: 1}
	require.NoError(t, db.Put([]byte("k"), make([]byte, 1<<20)))
	st := db.Stats()
	require.Less(t, st.Durable, st.Appended)
	to := &mapfile.TxOptions{Sync: mapfile.SyncNever}
	tx, err := db.BeginTx(noContext, to)
	require.NoError(t, err)
	*to = mapfile.TxOptions{ReadOnly: true}
	require.NoError(t, tx.Put([]byte("k"), nil))
	require.NoError(t, tx.Commit())
}

// TestSyncModes looks at what is durable when a commit has returned.
func TestSyncModes(t *testing.T) {
	rows := []struct {
		db, tx  mapfile.SyncMode
		durable bool
	}{
		{mapfile.SyncAlways, mapfile.SyncDefault, true},
		{mapfile.SyncAlways, mapfile.SyncNever, false},
		{mapfile.SyncNever, mapfile.SyncDefault, false},
		{mapfile.SyncNever, mapfile.SyncAlways, true},
		{mapfile.SyncInterval, mapfile.SyncDefault, false},
		{mapfile.SyncInterval, mapfile.SyncAlways, true},
	}
	for _, row := range rows {
		t.Run(fmt.Sprintf("map %v, transaction %v", row.db, row.tx), func(t *testing.T) {
			db := newMap(t, &mapfile.Options{Sync: row.db, SyncEvery: time.Hour})
			require.NoError(t, db.Put([]byte("earlier"), nil))
			tx, err := db.BeginTx(noContext, &mapfile.TxOptions{Sync: row.tx})
			require.NoError(t, err)
			require.NoError(t, tx.Put([]byte("k"), []byte("v")))
			require.NoError(t, tx.Commit())
			st := db.Stats()
			require.Equal(t, row.durable, st.Durable == st.Appended)
			requireValue(t, db, []byte("k"), []byte("v"))
			require.NoError(t, db.Sync())
			st = db.Stats()
			require.Equal(t, st.Appended, st.Durable, "Sync makes all durable")
		})
	}
}

// TestSyncIntervalOfOne commits one transaction with SyncInterval in a map of another mode: it becomes durable by itself.
func TestSyncIntervalOfOne(t *testing.T) {
	for _, mode := range []mapfile.SyncMode{mapfile.SyncAlways, mapfile.SyncNever} {
		t.Run(mode.String(), func(t *testing.T) {
			db := newMap(t, &mapfile.Options{Sync: mode, SyncEvery: 20 * time.Millisecond})
			begin := time.Now()
			for range 2 { // the next one, too
				tx := beginTx(t, db, &mapfile.TxOptions{Sync: mapfile.SyncInterval})
				require.NoError(t, tx.Put([]byte("k"), []byte("v")))
				require.NoError(t, tx.Commit())
				require.Eventually(t, func() bool { st := db.Stats(); return st.Durable == st.Appended }, 10*time.Second, time.Millisecond)
			}
			require.GreaterOrEqual(t, time.Since(begin), 20*time.Millisecond)
		})
	}
}

func TestSyncModeString(t *testing.T) {
	for want, m := range map[string]mapfile.SyncMode{
		"default": mapfile.SyncDefault, "always": mapfile.SyncAlways, "interval": mapfile.SyncInterval, "never": mapfile.SyncNever, "SyncMode(9)": 9,
	} {
		require.Equal(t, want, m.String())
	}
}

// TestLogger hears of a recovery at open and of nothing else.
func TestLogger(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("k"), []byte("v")))
	path := crashed(t, db)
	var said lockedBuffer
	o := &mapfile.Options{Logger: slog.New(slog.NewTextHandler(&said, nil))}
	db = openTest(t, path, o)
	require.Contains(t, said.String(), "recovered")
	require.Contains(t, said.String(), path)
	require.NoError(t, db.Close())
	said.Reset()
	db = openTest(t, path, o)
	require.NoError(t, db.Put([]byte("k"), []byte("v2")))
	require.NoError(t, db.Checkpoint())
	require.NoError(t, db.Close())
	require.Empty(t, said.String())
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func init() {
	// hold opens the map args[0], read-only if args[1] says so, and keeps it until its stdin ends.
	childRoles["hold"] = func(out io.Writer, args []string) error {
		db, err := mapfile.Open(args[0], &mapfile.Options{ReadOnly: args[1] == "true", LockTimeout: -1})
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "open")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return db.Close()
	}
}

// TestLock opens a file that another opener, in this process or in another, has open.
func TestLock(t *testing.T) {
	rows := []struct {
		name           string
		holder, opener bool // read-only
		locked         bool
	}{
		{"two read-write", false, false, true},
		{"read-only beside read-write", false, true, true},
		{"read-write beside read-only", true, false, true},
		{"two read-only", true, true, false},
	}
	for _, row := range rows {
		for _, where := range []string{"this process", "another process"} {
			t.Run(row.name+" in "+where, func(t *testing.T) {
				path := newPath(t)
				fill(t, path, nil)
				pid := os.Getpid()
				if where == "this process" {
					db := openTest(t, path, &mapfile.Options{ReadOnly: row.holder})
					defer func() { require.NoError(t, db.Close()) }()
				} else {
					c := startChild(t, "hold", path, strconv.FormatBool(row.holder))
					require.Equal(t, "open", c.line())
					pid = c.cmd.Process.Pid
				}
				begin := time.Now()
				db, err := mapfile.Open(path, &mapfile.Options{ReadOnly: row.opener, LockTimeout: -1})
				require.Less(t, time.Since(begin), 500*time.Millisecond, "a negative LockTimeout does not wait")
				if !row.locked {
					require.NoError(t, err)
					v, err := db.Get(stormKey(1))
					require.NoError(t, right(1, v, err))
					require.NoError(t, db.Close())
					return
				}
				require.ErrorIs(t, err, mapfile.ErrLocked)
				requireNames(t, err, path)
				if !row.holder {
					require.Contains(t, err.Error(), strconv.Itoa(pid), "the holder's process id")
				}
			})
		}
	}
}

// TestLockTimeout waits for a holder that goes.
func TestLockTimeout(t *testing.T) {
	path := newPath(t)
	fill(t, path, nil)
	first := openTest(t, path, nil)
	closed := make(chan error, 1)
	time.AfterFunc(100*time.Millisecond, func() { closed <- first.Close() })
	db := openTest(t, path, &mapfile.Options{LockTimeout: 10 * time.Second})
	require.NoError(t, <-closed)
	defer func() { require.NoError(t, db.Close()) }()
	begin := time.Now()
	_, err := mapfile.Open(path, &mapfile.Options{LockTimeout: 150 * time.Millisecond})
	require.ErrorIs(t, err, mapfile.ErrLocked)
	requireTook(t, begin, 150*time.Millisecond)
}

// TestLockByAnotherName opens the same file through a hard link and a symbolic link.
func TestLockByAnotherName(t *testing.T) {
	path := newPath(t)
	fill(t, path, nil)
	require.NoError(t, os.Link(path, path+".hard"))
	require.NoError(t, os.Symlink(path, path+".soft"))
	db := openTest(t, path, nil)
	defer func() { require.NoError(t, db.Close()) }()
	for _, name := range []string{".hard", ".soft"} {
		_, err := mapfile.Open(path+name, &mapfile.Options{LockTimeout: -1})
		require.ErrorIs(t, err, mapfile.ErrLocked, name)
	}
}
