package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
)

var errSilent = errors.New("the child wrote nothing")

// victim is a child process that writes to a map and tells on stdout, line by line, what begins and what has returned, until
// it is killed.
type victim struct {
	cmd    *exec.Cmd
	life   time.Duration           // how long it lives at most, from its first line on
	note   func(line string) error // takes in a line
	enough func() bool             // asked after each line: true has it killed a moment later
}

// run starts the child, kills it, and gives the time from its first line to its death. Errors: of ctx, of note, and
// *childError of a child that ended by itself.
func (v *victim) run(ctx context.Context) (wrote time.Duration, err error) {
	var stderr bytes.Buffer
	v.cmd.Stderr = &stderr
	log, err := v.cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := v.cmd.Start(); err != nil {
		return 0, err
	}
	var killed atomic.Bool
	kill := func() {
		killed.Store(true)
		_ = v.cmd.Process.Kill() // an error: it is dead already, as Wait tells
	}
	defer context.AfterFunc(ctx, kill)()
	wrote, noteErr := v.follow(log, kill)
	// A signal leaves no exit code.
	if err := v.cmd.Wait(); err != nil && (!killed.Load() || v.cmd.ProcessState.ExitCode() >= 0) {
		return wrote, first(ctx.Err(), &childError{v.cmd.ProcessState.ExitCode(), strings.TrimSpace(stderr.String())})
	}
	return wrote, first(ctx.Err(), noteErr)
}

// follow reads the child's log to its end and sees to the kill.
func (v *victim) follow(log io.Reader, kill func()) (time.Duration, error) {
	var start time.Time
	doom := time.AfterFunc(longestSilence, kill)
	defer func() { doom.Stop() }()
	chosen, lines := false, bufio.NewScanner(log)
	for lines.Scan() {
		if start.IsZero() {
			start = time.Now()
			doom.Reset(v.life)
		}
		if err := v.note(lines.Text()); err != nil {
			kill()
			return 0, err
		}
		if !chosen && v.enough() {
			chosen = true
			doom.Reset(rand.N(longestPause))
		}
	}
	if start.IsZero() {
		return 0, errSilent
	}
	return time.Since(start), lines.Err()
}
