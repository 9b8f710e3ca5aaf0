package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

var errToTerminal = errors.New("a backup is not written to a terminal; give -o FILE")

func (a *app) backupCmd() *cobra.Command {
	var out string
	var since uint64
	cmd := &cobra.Command{
		Use:   "backup MAP [-o FILE]",
		Short: "Write a backup of a map, or what has changed since one, to a file or to stdout",
		Long: "Write all that MAP holds at one moment to FILE, or to stdout, as a stream that\n" +
			"restore reads. --since SEQ writes what has changed since the backup that said SEQ\n" +
			"at its end; where the map cannot tell that any more the exit code is 1, and a\n" +
			"whole backup is needed. FILE has its name, and takes the place of what had it, when it\n" +
			"is whole and durable. A map that a program has open for writing is backed up by the\n" +
			"program, with DB.Backup.",
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		var base *uint64
		if cmd.Flags().Changed("since") {
			base = &since
		}
		return a.backup(cmd, args[0], out, base)
	})
	cmd.Flags().StringVarP(&out, "out", "o", "-", "the file; - is stdout")
	cmd.Flags().Uint64Var(&since, "since", 0, "only what has changed since the sequence that a backup ended with")
	return cmd
}

func (a *app) backup(cmd *cobra.Command, path, out string, base *uint64) (err error) {
	if out == "-" && a.isTerminal(cmd.OutOrStdout()) {
		return usageError(cmd, errToTerminal)
	}
	db, err := a.openReadOnly(cmd, path)
	if err != nil {
		return err
	}
	defer closeInto(&err, db)
	to := &counter{w: cmd.OutOrStdout(), bar: a.newProgress(cmd, "backing up", unitBytes, 0)}
	begin := time.Now()
	var sequence uint64
	write := func(w io.Writer) (err error) {
		to.w = w
		if base == nil {
			sequence, err = db.Backup(cmd.Context(), to)
		} else {
			sequence, err = db.BackupSince(cmd.Context(), to, *base)
		}
		return err
	}
	if out == "-" {
		err = write(cmd.OutOrStdout())
	} else {
		err = writeNew(out, write)
	}
	to.bar.finish()
	if err != nil {
		return err
	}
	took := time.Since(begin)
	fmt.Fprintf(cmd.ErrOrStderr(), "backed up %s in %s (%s); the next one: --since %d\n", formatBytes(to.n), formatDuration(took), formatRate(to.n, took), sequence)
	return nil
}

// writeNew writes a file under a name of its own beside path, and gives it that name when it is durable.
func writeNew(path string, write func(w io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what went wrong before matters
		}
	}()
	if err := first(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return first(dir.Sync(), dir.Close())
}

// counter counts what is written to w, or read from r, and shows it.
type counter struct {
	w   io.Writer
	r   io.Reader
	n   int64
	bar *progress
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.bar.add(int64(n))
	return n, err
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	c.bar.add(int64(n))
	return n, err
}

func (a *app) restoreCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore FILE... MAP",
		Short: "Make a map of a backup and the increments behind it; - reads them from stdin",
		Long: "Make the new map MAP of a backup and, in their order, any of the increments behind it.\n" +
			"FILE - reads stdin: cat full inc1 inc2 | mapfile restore - MAP. Everything is verified\n" +
			"before MAP has its name; meanwhile there is a directory beside it.",
		Args: cobra.MinimumNArgs(2),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		into := args[len(args)-1]
		begin, n := time.Now(), int64(0)
		err := a.readBackups(cmd, "restoring", args[:len(args)-1], func(ctx context.Context, r *counter) error {
			err := mapfile.Restore(ctx, r, into)
			n = r.n
			return err
		})
		if err != nil {
			return a.backupError(cmd, args[:len(args)-1], err)
		}
		took := time.Since(begin)
		fmt.Fprintf(cmd.ErrOrStderr(), "restored %s in %s (%s) into %s\n", formatBytes(n), formatDuration(took), formatRate(n, took), into)
		return nil
	}
	return cmd
}

