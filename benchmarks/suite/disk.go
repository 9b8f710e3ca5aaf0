package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// checkRoom refuses to fill a disk.
func checkRoom(dir string, need uint64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return err
	}
	if free := s.Bavail * uint64(s.Bsize); free < need {
		return fmt.Errorf("%s has %s free and the run needs up to %s: choose fewer keys or engines, or another -dir", dir, humanize.IBytes(free), humanize.IBytes(need))
	}
	return nil
}

// diskUsage adds up the blocks allocated below dir and the sizes of its files. A file that goes away meanwhile does not count.
func diskUsage(dir string) (allocated, apparent uint64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() {
			allocated += uint64(s.Blocks) * 512
			apparent += uint64(s.Size)
		}
		return nil
	})
	return allocated, apparent, err
}

// device counts what is written to the disk below a directory, by anybody. A
// process's own count is no use: it holds whole folios of the page cache.
type device struct{ stat string }

func deviceOf(dir string) device {
	var s unix.Stat_t
	if unix.Stat(dir, &s) != nil {
		return device{}
	}
	return device{fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(uint64(s.Dev)), unix.Minor(uint64(s.Dev)))}
}

// written returns bytes since the system started; 0 where it does not tell.
func (d device) written() uint64 {
	b, err := os.ReadFile(d.stat)
	if err != nil {
		return 0
	}
	// The seventh figure counts sectors of 512 bytes.
	var sectors uint64
	if f := strings.Fields(string(b)); len(f) > 6 {
		_, _ = fmt.Sscan(f[6], &sectors)
	}
	return sectors * 512
}

// copyTree copies the files of one store, so that two engines can open them.
func copyTree(from, to string) error {
	return errors.Join(os.MkdirAll(to, 0o755), os.CopyFS(to, os.DirFS(from)))
}
