//go:build darwin || freebsd

package pager

import "golang.org/x/sys/unix"

// networkName tells a file system that is not local by its type's name.
func networkName(st *unix.Statfs_t) string {
	if st.Flags&unix.MNT_LOCAL != 0 {
		return ""
	}
	return unix.ByteSliceToString(st.Fstypename[:])
}

// tryLock locks the whole open file: byte locks here belong to the process, and
// any close of the file within it would drop them.
func tryLock(fd int, kind LockKind) error {
	how := unix.LOCK_SH
	if kind == LockExclusive {
		how = unix.LOCK_EX
	}
	return unix.Flock(fd, how|unix.LOCK_NB)
}

func dropLock(fd int) error { return unix.Flock(fd, unix.LOCK_UN) }

// populate cannot be had here.
func populate(view, int64, int64, bool) error { return nil }

func adviceFlag(a Advice) (flag int, ok bool) {
	switch a {
	case AdviseRandom:
		return unix.MADV_RANDOM, true
	case AdviseNormal:
		return unix.MADV_NORMAL, true
	case AdviseWillNeed:
		return unix.MADV_WILLNEED, true
	case AdviseSequential:
		return unix.MADV_SEQUENTIAL, true
	}
	return 0, false // there is no advice for huge pages
}
