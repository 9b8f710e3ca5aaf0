// Command bounds measures what is promised of scans, counters, synced commits and space, and prints for each what is wanted and what was reached.
//
//	go run ./benchmarks/bounds -dir /mnt/disk
//
// Each figure is the median of the rounds; least and greatest stand beside it. What is compared takes turns within a round.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

var (
	rounds  = flag.Int("rounds", 7, "rounds of each measurement, behind one that does not count")
	keys    = flag.Uint64("keys", 1_000_000, "entries that are scanned from the page cache")
	large   = flag.Int64("large", 1024, "MiB of the map that is larger than its memory limit, which is a quarter of it")
	value   = flag.Int("large-value", 1000, "bytes of the values in that map")
	dir     = flag.String("dir", "", "where the files lie meanwhile; \"\": the directory for temporary files")
	only    = flag.String("only", "", "measure only these, of "+strings.Join(names(), ","))
	asChild = flag.String("child", "", "what a child process reads under the memory limit (used by the command itself)")
	file    = flag.String("file", "", "the file that it reads")
	group   = flag.String("group", "", "the control group that it joins first")
)

// measurements fill in bounds. They get a directory of their own.
var measurements = []struct {
	name string
	run  func(dir string) ([]*bound, error)
}{
	{"scan", scans}, {"large", largeScan}, {"pages", largeGets}, {"add", adds}, {"group", groupCommit}, {"commit", loneCommit},
	{"steady", steady}, {"shrink", shrink}, {"beside", beside}, {"bulk", bulk}, {"checkpoint", checkpoint},
}

func names() (all []string) {
	for _, m := range measurements {
		all = append(all, m.name)
	}
	return all
}

func main() {
	flag.Parse()
	run := measure
	if *asChild != "" {
		run = child
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bounds:", err)
		os.Exit(2)
	}
}

func measure() error {
	var all []*bound
	for _, m := range measurements {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), m.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "measuring:", m.name)
		tmp, err := os.MkdirTemp(*dir, "bounds")
		if err != nil {
			return err
		}
		bounds, err := m.run(tmp)
		if err = errors.Join(err, os.RemoveAll(tmp)); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		all = append(all, bounds...)
	}
	fmt.Printf("%-66s %12s %12s %12s %12s\n", fmt.Sprintf("%d rounds", *rounds), "wanted", "median", "least", "greatest")
	for _, b := range all {
		fmt.Println(b)
	}
	return nil
}

// bound is a figure of each round, and what is wanted of its median.
type bound struct {
	name    string
	want    float64 // 0: nothing, it is shown for comparison
	atMost  bool
	figures []float64
	skipped string // why it was not measured
}

// each runs the rounds; the figures of the first do not count.
func each(all []*bound, round func(n int) ([]float64, error)) ([]*bound, error) {
	for n := range *rounds + 1 {
		figures, err := round(n)
		if err != nil {
			return nil, err
		}
		for i, b := range all {
			if n > 0 {
				b.figures = append(b.figures, figures[i])
			}
		}
	}
	return all, nil
}

func (b *bound) String() string {
	if b.skipped != "" {
		return fmt.Sprintf("%-66s not measured: %s", b.name, b.skipped)
	}
	slices.Sort(b.figures)
	median := b.figures[len(b.figures)/2]
	want, verdict := "", ""
	if b.want != 0 {
		sign, reached := ">= ", median >= b.want
		if b.atMost {
			sign, reached = "<= ", median <= b.want
		}
		want, verdict = sign+number(b.want), map[bool]string{true: "reached", false: "missed"}[reached]
	}
	return fmt.Sprintf("%-66s %12s %12s %12s %12s  %s", b.name, want, number(median), number(b.figures[0]), number(b.figures[len(b.figures)-1]), verdict)
}

// number prints rates in thousands, ratios with two decimals.
func number(x float64) string {
	if x >= 1000 {
		return fmt.Sprintf("%.0f k", x/1000)
	}
	return fmt.Sprintf("%.2f", x)
}

// open opens a map in a directory.
func open(dir string, sync mapfile.SyncMode) (*mapfile.DB, error) {
	return mapfile.Open(filepath.Join(dir, "data.map"), &mapfile.Options{Sync: sync})
}

// openQuiet opens a map that is compacted only when it is asked to.
func openQuiet(dir string) (*mapfile.DB, error) {
	return mapfile.Open(filepath.Join(dir, "data.map"), &mapfile.Options{Sync: mapfile.SyncNever, Compaction: mapfile.CompactionOptions{Off: true}})
}

// remove removes a map that was closed.
func remove(dir string) error { return os.Remove(filepath.Join(dir, "data.map")) }

// fill puts n keys of 16 bytes with values of size bytes.
func fill(db *mapfile.DB, n uint64, size int) error { return entries(n, size, db.Put) }

func entries(n uint64, size int, put func(key, value []byte) error) error {
	values := workload.NewValues(size)
	var key []byte
	for i := range n {
		key = workload.AppendKey(key[:0], i)
		if err := put(key, values.At(i, 0)); err != nil {
			return err
		}
	}
	return nil
}
