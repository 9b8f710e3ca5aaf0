//go:build !unix

package pager

import "unsafe"

// anonymous takes the memory from the heap where there is no mmap.
func anonymous(n uint64) (unsafe.Pointer, func(), error) {
	b := make([]uint64, n/8+1)
	return unsafe.Pointer(&b[0]), func() {}, nil
}
