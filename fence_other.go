//go:build !amd64

package mapfile

import "sync/atomic"

// fence orders the loads before it before the loads behind it. A load-acquire alone does
// not hold back earlier loads; Go compiles an atomic store followed by an atomic load to a
// pair that does (on arm64 STLR, LDAR).
func fence() {
	var w atomic.Uint32
	w.Store(1)
	_ = w.Load()
}
