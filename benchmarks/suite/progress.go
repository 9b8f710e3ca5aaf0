package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progress tells what is being measured and guesses the time left: the rest of
// the estimate, scaled by how the estimate has held so far.
type progress struct {
	out         io.Writer
	terminal    bool
	start, last time.Time
	total, done time.Duration // estimated
}

func newProgress(out io.Writer, total time.Duration) *progress {
	f, ok := out.(*os.File)
	return &progress{out: out, terminal: ok && term.IsTerminal(int(f.Fd())), start: time.Now(), total: total}
}

// at says what begins now.
func (p *progress) at(format string, args ...any) {
	if !p.terminal && time.Since(p.last) < 5*time.Second {
		return
	}
	p.last = time.Now()
	line := fmt.Sprintf("%s  %s left  %s", time.Since(p.start).Round(time.Second), p.left().Round(time.Second), fmt.Sprintf(format, args...))
	if p.terminal {
		line = "\r\x1b[K" + line
	} else {
		line += "\n"
	}
	// Progress that cannot be shown is not worth ending a run.
	_, _ = io.WriteString(p.out, line)
}

// passed takes off what a step was estimated to need.
func (p *progress) passed(estimate time.Duration) { p.done += estimate }

func (p *progress) left() time.Duration {
	rest := max(p.total-p.done, 0)
	if p.done < p.total/20 {
		return rest
	}
	return time.Duration(float64(rest) * float64(time.Since(p.start)) / float64(p.done))
}

func (p *progress) end() {
	if p.terminal {
		_, _ = io.WriteString(p.out, "\r\x1b[K")
	}
}
