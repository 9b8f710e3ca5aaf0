//go:build linux || darwin || freebsd

package pager

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// lockTable holds the locks of this process by file. Systems differ in whether
// two opens within one process exclude each other; with the table they do everywhere.
type lockTable struct {
	mu      sync.Mutex // protects holders; never held with another lock
	holders map[fileID]map[*osFile]LockKind
}

var locks = lockTable{holders: map[fileID]map[*osFile]LockKind{}}

// Lock takes the lock in the table first, then the system's. A file that holds
// a lock already changes its kind.
func (f *osFile) Lock(kind LockKind) (bool, error) {
	if f.readOnly && kind == LockExclusive {
		return false, os.NewSyscallError("lock", unix.EBADF)
	}
	locks.mu.Lock()
	defer locks.mu.Unlock()
	if !locks.free(f, kind) {
		return false, nil
	}
	switch err := retryEINTR(func() error { return tryLock(f.handle(), kind) }); err {
	case nil:
		locks.put(f, kind)
		return true, nil
	case unix.EAGAIN, unix.EACCES:
		return false, nil
	default:
		return false, os.NewSyscallError("lock", err)
	}
}

// unlock lets go of what Lock took. It unlocks instead of leaving that to the
// closing of the descriptor: a child process between fork and exec holds a copy
// of that, and would keep the lock for a moment longer.
func (f *osFile) unlock() {
	locks.mu.Lock()
	defer locks.mu.Unlock()
	if _, held := locks.holders[f.id][f]; !held {
		return
	}
	_ = retryEINTR(func() error { return dropLock(f.handle()) }) // closing the descriptor drops it in any case
	locks.drop(f)
}

// free reports whether no other file description stands in the way.
func (t *lockTable) free(f *osFile, kind LockKind) bool {
	for other, held := range t.holders[f.id] {
		if other != f && (held == LockExclusive || kind == LockExclusive) {
			return false
		}
	}
	return true
}

func (t *lockTable) put(f *osFile, kind LockKind) {
	if t.holders[f.id] == nil {
		t.holders[f.id] = map[*osFile]LockKind{}
	}
	t.holders[f.id][f] = kind
}

func (t *lockTable) drop(f *osFile) {
	delete(t.holders[f.id], f)
	if len(t.holders[f.id]) == 0 {
		delete(t.holders, f.id)
	}
}
