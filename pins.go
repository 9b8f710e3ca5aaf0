package mapfile

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// pins is where readers that show bytes of the mapping to a caller, or that live
// long, note the generation they began in: nothing retired in that generation or later
// is reused until they have gone. A cell is a cache line of its own, so that readers on
// different cores do not meet.
type pins struct {
	blocks atomic.Pointer[[]*pinBlock]
	mu     sync.Mutex // protects growth of blocks; a leaf
}

type pinBlock [64]pinCell

type pinCell struct {
	generation atomic.Uint64 // 0: free
	_          [56]byte
}

// acquire pins the current generation. The caller loads published and root afterwards, never before.
func (p *pins) acquire(generation *atomic.Uint64) *pinCell {
	for {
		// The generation is stored as it is now: an older one would only hold more back.
		if c := p.claim(generation.Load()); c != nil {
			return c
		}
		p.grow()
	}
}

// acquireAt pins a generation that is pinned already.
func (p *pins) acquireAt(generation uint64) *pinCell {
	for {
		if c := p.claim(max(generation, 1)); c != nil {
			return c
		}
		p.grow()
	}
}

// claim stores a generation in a free cell; nil if there is none.
func (p *pins) claim(generation uint64) *pinCell {
	all := p.blocks.Load()
	if all == nil {
		return nil
	}
	for _, block := range *all {
		at := rand.Uint32()
		for i := range uint32(len(block)) {
			c := &block[(at+i)%uint32(len(block))]
			if c.generation.Load() == 0 && c.generation.CompareAndSwap(0, generation) {
				return c
			}
		}
	}
	return nil
}

func (p *pins) grow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var more []*pinBlock
	if all := p.blocks.Load(); all != nil {
		more = append(more, *all...)
	}
	more = append(more, new(pinBlock))
	p.blocks.Store(&more)
}

func (c *pinCell) release() { c.generation.Store(0) }

// oldest is the lowest generation pinned, the largest number if there is none.
func (p *pins) oldest() uint64 {
	low := uint64(math.MaxUint64)
	p.each(func(g uint64) { low = min(low, g) })
	return low
}

// count is the number of pins.
func (p *pins) count() int {
	n := 0
	p.each(func(uint64) { n++ })
	return n
}

func (p *pins) each(visit func(generation uint64)) {
	all := p.blocks.Load()
	if all == nil {
		return
	}
	for _, block := range *all {
		for i := range block {
			if g := block[i].generation.Load(); g != 0 {
				visit(g)
			}
		}
	}
}
