//go:build linux || darwin || freebsd

package pager

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile/internal/errs"
)

// OS is the disk of the operating system: its calls are system calls.
func OS() Disk { return osDisk{} }

type osDisk struct{}

// maxLinks bounds the symbolic links that Resolve follows by itself; it is the kernel's bound.
const maxLinks = 40

// Open opens the regular file at path. It asks what the path names before it
// opens it, because opening a named pipe waits and opening a device may act.
func (osDisk) Open(path string, readOnly bool) (File, error) {
	st, err := statPath(path)
	if err != nil {
		return nil, err
	}
	if err := mustBeRegular(st); err != nil {
		return nil, err
	}
	flags := unix.O_RDWR
	if readOnly {
		flags = unix.O_RDONLY
	}
	fd, err := openFD(path, flags, 0)
	if err != nil {
		return nil, err
	}
	return newOSFile(fd, path, readOnly)
}

// CreateTemp makes a file without a name where the system can, else one with a
// random name beside path, which Close removes. The process's umask applies to mode.
func (osDisk) CreateTemp(path string, mode fs.FileMode) (File, error) {
	fd, err := openUnnamed(filepath.Dir(path), uint32(mode.Perm()))
	if err == nil {
		return newOSFile(fd, "", false)
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	return createNamedTemp(path, mode)
}

func createNamedTemp(path string, mode fs.FileMode) (File, error) {
	temp := tempName(path)
	fd, err := openFD(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, uint32(mode.Perm()))
	if err != nil {
		return nil, err
	}
	f, err := newOSFile(fd, temp, false)
	if err != nil {
		_ = unix.Unlink(temp) // the error that made the file useless is the one to report
		return nil, err
	}
	f.temp = true
	return f, nil
}

// tempName is a name beside path that nobody else takes.
func tempName(path string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // cannot fail since Go 1.24
	return path + ".tmp-" + hex.EncodeToString(b[:])
}

// Link names f. A crash before it returns leaves path as it was or as it will
// be; only where a file must first get a temporary name (a file that has none
// and replaces another; a system without an exclusive rename) can that name stay behind.
func (osDisk) Link(f File, path string, replace bool) error {
	o, ok := f.(*osFile)
	if !ok || o.path != "" && !o.temp {
		return os.NewSyscallError("link", unix.EINVAL)
	}
	if err := linkOSFile(o, path, replace); err != nil {
		return err
	}
	o.path, o.temp = path, false
	return nil
}

func linkOSFile(f *osFile, path string, replace bool) error {
	switch {
	case f.temp && replace:
		return renameOver(f.path, path)
	case f.temp:
		return renameNew(f.path, path)
	case !replace:
		return linkUnnamed(f.handle(), path)
	}
	temp := tempName(path)
	if err := linkUnnamed(f.handle(), temp); err != nil {
		return err
	}
	if err := renameOver(temp, path); err != nil {
		_ = unix.Unlink(temp) // the rename's error is the one to report
		return err
	}
	return nil
}

func renameOver(from, to string) error {
	return os.NewSyscallError("rename", retryEINTR(func() error { return unix.Rename(from, to) }))
}

// renameNew gives from the name to, which must not exist. Where the system has no
// rename that refuses to replace, it is a link, after which the old name goes.
func renameNew(from, to string) error {
	err := retryEINTR(func() error { return renameExclusive(from, to) })
	if noSuchCall(err) {
		return linkThenUnlink(from, to)
	}
	return os.NewSyscallError("rename", err)
}

func linkThenUnlink(from, to string) error {
	if err := retryEINTR(func() error { return unix.Link(from, to) }); err != nil {
		return os.NewSyscallError("link", err)
	}
	return os.NewSyscallError("unlink", retryEINTR(func() error { return unix.Unlink(from) }))
}

// SyncDir syncs the directory that holds path. A file system that says that a
// directory cannot be synced (EINVAL) has no way to do more, so that is no error.
func (osDisk) SyncDir(path string) error {
	fd, err := openFD(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = retryEINTR(func() error { return syncAll(fd) })
	_ = unix.Close(fd) // nothing was written through it
	if err == unix.EINVAL {
		return nil
	}
	return os.NewSyscallError("fsync", err)
}

// Stat tells what path names now.
func (osDisk) Stat(path string) (Info, error) { return statPath(path) }

// Network asks the file system of path, or of the nearest directory above it that exists.
func (osDisk) Network(path string) (string, error) {
	for {
		var st unix.Statfs_t
		err := retryEINTR(func() error { return unix.Statfs(path, &st) })
		if err == nil {
			return networkName(&st), nil
		}
		up := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || up == path {
			return "", os.NewSyscallError("statfs", err)
		}
		path = up
	}
}

// Resolve makes path absolute without symbolic links. What does not exist yet
// stays as it is written; a link to nothing leads to the name it points at.
func (osDisk) Resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return resolve(abs, maxLinks)
}

func resolve(abs string, links int) (string, error) {
	if real, err := filepath.EvalSymlinks(abs); !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	if links == 0 {
		return "", os.NewSyscallError("readlink", unix.ELOOP)
	}
	up := filepath.Dir(abs)
	if up == abs {
		return abs, nil
	}
	dir, err := resolve(up, links)
	if err != nil {
		return "", err
	}
	abs = filepath.Join(dir, filepath.Base(abs))
	target, err := os.Readlink(abs)
	if err != nil {
		return abs, nil // no link: a name that does not exist yet
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(dir, target)
	}
	return resolve(target, links-1)
}

// openFD opens path. The descriptor is closed in child processes, and is never
// 0, 1 or 2: what another part of the program prints must not reach the map when
// the program was started with those closed.
func openFD(path string, flags int, mode uint32) (fd int, err error) {
	err = retryEINTR(func() error {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return -1, os.NewSyscallError("open", err)
	}
	return raiseFD(fd)
}

// raiseFD moves a descriptor out of the standard ones.
func raiseFD(fd int) (int, error) {
	if fd > 2 {
		return fd, nil
	}
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	_ = unix.Close(fd) // its copy has taken its place, or the open has failed
	if err != nil {
		return -1, os.NewSyscallError("fcntl", err)
	}
	return high, nil
}

// mustBeRegular says what is wrong with a file that cannot be a map.
func mustBeRegular(st Info) error {
	switch {
	case st.Mode.IsRegular():
		return nil
	case st.Mode.IsDir():
		return os.NewSyscallError("open", unix.EISDIR)
	}
	return errs.Join(errs.ErrNotMapfile, errors.New("not a regular file ("+st.Mode.Type().String()+")"))
}

func statPath(path string) (Info, error) {
	var st unix.Stat_t
	err := retryEINTR(func() error { return unix.Stat(path, &st) })
	return infoOf(&st), os.NewSyscallError("stat", err)
}

// infoOf keeps of a stat what the seam has. Blocks are counted in units of 512 bytes whatever the file system's are.
func infoOf(st *unix.Stat_t) Info {
	return Info{
		Dev: uint64(st.Dev), Ino: st.Ino, Links: uint64(st.Nlink),
		Size: st.Size, Blocks: st.Blocks * 512, Mode: modeOf(uint32(st.Mode)),
	}
}

func modeOf(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFREG:
		return mode
	case unix.S_IFDIR:
		return mode | fs.ModeDir
	case unix.S_IFIFO:
		return mode | fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return mode | fs.ModeSocket
	case unix.S_IFCHR:
		return mode | fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		return mode | fs.ModeDevice
	}
	return mode | fs.ModeIrregular
}

// retryEINTR repeats a call that a signal broke off; the runtime's own signals do that.
func retryEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// noSuchCall says that the kernel or the file system does not know a call or a flag of it.
func noSuchCall(err error) bool {
	return err == unix.ENOSYS || err == unix.EOPNOTSUPP || err == unix.ENOTSUP || err == unix.EINVAL
}
