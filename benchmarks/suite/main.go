// Command suite measures mapfile beside bbolt, badger, pebble, pogreb, Go's own
// maps and the bounds of the machine, in one run:
//
//	go run ./benchmarks/suite -quick
//
// Tables go to stdout, progress to stderr, and JSON, text for benchstat, a page
// with charts and SVG files into the directory given by -out.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/mapfile-db/mapfile/benchmarks/report"
	"github.com/mapfile-db/mapfile/benchmarks/worker"
)

func main() {
	worker.Main()
	// A worker that dies is an error of its call, not the end of the suite.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = execute(ctx, cfg, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		stop()
		os.Exit(1)
	}
}

// config is what the flags say.
type config struct {
	keys, values []uint64
	most         uint64 // bytes of keys plus values, 0: no bound
	engines      string
	workloads    string
	rounds       int
	loads        int // rounds of loading, 0: by the number of keys
	kills        int // rounds of SIGKILL
	churn        int // how often everything is overwritten
	each         time.Duration
	settle       time.Duration // longest wait for background work after a load
	tails        []uint64
	dir, out     string
	quick        bool
	floors       bool // fail below the floors
	progress     io.Writer
}

func parse(args []string, errOut io.Writer) (config, error) {
	f := flag.NewFlagSet("suite", flag.ContinueOnError)
	f.SetOutput(errOut)
	cfg := config{progress: errOut}
	keys := f.String("keys", "", "numbers of keys, separated by commas (quick: 1000000; else 100000,1000000,10000000)")
	values := f.String("value", "", "value sizes in bytes, separated by commas (100)")
	tails := f.String("tails", "", "keys written between opening and SIGKILL, separated by commas (quick: 100000; else 0, a tenth of what mapfile writes between checkpoints, and nearly all of it)")
	most := f.String("most", "", "most bytes of keys plus values of a store, such as 1GiB: where there would be more, there are fewer keys")
	f.StringVar(&cfg.engines, "engines", "", "engines, by name or by beginning, separated by commas (all)")
	f.StringVar(&cfg.workloads, "workloads", "", "workloads, by name or by beginning, separated by commas (quick: most; else all)")
	f.IntVar(&cfg.rounds, "rounds", 0, "rounds of each measurement (quick: 3, else 5)")
	f.IntVar(&cfg.loads, "loads", 0, "rounds of loading (quick, and beyond 2 million keys: 1, else 3)")
	f.IntVar(&cfg.churn, "churn", 10, "how often each store is overwritten at random, as a whole, by the workload churn")
	f.DurationVar(&cfg.each, "for", 0, "duration of one measurement (quick: 150ms, else 1s)")
	f.DurationVar(&cfg.settle, "settle", 0, "longest wait for background work after a load, and a fifth of it after other writes (quick: 5s, else 20s)")
	f.StringVar(&cfg.dir, "dir", "", "where the files lie while they are measured; a disk, not memory (a directory of its own below -out)")
	f.StringVar(&cfg.out, "out", "benchmarks/results", "where the results go")
	f.BoolVar(&cfg.quick, "quick", false, "the form that takes less than three minutes")
	f.BoolVar(&cfg.floors, "check", false, "fail if a ratio of fastest rounds is below its floor (report/goals.go): a regression, not noise")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	if f.NArg() > 0 {
		return cfg, fmt.Errorf("what is %q? see -help", f.Arg(0))
	}
	cfg.defaults(keys, values, tails)
	var err1, err2, err3, err4 error
	if *most != "" {
		if cfg.most, err4 = humanize.ParseBytes(*most); err4 != nil {
			err4 = fmt.Errorf("-most %s: %w", *most, err4)
		}
	}
	cfg.keys, err1 = numbers(*keys)
	cfg.values, err2 = numbers(*values)
	if *tails != "" {
		cfg.tails, err3 = numbers(*tails)
	}
	return cfg, errors.Join(err1, err2, err3, err4, cfg.check())
}

// defaults fills in what depends on -quick.
func (cfg *config) defaults(keys, values, tails *string) {
	pick := func(p *string, quick, full string) {
		if *p == "" && cfg.quick {
			*p = quick
		} else if *p == "" {
			*p = full
		}
	}
	pick(keys, "1000000", "100000,1000000,10000000")
	pick(values, "100", "100")
	if *tails == "" && cfg.quick {
		*tails = "100000"
	}
	if cfg.quick {
		cfg.each, cfg.settle = cmp.Or(cfg.each, 150*time.Millisecond), cmp.Or(cfg.settle, 5*time.Second)
		cfg.rounds, cfg.loads, cfg.kills = cmp.Or(cfg.rounds, 3), cmp.Or(cfg.loads, 1), 1
		return
	}
	cfg.each, cfg.settle = cmp.Or(cfg.each, time.Second), cmp.Or(cfg.settle, 20*time.Second)
	cfg.rounds, cfg.kills = cmp.Or(cfg.rounds, 5), 3
}

// loadsOf returns how often a store of so many keys is loaded.
func (cfg config) loadsOf(keys uint64) int {
	switch {
	case cfg.loads > 0:
		return cfg.loads
	case keys > 2_000_000:
		return 1
	}
	return 3
}

// tailsOf are the tails of open-kill for a store: those asked for, or by how much mapfile writes between checkpoints, which is 64 MiB, or as much as
// its index takes, 15 bytes a key at least.
func (cfg config) tailsOf(keys, valueSize uint64) []uint64 {
	if cfg.tails != nil {
		return cfg.tails
	}
	const header, keySize = 28, 16
	record := (header + keySize + valueSize + 7) &^ 7
	bound := min(max(64<<20, 15*keys), 1<<30) * 19 / 20
	return []uint64{0, bound / record / 10, bound / record}
}

func (cfg *config) check() error {
	for _, k := range cfg.keys {
		if k < leastKeys {
			return fmt.Errorf("-keys %d: at least %d", k, leastKeys)
		}
	}
	if cfg.rounds < 1 || cfg.loads < 0 || cfg.each < 0 || cfg.churn < 1 {
		return errors.New("-rounds, -loads, -churn and -for are positive")
	}
	return nil
}

func numbers(list string) ([]uint64, error) {
	var all []uint64
	for part := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseUint(strings.ReplaceAll(strings.TrimSpace(part), "_", ""), 10, 40)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// execute runs everything and writes the results, also those of a run in which
// something failed.
func execute(ctx context.Context, cfg config, stdout io.Writer) error {
	r, err := newRun(ctx, cfg)
	if err != nil {
		return err
	}
	err = r.all()
	r.report.Took = time.Since(r.report.Started).Round(time.Second)
	r.progress.end()
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", err)
	}
	if cfg.floors {
		err = errors.Join(err, r.report.Regressions())
	}
	return errors.Join(err, r.failures(), r.report.Text(stdout), r.report.Write(cfg.out), say(stdout, cfg, r.report))
}

func say(w io.Writer, cfg config, rep *report.Report) error {
	_, err := fmt.Fprintf(w, "\n%s; results in %s (open index.html)\n", rep.Took, cfg.out)
	return err
}
