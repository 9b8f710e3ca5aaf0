package pager

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/mapfile-db/mapfile/internal/debug"
)

// Words of the file are little-endian. Plain reads and writes go through
// encoding/binary; the atomic ones through the methods below.

func swap64(x uint64) uint64 {
	if bigEndian {
		return bits.ReverseBytes64(x)
	}
	return x
}

func swap32(x uint32) uint32 {
	if bigEndian {
		return bits.ReverseBytes32(x)
	}
	return x
}

// Mix spreads two words over 64 bits. It is the finalizer of splitmix64 (Steele,
// Lea, Flood: Fast splittable pseudorandom number generators, 2014) over a and b
// times the golden ratio. Every sum in the file is salted with it.
func Mix(a, b uint64) uint64 {
	x := a ^ (b+1)*0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// inside checks, in builds with the tag mapfile_debug, that a range lies in the view: what leads there may have been any bytes, and
// is to be compared with the file's length before.
func (v *View) inside(off, n uint64) {
	if debug.On && (off > v.size || n > v.size-off) { // asked here: the arguments of each call would be put on the heap
		debug.Assert(false, "[%d, %d+%d) is outside of the mapping of %d bytes", off, off, n, v.size)
	}
}

// Load64 loads the word at byte offset off, a multiple of 8 below the view's size, atomically.
func (v *View) Load64(off uint64) uint64 {
	v.inside(off, 8)
	// Sound: off lies inside the reservation, which stays mapped while the view may be read.
	return swap64(atomic.LoadUint64((*uint64)(unsafe.Add(v.r, off))))
}

// Load32 loads the word at byte offset off, a multiple of 4 below the view's size, atomically.
func (v *View) Load32(off uint64) uint32 {
	v.inside(off, 4)
	// Sound: as in Load64.
	return swap32(atomic.LoadUint32((*uint32)(unsafe.Add(v.r, off))))
}

// Store64 stores a word at byte offset off, a multiple of 8, atomically, and announces it.
func (p *Pager) Store64(v *View, off uint64, x uint64) {
	v.inside(off, 8)
	// Sound: as in Load64; the writable view has the same size.
	atomic.StoreUint64((*uint64)(unsafe.Add(v.w, off)), swap64(x))
	p.Stored(off, 8)
}

// Store32 stores a word at byte offset off, a multiple of 4, atomically, and announces it.
func (p *Pager) Store32(v *View, off uint64, x uint32) {
	v.inside(off, 4)
	// Sound: as in Load64; the writable view has the same size.
	atomic.StoreUint32((*uint32)(unsafe.Add(v.w, off)), swap32(x))
	p.Stored(off, 4)
}

// Bytes is the read-only view of [off, off+n), which must lie below the view's
// size. A store to it faults. It is valid until the view is unmapped.
func (v *View) Bytes(off, n uint64) []byte {
	v.inside(off, n)
	// Sound: the range lies inside the reservation.
	return unsafe.Slice((*byte)(unsafe.Add(v.r, off)), n)
}

// Writable is the writable view of [off, off+n), for the engine alone. Who stores
// to it announces that with Pager.Stored.
func (v *View) Writable(off, n uint64) []byte {
	v.inside(off, n)
	// Sound: the range lies inside the reservation.
	return unsafe.Slice((*byte)(unsafe.Add(v.w, off)), n)
}

// Page is the read-only view of one page.
func (v *View) Page(n PageNo) []byte { return v.Bytes(uint64(n)*PageSize, PageSize) }

// WritablePage is the writable view of one page.
func (v *View) WritablePage(n PageNo) []byte { return v.Writable(uint64(n)*PageSize, PageSize) }
