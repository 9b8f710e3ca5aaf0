package pager

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
)

// Stored announces bytes stored through the mapping. Compiled out of production builds.
func (p *Pager) Stored(off, n uint64) {
	if debug.On && !p.private {
		p.file.Stored(int64(off), int64(n))
	}
}

// WriteAt puts b into the page cache.
func (p *Pager) WriteAt(b []byte, off uint64) error {
	if p.private {
		return errs.ErrReadOnly
	}
	return p.file.WriteAt(b, int64(off))
}

// ReadAt reads a part of the file by a system call, which a mapping of it does not notice: whoever reads much in order touches no page
// of it. Fewer bytes than asked for are an error.
func (p *Pager) ReadAt(b []byte, off uint64) error {
	_, err := p.file.ReadAt(b, int64(off))
	return err
}

// WriteSync puts b into the page cache and makes it durable, on the commits' description.
func (p *Pager) WriteSync(b []byte, off uint64) error { return p.file.WriteSync(b, int64(off)) }

// rewriteBytes is the largest range that is made durable by writing its own bytes
// once more with RWF_DSYNC: level with a bare pwrite + fdatasync, whatever else is
// dirty. A longer one goes by msync.
const rewriteBytes = 1 << 20

// SyncRange makes [off, off+n) durable, on the commits' description.
func (p *Pager) SyncRange(off, n uint64) error {
	v := p.view.Load()
	if n <= rewriteBytes {
		// The bytes were stored once and are rewritten with their own value (I1).
		return p.file.WriteSync(append([]byte(nil), v.Bytes(off, n)...), int64(off))
	}
	if sabotage.Is(sabotage.DropLongSync) {
		return nil
	}
	return v.m.SyncRange(int64(off), int64(n))
}

// SyncWritten makes what was written to [off, off+n) durable, however long that is. What the page cache takes for clean it leaves alone.
func (p *Pager) SyncWritten(off, n uint64) error {
	return p.view.Load().m.SyncRange(int64(off), int64(n))
}

// Rewrite writes the bytes of a range once more, by read and write: the page cache
// may hold what the disk has lost (hole 6). It syncs nothing.
func (p *Pager) Rewrite(off, n uint64) error {
	const step = 1 << 20
	b := make([]byte, min(n, step))
	for n > 0 {
		k := min(n, step)
		if _, err := p.file.ReadAt(b[:k], int64(off)); err != nil {
			return err
		}
		if err := p.file.WriteAt(b[:k], int64(off)); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// WriteZeros writes and syncs zeros over units that Grow has just added and that nobody knows yet, so
// that synced commits meet blocks that have been written: half the latency (a commit into blocks never written
// pays a journal commit of the file system). It has a description of its own, for the kernel tells an error
// of a write to one asker per description. An error is final.
func (p *Pager) WriteZeros(from, to uint64) error {
	if p.ahead == nil {
		var err error
		if p.ahead, err = p.file.Reopen(); err != nil {
			return noRoom("open it to write ahead", err)
		}
	}
	zeros := make([]byte, p.Geo.UnitBytes())
	for at := from * PageSize; at < to*PageSize; at += uint64(len(zeros)) {
		if err := p.ahead.WriteSync(zeros[:min(uint64(len(zeros)), to*PageSize-at)], int64(at)); err != nil {
			if IsFull(err) {
				return noRoom("write ahead", err)
			}
			return p.Fail(err)
		}
	}
	return nil
}

// SyncName makes the file's name durable: who created the map may have been killed, or met an error, between the
// name and its sync. A directory that may not be read, or is gone, is no error: the first cannot be helped, and of
// the second CheckPath tells.
func (p *Pager) SyncName() error {
	if sabotage.Is(sabotage.DropDirSync) {
		return nil
	}
	err := p.disk.SyncDir(p.path)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// SyncFile makes the whole file durable, on the checkpoint's description.
func (p *Pager) SyncFile() error {
	f := p.checkpoint
	if sabotage.Is(sabotage.SharedDescription) {
		f = p.file
	}
	return f.Sync()
}

// SyncReadOnly makes durable what stands in the cache of a file that was opened read-only: another process wrote it.
func (p *Pager) SyncReadOnly() error { return p.file.Sync() }

// WriteMeta writes a meta page and makes it durable, on the checkpoint's description.
func (p *Pager) WriteMeta(which int, m *Meta) error {
	return p.checkpoint.WriteSync(m.Encode(which), int64(which)*PageSize)
}

// CheckPath answers ErrReplaced if there is proof that the path names another file
// than the one mapped, that no name is left, or that the file was cut short. A stat that
// fails for another reason proves nothing.
func (p *Pager) CheckPath() error {
	if sabotage.Is(sabotage.PathUnchecked) {
		return nil
	}
	pages := p.pages.Load() // before the stat: the file may grow meanwhile
	now, err := p.file.Stat()
	if err != nil {
		return nil
	}
	if now.Size < int64(pages)*PageSize {
		// It may have been cut by ourselves since then.
		p.growMu.Lock()
		pages = p.pages.Load()
		now, err = p.file.Stat()
		p.growMu.Unlock()
		if err != nil {
			return nil
		}
	}
	if now.Links == 0 {
		return errs.At(p.path, "no name is left", errs.ErrReplaced)
	}
	if !p.private && now.Size < int64(pages)*PageSize && !sabotage.Is(sabotage.CutUnnoticed) {
		return errs.At(p.path, fmt.Sprintf("cut to %d bytes", now.Size), errs.ErrReplaced)
	}
	if there, err := p.disk.Stat(p.path); err == nil && !there.Same(p.info) {
		return errs.At(p.path, "the path names another file", errs.ErrReplaced)
	}
	return nil
}

// Advise passes a hint on for a range of the current mapping.
func (p *Pager) Advise(off, n uint64, a Advice) { p.view.Load().m.Advise(int64(off), int64(n), a) }

// Stat tells the file's size and allocated bytes.
func (p *Pager) Stat() (Info, error) { return p.file.Stat() }

// CloseMapping takes back what New made, but leaves the file open.
func (p *Pager) CloseMapping() error {
	var all []error
	if v := p.view.Load(); v != nil {
		all = append(all, v.m.Unmap())
		p.verified.Free()
		p.prepared.Free()
	}
	for _, f := range []File{p.checkpoint, p.ahead} {
		if f != nil {
			all = append(all, f.Close())
		}
	}
	return errors.Join(all...)
}

// Close unmaps and closes. The caller has made sure that no reader is left. It syncs nothing.
func (p *Pager) Close() error {
	var all []error
	p.oldMu.Lock()
	for _, o := range p.old {
		all = append(all, o.view.m.Unmap())
	}
	p.old = nil
	p.oldMu.Unlock()
	all = append(all, p.CloseMapping(), p.file.Close())
	return errors.Join(all...)
}
