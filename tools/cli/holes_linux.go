package cli

import (
	"os"
	"syscall"
)

// What lseek calls the next byte that has a block, and the next that has none.
const (
	seekData = 3
	seekHole = 4
)

// holePages says which of the first pages pages of a file lie wholly in holes; ok is false where the system does not tell.
func holePages(path string, pages uint64) (hole func(page uint64) bool, ok bool) {
	none := func(uint64) bool { return false }
	f, err := os.Open(path)
	if err != nil {
		return none, false
	}
	defer func() { _ = f.Close() }() // nothing was written
	const size = 4096
	is := make([]bool, pages)
	fd := int(f.Fd())
	for at := int64(0); uint64(at) < pages*size; {
		from, err := syscall.Seek(fd, at, seekHole)
		if err != nil {
			return none, false
		}
		to, err := syscall.Seek(fd, from, seekData)
		if err != nil { // no data behind
			to = int64(pages * size)
		}
		for p := uint64(from+size-1) / size; (p+1)*size <= uint64(to) && p < pages; p++ {
			is[p] = true
		}
		if at = to; to <= from {
			break
		}
	}
	return func(page uint64) bool { return is[page] }, true
}
