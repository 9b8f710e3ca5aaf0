package simdisk

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
)

// unlocked is the lock of a description that holds none.
const unlocked pager.LockKind = -1

// file is one open file description.
type file struct {
	d        *Disk
	n        *inode
	path     string // "" for a file that has no name yet
	readOnly bool

	// Under Disk.mu.
	closed  bool
	lock    pager.LockKind
	pending error // of a write, not reported on this description yet
}

// ask counts a call on the description and asks whether it fails.
func (f *file) ask(name string, off, count int64) error {
	err := f.d.ask(name, f.path, off, count)
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	return err
}

// askStore is ask for a call that changes the file.
func (f *file) askStore(name string, off, count int64) error {
	err := f.ask(name, off, count)
	if err == nil && f.readOnly {
		return syscall.EBADF
	}
	if err == nil && (off < 0 || count < 0) {
		return syscall.EINVAL
	}
	return err
}

// ReadAt reads from the page cache.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.ask("ReadAt", off, int64(len(p))); err != nil {
		part, err := partOf(err, int64(len(p)), io.ErrUnexpectedEOF)
		got, _ := f.read(p[:part], off)
		return got, pathError("read", f.path, err)
	}
	return f.read(p, off)
}

func (f *file) read(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	got := 0
	if off < f.n.length {
		got = copy(p, f.n.cache().mem[off:f.n.length])
	}
	switch {
	case got == len(p):
		return got, nil
	case got == 0:
		return 0, io.EOF
	}
	return got, io.ErrUnexpectedEOF
}

// WriteAt puts p into the page cache.
func (f *file) WriteAt(p []byte, off int64) error {
	failed := f.askStore("WriteAt", off, int64(len(p)))
	if failed != nil {
		var part int64
		part, failed = partOf(failed, int64(len(p)), io.ErrShortWrite)
		p = p[:part]
	}
	if err := f.store(p, off); err != nil {
		return pathError("write", f.path, err)
	}
	return pathError("write", f.path, failed)
}

// store puts p into the page cache, or answers ENOSPC and does nothing.
func (f *file) store(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	f.d.announce(EventStore, f.path, off, int64(len(p)))
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if !f.d.room(f.n, off, int64(len(p))) {
		return syscall.ENOSPC
	}
	f.n.takeBlocks(off, int64(len(p)))
	f.n.write(p, off, f.d.nextOrder())
	return nil
}

// WriteSync puts p into the page cache and syncs its sectors. A failure leaves p in
// the cache and the disk as it was; a closed or read-only description changes nothing.
func (f *file) WriteSync(p []byte, off int64) error {
	failed := f.askStore("WriteSync", off, int64(len(p)))
	if off < 0 || f.cannotStore() {
		return pathError("write", f.path, failed)
	}
	if err := f.store(p, off); err != nil {
		return pathError("write", f.path, err)
	}
	return pathError("write", f.path, f.sync(failed, off, int64(len(p))))
}

func (f *file) cannotStore() bool {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.closed || f.readOnly
}

// Sync makes bytes and length durable.
func (f *file) Sync() error {
	err := f.ask("Sync", 0, 0)
	if err == fs.ErrClosed {
		return pathError("sync", f.path, err)
	}
	return pathError("sync", f.path, f.sync(err, 0, f.d.Capacity()))
}

// sync makes a range durable and reports the error that waits on this description.
// With failed it loses the range instead: this description reports it now, every
// other one that is open will at its next sync.
func (f *file) sync(failed error, off, count int64) error {
	f.d.announce(EventSync, f.path, off, count)
	lie := failed == nil && f.d.lies()
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if failed != nil {
		return f.fail(failed, off, count)
	}
	if !lie {
		f.n.sync(off, count)
		f.d.hashed = false
	}
	err := f.pending
	f.pending = nil
	return err
}

// fail is a sync that fails. The length stays unsynced: it is not lost with the data.
func (f *file) fail(err error, off, count int64) error {
	part, err := partOf(err, count, io.ErrShortWrite)
	if part > 0 {
		f.n.syncBytes(off, part)
		f.d.hashed = false
	}
	f.n.lose(off, count)
	for _, other := range f.n.open {
		other.pending = err
	}
	f.pending = nil
	return err
}

