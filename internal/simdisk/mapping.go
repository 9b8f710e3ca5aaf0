package simdisk

import (
	"errors"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/mapfile-db/mapfile/pager"
)

// maxPrivate bounds the memory of a private mapping in bytes.
const maxPrivate = 1 << 30

// mapping shows the page cache of a file, or a private copy of it.
type mapping struct {
	f     *file
	mem   []byte // the whole of the buffer: its base never moves
	write bool   // it has a writable view
	own   bool   // mem is private
}

// Map maps the file. Both views of a shared mapping are the page cache itself, so
// that a store through the read-only view is not caught, and Size is at most the
// disk's capacity. A private mapping is a copy: the file's bytes as they are now, then
// zeros that belong to it alone; later changes of the file do not show in it.
func (f *file) Map(o pager.MapOptions) (pager.Mapping, error) {
	err := f.ask("Map", 0, o.Reserve)
	if err == nil && f.readOnly && !o.ReadOnly {
		err = syscall.EACCES
	}
	if err != nil {
		return nil, pathError("mmap", f.path, err)
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if o.Private {
		return f.mapPrivate(o)
	}
	size := min(o.Reserve, f.d.Capacity())
	if size < o.Least || size <= 0 {
		return nil, pathError("mmap", f.path, syscall.ENOMEM)
	}
	f.d.mapped++
	return &mapping{f: f, mem: f.n.cache().mem[:size], write: !o.ReadOnly}, nil
}

// mapPrivate gives twice the capacity if so much is asked for, more only if it is needed.
func (f *file) mapPrivate(o pager.MapOptions) (pager.Mapping, error) {
	size := min(o.Reserve, max(o.Least, 2*f.d.Capacity()))
	if size < max(o.Least, f.n.length) || size <= 0 || size > maxPrivate {
		return nil, pathError("mmap", f.path, syscall.ENOMEM)
	}
	m := &mapping{f: f, mem: f.d.pool.private(max(size, minCapacity))[:size], write: true, own: true}
	clear(m.mem[copy(m.mem, f.n.cache().mem[:f.n.length]):])
	f.d.mapped++
	return m, nil
}

// Write returns the base of the writable view, nil if there is none.
func (m *mapping) Write() unsafe.Pointer {
	if !m.write {
		return nil
	}
	return m.Read()
}

// Read returns the base. The pointer keeps the memory alive, and the memory
// never moves: it is one allocation for the life of the disk.
func (m *mapping) Read() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(m.mem)) }

// Size returns the bytes behind the base.
func (m *mapping) Size() int64 { return int64(len(m.mem)) }

// Populate gives holes in [off, off+count) blocks, as touching them would.
func (m *mapping) Populate(off, count int64, huge bool) error {
	if err := m.f.d.ask("Populate", m.f.path, off, count); err != nil {
		return pathError("madvise", m.f.path, err)
	}
	m.f.d.mu.Lock()
	defer m.f.d.mu.Unlock()
	switch {
	case m.own:
		return nil
	case off < 0 || off+count > pageUp(m.f.n.length):
		return pathError("madvise", m.f.path, syscall.EFAULT)
	case !m.f.d.room(m.f.n, off, count):
		return pathError("madvise", m.f.path, syscall.ENOSPC)
	}
	if m.write {
		m.f.n.takeBlocks(off, count)
	}
	return nil
}

// Advise does nothing.
func (m *mapping) Advise(off, count int64, a pager.Advice) {}

// Amend stores a word in private memory.
func (m *mapping) Amend(off int64, word uint64) error {
	if err := m.f.d.ask("Amend", m.f.path, off, 8); err != nil {
		return pathError("mmap", m.f.path, err)
	}
	if !m.own {
		return pathError("mmap", m.f.path, errors.ErrUnsupported)
	}
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&m.mem[off])), word)
	return nil
}

// SyncRange makes a range durable, on the description that was mapped. Private
// memory has nothing to make durable.
func (m *mapping) SyncRange(off, count int64) error {
	err := m.f.d.ask("SyncRange", m.f.path, off, count)
	if !m.own {
		err = m.f.sync(err, off, count)
	}
	return pathError("msync", m.f.path, err)
}

// Unmap takes the mapping away.
func (m *mapping) Unmap() error {
	if err := m.f.d.ask("Unmap", m.f.path, 0, m.Size()); err != nil {
		return pathError("munmap", m.f.path, err)
	}
	m.f.d.mu.Lock()
	defer m.f.d.mu.Unlock()
	if m.mem == nil {
		return nil
	}
	m.f.d.mapped--
	if m.own {
		m.f.d.pool.putPrivate(m.mem)
	}
	if m.own && m.mem != nil {
		m.f.d.pool.putPrivate(m.mem)
	}
	m.mem = nil
	return nil
}
