//go:build linux

package main

import (
	"bytes"
	"sync"
)

const (
	diskPage = 4096
	sector   = 512 // what a disk writes whole
)

// pages is the content of a disk: what is missing is zero.
type pages map[int64]*[diskPage]byte

// disk is a disk that records what is written to it, can fail, and can be set to what a crash would have left.
type disk struct {
	size int64
	mu   sync.Mutex // protects what follows
	base pages
	over pages // on top of base
	log  *diskLog
	fail func(data []byte, flush bool) bool // nil: nothing fails
}

// diskLog is what reached the disk, in order.
type diskLog struct {
	ops   []diskOp
	bytes int64
}

// diskOp is a write, or, with nil data, a flush: all before it is on the medium.
type diskOp struct {
	off  int64
	data []byte
}

func newDisk(size int64) *disk { return &disk{size: size, base: pages{}, over: pages{}} }

// read fills b from an offset.
func (d *disk) read(b []byte, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(b) > 0 {
		page, at := off/diskPage, int(off%diskPage)
		n := min(len(b), diskPage-at)
		p := d.over[page]
		if p == nil {
			p = d.base[page]
		}
		if p == nil {
			clear(b[:n])
		} else {
			copy(b[:n], p[at:])
		}
		b, off = b[n:], off+int64(n)
	}
}

// write stores b, and reports whether the disk took it.
func (d *disk) write(b []byte, off int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil && d.fail(b, false) {
		return false
	}
	if d.log != nil {
		d.log.ops = append(d.log.ops, diskOp{off, bytes.Clone(b)})
		d.log.bytes += int64(len(b))
	}
	d.over.put(d.base, b, off)
	return true
}

// flush notes that all writes so far are on the medium, and reports whether that went well.
func (d *disk) flush() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil && d.fail(nil, true) {
		return false
	}
	if d.log != nil {
		d.log.ops = append(d.log.ops, diskOp{})
	}
	return true
}

// put stores b over what lies below.
func (p pages) put(below pages, b []byte, off int64) {
	for len(b) > 0 {
		page, at := off/diskPage, int(off%diskPage)
		n := min(len(b), diskPage-at)
		to := p[page]
		if to == nil {
			to = new([diskPage]byte)
			if was := below[page]; was != nil {
				*to = *was
			}
			p[page] = to
		}
		copy(to[at:], b[:n])
		b, off = b[n:], off+int64(n)
	}
}

// record begins a log.
func (d *disk) record() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for page, p := range d.over {
		d.base[page] = p
	}
	d.over, d.log = pages{}, &diskLog{}
}

// recorded is how many operations the log has.
func (d *disk) recorded() (ops int, bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.log == nil {
		return 0, 0
	}
	return len(d.log.ops), d.log.bytes
}

// stop ends the log, and takes the disk back to where it began.
func (d *disk) stop() *diskLog {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.log
	d.over, d.log = pages{}, nil
	return l
}

// failing sets what fails from now on.
func (d *disk) failing(f func(data []byte, flush bool) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = f
}

// settle puts operations onto the medium for good, below what a crash state adds.
func (d *disk) settle(ops []diskOp) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, op := range ops {
		d.base.put(nil, op.data, op.off)
	}
}

// become sets the disk to a crash state: the medium, and what a state keeps of some operations.
func (d *disk) become(ops []diskOp, keep func(op, sector int) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = pages{}
	for i, op := range ops {
		for s := 0; s*sector < len(op.data); s++ {
			if keep(i, s) {
				part := op.data[s*sector:]
				d.over.put(d.base, part[:min(sector, len(part))], op.off+int64(s*sector))
			}
		}
	}
}
