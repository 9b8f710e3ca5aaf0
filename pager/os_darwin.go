package pager

import (
	"errors"

	"golang.org/x/sys/unix"
)

// syncMissesStores: no document promises that F_FULLFSYNC takes along what was
// stored through a mapping and not yet by msync.
const syncMissesStores = true

// openUnnamed cannot be had here.
func openUnnamed(string, uint32) (int, error) { return -1, errors.ErrUnsupported }

// unnamedPath leads to nothing: no file here is without a name.
func unnamedPath(int) string { return "" }

func linkUnnamed(int, string) error { return unix.EINVAL }

func renameExclusive(from, to string) error { return unix.RenamexNp(from, to, unix.RENAME_EXCL) }

// pwriteDSync does not exist here.
func (f *osFile) pwriteDSync([]byte, int64) (int, error) { return 0, unix.ENOSYS }

// All three flush the device's cache, which fsync alone does not do here. A file
// system that does not know the request, such as SMB's, does what it can in fsync.
func syncData(fd int) error { return syncAll(fd) }
func syncFile(fd int) error { return syncAll(fd) }
func syncAll(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0)
	if noSuchCall(err) || err == unix.ENOTTY {
		return unix.Fsync(fd)
	}
	return err
}

// flushDevice comes after msync, which leaves the bytes in the device's cache.
func flushDevice(fd int) error { return syncAll(fd) }

// reserveBlocks can reserve behind the end of the file only.
func reserveBlocks(fd int, off, n, size int64) error {
	if off+n <= size {
		return nil
	}
	store := unix.Fstore_t{Flags: unix.F_ALLOCATEALL, Posmode: unix.F_PEOFPOSMODE, Length: off + n - size}
	if err := unix.FcntlFstore(uintptr(fd), unix.F_PREALLOCATE, &store); err != nil {
		return err
	}
	return unix.Ftruncate(fd, off+n)
}

// punchHole passes a Fstore_t: its first 24 bytes (flags, a word, offset, length)
// are laid out as the structure that F_PUNCHHOLE reads, whose first two words are zero.
func punchHole(fd int, off, n int64) error {
	err := unix.FcntlFstore(uintptr(fd), unix.F_PUNCHHOLE, &unix.Fstore_t{Offset: off, Length: n})
	if err == unix.ENOTSUP || err == unix.ENOSYS || err == unix.ENOTTY {
		return errors.ErrUnsupported
	}
	return err
}
