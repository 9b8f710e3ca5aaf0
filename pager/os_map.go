//go:build linux || darwin || freebsd

package pager

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/errs"
)

const (
	// hugeSize is the size and alignment of the largest folio that one entry of the page table maps.
	hugeSize = 2 << 20
	// maxReserve32 bounds a reservation where a pointer has 32 bits: two views must fit beside the heap.
	maxReserve32 = 1 << 30
)

// osPageSize is the kernel's page size in bytes, to which the ranges of mappings
// are rounded. A variable so that a test can play a kernel with larger pages.
var osPageSize = int64(os.Getpagesize())

// view is one range of address space over the file. The memory is none of the
// Go heap's: it neither moves nor is collected, so a pointer to it is good until unmap.
type view struct {
	base unsafe.Pointer
	size int64
}

// osMapping is two views of one file, or in a read-only mapping one.
type osMapping struct {
	f       *osFile
	write   view // no base: there is none
	read    view
	private bool           // write and read are the same view, private memory behind the file's end
	amended map[int64]bool // by offset: pages of the file that are private memory by now
}

// Map reserves address space and maps the file over it. See MapOptions.
func (f *osFile) Map(o MapOptions) (Mapping, error) {
	least := roundUp(max(o.Least, 1), osPageSize)
	size := max(roundUp(o.Reserve, osPageSize), least)
	if unsafe.Sizeof(uintptr(0)) == 4 {
		size = max(min(size, maxReserve32), least)
	}
	for {
		m, err := f.mapSize(size, o)
		if err == nil {
			trackStores(m)
			return m, nil
		}
		if size == least || !errors.Is(err, unix.ENOMEM) {
			return nil, err
		}
		size = max(roundUp(size/2, osPageSize), least)
	}
}

func (f *osFile) mapSize(size int64, o MapOptions) (*osMapping, error) {
	m := &osMapping{f: f, private: o.ReadOnly && o.Private}
	var err error
	if m.private {
		m.read, err = f.privateView(size)
		m.write = m.read
		return m, err
	}
	if m.read, err = f.sharedView(size, unix.PROT_READ); err != nil || o.ReadOnly {
		return m, err
	}
	if m.write, err = f.sharedView(size, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		_ = m.read.unmap() // the mapping that failed is the error to report
	}
	return m, err
}

// sharedView maps size bytes of the file, which may be longer than the file is.
func (f *osFile) sharedView(size int64, prot int) (view, error) {
	v, err := reserve(size)
	if err != nil {
		return view{}, err
	}
	return v.over(f.handle(), 0, size, prot, unix.MAP_SHARED)
}

// privateView maps the file read-only, and behind its last page private memory.
func (f *osFile) privateView(size int64) (view, error) {
	st, err := f.Stat()
	if err != nil {
		return view{}, err
	}
	v, err := reserve(size)
	if err != nil {
		return view{}, err
	}
	end := min(roundUp(st.Size, osPageSize), size)
	if end > 0 {
		if v, err = v.over(f.handle(), 0, end, unix.PROT_READ, unix.MAP_SHARED); err != nil {
			return view{}, err
		}
	}
	if end == size {
		return v, nil
	}
	return v.over(-1, end, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|mapNoReserve)
}

// reserve takes size bytes of address space at a multiple of hugeSize, without
// memory behind them. It asks for more than that and gives back what lies before and behind.
func reserve(size int64) (view, error) {
	total := size + hugeSize
	if int64(int(total)) != total {
		return view{}, os.NewSyscallError("mmap", unix.ENOMEM) // more than a pointer can reach
	}
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(total), unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE|mapNoReserve)
	if err != nil {
		return view{}, os.NewSyscallError("mmap", err)
	}
	head := roundUp(int64(uintptr(p)), hugeSize) - int64(uintptr(p))
	v := view{unsafe.Add(p, head), size} // sound: head is at most hugeSize, so it stays in the range just mapped
	if err := errors.Join(view{p, head}.unmap(), view{unsafe.Add(v.base, size), hugeSize - head}.unmap()); err != nil {
		_ = v.unmap()
		return view{}, err
	}
	return v, nil
}

// over replaces [from, to) of a reservation by a mapping of fd (-1: of nothing).
// If that fails the whole reservation is given back.
func (v view) over(fd int, from, to int64, prot, flags int) (view, error) {
	// Sound: the range lies in the reservation, which is ours alone, so MAP_FIXED replaces nothing else.
	at := unsafe.Add(v.base, from)
	if _, err := unix.MmapPtr(fd, 0, at, uintptr(to-from), prot, flags|unix.MAP_FIXED); err != nil {
		_ = v.unmap() // the mapping that failed is the error to report
		return view{}, os.NewSyscallError("mmap", err)
	}
	return v, nil
}

func (v view) unmap() error {
	if v.size == 0 {
		return nil
	}
	return os.NewSyscallError("munmap", unix.MunmapPtr(v.base, uintptr(v.size)))
}

