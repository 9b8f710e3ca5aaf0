package pager

import (
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MemoryLimit is how many bytes of memory this process may use: the machine's, or its
// control group's limit if that is less.
func MemoryLimit() uint64 {
	limit := uint64(math.MaxUint64)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		limit = uint64(info.Totalram) * uint64(info.Unit)
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return limit
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[1] == "" {
			limit = min(limit, limitIn("/sys/fs/cgroup"+parts[2]+"/memory.max"))
		} else if strings.Contains(parts[1], "memory") {
			limit = min(limit, limitIn("/sys/fs/cgroup/memory"+parts[2]+"/memory.limit_in_bytes"))
		}
	}
	return limit
}

// limitIn reads a control group's limit; none is the largest number.
func limitIn(path string) uint64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil { // "max"
		return math.MaxUint64
	}
	return n
}
