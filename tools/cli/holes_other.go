//go:build !linux

package cli

// holePages says which pages of a file lie in holes; ok is false: this system does not tell.
func holePages(string, uint64) (hole func(page uint64) bool, ok bool) {
	return func(uint64) bool { return false }, false
}
