package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// crashtest kills a writing process again and again and checks what it acknowledged.
type crashtest struct {
	*app
	cmd    *cobra.Command
	path   string
	ledger *crashLedger
	random *rand.Rand
	report crashReport
}

// crashReport is the verdict of a crash test.
type crashReport struct {
	Dir      string   `json:"dir"` // of its own; removed unless kept
	Kept     bool     `json:"kept"`
	Seed     uint64   `json:"seed"`
	Keys     int      `json:"keys"`
	Cycles   int      `json:"cycles"`    // kills
	InFlight int      `json:"in_flight"` // commits that the kills cut off
	Commits  int64    `json:"commits"`   // acknowledged, each found again after every kill
	Checks   int      `json:"checks"`    // of the whole map
	File     int64    `json:"file_bytes"`
	Seconds  float64  `json:"seconds"`
	Rate     float64  `json:"commits_per_second"`
	Losses   []string `json:"losses"`
	OK       bool     `json:"ok"`
}

func (a *app) crashtestCmd() *cobra.Command {
	var length time.Duration
	var size string
	var seed uint64
	var keep bool
	cmd := &cobra.Command{
		Use:   "crashtest DIR",
		Short: "Kill a writing process again and again, and check all that it acknowledged",
		Long: "Make a map in a folder of its own below DIR, have another process write to it (puts, deletes, transactions,\n" +
			"checkpoints and compactions, in sync modes that change), kill that with SIGKILL at random moments, and after\n" +
			"each kill check the whole map, every acknowledged commit, and that the commits in flight happened wholly\n" +
			"or not at all. It goes on for --for. The folder is removed afterwards, unless something was lost, or --keep.\n\n" +
			"The last line is \"crashtest: ok\", or \"crashtest: FAILED\" with exit code 1, or 3 of a damaged map. A SIGKILL\n" +
			"is no power cut: what a sync is worth on this disk is not tested.",
		Example: "  mapfile crashtest --for 30s /var/tmp\n  mapfile crashtest --for 1h --size 1GB --seed 7 --keep /mnt/disk",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.Flags().DurationVar(&length, "for", 30*time.Second, "how long to go on")
	cmd.Flags().StringVar(&size, "size", "64MB", "about how large the map becomes")
	cmd.Flags().Uint64Var(&seed, "seed", 0, "what the writers do; 0: chosen at random")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the folder")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		bytes, err := parseBytes(size)
		switch {
		case err != nil:
			return usageError(cmd, fmt.Errorf("--size: %w", err))
		case length <= 0:
			return usageError(cmd, errors.New("--for must be positive"))
		}
		if seed == 0 {
			seed = rand.Uint64N(1<<32) + 1
		}
		return a.runCrashtest(cmd, args[0], planFor(seed, bytes), length, keep, *asJSON)
	}
	return cmd
}

// parseBytes reads a size: a number with B, kB, MB or GB (decimal), or KiB, MiB or GiB.
func parseBytes(text string) (int64, error) {
	units := []struct {
		name string
		size int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}
	for _, u := range units {
		if number, ok := strings.CutSuffix(text, u.name); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if err != nil || !(n > 0) || n*float64(u.size) > 1<<44 {
				return 0, fmt.Errorf("%q is no size", text)
			}
			return int64(n * float64(u.size)), nil
		}
	}
	return 0, fmt.Errorf("%q is no size", text)
}

// runCrashtest makes the folder, runs the test there, prints the verdict and cleans up.
func (a *app) runCrashtest(cmd *cobra.Command, parent string, plan crashPlan, length time.Duration, keep, asJSON bool) error {
	dir, err := os.MkdirTemp(parent, "mapfile-crashtest-")
	if err != nil {
		return err
	}
	c := &crashtest{app: a, cmd: cmd, path: filepath.Join(dir, "killed.mapfile"), ledger: newCrashLedger(plan), random: rand.New(rand.NewPCG(plan.seed, 1))}
	c.report = crashReport{Dir: dir, Seed: plan.seed, Keys: plan.keys * plan.writers, Losses: []string{}}
	start := time.Now()
	err = c.run(start.Add(length))
	var loss lost
	failed := errors.As(err, &loss) || errors.Is(err, mapfile.ErrCorrupt)
	if c.report.Kept = keep || failed; !c.report.Kept {
		if rerr := os.RemoveAll(dir); err == nil {
			err = rerr
		}
	}
	switch {
	case cmd.Context().Err() != nil:
		return errInterrupted
	case err != nil && !failed:
		return fmt.Errorf("the crash test could not be carried through: %w", err)
	}
	return c.verdict(time.Since(start), err, asJSON)
}

// verdict prints the report and says what is lost.
func (c *crashtest) verdict(took time.Duration, err error, asJSON bool) error {
	r := &c.report
	r.Commits, r.Seconds, r.OK = c.ledger.commits, took.Seconds(), err == nil
	r.Rate = float64(r.Commits) / took.Seconds()
	var loss lost
	if errors.As(err, &loss) {
		r.Losses = loss
	} else if err != nil {
		r.Losses = []string{unprefixed{err}.Error()}
	}
	if perr := printReport(c.cmd, asJSON, r); perr != nil {
		return perr
	}
	if !asJSON {
		word := "ok"
		if err != nil {
			word = "FAILED"
		}
		if _, perr := fmt.Fprintln(c.cmd.OutOrStdout(), "crashtest: "+word); perr != nil {
			return perr
		}
	}
	if err != nil {
		return &saidError{err}
	}
	return nil
}

