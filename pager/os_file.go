//go:build linux || darwin || freebsd

package pager

import (
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile/internal/errs"
)

const (
	// maxIO bounds one read or write: darwin refuses 2 GiB and more, Linux cuts them short.
	maxIO = 1 << 30
	// zeroStep is how many zeros Allocate writes at once where the system cannot reserve blocks.
	zeroStep = 1 << 20
)

// fileID names a file within the machine, whatever its paths.
type fileID struct{ dev, ino uint64 }

// osFile is one open file description. The descriptor is a bare number and no
// *os.File: no finalizer can close it while a system call uses it, and it never
// comes near the runtime's poller. Close must be the last call.
type osFile struct {
	fd       atomic.Int32 // -1 after Close, so that a late call gets EBADF and not another's file
	id       fileID
	path     string // "" while it has no name
	temp     bool   // path is a temporary name, which Close removes
	readOnly bool

	noDSync atomic.Bool // writing through to the disk in one call is not supported

	// length is held while the length changes: Allocate takes back what it gained when it fails.
	length sync.Mutex
}

// newOSFile takes over fd, also when it fails.
func newOSFile(fd int, path string, readOnly bool) (*osFile, error) {
	f := &osFile{path: path, readOnly: readOnly}
	f.fd.Store(int32(fd))
	st, err := f.Stat()
	if err == nil {
		err = mustBeRegular(st)
	}
	if err != nil {
		_ = unix.Close(fd) // nothing was written through it
		return nil, err
	}
	f.id = fileID{st.Dev, st.Ino}
	return f, nil
}

func (f *osFile) handle() int { return int(f.fd.Load()) }

// ReadAt reads by system call, not through a mapping.
func (f *osFile) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(f.handle(), p[done:min(len(p), done+maxIO)], off+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, os.NewSyscallError("pread", err)
		case n == 0 && done == 0:
			return 0, io.EOF
		case n == 0:
			return done, io.ErrUnexpectedEOF
		default:
			done += n
		}
	}
	return done, nil
}

// WriteAt writes all of p.
func (f *osFile) WriteAt(p []byte, off int64) error {
	return os.NewSyscallError("pwrite", writeAll(p, off, f.pwrite))
}

func (f *osFile) pwrite(p []byte, off int64) (int, error) { return unix.Pwrite(f.handle(), p, off) }

// writeAll calls write until all of p is written.
func writeAll(p []byte, off int64, write func([]byte, int64) (int, error)) error {
	for len(p) > 0 {
		n, err := write(p[:min(len(p), maxIO)], off)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite // no progress and no reason: going on would never end
		default:
			p, off = p[n:], off+int64(n)
		}
	}
	return nil
}

// WriteSync writes p through to the disk: in one call where the system has it,
// else by a write and a sync of the file's data.
func (f *osFile) WriteSync(p []byte, off int64) error {
	if !f.noDSync.Load() {
		err := writeAll(p, off, f.pwriteDSync)
		if !noSuchCall(err) {
			return os.NewSyscallError("pwritev2", err)
		}
	}
	if err := f.WriteAt(p, off); err != nil {
		return err
	}
	f.noDSync.Store(true) // the plain write was accepted, so it was the flag that was not
	return os.NewSyscallError("fdatasync", retryEINTR(func() error { return syncData(f.handle()) }))
}

// Sync makes the file durable. Where the system's sync does not reach what was
// stored through mappings, those are synced first.
func (f *osFile) Sync() error {
	if syncMissesStores {
		if err := syncStores(f.id); err != nil {
			return err
		}
	}
	return os.NewSyscallError("fsync", retryEINTR(func() error { return syncFile(f.handle()) }))
}

// Allocate reserves blocks. When it fails the file is as long as it was, and
// blocks that were gained behind its end are given back: on a full disk they
// would be the last ones.
func (f *osFile) Allocate(off, n int64) error {
	if off < 0 || n <= 0 || off+n < 0 {
		return os.NewSyscallError("fallocate", unix.EINVAL)
	}
	f.length.Lock()
	defer f.length.Unlock()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err = f.allocate(off, n, st.Size); err != nil && off+n > st.Size {
		_ = f.truncate(st.Size) // the reason why there is no room is the error to report
	}
	return err
}

func (f *osFile) allocate(off, n, size int64) error {
	err := retryEINTR(func() error { return reserveBlocks(f.handle(), off, n, size) })
	if !noSuchCall(err) {
		return os.NewSyscallError("fallocate", err)
	}
	return f.writeZeros(max(off, size), off+n)
}

// writeZeros fills [from, to), which lies behind the end of the file: a range
// inside it may hold bytes, and cannot be written without a race against their stores.
func (f *osFile) writeZeros(from, to int64) error {
	if from >= to {
		return nil
	}
	zeros := make([]byte, min(zeroStep, to-from))
	for ; from < to; from += int64(len(zeros)) {
		if err := f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from); err != nil {
			return err
		}
	}
	return nil
}

// Truncate sets the length.
func (f *osFile) Truncate(size int64) error {
	f.length.Lock()
	defer f.length.Unlock()
	return f.truncate(size)
}

func (f *osFile) truncate(size int64) error {
	return os.NewSyscallError("ftruncate", retryEINTR(func() error { return unix.Ftruncate(f.handle(), size) }))
}

// Punch gives blocks back.
func (f *osFile) Punch(off, n int64) error {
	return os.NewSyscallError("punch hole", retryEINTR(func() error { return punchHole(f.handle(), off, n) }))
}

// Stat tells what the open file is, whatever its path names.
func (f *osFile) Stat() (Info, error) {
	var st unix.Stat_t
	err := retryEINTR(func() error { return unix.Fstat(f.handle(), &st) })
	return infoOf(&st), os.NewSyscallError("fstat", err)
}

// Reopen opens the path once more; if it names another file now the error is ErrReplaced.
func (f *osFile) Reopen() (File, error) {
	path := f.path
	if path == "" {
		path = unnamedPath(f.handle())
	}
	again, err := osDisk{}.Open(path, f.readOnly)
	if err != nil {
		return nil, err
	}
	g := again.(*osFile)
	if g.id != f.id {
		_ = g.Close() // another's file: the error is that it is one
		return nil, errs.ErrReplaced
	}
	g.path = f.path
	return g, nil
}

// Stored is for simulated disks; the kernel sees the stores itself.
func (f *osFile) Stored(off, n int64) {}

// Close lets the lock go, removes a temporary name and closes the descriptor.
func (f *osFile) Close() error {
	f.unlock()
	fd := f.fd.Swap(-1)
	if fd < 0 {
		return os.ErrClosed
	}
	if f.temp {
		_ = unix.Unlink(f.path) // a name that stays behind does no harm
	}
	// After EINTR the descriptor is closed on all systems but one, and closing it
	// twice could close another's: so it is never repeated.
	if err := unix.Close(int(fd)); err != unix.EINTR {
		return os.NewSyscallError("close", err)
	}
	return nil
}
