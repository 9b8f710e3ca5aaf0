// Package cli is the command line of mapfile as a tree of cobra commands, so
// that another program can mount it among its own commands.
//
// Data goes to the command's output, talk and progress to its error output. The
// reading verbs open the map read-only and never change a byte of it; only
// load, import, restore and put --create make a new file. A tree is for one run at a
// time.
//
// Part of mapfile's implementation, no stable API.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mapfile-db/mapfile"
)

// Options says how a command tree is mounted. The zero value suits a program
// whose command line is the tree, or has it anywhere among its commands.
type Options struct {
	// Child makes the command that runs this same tree with args in a process of
	// its own, which demo then kills. nil: the running program's file, called by
	// way of the commands above the tree.
	Child func(args ...string) (*exec.Cmd, error)
	// Importers are the stores of others that import --from can read. The tree itself knows none, so that nobody pays
	// for their modules; tools/importer is the program that knows some.
	Importers []Importer
}

// app is what the verbs of one tree share.
type app struct {
	root  *cobra.Command
	child func(args ...string) (*exec.Cmd, error)
	from  []Importer

	lockTimeout  time.Duration
	allowNetwork bool
	verbose      bool

	isTerminal func(io.Writer) bool    // whether to draw progress there
	afterKill  func(path string) error // a test's moment to spoil the map; nil: none
}

// New makes the command tree. opts may be nil.
func New(opts *Options) *cobra.Command { return newApp(opts).root }

func newApp(opts *Options) *app {
	a := &app{isTerminal: isTerminal}
	a.child = a.reexec
	if opts != nil {
		a.from = opts.Importers
		if opts.Child != nil {
			a.child = opts.Child
		}
	}
	a.root = &cobra.Command{
		Use:           "mapfile",
		Short:         "Look into a mapfile, change it, and kill what writes to it",
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return usageError(cmd, errNoVerb) },
	}
	flags := a.root.PersistentFlags()
	flags.DurationVar(&a.lockTimeout, "lock-timeout", time.Second, "how long to wait for another opener; negative: not at all")
	flags.BoolVar(&a.allowNetwork, "allow-network", false, "open a map on a network file system all the same")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "tell on stderr what recovery does")
	a.root.AddCommand(a.demoCmd(), a.demoChildCmd(), a.infoCmd(), a.statsCmd(), a.checkCmd(), a.recoverCmd(), a.salvageCmd(), a.diffCmd(),
		a.pagesCmd(), a.pageCmd(), a.logCmd(), a.locateCmd(), a.surgeryCmd(), a.crashtestCmd(), a.crashtestChildCmd(),
		a.getCmd(), a.putCmd(), a.deleteCmd(), a.keysCmd(), a.dumpCmd(), a.loadCmd(), a.importCmd(),
		a.backupCmd(), a.restoreCmd(), a.verifyBackupCmd(), a.compactCmd(), a.versionCmd())
	a.finishTree(a.root)
	return a
}

// finishTree makes usage errors of cmd and the commands below it look alike.
func (a *app) finishTree(cmd *cobra.Command) {
	cmd.SilenceUsage = true
	cmd.SetFlagErrorFunc(usageError)
	if args := cmd.Args; args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error { return usageError(cmd, args(cmd, given)) }
	}
	for _, sub := range cmd.Commands() {
		a.finishTree(sub)
	}
}

// Main runs root with the arguments of the process, says on its error output
// what went wrong, and returns the exit code. Cancelling ctx interrupts the
// verb, which then cleans up.
func Main(ctx context.Context, root *cobra.Command) int {
	err := root.ExecuteContext(ctx)
	var said *saidError
	if err != nil && !errors.As(err, &said) {
		fmt.Fprintln(root.ErrOrStderr(), message(err))
	}
	return ExitCode(err)
}

// options are those of every Open. The library's own zero of LockTimeout means
// its default, so a zero on the command line becomes "do not wait".
func (a *app) options(cmd *cobra.Command) *mapfile.Options {
	level := slog.LevelWarn
	if a.verbose {
		level = slog.LevelDebug
	}
	o := &mapfile.Options{
		LockTimeout:  a.lockTimeout,
		AllowNetwork: a.allowNetwork,
		Logger:       slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level})),
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = -1
	}
	return o
}

func (a *app) openReadOnly(cmd *cobra.Command, path string) (*mapfile.DB, error) {
	o := a.options(cmd)
	o.ReadOnly = true
	return mapfile.Open(path, o)
}

// openExisting opens for writing a map that is there. Open alone would create a
// missing one, and make a map of an empty file.
func (a *app) openExisting(cmd *cobra.Command, path string) (*mapfile.DB, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("mapfile: %w", err)
	}
	if st.Mode().IsRegular() && st.Size() == 0 {
		return nil, fmt.Errorf("mapfile: %s: empty file: %w", path, mapfile.ErrNotMapfile)
	}
	return mapfile.Open(path, a.options(cmd))
}

// reexec calls the running program again, by way of the commands above the tree.
func (a *app) reexec(args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for cmd := a.root; cmd.HasParent(); cmd = cmd.Parent() {
		args = append([]string{cmd.Name()}, args...)
	}
	return exec.Command(self, args...), nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
