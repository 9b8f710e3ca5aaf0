package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// The exit codes.
const (
	exitGood   = 0
	exitDiffer = 1 // no such key, a difference, or history that is gone
	exitError  = 2 // usage, I/O, lock
	exitDamage = 3 // damage, or no mapfile, or no backup, at all
)

var (
	errNoVerb      = errors.New("no verb given")
	errInterrupted = errors.New("interrupted")
	errDiffers     = errors.New("difference")
	errNoOutput    = errors.New("no -o NEW given")
)

// nextError is an error together with the command to run next.
type nextError struct {
	err  error
	next string
}

func (e *nextError) Error() string { return e.err.Error() + "; run: " + e.next }
func (e *nextError) Unwrap() error { return e.err }

// saidError is an error that the verb has told of itself, for what it prints last
// is a verdict on stdout.
type saidError struct{ err error }

func (e *saidError) Error() string { return e.err.Error() }
func (e *saidError) Unwrap() error { return e.err }

// ExitCode is the exit code that err asks for: 0 for nil, 1 for a key that is
// not there, a difference found or history that is gone, 3 for damage or a file that is no mapfile or no backup,
// and 2 for everything else.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return exitGood
	case errors.Is(err, mapfile.ErrCorrupt), errors.Is(err, mapfile.ErrNotMapfile), errors.Is(err, mapfile.ErrBackup):
		return exitDamage
	case errors.Is(err, mapfile.ErrNotFound), errors.Is(err, mapfile.ErrHistoryGone), errors.Is(err, errDiffers):
		return exitDiffer
	default:
		return exitError
	}
}

// message is err as one line that begins with the name of the project.
func message(err error) string {
	s := err.Error()
	if strings.HasPrefix(s, "mapfile:") {
		return s
	}
	return "mapfile: " + s
}

// onFile makes a RunE of run for a verb whose argument number arg is the map:
// its error ends with the command that helps.
func (a *app) onFile(arg int, run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
			err = replaceCause{err, errInterrupted}
		}
		var told *nextError
		if errors.As(err, &told) {
			return err // a usage error
		}
		if next := a.next(cmd, args[arg], err); next != "" {
			return &nextError{err, next}
		}
		return err
	}
}

// replaceCause says "interrupted" where an error says "context canceled".
type replaceCause struct{ err, cause error }

func (e replaceCause) Error() string {
	return strings.Replace(e.err.Error(), context.Canceled.Error(), e.cause.Error(), 1)
}

func (e replaceCause) Unwrap() error { return e.err }

// usageError points at the help of cmd; nil stays nil.
func usageError(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return &nextError{err, cmd.CommandPath() + " --help"}
}

// quote makes path one word of a shell.
func quote(path string) string {
	if path != "" && strings.IndexFunc(path, needsQuote) < 0 && path[0] != '-' {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

func needsQuote(r rune) bool {
	plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%=", r)
	return !plain
}

// unprefixed is an error without the project's name in front, for use inside a
// message that begins with it.
type unprefixed struct{ err error }

func (e unprefixed) Error() string { return strings.TrimPrefix(e.err.Error(), "mapfile: ") }
func (e unprefixed) Unwrap() error { return e.err }
