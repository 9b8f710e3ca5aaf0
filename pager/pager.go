package pager

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
)

// CacheLine is what processors take from each other at a time, in bytes: amd64 fetches lines in pairs.
const CacheLine = 128

// View is one mapping of the file. Offsets are file offsets in bytes.
type View struct {
	m    Mapping
	r, w unsafe.Pointer
	size uint64
}

// Size is the number of bytes of address space; the file may be shorter.
func (v *View) Size() uint64 { return v.size }

// retiredView is a mapping that a larger one replaced, kept for its last readers.
type retiredView struct {
	view       *View
	generation uint64
}

// MapReadOnly maps the first size bytes of a file for reading, and no more: for who looks at a file without opening the
// map in it. A fault at an address of it is the caller's to guard against (IsFault). Unmap gives it back.
func MapReadOnly(f File, size int64) (*View, error) {
	m, err := f.Map(MapOptions{Reserve: size, Least: size, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	return &View{m: m, r: m.Read(), size: uint64(m.Size())}, nil
}

// Unmap gives the address space of a view from MapReadOnly back. Nothing may touch it afterwards.
func (v *View) Unmap() error { return v.m.Unmap() }

// Pager owns one open file.
type Pager struct {
	Geo  Geometry
	disk Disk
	path string

	file       File // commits sync on this description
	checkpoint File // checkpoints on this one: the kernel reports a write error once per description (hole 5)
	ahead      File // zeros ahead of synced commits on this one, opened when first needed
	info       Info // which file it is
	readOnly   bool
	private    bool // recovered into private memory behind the file's end

	view     atomic.Pointer[View]
	pages    atomic.Uint64 // length of the file in pages; in a private map, of file and private memory
	maxPages uint64
	verified *Sparse32 // per page: how this process came to trust it, see index
	failed   atomic.Pointer[error]

	// OnFail, if set, is called once, when the map fails: who waits for it to go on must wake up.
	OnFail func()

	growMu   sync.Mutex // growth, cutting, preparing; below every other lock but the seam's
	fileEnd  uint64     // bytes of the file that are there, at least pages
	prepared *Sparse32  // per unit: what is known of its blocks, see prepare.go

	oldMu sync.Mutex
	old   []retiredView

	rot mending
	// OnMend, if set, is told of each bit that is mended. It must not call the pager.
	OnMend func(Flip)
}

// Path is the absolute path of the file.
func (p *Pager) Path() string { return p.path }

// ReadOnly reports whether the file was opened read-only.
func (p *Pager) ReadOnly() bool { return p.readOnly }

// View is the current mapping. Who uses it must be protected by a pin, by the
// writer's turn or by the generation check.
func (p *Pager) View() *View { return p.view.Load() }

// Pages is the length of the file in pages.
func (p *Pager) Pages() uint64 { return p.pages.Load() }

// MaxPages is the length that the file cannot pass.
func (p *Pager) MaxPages() uint64 { return p.maxPages }

// Verified tells how this process came to trust a page: 0 if it does not yet.
// Only page numbers below Pages may be asked for.
func (p *Pager) Verified(n PageNo) uint32 { return p.verified.Load(uint64(n)) }

// Trust notes that a page was verified, unless something is noted of it: a reader that was held up
// since it looked must not overwrite what the page's next life has noted.
func (p *Pager) Trust(n PageNo, how uint32) { p.verified.CompareAndSwap(uint64(n), 0, how) }

// Distrust forgets how a page was verified, unless something else is noted of it by now.
func (p *Pager) Distrust(n PageNo, how uint32) { p.verified.CompareAndSwap(uint64(n), how, 0) }

// SetVerified notes that a page was built by this process, or with 0 that it is free.
func (p *Pager) SetVerified(n PageNo, how uint32) { p.verified.Store(uint64(n), how) }

// Fail makes the map ErrFailed for good; the first cause stays. It returns the error that every call answers from now on,
// which is not ErrFull: that would say that nothing has changed.
func (p *Pager) Fail(cause error) error {
	err := errs.At(p.path, "", errs.Join(errs.ErrFailed, errs.Hide(cause, errs.ErrFull)))
	if sabotage.Is(sabotage.FailureForgotten) {
		return err
	}
	if p.failed.CompareAndSwap(nil, &err) && p.OnFail != nil {
		p.OnFail()
	}
	return *p.failed.Load()
}

// Failed is the error of Fail, nil while all is well.
func (p *Pager) Failed() error {
	if e := p.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// isEOF reports whether a read ended behind the end of the file.
func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// IsFull reports whether an error of the system means that there is no room.
func IsFull(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// mapFile makes a view that reaches at least need bytes.
func (p *Pager) mapFile(need int64) (*View, error) {
	reserve := max(p.Geo.ReserveBytes, 4*need)
	reserve = min(reserve, int64(p.maxPages)*PageSize)
	m, err := p.file.Map(MapOptions{Reserve: max(reserve, need), Least: need, ReadOnly: p.readOnly, Private: p.private})
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", need, err)
	}
	return &View{m: m, r: m.Read(), w: m.Write(), size: uint64(m.Size())}, nil
}

// start maps a file of size bytes and makes the arrays beside it.
func (p *Pager) start(size int64, pages uint64) error {
	p.fileEnd = uint64(size)
	p.pages.Store(pages)
	words := p.maxPages
	var err error
	for {
		if p.verified, err = NewSparse32(words); err == nil {
			break
		}
		// The array bounds the file: less address space, a smaller largest file.
		if words /= 2; words < 2*pages+uint64(p.Geo.UnitPages) {
			return err
		}
		p.maxPages = words
	}
	if p.prepared, err = NewSparse32(p.maxPages/uint64(p.Geo.UnitPages) + 1); err != nil {
		p.verified.Free()
		return err
	}
	v, err := p.mapFile(max(size, int64(pages)*PageSize))
	if err != nil {
		p.verified.Free()
		p.prepared.Free()
		return err
	}
	p.view.Store(v)
	return nil
}

// Grow makes the file at least so many pages long: blocks allocated, populated,
// mapped. Errors: ErrFull with the cause; nothing has changed.
func (p *Pager) Grow(pages uint64) error {
	p.growMu.Lock()
	defer p.growMu.Unlock()
	have := p.pages.Load()
	if pages <= have {
		return nil
	}
	if pages > p.maxPages {
		return errs.Join(errs.ErrFull, fmt.Errorf("the largest size of %d bytes is reached", p.maxPages*PageSize))
	}
	if !p.private {
		if err := p.allocate("grow the file", have*PageSize, (pages-have)*PageSize); err != nil {
			return err
		}
		p.fileEnd = max(p.fileEnd, pages*PageSize)
	}
	if v := p.view.Load(); pages*PageSize > v.size {
		if err := p.remap(int64(pages * PageSize)); err != nil {
			return err
		}
	}
	if !p.private {
		if err := p.populate(have*PageSize, (pages-have)*PageSize); err != nil {
			return err
		}
		p.markPrepared(have, pages, unitReady)
	}
	p.pages.Store(pages)
	return nil
}

// noRoom is the error of a call that only gets room, for whatever reason it failed: nothing has changed.
func noRoom(what string, err error) error {
	return errs.Join(errs.ErrFull, fmt.Errorf("%s: %w", what, err))
}

// remap maps the file a second time, larger; the first mapping stays until ReleaseViews.
func (p *Pager) remap(need int64) error {
	if p.private {
		return errs.Join(errs.ErrFull, errors.New("no private memory left to recover into"))
	}
	v, err := p.mapFile(need)
	if err != nil {
		return noRoom("outgrow the mapping", err)
	}
	old := p.view.Swap(v)
	p.oldMu.Lock()
	p.old = append(p.old, retiredView{view: old})
	p.oldMu.Unlock()
	return nil
}

// HasOldViews reports whether a replaced mapping waits for its last readers.
func (p *Pager) HasOldViews() bool {
	p.oldMu.Lock()
	defer p.oldMu.Unlock()
	return len(p.old) > 0
}

// ReleaseViews unmaps replaced mappings that nobody can reach. generation is the
// current one, oldestPin the lowest that a reader has pinned. A view is stamped when
// it is first seen here and unmapped by a later call, when all pins are younger.
func (p *Pager) ReleaseViews(generation, oldestPin uint64) {
	p.oldMu.Lock()
	defer p.oldMu.Unlock()
	keep := p.old[:0]
	for _, o := range p.old {
		switch {
		case o.generation == 0:
			o.generation = generation
			keep = append(keep, o)
		case o.generation < generation && (o.generation < oldestPin || sabotage.Is(sabotage.ViewsReleasedEarly)):
			_ = o.view.m.Unmap() // address space only: nothing can be lost
		default:
			keep = append(keep, o)
		}
	}
	p.old = keep
}

// Cut makes the file so many pages long. The caller knows that nothing behind is needed, and that nobody makes use of it any more. After an
// error the file is as long as it was.
func (p *Pager) Cut(pages uint64) error {
	p.growMu.Lock()
	defer p.growMu.Unlock()
	was := p.pages.Load()
	if pages >= was && pages*PageSize >= p.fileEnd {
		return nil
	}
	p.pages.Store(min(pages, was)) // before the file is shorter: who finds it so looks here again
	if err := p.file.Truncate(int64(pages * PageSize)); err != nil {
		p.pages.Store(was)
		return err
	}
	p.fileEnd = pages * PageSize
	p.markPrepared(pages, was, unitUnknown)
	return nil
}

// Punch gives the blocks of whole free units back to the file system. The last of them may be a part: what lies behind the log's end in a
// segment that is never appended to again. Errors: errors.ErrUnsupported where the file system cannot, and those of the system; blocks may
// have gone then, too.
func (p *Pager) Punch(page PageNo, n uint32) error {
	p.growMu.Lock()
	defer p.growMu.Unlock()
	unit := uint64(p.Geo.UnitPages)
	err := p.file.Punch(int64(page)*PageSize, int64(n)*PageSize)
	if !errors.Is(err, errors.ErrUnsupported) {
		how := uint32(unitHole)
		if err != nil {
			how = unitUnknown
		}
		p.markPrepared(uint64(page)/unit*unit, uint64(page)+uint64(n), how)
	}
	return err
}
