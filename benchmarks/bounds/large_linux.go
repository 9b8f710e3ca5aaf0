package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

// largeScan scans a map four times larger than the memory limit, in child processes of a control group, and reads its file from begin
// to end under the same limit, by turns. The page cache has nothing of the file when a child begins.
func largeScan(dir string) ([]*bound, error) {
	b := &bound{name: fmt.Sprintf("scan of a map 4 x its memory limit, values of %d bytes / plain read", *value), want: 0.5}
	rate := &bound{name: "the same, plain read, MiB/s"}
	return limited(dir, *value, []*bound{b, rate}, func(n int, group, path string, size int64) ([]float64, error) {
		seconds := map[string]float64{}
		for i := range 2 {
			kind := []string{"scan", "read"}[(i+n)%2]
			var err error
			if seconds[kind], err = inGroup(group, kind, path); err != nil {
				return nil, fmt.Errorf("%s: %w", kind, err)
			}
		}
		return []float64{seconds["read"] / seconds["scan"], float64(size>>20) / seconds["read"]}, nil
	})
}

// largeGets gets at random from a map four times larger than the memory limit, in a child process of a control group, and counts what that reads
// from the disk.
func largeGets(dir string) ([]*bound, error) {
	b := &bound{name: "pages read from disk per Get hit, map 4 x its memory limit", want: 1.1, atMost: true}
	return limited(dir, 100, []*bound{b}, func(_ int, group, path string, _ int64) ([]float64, error) {
		pages, err := inGroup(group, "gets", path)
		return []float64{pages}, err
	})
}

// limited makes a map and a control group that may use a quarter of its size, and measures with them.
func limited(dir string, value int, all []*bound, round func(n int, group, path string, size int64) ([]float64, error)) ([]*bound, error) {
	db, err := open(dir, mapfile.SyncNever)
	if err != nil {
		return nil, err
	}
	err = fill(db, uint64(*large<<20)/uint64(value+60), value) // with headers and index
	path := db.Path()
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	group, err := newGroup(info.Size() / 4)
	if err != nil {
		all[0].skipped = fmt.Sprintf("no control group with a memory limit can be made here (%v)", err)
		return all[:1], nil
	}
	all, err = each(all, func(n int) ([]float64, error) { return round(n, group, path, info.Size()) })
	return all, errors.Join(err, os.Remove(group))
}

// newGroup makes a control group below this process's own, or below the root, of version 2 or 1.
func newGroup(limit int64) (path string, err error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	var parents [][2]string // directory, name of the limit
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) == 3 && f[1] == "":
			parents = append(parents, [2]string{"/sys/fs/cgroup" + f[2], "memory.max"}, [2]string{"/sys/fs/cgroup", "memory.max"})
		case len(f) == 3 && f[1] == "memory":
			parents = append(parents, [2]string{"/sys/fs/cgroup/memory" + f[2], "memory.limit_in_bytes"})
		}
	}
	err = errors.New("there are none")
	for _, p := range parents {
		path = filepath.Join(p[0], fmt.Sprintf("mapfile-bounds-%d", os.Getpid()))
		if err = os.Mkdir(path, 0o755); err != nil {
			continue
		}
		if err = writeExisting(filepath.Join(path, p[1]), fmt.Sprint(limit)); err == nil {
			return path, nil
		}
		_ = os.Remove(path)
	}
	return "", err
}

// writeExisting writes a control file, which it does not make.
func writeExisting(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// inGroup runs a child, and tells the figure that it prints.
func inGroup(group, kind, path string) (figure float64, err error) {
	if err := forget(path); err != nil {
		return 0, err
	}
	cmd := exec.Command(os.Args[0], "-child", kind, "-file", path, "-group", group, "-large-value", fmt.Sprint(*value))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(string(out), &figure)
	return figure, err
}

// forget takes a file, which nobody has mapped, out of the page cache.
func forget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
}

// child joins the group, reads, and says how many seconds it took, or how many pages came from the disk for each Get.
func child() error {
	if err := writeExisting(filepath.Join(*group, "cgroup.procs"), fmt.Sprint(os.Getpid())); err != nil {
		return err
	}
	if *asChild == "gets" {
		return getFromFile()
	}
	begin := time.Now()
	if err := map[string]func() error{"scan": scanFile, "read": readFile}[*asChild](); err != nil {
		return err
	}
	fmt.Println(time.Since(begin).Seconds())
	return nil
}

func scanFile() error {
	db, err := mapfile.Open(*file, &mapfile.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	err = db.View(func(tx *mapfile.Tx) error {
		n, err := whole(workload.KeyBytes + *value)(tx)
		if err == nil && n != tx.Len() {
			err = fmt.Errorf("%d entries of %d", n, tx.Len())
		}
		return err
	})
	return errors.Join(err, db.Close())
}

// getFromFile gets at random: first so often that memory is full twice over with a page for each, so that it holds what it holds in the long run,
// and then as often while what is read from the disk is counted.
func getFromFile() error {
	db, err := mapfile.Open(*file, &mapfile.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	call, n := get(db, db.Len()), uint64(db.Stats().FileSize)/4/4096*2
	for range n {
		if err := call(); err != nil {
			return err
		}
	}
	before, err := readBytes()
	if err != nil {
		return err
	}
	for range n {
		if err := call(); err != nil {
			return err
		}
	}
	after, err := readBytes()
	fmt.Println(float64(after-before) / 4096 / float64(n))
	return errors.Join(err, db.Close())
}

// readBytes is how many bytes the kernel has read from disks for this process.
func readBytes() (n uint64, err error) {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "read_bytes: %d", &n); err == nil {
			return n, nil
		}
	}
	return 0, errors.New("/proc/self/io does not tell read_bytes")
}

func readFile() error {
	f, err := os.Open(*file)
	if err != nil {
		return err
	}
	for buf := make([]byte, 1<<20); err == nil; {
		_, err = f.Read(buf)
	}
	if err == io.EOF {
		err = nil
	}
	return errors.Join(err, f.Close())
}
