package pager

import (
	"io/fs"
	"unsafe"
)

// The storage seam: everything that the map asks of an operating system. The
// unix files of this package implement it on real files; internal/simdisk
// implements it in memory, where power cuts and errors can be played.

// Disk opens files. Paths are absolute.
type Disk interface {
	// Open opens an existing file. With readOnly it asks for read permission
	// only. The error is the system's (fs.ErrNotExist, fs.ErrPermission).
	// A directory, or anything that is no regular file, is an error.
	Open(path string, readOnly bool) (File, error)

	// CreateTemp makes a new empty file in the directory of path, open for
	// reading and writing, that has no name which a crash could leave behind
	// where the system allows that (O_TMPFILE), else a name of its own.
	CreateTemp(path string, mode fs.FileMode) (File, error)

	// Link gives f, which CreateTemp made, the name path. With replace it takes
	// the place of what is there; without, an existing file is fs.ErrExist.
	Link(f File, path string, replace bool) error

	// SyncDir makes the directory entries beside path durable.
	SyncDir(path string) error

	// Stat tells what path names now, following symbolic links.
	Stat(path string) (Info, error)

	// Network names the network file system that holds path, "" for a local one.
	Network(path string) (name string, err error)

	// Resolve makes path absolute and follows symbolic links as far as they exist.
	Resolve(path string) (string, error)
}

// Info is what the system knows of a file.
type Info struct {
	Dev, Ino uint64
	Links    uint64
	Size     int64 // bytes
	Blocks   int64 // bytes allocated on disk
	Mode     fs.FileMode
}

// Same reports whether two infos name the same file.
func (a Info) Same(b Info) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// LockKind says how a file is locked.
type LockKind int

const (
	LockShared    LockKind = iota // many may hold it: read-only opens
	LockExclusive                 // one alone: a read-write open
)

// File is one open file description. Offsets and lengths are bytes. Calls
// retry EINTR and short results themselves: an error means that the whole was
// not done. Errors are the system's (a syscall.Errno is visible to errors.As).
type File interface {
	// ReadAt reads len(p) bytes at off; fewer (behind the end) is io.ErrUnexpectedEOF or io.EOF.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt puts p into the page cache.
	WriteAt(p []byte, off int64) error
	// WriteSync puts p into the page cache and makes it durable.
	WriteSync(p []byte, off int64) error
	// Sync makes every byte of the file and its length durable, however it was stored.
	Sync() error
	// Allocate makes sure that the bytes [off, off+n) have blocks on the disk; the file
	// grows to off+n if it is shorter. New bytes read as zero.
	Allocate(off, n int64) error
	// Truncate sets the length.
	Truncate(size int64) error
	// Punch gives the blocks of [off, off+n) back; the bytes read as zero, the length
	// stays. Where the system cannot it answers errors.ErrUnsupported.
	Punch(off, n int64) error
	// Stat tells what the file is now.
	Stat() (Info, error)
	// Reopen opens the same file once more, as a description of its own. It is an
	// error if the path names another file now.
	Reopen() (File, error)
	// Lock tries once to take the lock of a map; false: another holds it.
	// Close lets go.
	Lock(kind LockKind) (bool, error)
	// Map maps the file. See MapOptions.
	Map(o MapOptions) (Mapping, error)
	// Stored announces that bytes [off, off+n) were stored through the mapping. It is
	// called in builds with the tag mapfile_debug only.
	Stored(off, n int64)
	Close() error
}

// MapOptions say what part of the address space a mapping takes.
type MapOptions struct {
	Reserve  int64 // bytes of address space, at least the file's length; the system may grant less, but never less than Least
	Least    int64 // bytes that are needed
	ReadOnly bool  // no writable view
	// Private, with ReadOnly: everything from the file's end (rounded up to a page) to the end of the
	// reservation is private anonymous memory, writable through the writable view. A crashed file
	// is recovered into it without a change to the file.
	Private bool
}

// Mapping is one mapping of a file, longer than the file: the file grows beneath it.
type Mapping interface {
	// Write is the base of the writable view: only the engine touches it. nil for a
	// read-only mapping without private memory; in a private one only offsets behind the file's end may be stored to.
	Write() unsafe.Pointer
	// Read is the base of the read-only view of the same bytes: a store to it faults.
	Read() unsafe.Pointer
	// Size is the number of bytes of address space behind both bases.
	Size() int64
	// Populate brings [off, off+n) into memory, writable, so that a full disk is an
	// error here and not a signal later. With huge the kernel is asked for 2 MiB folios first.
	Populate(off, n int64, huge bool) error
	// Advise tells the kernel how [off, off+n) will be used. It is a hint: it cannot fail.
	Advise(off, n int64, a Advice)
	// Amend stores a word, in the order of memory, at off, a multiple of 8, in a Private mapping, where no store
	// is allowed otherwise: the page becomes private memory, and the file stays as it is. Readers see it in one step.
	Amend(off int64, word uint64) error
	// SyncRange makes [off, off+n) durable, however it was stored.
	SyncRange(off, n int64) error
	// Unmap takes the address space back. Nothing may touch it afterwards.
	Unmap() error
}

// Advice is a hint for a range of the mapping.
type Advice int

const (
	AdviseRandom Advice = iota // no read-ahead
	AdviseNormal
	AdviseHuge  // 2 MiB folios where they can be had: a fault reads a whole one
	AdviseSmall // the kernel's own pages: it ends AdviseHuge, beside which AdviseRandom does nothing
	AdviseWillNeed
	AdviseSequential
)
