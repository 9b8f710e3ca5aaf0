package worker

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func usage() Usage {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Usage{
		Heap: m.HeapAlloc, Goroutines: runtime.NumGoroutine(),
		Anon: status("RssAnon"), FileRSS: status("RssFile") + status("RssShmem"),
	}
}

// status reads one figure of /proc/self/status, in bytes; 0 where there is none.
func status(name string) uint64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		rest, ok := bytes.CutPrefix(s.Bytes(), []byte(name+":"))
		if !ok {
			continue
		}
		kb, err := strconv.ParseUint(string(bytes.Fields(rest)[0]), 10, 64)
		if err == nil {
			return kb << 10
		}
	}
	return 0
}

func rusage() unix.Rusage {
	var u unix.Rusage
	// It fails only for a bad argument.
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return u
}

func majorFaults() int64 { return rusage().Majflt }

func cpuTime() time.Duration {
	u := rusage()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// settle waits until the process has been idle for three windows: compaction
// that goes on would run beside the next engine's measurement.
func settle(limit time.Duration) time.Duration {
	const window = 30 * time.Millisecond
	start := time.Now()
	for quiet := 0; quiet < 3 && time.Since(start) < limit; {
		cpu := cpuTime()
		time.Sleep(window)
		if cpuTime()-cpu < window/20 {
			quiet++
		} else {
			quiet = 0
		}
	}
	return time.Since(start)
}
