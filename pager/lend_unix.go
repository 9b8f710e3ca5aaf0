//go:build unix

package pager

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Lend copies b into pages of its own that can only be read. end makes them inaccessible: whoever kept the bytes
// faults. Two system calls at the begin and one at the end: for debugging.
func Lend(b []byte) (lent []byte, end func(), err error) {
	n := uintptr(max(1, (len(b)+PageSize-1)/PageSize)) * PageSize
	p, err := unix.MmapPtr(-1, 0, nil, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, nil, err
	}
	// Sound: the memory was just mapped, n bytes of it, and nobody else knows of it.
	whole := unsafe.Slice((*byte)(p), int(n))
	copy(whole, b)
	if err := unix.Mprotect(whole, unix.PROT_READ); err != nil {
		_ = unix.MunmapPtr(p, n) // the first error is the one to tell
		return nil, nil, err
	}
	return whole[:len(b):len(b)], func() { takeBack(p, n) }, nil
}

// takeBack replaces the pages by ones that nobody may touch, which gives their memory back at once.
func takeBack(p unsafe.Pointer, n uintptr) {
	if _, err := unix.MmapPtr(-1, 0, p, n, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED|mapNoReserve); err != nil {
		_ = unix.Mprotect(unsafe.Slice((*byte)(p), int(n)), unix.PROT_NONE) // as good, but for the memory
	}
	// An unmapping can fail only for a wrong address or length, and these are the ones mapped.
	endLoan(lentPiece{func() { _ = unix.MunmapPtr(p, n) }})
}
