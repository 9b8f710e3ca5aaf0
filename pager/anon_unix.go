//go:build unix

package pager

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// anonymous maps n bytes of zeroed memory outside the heap.
func anonymous(n uint64) (unsafe.Pointer, func(), error) {
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|mapNoReserve)
	if err != nil {
		return nil, nil, err
	}
	// An unmapping can fail only for a wrong address or length, and these are the ones just mapped.
	return p, func() { _ = unix.MunmapPtr(p, uintptr(n)) }, nil
}
