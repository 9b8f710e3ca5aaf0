package report

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
)

// Machine is where a run took place.
type Machine struct {
	OS         string
	Arch       string
	Kernel     string
	CPU        string
	Cores      int
	MemoryMiB  uint64
	HugePages  string // the kernel's setting for transparent huge pages
	FileSystem string // of the directory that held the files
	Go         string
}

// ThisMachine describes the machine and the file system of dir.
func ThisMachine(dir string) Machine {
	m := Machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version(),
		Kernel: kernel(), FileSystem: fileSystem(dir),
		CPU: procField("/proc/cpuinfo", "model name"),
	}
	// A missing figure stays zero: the report says so by showing it.
	_, _ = fmt.Sscanf(procField("/proc/meminfo", "MemTotal"), "%d kB", &m.MemoryMiB)
	m.MemoryMiB >>= 10
	if b, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err == nil {
		m.HugePages = strings.TrimSpace(string(b))
	}
	return m
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return string(bytes.TrimRight(u.Release[:], "\x00"))
}

// procField reads the first line "name : value" of a file in /proc.
func procField(path, name string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// AvailableBytes returns the memory that can be had without swapping; 0 where
// the system does not say.
func AvailableBytes() uint64 {
	var kb uint64
	if _, err := fmt.Sscanf(procField("/proc/meminfo", "MemAvailable"), "%d kB", &kb); err != nil {
		return 0
	}
	return kb << 10
}

// Commit names the commit of the working directory's repository.
func Commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// Describe lists engines with the versions built into this program.
func Describe(engines []engine.Engine) []Engine {
	versions := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			versions[d.Path] = d.Version
		}
	}
	list := make([]Engine, len(engines))
	for i, e := range engines {
		list[i] = Engine{e.Name, e.Module, versions[e.Module], e.Durability.String(), e.Settings}
	}
	return list
}