// readBackups reads files behind one another, of which - is stdin.
func (a *app) readBackups(cmd *cobra.Command, what string, names []string, read func(ctx context.Context, r *counter) error) error {
	var all []io.Reader
	var total int64
	for _, name := range names {
		if name == "-" {
			all = append(all, interruptible(cmd.Context(), cmd.InOrStdin()))
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("mapfile: %w", err)
		}
		defer f.Close()
		total += inputSize(f)
		all = append(all, f)
	}
	bar := a.newProgress(cmd, what, unitBytes, total)
	defer bar.finish()
	return read(cmd.Context(), &counter{r: io.MultiReader(all...), bar: bar})
}

// backupError ends an error with the command that tells more of a backup.
func (a *app) backupError(cmd *cobra.Command, names []string, err error) error {
	if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
		return replaceCause{err, errInterrupted}
	}
	if next := a.next(cmd, names[0], err); errors.Is(err, mapfile.ErrBackup) {
		for _, name := range names[1:] {
			next += " " + quote(name)
		}
		return &nextError{err, next}
	}
	return err
}

// verifyReport is what streams of a backup say of themselves.
type verifyReport struct {
	Streams []streamReport `json:"streams"`
	Whole   bool           `json:"whole"` // it begins with a whole backup: a map can be made of it
}

type streamReport struct {
	UUID      string `json:"uuid"`
	Increment bool   `json:"increment"`
	Base      uint64 `json:"base"`
	Sequence  uint64 `json:"sequence"`
	Keys      uint64 `json:"keys"` // that the map had
	Puts      uint64 `json:"puts"`
	Deletes   uint64 `json:"deletes"`
	Clears    uint64 `json:"clears"`
	Bytes     uint64 `json:"bytes"` // of keys and values
	Size      int64  `json:"size"`
}

func (a *app) verifyBackupCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify-backup FILE...",
		Short: "Read backups and increments behind one another, verify them, and print what is in them",
		Long: "Read backups, and increments behind one another, as restore would, and make no map: every\n" +
			"sum, that nothing is missing, and that each goes on from the one before. The first may be\n" +
			"an increment. FILE - reads stdin.",
		Args: cobra.MinimumNArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var r verifyReport
		err := a.readBackups(cmd, "verifying", args, func(ctx context.Context, in *counter) error {
			infos, err := mapfile.VerifyBackup(ctx, in)
			for _, i := range infos {
				r.Streams = append(r.Streams, streamReport(i))
			}
			return err
		})
		r.Whole = len(r.Streams) > 0 && !r.Streams[0].Increment
		if len(r.Streams) > 0 { // what is before an error is good
			err = first(err, printReport(cmd, *asJSON, &r))
		}
		if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
			return replaceCause{err, errInterrupted}
		}
		return err
	}
	return cmd
}

func (r *verifyReport) lines() (lines []line) {
	for i := range r.Streams {
		s := &r.Streams[i]
		what := fmt.Sprintf("whole, to sequence %d", s.Sequence)
		if s.Increment {
			what = fmt.Sprintf("increment, from sequence %d to %d", s.Base, s.Sequence)
		}
		lines = append(lines, line{fmt.Sprintf("stream %d", i+1), what},
			line{"uuid", s.UUID}, line{"keys of the map", formatCount(s.Keys)}, line{"puts", formatCount(s.Puts)})
		if s.Increment {
			lines = append(lines, line{"deletes", formatCount(s.Deletes)}, line{"cleared", yesNo(s.Clears > 0)})
		}
		lines = append(lines, line{"keys and values", formatBytes(int64(s.Bytes))}, line{"size", formatBytes(s.Size)})
	}
	return append(lines, line{"can be restored", yesNo(r.Whole)})
}