// bytes is [off, off+n) of the view from the start of the page that holds off,
// as the kernel wants it; it rounds the end up by itself.
func (v view) bytes(off, n int64) []byte {
	debug.Assert(off >= 0 && n >= 0 && off+n <= v.size, "range %d+%d is not in a mapping of %d", off, n, v.size)
	start := off - off%osPageSize
	// Sound: the range lies in the mapping, and the slice is only passed to system calls that take its address and length.
	return unsafe.Slice((*byte)(unsafe.Add(v.base, start)), off+n-start)
}

// Write is the base of the writable view.
func (m *osMapping) Write() unsafe.Pointer { return m.write.base }

// Read is the base of the view that callers see.
func (m *osMapping) Read() unsafe.Pointer { return m.read.base }

// Size is the number of bytes that were granted.
func (m *osMapping) Size() int64 { return m.read.size }

// Populate faults the range in for writing. Where the kernel has no call for
// that it does nothing: touching the pages instead would be the signal that it is there to prevent.
func (m *osMapping) Populate(off, n int64, huge bool) error {
	if m.write.base == nil {
		return errs.ErrReadOnly
	}
	if n == 0 {
		return nil
	}
	return populate(m.write, off, n, huge)
}

// Advise passes the hint on for both views: each faults, and reads ahead, by its own.
func (m *osMapping) Advise(off, n int64, a Advice) {
	flag, ok := adviceFlag(a)
	if !ok || n == 0 {
		return
	}
	_ = unix.Madvise(m.read.bytes(off, n), flag) // a hint
	if m.write.base != nil && !m.private {
		_ = unix.Madvise(m.write.bytes(off, n), flag)
	}
}

// Amend makes the kernel's page at off a private copy and stores the word in it. What is there reads the same
// throughout, for the copy begins as the file's page. The pager calls it one at a time.
func (m *osMapping) Amend(off int64, word uint64) error {
	if !m.private {
		return errors.ErrUnsupported
	}
	page := off - off%osPageSize
	at := unsafe.Add(m.read.base, page) // sound: off lies in the mapping
	bytes := unsafe.Slice((*byte)(at), osPageSize)
	var err error
	if m.amended[page] {
		err = unix.Mprotect(bytes, unix.PROT_READ|unix.PROT_WRITE)
	} else {
		// MAP_FIXED replaces a page of this mapping by the same page of the same file.
		_, err = unix.MmapPtr(m.f.handle(), page, at, uintptr(osPageSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
	}
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	if m.amended == nil {
		m.amended = map[int64]bool{}
	}
	m.amended[page] = true
	atomic.StoreUint64((*uint64)(unsafe.Add(m.read.base, off)), word) // sound: off is a multiple of 8 in the page
	return os.NewSyscallError("mprotect", unix.Mprotect(bytes, unix.PROT_READ))
}

// SyncRange writes the range to the disk and waits. What was stored through
// either view or by a write is one page cache, so syncing one view is enough.
func (m *osMapping) SyncRange(off, n int64) error {
	if m.write.base == nil || m.private {
		return errs.ErrReadOnly
	}
	if n == 0 {
		return nil
	}
	if err := msync(m.write, off, n); err != nil {
		return err
	}
	return os.NewSyscallError("fsync", retryEINTR(func() error { return flushDevice(m.f.handle()) }))
}

func msync(v view, off, n int64) error {
	return os.NewSyscallError("msync", retryEINTR(func() error { return unix.Msync(v.bytes(off, n), unix.MS_SYNC) }))
}

// Unmap gives both views back. A second call does nothing.
func (m *osMapping) Unmap() error {
	untrackStores(m)
	read, write := m.read, m.write
	m.read, m.write = view{}, view{}
	if m.private {
		return read.unmap()
	}
	return errors.Join(read.unmap(), write.unmap())
}

// storing holds the writable mappings of systems whose file sync misses what was
// stored through them; elsewhere it stays empty. Its lock is held while they are
// synced, so that none is unmapped meanwhile; no other lock is taken under it.
var storing = struct {
	sync.Mutex
	mappings map[*osMapping]struct{}
}{mappings: map[*osMapping]struct{}{}}

func trackStores(m *osMapping) {
	if !syncMissesStores || m.write.base == nil || m.private {
		return
	}
	storing.Lock()
	defer storing.Unlock()
	storing.mappings[m] = struct{}{}
}

func untrackStores(m *osMapping) {
	if !syncMissesStores {
		return
	}
	storing.Lock()
	defer storing.Unlock()
	delete(storing.mappings, m)
}

// syncStores syncs what the process has stored through its mappings of a file.
func syncStores(id fileID) error {
	storing.Lock()
	defer storing.Unlock()
	for m := range storing.mappings {
		if m.f.id != id {
			continue
		}
		st, err := m.f.Stat()
		if err == nil && st.Size > 0 {
			err = msync(m.write, 0, min(st.Size, m.write.size))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
