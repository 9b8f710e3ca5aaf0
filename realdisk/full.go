//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile"
)

// fullRow is one way to run out of room.
type fullRow struct {
	mode  string
	size  int   // bytes of a value
	level int64 // MiB left when the map begins to grow
	copy  bool  // the map has been copied by sharing its blocks: every store needs new ones
}

// fullRows are the ways to fill a disk. Small values that are synced one by one are left for little room: they take a while.
func fullRows(k kind) (rows []fullRow) {
	for _, level := range []int64{0, 3, 8, 24} {
		for _, size := range []int{200, 4000, 100000} {
			rows = append(rows, fullRow{modeNever, size, level, false})
			if size > 200 || level < 8 {
				rows = append(rows, fullRow{modeAlways, size, level, false})
			}
			if k.reflinks && level < 24 && size < 100000 {
				rows = append(rows, fullRow{modeNever, size, level, true}, fullRow{modeAlways, size, level, true})
			}
		}
	}
	return rows
}

func (row fullRow) String() string {
	text := fmt.Sprintf("%s, values of %d bytes, %d MiB left", row.mode, row.size, row.level)
	if row.copy {
		text += ", copied by reflink"
	}
	return text
}

// full runs the map out of room on each file system.
func (r *run) full() error {
	for _, k := range r.kinds {
		if err := r.fullOn(k); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) fullOn(k kind) (err error) {
	was := len(r.place.undo)
	defer func() { err = errors.Join(err, r.place.back(was)) }()
	v, err := r.place.newVolume(k)
	if err != nil {
		return err
	}
	var sum fillTally
	begin := time.Now()
	rows := fullRows(k)
	for _, row := range rows {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		t, err := r.fullRow(v, row)
		if err != nil {
			return fmt.Errorf("full %s, %v: %w", k.name, row, err)
		}
		sum.Puts, sum.Full, sum.Failed, sum.Refused = sum.Puts+t.Puts, sum.Full+t.Full, sum.Failed+t.Failed, sum.Refused+t.Refused
	}
	fmt.Printf("full %-5s  %d runs, %d commits, %d times ErrFull, %d times ErrFailed and opened again (%d of these read-only until there was room), losses 0, deaths 0; %.0f s\n",
		k.name, len(rows), sum.Puts, sum.Full, sum.Failed, sum.Refused, time.Since(begin).Seconds())
	return nil
}

// fullRow runs a child through one way, and looks at what is on the disk afterwards.
func (r *run) fullRow(v *volume, row fullRow) (t fillTally, err error) {
	path, copied := mapIn(v.dir), filepath.Join(v.dir, "copy.map")
	for _, file := range []string{path, copied} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return t, err
		}
	}
	c, err := r.startFill(path, row, !v.moves && !row.copy)
	if err != nil {
		return t, err
	}
	digest, err := c.hear("ready")
	if err == nil && row.copy {
		err = command("cp", "--reflink=always", path, copied)
	}
	if err == nil {
		err = v.fill(row.level << 20)
	}
	if err == nil {
		_, err = c.answer("full")
	}
	err = errors.Join(err, v.makeRoom())
	said := ""
	if err == nil {
		said, err = c.answer("done")
	}
	if err := errors.Join(err, c.end(err != nil)); err != nil {
		return t, err
	}
	if err := json.Unmarshal([]byte(said), &t); err != nil {
		return t, err
	}
	if err := v.remount(); err != nil {
		return t, err
	}
	if row.copy {
		if err := holds(copied, digest); err != nil {
			return t, fmt.Errorf("the copy: %w", err)
		}
	}
	return t, holds(path, fmt.Sprint(t.Digest))
}

// holds compares a map with a digest.
func holds(path, digest string) error {
	report, err := mapfile.Check(context.Background(), path, nil)
	if err != nil {
		return err
	}
	if !report.OK {
		return fmt.Errorf("check: %v", report.Findings)
	}
	db, err := mapfile.Open(path, nil)
	if err != nil {
		return err
	}
	_, found, err := digestOf(db)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if fmt.Sprint(found) != digest {
		return errors.New("lost: it does not hold what it held")
	}
	return nil
}

// filler is the child.
type filler struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr bytes.Buffer
}

func (r *run) startFill(path string, row fullRow, strict bool) (*filler, error) {
	cmd, err := r.child("fill", path, row.mode, fmt.Sprint(row.size), fmt.Sprint(max(20, 400_000/row.size)), fmt.Sprint(strict))
	if err != nil {
		return nil, err
	}
	f := &filler{cmd: cmd}
	cmd.Stderr = &f.stderr
	if f.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	f.out = bufio.NewScanner(out)
	return f, cmd.Start()
}

// hear waits for a word, and gives what comes with it.
func (f *filler) hear(what string) (string, error) {
	late := time.AfterFunc(5*time.Minute, func() { _ = f.cmd.Process.Kill() }) // it may have ended just now
	defer late.Stop()
	if !f.out.Scan() {
		return "", fmt.Errorf("no %q from the map's process", what)
	}
	rest, ok := strings.CutPrefix(f.out.Text(), what)
	if !ok {
		return "", fmt.Errorf("%q where %q was due", f.out.Text(), what)
	}
	return strings.TrimSpace(rest), nil
}

// answer lets the child go on, to its next word.
func (f *filler) answer(until string) (string, error) {
	if _, err := fmt.Fprintln(f.in, "go"); err != nil {
		return "", err
	}
	return f.hear(until)
}

// end waits for the child; if the row has failed its words are what matters.
func (f *filler) end(failed bool) error {
	err := f.in.Close()
	if failed {
		time.AfterFunc(5*time.Second, func() { _ = f.cmd.Process.Kill() }) // mostly it has ended
	}
	if waited := f.cmd.Wait(); waited != nil {
		return fmt.Errorf("%w: %w: %.2000s", errDied, waited, strings.TrimSpace(f.stderr.String()))
	}
	return err
}

const (
	fillerFile  = 1 << 20
	leastFiller = 4096
)

func (v *volume) fillers() (string, error) {
	dir := filepath.Join(v.dir, "filler")
	return dir, os.MkdirAll(dir, 0o700)
}

// fill takes all room but for so many bytes.
func (v *volume) fill(leave int64) error {
	dir, err := v.fillers()
	if err != nil {
		return err
	}
	if err := v.sync(); err != nil { // what is only reserved until now
		return err
	}
	n := 0
	for size := int64(fillerFile); size >= leastFiller; {
		err := fillFile(filepath.Join(dir, fmt.Sprint(n)), size)
		switch {
		case errors.Is(err, unix.ENOSPC):
			size /= 4
		case err != nil:
			return err
		default:
			n++
		}
	}
	for i := range leave / fillerFile {
		if err := os.Remove(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			return err
		}
	}
	return v.sync()
}

// fillFile writes a file; if it does not fit there is none.
func fillFile(path string, size int64) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err = unix.Fallocate(int(file.Fd()), 0, 0, size); err == nil {
		return file.Close()
	}
	return errors.Join(err, file.Close(), os.Remove(path))
}

// makeRoom gives back what fill took.
func (v *volume) makeRoom() error {
	dir, err := v.fillers()
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), v.sync())
}
