package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) loadCmd() *cobra.Command {
	var flags formFlags
	cmd := &cobra.Command{
		Use:   "load FILE < DUMP",
		Short: "Read entries from stdin, as dump writes them, into a map that may be new",
		Long: "Read entries from stdin, as dump writes them, into the map FILE, which is created\n" +
			"if there is none. Stopped half-way, a map that it created is removed; another\n" +
			"keeps what was committed, and the message says how far that is.",
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		form, err := flags.form(cmd)
		if err != nil {
			return err
		}
		t, err := a.openTarget(cmd, args[0])
		if err != nil {
			return err
		}
		start := time.Now()
		if err := t.close(t.fill(func() error { return a.load(cmd, t, form.reader()) })); err != nil {
			return err
		}
		tell(cmd, "loaded", "entries", t, start)
		return nil
	})
	flags.addFlags(cmd)
	return cmd
}

func (a *app) load(cmd *cobra.Command, t *target, form dumpReader) error {
	bar := a.newProgress(cmd, "loading", unitBytes, inputSize(cmd.InOrStdin()))
	defer bar.finish()
	r := bufio.NewReaderSize(interruptible(cmd.Context(), cmd.InOrStdin()), 1<<16)
	for number := 1; ; number++ {
		text, size, err := readLine(r)
		if err == io.EOF {
			if err := form.end(); err != nil {
				return fmt.Errorf("stdin: %w", err)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("stdin: %w", err)
		}
		key, value, ok, err := form.line(text)
		if err != nil {
			return fmt.Errorf("stdin: line %d: %w", number, err)
		}
		if ok {
			if err := t.put(key, value); err != nil {
				return err
			}
		}
		bar.add(int64(size))
	}
}

// inputSize is how many bytes r holds if that can be known, else 0.
func inputSize(r io.Reader) int64 {
	if f, ok := r.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			return st.Size()
		}
	}
	return 0
}

// tell says on stderr what went into t.
func tell(cmd *cobra.Command, verb, noun string, t *target, start time.Time) {
	took := time.Since(start)
	fmt.Fprintf(cmd.ErrOrStderr(), "%s %s %s, %s in %s (%s) into %s\n", verb, formatCount(t.entries), noun,
		formatBytes(t.bytes), formatDuration(took), formatRate(t.bytes, took), t.path)
}