// run kills children until the time is over, at least one.
func (c *crashtest) run(end time.Time) error {
	bar := c.newProgress(c.cmd, "killing", unitEntries, 0)
	bar.step = 1
	defer bar.finish()
	modes := []string{"never", "always", "interval"}
	for {
		if err := c.cycle(modes[c.report.Cycles%len(modes)]); err != nil {
			return err
		}
		bar.add(1)
		if time.Now().After(end) {
			return nil
		}
	}
}

// cycle runs one child to its death and checks what it leaves.
func (c *crashtest) cycle(mode string) error {
	args := []string{"crashtest-child", c.path, "--sync", mode, "--seed", strconv.FormatUint(c.ledger.seed, 10), "--keys", strconv.Itoa(c.ledger.keys), "--next", joinInts(c.ledger.steps())}
	cmd, err := c.child(args...)
	if err != nil {
		return err
	}
	commits, stop := c.ledger.commits, 1+c.random.Int64N(2000)
	_, err = (&victim{cmd: cmd, life: time.Duration(1+c.random.Int64N(1000)) * time.Millisecond, note: c.ledger.note, enough: func() bool { return c.ledger.commits >= commits+stop }}).run(c.cmd.Context())
	var ended *childError
	switch {
	case errors.As(err, &ended) && ended.code == exitDamage:
		return lost{ended.Error()}
	case err != nil:
		return err
	}
	c.report.Cycles++
	c.report.InFlight += c.ledger.inFlight()
	if c.afterKill != nil {
		if err := c.afterKill(c.path); err != nil {
			return err
		}
	}
	return c.verify()
}

// verify checks the whole map as it was left, opens it (for writing every other time, so that the next child finds a map
// that was recovered, and else one that was not), and compares it with the ledger.
func (c *crashtest) verify() error {
	found, err := mapfile.Check(c.cmd.Context(), c.path, nil)
	if err != nil {
		return err
	}
	c.report.Checks++
	if !found.OK {
		return &checkError{c.path, found}
	}
	o := c.options(c.cmd)
	o.Sync, o.ReadOnly = mapfile.SyncNever, c.report.Cycles%2 == 1
	db, err := mapfile.Open(c.path, o)
	if err != nil {
		return lost{"the map does not open: " + unprefixed{err}.Error()}
	}
	losses, err := c.ledger.check(db)
	if err := first(err, db.Close()); err != nil {
		return err
	}
	if c.report.File = fileSize(c.path); len(losses) > 0 {
		return lost(losses)
	}
	return c.cmd.Context().Err()
}

// steps is each writer's next step.
func (l *crashLedger) steps() (next []int) {
	for _, w := range l.writerOf {
		next = append(next, w.next)
	}
	return next
}

func (r *crashReport) lines() []line {
	lines := []line{
		{"seed", r.Seed},
		{"keys", formatCount(r.Keys)},
		{"kills", formatCount(r.Cycles)},
		{"commits in flight", formatCount(r.InFlight)},
		{"commits verified", formatCount(r.Commits)},
		{"whole checks", formatCount(r.Checks)},
		{"file size", formatBytes(r.File)},
		{"time", formatDuration(time.Duration(r.Seconds * float64(time.Second)))},
		{"rate", fmt.Sprintf("%.0f commits/s, checks included", r.Rate)},
	}
	for _, l := range r.Losses[:min(10, len(r.Losses))] {
		lines = append(lines, line{"lost", l})
	}
	if r.Kept {
		lines = append(lines, line{"kept", r.Dir})
	}
	return lines
}

// crashtestChildCmd is the process that crashtest kills.
func (a *app) crashtestChildCmd() *cobra.Command {
	var mode string
	plan := crashPlan{}
	var next []int
	cmd := &cobra.Command{
		Use:    "crashtest-child FILE",
		Short:  "Change the map for ever; crashtest kills this process",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
	}
	modes := map[string]mapfile.SyncMode{"never": mapfile.SyncNever, "always": mapfile.SyncAlways, "interval": mapfile.SyncInterval}
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) (err error) {
		sync, known := modes[mode]
		if !known || plan.keys < 1 || len(next) == 0 {
			return usageError(cmd, fmt.Errorf("--sync %s, --keys %d, --next %v", mode, plan.keys, next))
		}
		plan.writers = len(next)
		o := a.options(cmd)
		o.Sync, o.SyncEvery = sync, 50*time.Millisecond
		db, err := mapfile.Open(args[0], o)
		if err != nil {
			return err
		}
		defer closeInto(&err, db)
		return forEver(cmd.Context(), next, func(ctx context.Context, writer, step int) error {
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), wordBegin, writer, step); err != nil {
				return err
			}
			if err := plan.do(ctx, db, writer, step); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), wordDone, writer, step)
			return err
		})
	})
	cmd.Flags().StringVar(&mode, "sync", "never", "sync mode: never, always or interval")
	cmd.Flags().Uint64Var(&plan.seed, "seed", 0, "what the writers do")
	cmd.Flags().IntVar(&plan.keys, "keys", 0, "keys of each writer")
	cmd.Flags().IntSliceVar(&next, "next", nil, "each writer's first step")
	return cmd
}
