package pager

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
)

// OpenOptions say how a file is opened.
type OpenOptions struct {
	Disk         Disk
	Path         string
	ReadOnly     bool
	Mode         fs.FileMode
	LockTimeout  time.Duration // how long to wait for another opener; not positive: do not wait
	MaxBytes     uint64        // largest file, 0: 16 TiB
	AllowNetwork bool
	Geometry     Geometry

	// NewFile gives the bytes of an empty map.
	NewFile func(Geometry) []byte
}

// Opened is a file that is open and locked, before it is mapped.
type Opened struct {
	File  File
	Info  Info
	Path  string
	Metas MetaPair
}

// Open opens or creates, locks, and reads the meta pages. Nothing of an existing
// map is written. Creation: the whole empty map is written and synced under no
// name (or a temporary one), then linked: a crash leaves no file or a good one.
func Open(o OpenOptions) (*Opened, error) {
	path, err := o.Disk.Resolve(o.Path)
	if err != nil {
		return nil, errs.At(o.Path, "open", err)
	}
	if !o.AllowNetwork {
		if name, err := o.Disk.Network(path); err == nil && name != "" {
			return nil, errs.At(path, "on the network file system "+name+" (Options.AllowNetwork opens it all the same)", errs.ErrUnsupported)
		}
	}
	deadline := time.Now().Add(o.LockTimeout)
	for range 100 {
		f, info, err := openLocked(&o, path, deadline)
		if err != nil {
			return nil, errs.At(path, "open", err)
		}
		if f == nil {
			continue // created, or replaced while we waited: look again
		}
		metas, err := ReadMetas(f)
		if err != nil {
			_ = f.Close() // the read error is what matters
			return nil, errs.At(path, "read the meta pages", err)
		}
		return &Opened{File: f, Info: info, Path: path, Metas: metas}, nil
	}
	return nil, errs.At(path, "open", errs.Join(errs.ErrReplaced, errors.New("it changes all the time")))
}

// openLocked opens the file and takes its lock. A nil File means: try again.
func openLocked(o *OpenOptions, path string, deadline time.Time) (File, Info, error) {
	f, err := o.Disk.Open(path, o.ReadOnly)
	if errors.Is(err, fs.ErrNotExist) && !o.ReadOnly {
		return nil, Info{}, create(o, path, o.Mode, false)
	}
	if err != nil {
		return nil, Info{}, err
	}
	done := false
	defer func() {
		if !done {
			_ = f.Close()
		}
	}()
	if err := lock(f, o.ReadOnly, deadline); err != nil {
		return nil, Info{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, Info{}, err
	}
	switch there, err := o.Disk.Stat(path); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, Info{}, err
	case (err != nil || !there.Same(info)) && !sabotage.Is(sabotage.ReplacedWhileLocking):
		return nil, Info{}, nil
	}
	if info.Size == 0 {
		if o.ReadOnly {
			return nil, Info{}, errs.Join(errs.ErrNotMapfile, errors.New("the file is empty"))
		}
		return nil, Info{}, create(o, path, info.Mode.Perm(), true)
	}
	done = true
	return f, info, nil
}

// create makes an empty map at path.
func create(o *OpenOptions, path string, mode fs.FileMode, replace bool) error {
	f, err := o.Disk.CreateTemp(path, mode)
	if err != nil {
		return err
	}
	err = func() error {
		if err := f.WriteAt(o.NewFile(o.Geometry), 0); err != nil {
			return err
		}
		if !sabotage.Is(sabotage.DropCreateSync) {
			if err := f.Sync(); err != nil {
				return err
			}
		}
		if err := o.Disk.Link(f, path, replace); err != nil && !errors.Is(err, fs.ErrExist) {
			return err // (one who was faster is as good)
		}
		if sabotage.Is(sabotage.DropDirSync) {
			return nil
		}
		return o.Disk.SyncDir(path)
	}()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return noRoomIfFull(err)
}

func noRoomIfFull(err error) error {
	if !IsFull(err) {
		return err
	}
	return noRoom("create the map", err)
}

// lock takes the map's lock, waiting until the deadline.
func lock(f File, readOnly bool, deadline time.Time) error {
	if sabotage.Is(sabotage.LockNotTaken) || readOnly && sabotage.Is(sabotage.ReadOnlyUnlocked) {
		return nil
	}
	kind := LockExclusive
	if readOnly {
		kind = LockShared
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		ok, err := f.Lock(kind)
		if err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		if ok {
			return nil
		}
		if !time.Now().Add(wait).Before(deadline) {
			return errs.Join(errs.ErrLocked, lockHolder(f))
		}
		time.Sleep(wait)
	}
}

func lockHolder(f File) error {
	if pid := readNote(f); pid != 0 {
		return fmt.Errorf("the last to open it for writing was process %d", pid)
	}
	return errors.New("its holder left no note")
}

// New maps an opened file whose state has pages pages. The file's geometry must be
// in o.Geometry already. private opens a crashed file read-only: pages behind the file's
// end are private memory. On an error o.File stays open.
func New(o OpenOptions, f *Opened, pages uint64, private bool) (*Pager, error) {
	p := &Pager{Geo: o.Geometry, disk: o.Disk, path: f.Path, file: f.File, info: f.Info, readOnly: o.ReadOnly, private: private, maxPages: MaxPages}
	if o.MaxBytes != 0 {
		p.maxPages = min(p.maxPages, max(o.MaxBytes/PageSize, pages))
	}
	if o.ReadOnly {
		p.maxPages = max(pages, uint64(f.Info.Size)/PageSize+1)
		if private {
			p.maxPages += max(p.maxPages, uint64(p.Geo.ReserveBytes)/PageSize)
		}
		p.maxPages = min(p.maxPages, MaxPages)
	}
	if private {
		// Private pages begin behind the file's end.
		pages = (uint64(f.Info.Size) + uint64(os.Getpagesize()) - 1) / uint64(os.Getpagesize()) * uint64(os.Getpagesize()) / PageSize
	}
	if !o.ReadOnly {
		var err error
		if p.checkpoint, err = f.File.Reopen(); err != nil {
			return nil, errs.At(f.Path, "open it a second time", err)
		}
	}
	if err := p.start(f.Info.Size, pages); err != nil {
		if p.checkpoint != nil {
			_ = p.checkpoint.Close() // the mapping's error is what matters
		}
		return nil, errs.At(f.Path, "", err)
	}
	return p, nil
}
