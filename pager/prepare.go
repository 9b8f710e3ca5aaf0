package pager

import (
	"fmt"

	"github.com/mapfile-db/mapfile/internal/errs"
)

// What is known of the blocks of a unit.
const (
	unitUnknown  = 0 // parts of it may be holes
	unitReady    = 1 // it has blocks, and was populated
	unitReserved = 2 // it has blocks
	unitHole     = 3 // it was punched
)

// allocate gives a range blocks. A file that was cut under the map must not come back to its length with zeros, which
// readers would take for their bytes: the map has failed instead.
func (p *Pager) allocate(what string, off, n uint64) error {
	if now, err := p.file.Stat(); err == nil && now.Size < int64(p.pages.Load()*PageSize) {
		return p.Fail(errs.At(p.path, fmt.Sprintf("cut to %d bytes", now.Size), errs.ErrReplaced))
	}
	if err := p.file.Allocate(int64(off), int64(n)); err != nil {
		return noRoom(what, err)
	}
	return nil
}

// populate brings a new range into memory so that a full disk is an error here.
func (p *Pager) populate(off, n uint64) error {
	unit := uint64(p.Geo.UnitBytes())
	huge := off >= unit && off%unit == 0 && n >= unit
	if err := p.view.Load().m.Populate(int64(off), int64(n), huge); err != nil {
		return noRoom("populate the mapping", err)
	}
	return nil
}

// markPrepared notes the units that [from, to) covers; the last, partial one of a small file too.
func (p *Pager) markPrepared(from, to uint64, how uint32) {
	unit := uint64(p.Geo.UnitPages)
	for u := (from + unit - 1) / unit; u*unit < to; u++ {
		p.prepared.Store(u, how)
	}
}

// Prepared reports whether all units of [page, page+n) are known to have blocks on disk.
func (p *Pager) Prepared(page PageNo, n uint32) bool {
	unit := uint64(p.Geo.UnitPages)
	for u := uint64(page) / unit; u*unit < uint64(page)+uint64(n); u++ {
		if !hasBlocks(p.prepared.Load(u)) {
			return false
		}
	}
	return true
}

func hasBlocks(how uint32) bool { return how == unitReady || how == unitReserved }

// Punched reports whether a unit of [page, page+n) was punched and got no blocks since.
func (p *Pager) Punched(page PageNo, n uint32) bool {
	unit := uint64(p.Geo.UnitPages)
	for u := uint64(page) / unit; u*unit < uint64(page)+uint64(n); u++ {
		if p.prepared.Load(u) == unitHole {
			return true
		}
	}
	return false
}

// Reserve makes sure that the units of [page, page+n), whole units of the file, have blocks on disk. Those that have
// already cost a system call and no I/O. Errors: ErrFull; nothing has changed.
func (p *Pager) Reserve(page PageNo, n uint32) error {
	p.growMu.Lock()
	defer p.growMu.Unlock()
	unit := uint64(p.Geo.UnitPages)
	off, end := uint64(page)*PageSize, min(uint64(page)+uint64(n), p.pages.Load())*PageSize
	if err := p.allocate("give blocks to holes", off, end-off); err != nil {
		return err
	}
	for u := uint64(page) / unit; u*unit*PageSize < end; u++ {
		if !hasBlocks(p.prepared.Load(u)) {
			p.prepared.Store(u, unitReserved)
		}
	}
	return nil
}

// Prepare makes sure that the units of [page, page+n) have blocks on disk and are
// populated, once per life: a run that was free may be a hole (punched by us, or
// left out by a sparse copy), and a store to a hole on a full disk is a signal.
// Units that are reserved are populated as far as that goes: it cannot fail.
func (p *Pager) Prepare(page PageNo, n uint32) error {
	if p.private {
		return nil
	}
	unit := uint64(p.Geo.UnitPages)
	for u := uint64(page) / unit; u*unit < uint64(page)+uint64(n); u++ {
		if p.prepared.Load(u) != unitReady {
			if err := p.prepareUnit(u); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Pager) prepareUnit(u uint64) error {
	p.growMu.Lock()
	defer p.growMu.Unlock()
	unit := uint64(p.Geo.UnitPages)
	off := u * unit * PageSize
	end := min(off+unit*PageSize, p.pages.Load()*PageSize)
	if p.prepared.Load(u) == unitReserved {
		_ = p.populate(off, end-off) // it has blocks: what could not be brought in now is when it is stored to
		p.prepared.Store(u, unitReady)
		return nil
	}
	if err := p.allocate("allocate free pages", off, end-off); err != nil {
		return err
	}
	if err := p.populate(off, end-off); err != nil {
		return err
	}
	p.prepared.Store(u, unitReady)
	return nil
}
