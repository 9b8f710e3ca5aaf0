// Command verifycost measures what the verification of checksums costs a Get: two builds of itself, one
// with the tag mapfile_unverified, read the same map by turns.
//
//	go run ./benchmarks/verifycost -keys 10000000
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

var (
	keys   = flag.Uint64("keys", 10_000_000, "keys of the map")
	size   = flag.Int("value", 100, "bytes of a value")
	rounds = flag.Int("rounds", 15, "rounds; each build has a turn in each")
	turn   = flag.Duration("for", 500*time.Millisecond, "length of a turn")
	dir    = flag.String("dir", "", "where the map lies meanwhile; \"\": the directory for temporary files")
	read   = flag.String("read", "", "be the reader of the map in this directory (used by the command itself)")
)

func main() {
	flag.Parse()
	run := measure
	if *read != "" {
		run = func() error { return serve(*read) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "verifycost:", err)
		os.Exit(2)
	}
}

// measure loads the map, builds the readers and lets them take turns.
func measure() error {
	tmp, err := os.MkdirTemp(*dir, "verifycost")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := load(tmp); err != nil {
		return err
	}
	var readers [2]*reader
	for i, tag := range []string{"", "mapfile_unverified"} {
		if readers[i], err = start(tmp, tag); err != nil {
			return err
		}
		defer readers[i].stop()
	}
	var ratios, verified, unverified []float64
	for round := range *rounds + 1 {
		var ns [2]float64
		for i := range ns {
			who := (i + round) % 2
			if ns[who], err = readers[who].turn(); err != nil {
				return err
			}
		}
		if round == 0 {
			continue // both have read the map once
		}
		verified, unverified, ratios = append(verified, ns[0]), append(unverified, ns[1]), append(ratios, ns[0]/ns[1])
	}
	fmt.Printf("Get hit, uniform, %d keys of 16 bytes, values of %d bytes, copied out; %d rounds of %v\n", *keys, *size, *rounds, *turn)
	fmt.Printf("%-22s %10s %10s %10s\n", "", "median", "least", "greatest")
	print := func(name, format string, all []float64) {
		sort.Float64s(all)
		f := "%-22s " + strings.Repeat(" %9"+format, 3) + "\n"
		fmt.Printf(f, name, all[len(all)/2], all[0], all[len(all)-1])
	}
	print("verified, ns", ".0f", verified)
	print("not verified, ns", ".0f", unverified)
	print("verified / not", ".3f", ratios)
	return nil
}

func mapPath(dir string) string { return filepath.Join(dir, "data.map") }

func load(dir string) error {
	db, err := mapfile.Open(mapPath(dir), &mapfile.Options{Sync: mapfile.SyncNever})
	if err != nil {
		return err
	}
	values := workload.NewValues(*size)
	var key []byte
	for i := range *keys {
		key = workload.AppendKey(key[:0], i)
		if err := db.Put(key, values.At(i, 0)); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	return db.Close()
}

// reader is a process that reads for a turn whenever it is told to.
type reader struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(dir, tag string) (*reader, error) {
	program := filepath.Join(dir, "reader"+tag)
	build := exec.Command("go", "build", "-tags", tag, "-o", program, "github.com/mapfile-db/mapfile/benchmarks/verifycost")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build with tag %q: %w", tag, err)
	}
	r := &reader{cmd: exec.Command(program, "-read", dir, "-keys", fmt.Sprint(*keys), "-value", fmt.Sprint(*size), "-for", turn.String())}
	r.cmd.Stderr = os.Stderr
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.out = bufio.NewReader(out)
	return r, r.cmd.Start()
}

// turn lets the reader read, and returns ns a Get.
func (r *reader) turn() (float64, error) {
	if _, err := fmt.Fprintln(r.in, "go"); err != nil {
		return 0, err
	}
	line, err := r.out.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(line), 64)
}

func (r *reader) stop() {
	_ = r.in.Close() // its sign to end
	_ = r.cmd.Wait()
}

// serve reads the map for a turn for each line that comes in.
func serve(dir string) error {
	db, err := mapfile.Open(mapPath(dir), &mapfile.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	r := rand.New(rand.NewPCG(1, 2))
	var key, value []byte
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		n, begin := 0, time.Now()
		for time.Since(begin) < *turn {
			for range 256 {
				key = workload.AppendKey(key[:0], r.Uint64N(*keys))
				if value, err = db.AppendGet(value[:0], key); err != nil {
					return err
				}
				if len(value) != *size {
					return fmt.Errorf("a value of %d bytes", len(value))
				}
				n++
			}
		}
		fmt.Println(float64(time.Since(begin).Nanoseconds()) / float64(n))
	}
	return nil
}
