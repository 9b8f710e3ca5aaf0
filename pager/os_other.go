//go:build !linux && !darwin && !freebsd

package pager

import (
	"fmt"
	"io/fs"
	"runtime"

	"github.com/mapfile-db/mapfile/internal/errs"
)

// OS is the disk of an operating system that is not supported: every call says so.
func OS() Disk { return noDisk{} }

type noDisk struct{}

func unsupported() error {
	return fmt.Errorf("%w: mapfile does not support %s yet", errs.ErrUnsupported, runtime.GOOS)
}

// Open fails.
func (noDisk) Open(string, bool) (File, error) { return nil, unsupported() }

// CreateTemp fails.
func (noDisk) CreateTemp(string, fs.FileMode) (File, error) { return nil, unsupported() }

// Link fails.
func (noDisk) Link(File, string, bool) error { return unsupported() }

// SyncDir fails.
func (noDisk) SyncDir(string) error { return unsupported() }

// Stat fails.
func (noDisk) Stat(string) (Info, error) { return Info{}, unsupported() }

// Network fails.
func (noDisk) Network(string) (string, error) { return "", unsupported() }

// Resolve fails.
func (noDisk) Resolve(string) (string, error) { return "", unsupported() }