// Allocate gives [off, off+count) blocks, and the length that takes.
func (f *file) Allocate(off, count int64) error {
	failed := f.askStore("Allocate", off, count)
	if failed != nil {
		count, failed = partOf(failed, count, io.ErrShortWrite)
	}
	if count > 0 {
		f.d.announce(EventLength, f.path, off, count)
		if err := f.allocate(off, count); err != nil {
			return pathError("allocate", f.path, err)
		}
	}
	return pathError("allocate", f.path, failed)
}

func (f *file) allocate(off, count int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if !f.d.room(f.n, off, count) {
		return syscall.ENOSPC
	}
	f.n.takeBlocks(off, count)
	f.n.extend(off + count)
	return nil
}

// Truncate sets the length. A file that grows so has no blocks there.
func (f *file) Truncate(size int64) error {
	if err := f.askStore("Truncate", size, 0); err != nil {
		return pathError("truncate", f.path, err)
	}
	if size > f.d.Capacity() {
		return pathError("truncate", f.path, syscall.EFBIG)
	}
	f.d.announce(EventLength, f.path, size, 0)
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.n.truncate(size, f.d.nextOrder())
	return nil
}

// Punch makes [off, off+count) zeros and gives the blocks of its whole pages back.
func (f *file) Punch(off, count int64) error {
	failed := f.askStore("Punch", off, count)
	if failed != nil {
		count, failed = partOf(failed, count, io.ErrShortWrite)
	}
	if count > 0 {
		f.d.announce(EventStore, f.path, off, count)
		f.punch(off, count)
	}
	return pathError("punch", f.path, failed)
}

func (f *file) punch(off, count int64) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.n.zero(off, count, f.d.nextOrder())
	f.n.dropBlocks(off, off+count)
}

// Stat tells what the file is now.
func (f *file) Stat() (pager.Info, error) {
	if err := f.ask("FileStat", 0, 0); err != nil {
		return pager.Info{}, pathError("stat", f.path, err)
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.d.info(f.n), nil
}

// Reopen opens the file once more by its name.
func (f *file) Reopen() (pager.File, error) {
	if err := f.ask("Reopen", 0, 0); err != nil {
		return nil, pathError("open", f.path, err)
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	switch f.d.lookup(f.path) {
	case f.n:
		return f.d.describe(f.n, f.path, f.readOnly), nil
	case nil:
		return nil, pathError("open", f.path, syscall.ENOENT)
	}
	return nil, pathError("open", f.path, errs.ErrReplaced)
}

// Lock tries once to take the lock, which excludes other descriptions alone.
func (f *file) Lock(kind pager.LockKind) (bool, error) {
	err := f.ask("Lock", 0, 0)
	if err == nil && kind == pager.LockExclusive && f.readOnly {
		err = syscall.EBADF
	}
	if err != nil {
		return false, pathError("lock", f.path, err)
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	for _, other := range f.n.open {
		if other != f && (other.lock == pager.LockExclusive || other.lock != unlocked && kind == pager.LockExclusive) {
			return false, nil
		}
	}
	f.lock = kind
	return true, nil
}

// Stored records a store through a mapping. On a read-only description it means
// private memory and records nothing. It panics where the real store would have been
// SIGBUS: behind the end, or in a hole of a full disk.
func (f *file) Stored(off, count int64) {
	if f.readOnly || count == 0 {
		return
	}
	if !f.n.plain {
		f.d.announce(EventStore, f.path, off, count)
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if off < 0 || off+count > f.n.length {
		panic(fmt.Sprintf("simdisk: store to [%d, %d) of %s, which has %d bytes", off, off+count, f.path, f.n.length))
	}
	if !f.d.room(f.n, off, count) {
		panic(fmt.Sprintf("simdisk: store to a hole at [%d, %d) of %s on a full disk", off, off+count, f.path))
	}
	f.n.takeBlocks(off, count)
	f.n.touch(off, count, f.d.nextOrder())
}

// Close lets the description, its lock and its pending error go, even when it fails.
func (f *file) Close() error {
	err := f.ask("Close", 0, 0)
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.closed = true
	f.n.open = slices.DeleteFunc(f.n.open, func(other *file) bool { return other == f })
	f.d.collect()
	return pathError("close", f.path, err)
}
