package pager

import (
	"math"
	"testing"
	"unsafe"
)

// TestPrefetch: any offset is allowed, mapped or not, and so is none.
func TestPrefetch(t *testing.T) {
	b := make([]byte, 4096)
	v := &View{r: unsafe.Pointer(unsafe.SliceData(b)), size: uint64(len(b))}
	v.Prefetch(nil, 3)
	v.Prefetch([]uint64{0, 1, 4095, 4096, 1 << 40, 1 << 62, math.MaxUint64}, 3)
	v.PrefetchWritable([]uint64{0, 1 << 47, math.MaxUint64}, 1) // of a view without a writable side
}
