package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// longestLife bounds how long a child lives where a sync is slow.
	longestLife = time.Second
	// longestSilence is how long a child may write nothing before it is taken for stuck.
	longestSilence = 30 * time.Second
	// longestPause is how long after the chosen Put the kill comes, at most.
	longestPause = 2 * time.Millisecond
)

// childLife is what one child did before it was killed.
type childLife struct {
	puts, bytes int64         // acknowledged
	wrote       time.Duration // from its first Put to its death
	inFlight    int           // Puts begun and not returned at its death
}

// childError says that a child ended although nobody killed it.
type childError struct {
	code int
	text string
}

func (e *childError) Error() string {
	return fmt.Sprintf("the child ended by itself with exit code %d: %s", e.code, e.text)
}

// runChild starts a child on the map at path and kills it a moment after enough
// says so (asked after each acknowledged Put), or when it has lived for so long.
func (d *demo) runChild(ctx context.Context, mode string, life time.Duration, enough func() bool) (childLife, error) {
	cmd, err := d.child("demo-child", d.dir, d.path, "--sync", mode,
		"--files", strconv.Itoa(len(d.ledger.src.files)), "--next", joinInts(d.ledger.next))
	if err != nil {
		return childLife{}, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	log, err := cmd.StdoutPipe()
	if err != nil {
		return childLife{}, err
	}
	if err := cmd.Start(); err != nil {
		return childLife{}, err
	}
	var killed atomic.Bool
	kill := func() {
		killed.Store(true)
		_ = cmd.Process.Kill() // an error: it is dead already, as Wait tells
	}
	defer context.AfterFunc(ctx, kill)()
	lived, noteErr := d.follow(bufio.NewScanner(log), kill, life, enough)
	// A signal leaves no exit code.
	if err := cmd.Wait(); err != nil && (!killed.Load() || cmd.ProcessState.ExitCode() >= 0) {
		return lived, first(ctx.Err(), &childError{cmd.ProcessState.ExitCode(), strings.TrimSpace(stderr.String())})
	}
	return lived, first(ctx.Err(), noteErr)
}

// follow reads the child's log to its end and sees to the kill.
func (d *demo) follow(log *bufio.Scanner, kill func(), life time.Duration, enough func() bool) (childLife, error) {
	l := d.ledger
	puts, written, start := l.puts, l.bytes, time.Time{}
	doom := time.AfterFunc(longestSilence, kill)
	defer func() { doom.Stop() }()
	chosen := false
	for log.Scan() {
		if start.IsZero() {
			start = time.Now()
			doom.Reset(life)
		}
		if err := l.note(log.Text()); err != nil {
			kill()
			return childLife{}, err
		}
		if !chosen && l.puts > puts && enough() {
			chosen = true
			doom.Reset(rand.N(longestPause))
		}
	}
	if start.IsZero() {
		return childLife{}, fmt.Errorf("the child wrote nothing")
	}
	return childLife{l.puts - puts, l.bytes - written, time.Since(start), l.inFlight()}, log.Err()
}

func joinInts(ints []int) string {
	var words []string
	for _, n := range ints {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, ",")
}
