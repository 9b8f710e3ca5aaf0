//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mapfile-db/mapfile"
)

// question asks what a map holds. Judging is done by a process of its own: a page that is read for the first time stops
// its thread, and if the disk were served by this process, both could wait for each other.
type question struct {
	Path  string
	Lives []life
	Need  counts
	Open  bool // also recover it in place, write, close and look again
}

// answer is the verdict; Wrong is empty if all is well.
type answer struct {
	Found   counts
	Missing bool // no map was there, and none had to be
	Wrong   string
}

// judgeMain answers questions, one a line, until there are no more.
func judgeMain([]string) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var q question
		if err := in.Decode(&q); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := out.Encode(q.answer()); err != nil {
			return err
		}
	}
}

func (q question) answer() (a answer) {
	if _, err := os.Lstat(q.Path); errors.Is(err, fs.ErrNotExist) && q.Need == (counts{}) {
		return answer{Missing: true}
	}
	var err error
	if a.Found, err = q.look(); err == nil && q.Open {
		err = q.goOn(a.Found)
	}
	if err != nil {
		a.Wrong = err.Error()
	}
	return a
}

// look judges the map as it lies there, and writes nothing.
func (q question) look() (found counts, err error) {
	report, err := mapfile.Check(context.Background(), q.Path, nil)
	if err != nil {
		return found, fmt.Errorf("check: %w", err)
	}
	if !report.OK {
		return found, fmt.Errorf("check: %v", report.Findings)
	}
	db, err := mapfile.Open(q.Path, &mapfile.Options{ReadOnly: true})
	if err != nil {
		return found, fmt.Errorf("open: %w", err)
	}
	found, err = survey(db, q.Lives, q.Need)
	return found, errors.Join(err, db.Close())
}

// goOn recovers the map, and shows that it can be used.
func (q question) goOn(found counts) error {
	db, err := mapfile.Open(q.Path, nil)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	again, err := survey(db, q.Lives, found)
	if err == nil && again != found {
		err = fmt.Errorf("recovered to %v, %v when it was only read", again, found)
	}
	probe := []byte("probe")
	err = errors.Join(err, db.Put(probe, probe), db.Delete(probe), db.Close())
	if err != nil {
		return err
	}
	_, err = question{Path: q.Path, Lives: q.Lives, Need: found}.look()
	return err
}

// judge is the process.
type judge struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
}

func (r *run) newJudge() (*judge, error) {
	cmd, err := r.child("judge")
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r.place.later(func() error { return errors.Join(in.Close(), cmd.Wait()) })
	return &judge{cmd, json.NewEncoder(in), json.NewDecoder(out)}, nil
}

// ask gives an error if the judge itself is in trouble.
func (j *judge) ask(q question) (a answer, err error) {
	if err := j.in.Encode(q); err != nil {
		return a, fmt.Errorf("the judge has died: %w", err)
	}
	if err := j.out.Decode(&a); err != nil {
		return a, fmt.Errorf("the judge has died: %w", err)
	}
	return a, nil
}

// mapIn is the path of the map on a volume.
func mapIn(dir string) string { return filepath.Join(dir, "a.map") }
