//go:build !amd64 && !arm64

package pager

// Prefetch does nothing here.
func (v *View) Prefetch([]uint64, int) {}

// PrefetchWritable does nothing here.
func (v *View) PrefetchWritable([]uint64, int) {}
