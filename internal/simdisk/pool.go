package simdisk

import (
	"bytes"
	"sync"

	"github.com/mapfile-db/mapfile/pager"
)

// sectorSize is shorthand for the unit that the disk replaces as one.
const sectorSize = pager.SectorSize

var zeroSector [sectorSize]byte

func isZero(sector []byte) bool { return bytes.Equal(sector, zeroSector[:len(sector)]) }

// buffer is fixed memory of the pool's capacity whose first high bytes are in use.
// All behind them is zero, so that a reader behind the end never meets what an
// earlier image left there.
type buffer struct {
	mem  []byte
	high int64
}

// grow puts more bytes into use, as zeros.
func (b *buffer) grow(high int64) {
	if high > b.high {
		clear(b.mem[b.high:high])
		b.high = high
	}
}

// cut takes the bytes behind high out of use.
func (b *buffer) cut(high int64) {
	if high < b.high {
		clear(b.mem[high:b.high])
		b.high = high
	}
}

// sector returns the memory of sector i.
func (b *buffer) sector(i int64) []byte {
	return b.mem[i*sectorSize : (i+1)*sectorSize]
}

// pool keeps released buffers for the next image. A disk shares it with every
// disk made from it.
type pool struct {
	capacity int64

	mu    sync.Mutex // protects what follows; a leaf of the lock order
	free  []*buffer
	spare []byte // of a private mapping
}

// private returns memory for a private mapping, whose content is undefined.
func (p *pool) private(size int64) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b := p.spare; int64(cap(b)) >= size {
		p.spare = nil
		return b[:size]
	}
	return make([]byte, size)
}

// putPrivate takes the memory of a private mapping back.
func (p *pool) putPrivate(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spare = b
}

// get returns a buffer with high bytes in use, whose content is undefined.
func (p *pool) get(high int64) *buffer {
	p.mu.Lock()
	var b *buffer
	if last := len(p.free) - 1; last >= 0 {
		b, p.free = p.free[last], p.free[:last]
	}
	p.mu.Unlock()
	if b == nil {
		b = &buffer{mem: make([]byte, p.capacity)}
	}
	b.cut(high)
	b.high = high
	return b
}

// put takes a buffer back. nil is allowed.
func (p *pool) put(b *buffer) {
	if b == nil {
		return
	}
	p.mu.Lock()
	p.free = append(p.free, b)
	p.mu.Unlock()
}
