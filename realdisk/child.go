//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child makes the command that runs this program as a child. It dies with this process.
func (r *run) child(args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// writer is a child that runs a load, and what it has said.
type writer struct {
	cmd      *exec.Cmd
	stderr   bytes.Buffer
	heard    chan struct{} // closed when it has said all
	opened   chan struct{} // closed when it has begun
	onAck    func(counts)  // called with what is durable; may be nil
	mu       sync.Mutex    // protects what follows
	began    counts
	begun    bool
	acks     []ack
	ends     []string // how its writers ended
	after    string
	nonsense error
}

// startLoad starts a load. onAck may be nil.
func (r *run) startLoad(path, mode string, life uint64, onAck func(counts)) (*writer, error) {
	cmd, err := r.child("load", path, mode, fmt.Sprint(life), "0")
	if err != nil {
		return nil, err
	}
	w := &writer{cmd: cmd, heard: make(chan struct{}), opened: make(chan struct{}), onAck: onAck}
	cmd.Stderr = &w.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go w.listen(out)
	return w, nil
}

// listen reads the log to its end.
func (w *writer) listen(out io.Reader) {
	defer close(w.heard)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if err := w.note(lines.Text()); err != nil {
			w.mu.Lock()
			w.nonsense = err
			w.mu.Unlock()
		}
	}
}

func (w *writer) note(line string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	what, rest, _ := strings.Cut(line, " ")
	switch what {
	case "end":
		w.ends = append(w.ends, rest)
		return nil
	case "after":
		w.after = rest
		return nil
	}
	var c counts
	var at int64
	if _, err := fmt.Sscan(rest, &c[0], &c[1], &c[2], &c[3], &at); err != nil {
		return fmt.Errorf("the log of the load: %q: %w", line, err)
	}
	switch what {
	case "begin":
		w.began, w.begun = c, true
		close(w.opened)
	case "durable":
		w.acks = append(w.acks, ack{at, c})
		if w.onAck != nil {
			w.onAck(c)
		}
	default:
		return fmt.Errorf("the log of the load: %q", line)
	}
	return nil
}

// ack is an acknowledgement: at a moment, so many steps were durable.
type ack struct {
	at int64
	counts
}

// durableAt is what had been acknowledged at a moment.
func (w *writer) durableAt(moment int64) (c counts) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.acks {
		if a.at < moment {
			c = c.atLeast(a.counts)
		}
	}
	return c
}

// errDied says that a load ended by itself, other than by the rules.
var errDied = errors.New("the load died")

// kill ends the load and hears it out. It is an error if it had ended before with anything but its last line.
func (w *writer) kill() error {
	_ = w.cmd.Process.Kill() // an error: it has ended, as Wait tells
	return w.wait()
}

func (w *writer) wait() error {
	<-w.heard
	err := w.cmd.Wait()
	status, _ := w.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err != nil && !(status.Signaled() && status.Signal() == syscall.SIGKILL) {
		return fmt.Errorf("%w: %w: %s", errDied, err, strings.TrimSpace(w.stderr.String()))
	}
	return w.nonsense
}

// finish waits until the load has ended by itself, because its disk has failed. That must be orderly.
func (w *writer) finish(longest time.Duration) error {
	late := time.AfterFunc(longest, func() { _ = w.cmd.Process.Kill() }) // it may have ended just now
	defer late.Stop()
	if err := w.wait(); err != nil {
		return err
	}
	if w.after == "" {
		return fmt.Errorf("%w: no end within %s of the failure: %v %s", errDied, longest, w.ends, w.stderr.String())
	}
	return nil
}
