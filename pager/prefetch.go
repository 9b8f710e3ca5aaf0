//go:build amd64 || arm64

package pager

import "unsafe"

// Prefetch asks the processor for cache lines, so many from each byte offset on, and does not wait for them. An offset may be anything: what is not
// mapped, or cannot be read, is left out and does not fault. lines is 1 at least.
func (v *View) Prefetch(offsets []uint64, lines int) {
	if len(offsets) > 0 {
		// Sound: the instructions touch nothing that a program can see; the offsets are read within their slice.
		prefetch(v.r, unsafe.SliceData(offsets), len(offsets), lines)
	}
}

// PrefetchWritable is Prefetch for who will use the writable view, by whose addresses the translations come then.
func (v *View) PrefetchWritable(offsets []uint64, lines int) {
	if len(offsets) > 0 {
		// Sound: as in Prefetch.
		prefetch(v.w, unsafe.SliceData(offsets), len(offsets), lines)
	}
}

// prefetch is Prefetch of n offsets from an address.
//
//go:noescape
func prefetch(base unsafe.Pointer, offsets *uint64, n, lines int)
