package freelist

import (
	"iter"
	mathbits "math/bits"
)

// bits is the bitmap of one unit: a set bit is a free page.
type bits []uint64

// mask gives the first word that [from, from+n) touches, its bits there, and their number.
func mask(from, n uint32) (word uint32, m uint64, k uint32) {
	k = min(n, 64-from%64)
	return from / 64, ^uint64(0) >> (64 - k) << (from % 64), k
}

// set sets n bits from from on.
func (b bits) set(from, n uint32) {
	for n > 0 {
		w, m, k := mask(from, n)
		b[w] |= m
		from, n = from+k, n-k
	}
}

// clear clears n bits from from on.
func (b bits) clear(from, n uint32) {
	for n > 0 {
		w, m, k := mask(from, n)
		b[w] &^= m
		from, n = from+k, n-k
	}
}

// count counts the set bits among n from from on.
func (b bits) count(from, n uint32) uint32 {
	sum := 0
	for n > 0 {
		w, m, k := mask(from, n)
		sum += mathbits.OnesCount64(b[w] & m)
		from, n = from+k, n-k
	}
	return uint32(sum)
}

// next is the first bit in [from, limit) that is set after the xor with flip;
// limit if there is none.
func (b bits) next(from, limit uint32, flip uint64) uint32 {
	for from < limit {
		if w := (b[from/64] ^ flip) >> (from % 64); w != 0 {
			return min(from+uint32(mathbits.TrailingZeros64(w)), limit)
		}
		from += 64 - from%64
	}
	return limit
}

// runs yields start and end of each run of set bits below limit, ascending.
func (b bits) runs(limit uint32) iter.Seq2[uint32, uint32] {
	return func(yield func(start, end uint32) bool) {
		for end := uint32(0); ; {
			start := b.next(end, limit, 0)
			if start == limit {
				return
			}
			end = b.next(start, limit, ^uint64(0))
			if !yield(start, end) {
				return
			}
		}
	}
}

// gap finds the best place for n pages that start on a multiple of align: the
// smallest run of whole groups of align pages that is large enough, the lowest
// among equals. size is the length of that run.
func (b bits) gap(limit, n, align uint32) (off, size uint32, ok bool) {
	for start, end := range b.runs(limit) {
		start = (start + align - 1) / align * align
		end -= end % align
		if end >= start+n && (!ok || end-start < size) {
			off, size, ok = start, end-start, true
		}
	}
	return off, size, ok
}
