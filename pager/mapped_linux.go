package pager

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unsafe"
)

// Mapped tells how many bytes of the read-only view are mapped into this process's memory, and how many of these by entries of 2 MiB. The kernel walks all
// page tables of the process for it. The view must stay mapped meanwhile.
func (p *Pager) Mapped() (bytes, huge uint64, err error) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close() // read only: nothing can be lost
	v := p.View()
	from := uint64(uintptr(unsafe.Pointer(v.r))) // Sound: the address is compared, and nothing is read there.
	return sumMaps(f, from, from+v.size)
}

// sumMaps sums what smaps says of the ranges of addresses within [from, to).
func sumMaps(r io.Reader, from, to uint64) (bytes, huge uint64, err error) {
	lines, inside := bufio.NewScanner(r), false
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), " ")
		if first, last, ok := addresses(name); ok {
			inside = first >= from && last <= to
			continue
		}
		if !inside {
			continue
		}
		switch name {
		case "Rss:", "FilePmdMapped:", "ShmemPmdMapped:":
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 54)
			if err != nil {
				return 0, 0, fmt.Errorf("smaps: %w", err)
			}
			if n *= 1024; name == "Rss:" {
				bytes += n
			} else {
				huge += n
			}
		}
	}
	return bytes, huge, lines.Err()
}

// addresses reads "first-last", in hexadecimal digits.
func addresses(s string) (first, last uint64, ok bool) {
	a, b, _ := strings.Cut(s, "-")
	first, err1 := strconv.ParseUint(a, 16, 64)
	last, err2 := strconv.ParseUint(b, 16, 64)
	return first, last, err1 == nil && err2 == nil
}
