//go:build !linux

package pager

import "math"

// MemoryLimit is how many bytes of memory this process may use, where the system tells: here it does not.
func MemoryLimit() uint64 { return math.MaxUint64 }
