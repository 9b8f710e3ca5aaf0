package pager

import (
	"sync/atomic"
	"unsafe"
)

// Sparse32 and Sparse64 are arrays of words in anonymous memory that costs
// nothing where it is not touched: one entry per page or per unit of the largest
// file possible, outside the heap. One of less than a few pages is on the heap: a
// mapping of its own would cost more than it saves.

// heapWords is the largest number of 64-bit words of an array on the heap.
const heapWords = 2048

// zeroWords gives n zeroed words of 64 bits, and how to give them back.
func zeroWords(n uint64) (unsafe.Pointer, func(), error) {
	if n > heapWords {
		return anonymous(n * 8)
	}
	return unsafe.Pointer(unsafe.SliceData(make([]uint64, n+1))), func() {}, nil
}

// Sparse32 is an array of 32-bit words, zero at first. Loads and stores are atomic.
type Sparse32 struct {
	base unsafe.Pointer
	n    uint64
	free func()
}

// NewSparse32 makes an array of n words.
func NewSparse32(n uint64) (*Sparse32, error) {
	base, free, err := zeroWords(n/2 + 1)
	if err != nil {
		return nil, err
	}
	return &Sparse32{base, n, free}, nil
}

// Len is the number of words.
func (s *Sparse32) Len() uint64 { return s.n }

// Load returns word i. i must be below Len.
func (s *Sparse32) Load(i uint64) uint32 {
	// Sound: i is below n (callers check page numbers against the file's length, which never passes n).
	return atomic.LoadUint32((*uint32)(unsafe.Add(s.base, i*4)))
}

// Store sets word i. i must be below Len.
func (s *Sparse32) Store(i uint64, x uint32) {
	// Sound: as in Load.
	atomic.StoreUint32((*uint32)(unsafe.Add(s.base, i*4)), x)
}

// CompareAndSwap sets word i to x if it is was. i must be below Len.
func (s *Sparse32) CompareAndSwap(i uint64, was, x uint32) bool {
	// Sound: as in Load.
	return atomic.CompareAndSwapUint32((*uint32)(unsafe.Add(s.base, i*4)), was, x)
}

// Free gives the memory back. Nothing may touch the array afterwards.
func (s *Sparse32) Free() { s.free() }

// Sparse64 is an array of 64-bit words, zero at first. Loads and stores are atomic.
type Sparse64 struct {
	base unsafe.Pointer
	n    uint64
	free func()
}

// NewSparse64 makes an array of n words.
func NewSparse64(n uint64) (*Sparse64, error) {
	base, free, err := zeroWords(n)
	if err != nil {
		return nil, err
	}
	return &Sparse64{base, n, free}, nil
}

// Len is the number of words.
func (s *Sparse64) Len() uint64 { return s.n }

// Load returns word i. i must be below Len.
func (s *Sparse64) Load(i uint64) uint64 {
	// Sound: as in Sparse32.Load.
	return atomic.LoadUint64((*uint64)(unsafe.Add(s.base, i*8)))
}

// Store sets word i. i must be below Len.
func (s *Sparse64) Store(i uint64, x uint64) {
	// Sound: as in Sparse32.Load.
	atomic.StoreUint64((*uint64)(unsafe.Add(s.base, i*8)), x)
}

// Add adds d to word i, not atomically: one goroutine at a time may change it, and nobody may read it meanwhile.
func (s *Sparse64) Add(i uint64, d int64) {
	// Sound: as in Sparse32.Load.
	*(*uint64)(unsafe.Add(s.base, i*8)) += uint64(d)
}

// Free gives the memory back. Nothing may touch the array afterwards.
func (s *Sparse64) Free() { s.free() }
