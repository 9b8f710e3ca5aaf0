//go:build linux || darwin || freebsd

package pager

import (
	"bufio"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// lockRows is who may hold a lock beside whom.
var lockRows = map[string]struct {
	first, second LockKind
	want          bool
}{
	"shared, shared":       {LockShared, LockShared, true},
	"shared, exclusive":    {LockShared, LockExclusive, false},
	"exclusive, shared":    {LockExclusive, LockShared, false},
	"exclusive, exclusive": {LockExclusive, LockExclusive, false},
}

func tryOS(t *testing.T, f File, kind LockKind) bool {
	ok, err := f.Lock(kind)
	require.NoError(t, err)
	return ok
}

func TestOSLockWithinProcess(t *testing.T) {
	for name, row := range lockRows {
		t.Run(name, func(t *testing.T) {
			first := newOS(t, 10)
			second := openOS(t, first.path, row.second == LockShared)
			require.True(t, tryOS(t, first, row.first))
			require.True(t, tryOS(t, first, row.first), "its own lock does not stand in its way")
			require.Equal(t, row.want, tryOS(t, second, row.second))
			require.NoError(t, first.Close())
			require.True(t, tryOS(t, second, row.second), "Close lets go")
		})
	}
	require.Empty(t, locks.holders, "nothing stays in the table")
}

// Only the table stands in the way here: the first file never asked the system.
func TestOSLockTable(t *testing.T) {
	for name, row := range lockRows {
		t.Run(name, func(t *testing.T) {
			first := newOS(t, 10)
			second := openOS(t, first.path, false)
			locks.put(first, row.first)
			defer locks.drop(first)
			require.Equal(t, row.want, tryOS(t, second, row.second))
			require.True(t, tryOS(t, newOS(t, 10), row.second), "another file is free")
		})
	}
}

func TestOSLockAgainstProcess(t *testing.T) {
	for name, row := range lockRows {
		t.Run(name, func(t *testing.T) {
			f := newOS(t, 10)
			require.True(t, tryOS(t, f, row.first))
			got, stop := startLockChild(t, f.path, row.second)
			require.Equal(t, row.want, got, "the child's try")
			stop()
			require.NoError(t, f.Close())

			got, stop = startLockChild(t, f.path, row.first)
			require.True(t, got, "the lock is free")
			again := openOS(t, f.path, row.second == LockShared)
			require.Equal(t, row.want, tryOS(t, again, row.second), "against the child's lock")
			stop()
			require.True(t, tryOS(t, again, row.second), "the child's death lets go")
		})
	}
}

// startLockChild has a child process try the lock, which it holds until stop.
func startLockChild(t *testing.T, path string, kind LockKind) (got bool, stop func()) {
	verb := map[LockKind]string{LockShared: "lock-shared", LockExclusive: "lock-exclusive"}[kind]
	cmd := childCommand(t, verb, path)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, []string{"true\n", "false\n"}, line)
	return line == "true\n", func() {
		require.NoError(t, stdin.Close())
		_ = cmd.Wait() // it kills itself
	}
}

// childLock tries the lock, says whether it got it, and dies without Close when its input ends.
func childLock(t *testing.T, path string, exclusive bool) {
	kind := LockShared
	if exclusive {
		kind = LockExclusive
	}
	f := openOS(t, path, !exclusive)
	fmt.Println(tryOS(t, f, kind))
	_, _ = os.Stdin.Read(make([]byte, 1)) // its end is the sign
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGKILL))
	select {}
}

func TestOSLockOfReopened(t *testing.T) {
	f := newOS(t, 10)
	require.True(t, tryOS(t, f, LockExclusive))
	again, err := f.Reopen()
	require.NoError(t, err)
	require.False(t, tryOS(t, again, LockShared), "a reopened file holds no lock")
	require.NoError(t, again.Close())
	got, stop := startLockChild(t, f.path, LockShared)
	stop()
	require.False(t, got, "closing the reopened file leaves the lock alone")
}

func TestOSLockChangesKind(t *testing.T) {
	a := newOS(t, 10)
	b := openOS(t, a.path, false)
	require.True(t, tryOS(t, a, LockShared))
	require.True(t, tryOS(t, a, LockExclusive))
	require.False(t, tryOS(t, b, LockShared))
	require.True(t, tryOS(t, a, LockShared))
	require.True(t, tryOS(t, b, LockShared))
	require.False(t, tryOS(t, a, LockExclusive))
}

func TestOSLockExclusiveNeedsWriting(t *testing.T) {
	f := openOS(t, newOS(t, 10).path, true)
	_, err := f.Lock(LockExclusive)
	require.ErrorIs(t, err, syscall.EBADF)
	require.True(t, tryOS(t, f, LockShared))
}

func TestOSLockFromManyGoroutines(t *testing.T) {
	path := newOS(t, 10).path
	var holders, taken atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				f, err := OS().Open(path, false)
				if err != nil {
					t.Error(err)
					return
				}
				if ok, err := f.Lock(LockExclusive); err != nil {
					t.Error(err)
				} else if ok {
					taken.Add(1)
					if holders.Add(1) != 1 {
						t.Error("two hold the lock")
					}
					holders.Add(-1)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Positive(t, taken.Load())
	require.Empty(t, locks.holders)
}
