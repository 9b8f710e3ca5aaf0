package pager

import (
	"errors"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile/internal/errs"
)

const (
	// lockByte is the byte that an open map locks. It lies behind any file, and
	// those after it are for the locks that many processes will need.
	lockByte = 1 << 62
	// syncMissesStores: fdatasync writes what was stored through mappings too.
	syncMissesStores = false
	// lustreMagic is not in x/sys.
	lustreMagic = 0x0bd00bd0
)

// networks names the network file systems by what statfs says. FUSE is taken for
// local: its statfs does not tell sshfs from a disk.
var networks = map[uint32]string{
	unix.NFS_SUPER_MAGIC:  "nfs",
	unix.CIFS_SUPER_MAGIC: "cifs",
	unix.SMB_SUPER_MAGIC:  "smb",
	unix.SMB2_SUPER_MAGIC: "smb2",
	unix.V9FS_MAGIC:       "9p",
	unix.CEPH_SUPER_MAGIC: "ceph",
	unix.AFS_SUPER_MAGIC:  "afs",
	unix.AFS_FS_MAGIC:     "afs",
	unix.CODA_SUPER_MAGIC: "coda",
	unix.NCP_SUPER_MAGIC:  "ncp",
	lustreMagic:           "lustre",
}

func networkName(st *unix.Statfs_t) string { return networks[uint32(st.Type)] }

// openUnnamed makes a file without a name in dir. Where the file system cannot,
// or /proc is missing, by which the file would get its name, the error is errors.ErrUnsupported.
func openUnnamed(dir string, mode uint32) (int, error) {
	fd, err := openFD(dir, unix.O_TMPFILE|unix.O_RDWR, mode)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) { // a kernel that does not know the flag sees a directory
		return -1, errors.ErrUnsupported
	}
	if err != nil {
		return -1, err
	}
	if _, err := statPath(unnamedPath(fd)); err != nil {
		_ = unix.Close(fd) // empty and without a name
		return -1, errors.ErrUnsupported
	}
	return fd, nil
}

// unnamedPath leads to an open file that has no name.
func unnamedPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func linkUnnamed(fd int, path string) error {
	return os.NewSyscallError("linkat", retryEINTR(func() error {
		return unix.Linkat(unix.AT_FDCWD, unnamedPath(fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	}))
}

func renameExclusive(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}

func (f *osFile) pwriteDSync(p []byte, off int64) (int, error) {
	return unix.Pwritev2(f.handle(), [][]byte{p}, off, unix.RWF_DSYNC)
}

// fdatasync leaves out times, but not a new length.
func syncData(fd int) error { return unix.Fdatasync(fd) }
func syncFile(fd int) error { return unix.Fdatasync(fd) }
func syncAll(fd int) error  { return unix.Fsync(fd) }

// flushDevice has nothing to do: msync has flushed the device's cache.
func flushDevice(int) error { return nil }

func reserveBlocks(fd int, off, n, _ int64) error { return unix.Fallocate(fd, 0, off, n) }

func punchHole(fd int, off, n int64) error {
	err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		return errors.ErrUnsupported
	}
	return err
}

// lockSpan is what is locked. The locks belong to the open file description, not to
// the process: another open in the process does not lose them when it is closed.
func lockSpan(kind int16) *unix.Flock_t {
	return &unix.Flock_t{Type: kind, Start: lockByte, Len: 1}
}

func tryLock(fd int, kind LockKind) error {
	typ := int16(unix.F_RDLCK)
	if kind == LockExclusive {
		typ = unix.F_WRLCK
	}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, lockSpan(typ))
}

func dropLock(fd int) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, lockSpan(unix.F_UNLCK))
}

// populate works in steps of one huge folio, so that none waits long and each
// fault covers a whole one.
func populate(v view, off, n int64, huge bool) error {
	if huge {
		_ = unix.Madvise(v.bytes(off, n), unix.MADV_HUGEPAGE) // before the first touch, or it comes too late; a hint
	}
	for end := off + n; off < end; {
		stop := min((off/hugeSize+1)*hugeSize, end)
		err := unix.Madvise(v.bytes(off, stop-off), unix.MADV_POPULATE_WRITE)
		switch err {
		case nil:
			off = stop
		case unix.EINTR, unix.EAGAIN:
		case unix.EINVAL: // before Linux 5.14
			return nil
		case unix.EFAULT, unix.ENOMEM: // the fault could not be served: no block or no memory for the page
			return errs.Join(syscall.ENOSPC, os.NewSyscallError("madvise", err))
		default:
			return os.NewSyscallError("madvise", err)
		}
	}
	return nil
}

func adviceFlag(a Advice) (flag int, ok bool) {
	switch a {
	case AdviseRandom:
		return unix.MADV_RANDOM, true
	case AdviseNormal:
		return unix.MADV_NORMAL, true
	case AdviseHuge:
		return unix.MADV_HUGEPAGE, true
	case AdviseSmall:
		return unix.MADV_NOHUGEPAGE, true
	case AdviseWillNeed:
		return unix.MADV_WILLNEED, true
	case AdviseSequential:
		return unix.MADV_SEQUENTIAL, true
	}
	return 0, false
}
