package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// demo takes a directory into a map, and again into a second one with a child
// process that it kills while it writes.
type demo struct {
	*app
	cmd    *cobra.Command
	dir    string // the source
	path   string // of the map under attack
	kills  int    // to be made with Puts in flight
	ledger *ledger
	table  demoTable
}

// lost is why the demo says FAILED: promises that the map did not keep.
type lost []string

func (l lost) Error() string {
	const most = 10
	text := fmt.Sprintf("%d losses:\n  ", len(l)) + strings.Join(l[:min(most, len(l))], "\n  ")
	if len(l) > most {
		text += "\n  …"
	}
	return text
}

func (l lost) Unwrap() error { return errDiffers }

func (a *app) demoCmd() *cobra.Command {
	var tempDir, source string
	var kills int
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Kill a process that writes a map, again and again, and show that nothing is lost",
		Long: "Take every file of the Go distribution's src tree into a map; have another process\n" +
			"do it again into a second map, kill it with SIGKILL while it writes, open the map\n" +
			"and compare every acknowledged file with the disk, byte for byte, again and again.\n" +
			"The last line is \"demo: ok\", or \"demo: FAILED\" with exit code 1. About half a minute.",
		Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if kills < 1 {
			return usageError(cmd, errors.New("--kills must be at least 1"))
		}
		return a.runDemo(cmd, tempDir, source, kills)
	}
	cmd.Flags().StringVar(&tempDir, "dir", "", "where to make the maps, in a directory that is removed; default: the system's for temporary files")
	cmd.Flags().StringVar(&source, "source", "", "take in the files below this directory; default: the src tree of the Go distribution")
	cmd.Flags().IntVar(&kills, "kills", 20, "how often to kill the writing process")
	return cmd
}

// runDemo makes the directory for the maps, runs the demo there, and prints its
// last line unless it could not be carried through.
func (a *app) runDemo(cmd *cobra.Command, tempDir, dir string, kills int) error {
	if dir == "" {
		var err error
		if dir, err = goSource(cmd.Context()); err != nil {
			return err
		}
	}
	work, err := os.MkdirTemp(tempDir, "mapfile-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	d := &demo{app: a, cmd: cmd, dir: dir, path: filepath.Join(work, "killed.mapfile"), kills: kills}
	err = d.run(filepath.Join(work, "imported.mapfile"))
	var loss lost
	switch {
	case errors.As(err, &loss):
		d.talk("%v", loss)
		_ = d.table.print(cmd.OutOrStdout())
		fmt.Fprintln(cmd.OutOrStdout(), "demo: FAILED")
		return &saidError{err}
	case cmd.Context().Err() != nil:
		return errInterrupted
	case err != nil:
		return fmt.Errorf("the demo could not be carried through: %w", err)
	}
	if err := d.table.print(cmd.OutOrStdout()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), "demo: ok")
	return err
}

// goSource is the src tree of the Go distribution that the go command belongs to.
func goSource(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w; name another directory with --source", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src"), nil
}

func (d *demo) run(imported string) error {
	src, err := listSource(d.cmd.Context(), d.dir, nil)
	if err != nil {
		return err
	}
	d.ledger = newLedger(src)
	d.talk("%s files, %s, below %s", formatCount(len(src.files)), formatBytes(src.bytes), d.dir)
	if err := d.importOnce(src, imported); err != nil {
		return err
	}
	return d.attack()
}

// importOnce takes the source into the first map and compares all of it.
func (d *demo) importOnce(src *source, path string) error {
	start := time.Now()
	t, err := d.importInto(d.cmd, src, path)
	if err != nil {
		return err
	}
	d.table.imported = demoRow{puts: t.entries, bytes: t.bytes, wrote: time.Since(start)}
	whole := newLedger(src)
	for i := range whole.known {
		whole.known[i].held = 0
	}
	_, err = d.reopen(path, whole)
	d.table.imported.size = fileSize(path)
	return err
}

// attack kills children until enough of them died with Puts in flight, and then
// lets a last one bring in what is missing.
func (d *demo) attack() error {
	bar := d.newProgress(d.cmd, "killing", unitEntries, int64(d.kills))
	bar.step = 1
	defer bar.finish()
	modes := []string{"never", "always"}
	tries := 0
	for killed := 0; killed < d.kills; tries++ {
		if tries == 10*d.kills {
			return fmt.Errorf("only %d of %d kills found a Put in flight", killed, tries)
		}
		counts, err := d.killOnce(modes[killed%len(modes)], longestLife, d.randomPuts())
		if err != nil {
			return err
		}
		if counts {
			killed++
			bar.add(1)
		}
	}
	if d.ledger.complete() {
		return nil
	}
	_, err := d.killOnce(modes[0], longestSilence, d.ledger.complete)
	if err == nil && !d.ledger.complete() {
		return fmt.Errorf("the last child did not put all files within %v", longestSilence)
	}
	return err
}

// randomPuts chooses how many Puts a child returns from before it is killed, so
// that all children together go about twice through the source.
func (d *demo) randomPuts() func() bool {
	stop := d.ledger.puts + 1 + rand.Int64N(int64(4*len(d.ledger.src.files)/d.kills)+1)
	return func() bool { return d.ledger.puts >= stop }
}

// killOnce runs one child to its death, reopens the map and checks it. It says
// whether the kill counts: one that hit no Put does not.
func (d *demo) killOnce(mode string, life time.Duration, enough func() bool) (counts bool, err error) {
	lived, err := d.runChild(d.cmd.Context(), mode, life, enough)
	var ended *childError
	if errors.As(err, &ended) && ended.code == exitDamage {
		err = lost{ended.Error()}
	}
	if err != nil {
		return false, err
	}
	if d.afterKill != nil {
		if err := d.afterKill(d.path); err != nil {
			return false, err
		}
	}
	opened, err := d.reopen(d.path, d.ledger)
	d.table.add(mode, lived, opened, fileSize(d.path))
	return lived.inFlight > 0, err
}

// reopen opens a map, compares it with the ledger and closes it. It gives the
// time that opening took, recovery with it.
func (d *demo) reopen(path string, l *ledger) (opened time.Duration, err error) {
	o := d.options(d.cmd)
	o.Sync = mapfile.SyncNever
	start := time.Now()
	db, err := mapfile.Open(path, o)
	opened = time.Since(start)
	if err != nil {
		return opened, lost{"the map does not open: " + unprefixed{err}.Error()}
	}
	losses, err := l.check(db)
	if err := first(err, db.Close()); err != nil {
		return opened, err
	}
	if len(losses) > 0 {
		return opened, lost(losses)
	}
	return opened, d.cmd.Context().Err()
}

// talk says a line on stderr.
func (d *demo) talk(format string, args ...any) {
	_, _ = fmt.Fprintf(d.cmd.ErrOrStderr(), format+"\n", args...)
}

// fileSize is the size of the file at path in bytes, 0 if there is none.
func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}
