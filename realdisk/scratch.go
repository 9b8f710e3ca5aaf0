//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// insideVariable marks the process that isolate has begun again.
const insideVariable = "MAPFILE_REALDISK_INSIDE"

// isolate runs the program again in a mount namespace of its own, which the kernel takes down when the
// last process in it is gone: a kill leaves nothing mounted. It must be called from the main thread.
func isolate() error {
	if os.Getenv(insideVariable) != "" {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(self, os.Args, append(os.Environ(), insideVariable+"=1"))
}

// scratchSize bounds what all disks of a part hold. It is memory, or swap.
const scratchSize = "1g"

// scratch is a directory in memory, seen by this namespace alone. A loop device on a file in it syncs at
// once, so that a run is bound by the file system and not by what lies below.
type scratch struct {
	dir  string
	undo []func() error // backwards
}

func newScratch() (*scratch, error) {
	dir, err := os.MkdirTemp("", "mapfile-realdisk-")
	if err != nil {
		return nil, err
	}
	s := &scratch{dir: dir}
	s.later(func() error { return os.Remove(dir) })
	if err := unix.Mount("realdisk", dir, "tmpfs", 0, "mode=700,size="+scratchSize); err != nil {
		return nil, errors.Join(fmt.Errorf("tmpfs: %w", err), s.close())
	}
	s.later(func() error { return unmount(dir) })
	return s, nil
}

// later has f called when the scratch is closed, before all that was there already.
func (s *scratch) later(f func() error) { s.undo = append(s.undo, f) }

// close undoes everything, however much of it fails.
func (s *scratch) close() (err error) { return s.back(0) }

// back undoes all but the first n things.
func (s *scratch) back(n int) (err error) {
	for len(s.undo) > n {
		last := len(s.undo) - 1
		err = errors.Join(err, s.undo[last]())
		s.undo = s.undo[:last]
	}
	return err
}

// folder makes a directory.
func (s *scratch) folder(name string) (string, error) {
	dir := filepath.Join(s.dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}

// unmount waits a while for those who are just leaving.
func unmount(dir string) (err error) {
	for range 200 {
		if err = unix.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// command runs a program and puts what it said into the error.
func command(args ...string) error {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
