//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	runtime.LockOSThread() // isolate changes the namespace of this thread
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt ends the process at once; the kernel cleans up
	err := newCommand().ExecuteContext(ctx)
	var skip skipError
	switch {
	case errors.As(err, &skip):
		fmt.Println("skipped:", skip.why)
	case err != nil:
		fmt.Fprintln(os.Stderr, "realdisk:", err)
		os.Exit(1)
	}
}

// skipError says what this machine or this user cannot do.
type skipError struct{ why string }

func (e skipError) Error() string { return e.why }

// settings are the flags.
type settings struct {
	kinds  []string // names of file systems
	cuts   int      // power cuts on each of ext4 and xfs
	states int      // crash images on each file system
	faults int      // failed writes and flushes on each file system
	seed   uint64
	limit  time.Duration // of one part
}

func newCommand() *cobra.Command {
	s := &settings{}
	root := &cobra.Command{
		Use:           "realdisk",
		Short:         "Attack maps on real file systems; needs root",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := root.PersistentFlags()
	f.StringSliceVar(&s.kinds, "fs", []string{"ext4", "xfs", "btrfs"}, "file systems")
	f.IntVar(&s.cuts, "cuts", 1000, "power cuts on each of ext4 and xfs")
	f.IntVar(&s.states, "states", 600, "crash images on each file system")
	f.IntVar(&s.faults, "faults", 12, "failing writes and flushes on each file system")
	f.Uint64Var(&s.seed, "seed", 1, "seed of all that is random")
	f.DurationVar(&s.limit, "limit", 30*time.Minute, "longest time of a part")
	part := func(use, short string, parts ...func(*run) error) {
		cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return s.runParts(cmd.Context(), parts) }
		root.AddCommand(cmd)
	}
	part("full", "Fill the disk under a map", (*run).full)
	part("cut", "Cut the power of a file system under load", (*run).cut)
	part("fuse", "Crash and break a disk that records its writes", (*run).fuse)
	part("all", "All of these", (*run).full, (*run).cut, (*run).fuse)
	root.AddCommand(hidden("load", 4, loadMain), hidden("fill", 5, fillMain), hidden("judge", 0, judgeMain))
	return root
}

// hidden is a command that a child process runs.
func hidden(use string, args int, main func(args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Hidden: true, Args: cobra.ExactArgs(args),
		RunE: func(_ *cobra.Command, args []string) error {
			signal.Ignore(os.Interrupt, syscall.SIGTERM) // the parent ends its children
			return main(args)
		},
	}
}

// runParts runs parts of the attack in a place of their own.
func (s *settings) runParts(ctx context.Context, parts []func(*run) error) error {
	kinds, err := kindsOf(s.kinds)
	if err != nil {
		return err
	}
	if err := ready(kinds); err != nil {
		return err
	}
	if err := isolate(); err != nil {
		return fmt.Errorf("a mount namespace of its own: %w", err)
	}
	for _, part := range parts {
		if err := s.runPart(ctx, kinds, part); err != nil {
			return err
		}
	}
	return nil
}

// run is one run of a part.
type run struct {
	*settings
	ctx   context.Context
	kinds []kind
	place *scratch
	rng   *rand.Rand
}

func (s *settings) runPart(ctx context.Context, kinds []kind, part func(*run) error) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("longer than --limit %s", s.limit))
	defer cancel()
	place, err := newScratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.close()) }()
	err = part(&run{s, ctx, kinds, place, rand.New(rand.NewPCG(s.seed, 0))})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
