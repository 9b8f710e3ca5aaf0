package pager

import (
	"errors"
	"math/bits"

	"golang.org/x/sys/unix"
)

// syncMissesStores: fsync writes what was stored through mappings too.
const syncMissesStores = false

// openUnnamed cannot be had here.
func openUnnamed(string, uint32) (int, error) { return -1, errors.ErrUnsupported }

// unnamedPath leads to nothing: no file here is without a name.
func unnamedPath(int) string { return "" }

func linkUnnamed(int, string) error { return unix.EINVAL }

// renameExclusive does not exist here; a link and an unlink take its place.
func renameExclusive(string, string) error { return unix.ENOSYS }

// pwriteDSync does not exist here.
func (f *osFile) pwriteDSync([]byte, int64) (int, error) { return 0, unix.ENOSYS }

// syncData leaves out times, but not a new length. Only fsync is said to take along the stores.
func syncData(fd int) error {
	_, _, errno := unix.Syscall(unix.SYS_FDATASYNC, uintptr(fd), 0, 0)
	switch errno {
	case 0:
		return nil
	case unix.ENOSYS: // before FreeBSD 11.1
		return unix.Fsync(fd)
	}
	return errno
}
func syncFile(fd int) error { return unix.Fsync(fd) }
func syncAll(fd int) error  { return unix.Fsync(fd) }

// flushDevice has nothing to do: msync goes by the file system's own sync.
func flushDevice(int) error { return nil }

// reserveBlocks gets its error as the call's result. Where an offset takes two
// registers, which differ between processors, it leaves the work to zeros.
func reserveBlocks(fd int, off, n, _ int64) error {
	if bits.UintSize == 32 {
		return unix.ENOSYS
	}
	result, _, errno := unix.Syscall(unix.SYS_POSIX_FALLOCATE, uintptr(fd), uintptr(off), uintptr(n))
	if errno != 0 {
		return errno
	}
	if result != 0 {
		return unix.Errno(result)
	}
	return nil
}

func punchHole(int, int64, int64) error { return errors.ErrUnsupported }
