package mapfile

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
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
	// Of a transaction, a callback, or a read that pins; 0 in pins that are held for one of these, or by upkeep.
	began    atomic.Int64 // ns since the process began
	sequence atomic.Uint64
	caller   atomic.Pointer[string] // with Debug.Callers
	place    uint32                 // in the order of each; never changes
	_        [28]byte
}

// processBegan is a moment from which a monotonic clock counts.
var processBegan = time.Now()

// note says what the pin is for, to Stats.
func (c *pinCell) note(sequence uint64, callers bool) {
	if callers {
		name := callerName()
		c.caller.Store(&name)
	}
	c.sequence.Store(sequence)
	c.began.Store(int64(time.Since(processBegan)))
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

// acquireBehind pins a generation that a cell holds, or has just held, in a cell that each visits later: who goes through the
// cells while the other one is released finds at least one of the two.
func (p *pins) acquireBehind(held *pinCell, generation uint64) *pinCell {
	for {
		if c := p.claimBehind(held, generation); c != nil {
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
		if c := claimOf(block[:], generation); c != nil {
			return c
		}
	}
	return nil
}

// claimBehind is claim of a cell behind another one.
func (p *pins) claimBehind(held *pinCell, generation uint64) *pinCell {
	const n = uint32(len(pinBlock{}))
	from := held.place%n + 1
	for _, block := range (*p.blocks.Load())[held.place/n:] {
		if c := claimOf(block[from:], generation); c != nil {
			return c
		}
		from = 0
	}
	return nil
}

// claimOf claims one of these cells, at random, so that readers on different cores seldom try the same one.
func claimOf(cells []pinCell, generation uint64) *pinCell {
	n, at := uint32(len(cells)), rand.Uint32()
	for i := range n {
		c := &cells[(at+i)%n]
		if c.generation.Load() == 0 && c.generation.CompareAndSwap(0, generation) {
			return c
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
	block := new(pinBlock)
	for i := range block {
		block[i].place = uint32(len(more)*len(block) + i)
	}
	more = append(more, block)
	p.blocks.Store(&more)
}

func (c *pinCell) release() {
	c.began.Store(0)
	c.caller.Store(nil)
	c.generation.Store(0)
}

// oldest is the lowest generation pinned, the largest number if there is none.
func (p *pins) oldest() uint64 {
	low := uint64(math.MaxUint64)
	p.each(func(c *pinCell) {
		if g := c.generation.Load(); g != 0 { // it may be released meanwhile
			low = min(low, g)
		}
	})
	return low
}

// count is the number of pins.
func (p *pins) count() int {
	n := 0
	p.each(func(*pinCell) { n++ })
	return n
}

// readers is the number of transactions, callbacks and reads that have one.
func (p *pins) readers() int {
	n := 0
	p.each(func(c *pinCell) {
		if c.began.Load() != 0 {
			n++
		}
	})
	return n
}

// oldestReader is what Stats tells of the reader that began first, nothing if there is none.
func (p *pins) oldestReader() (r OldestReader) {
	first := int64(math.MaxInt64)
	p.each(func(c *pinCell) {
		began, sequence, caller := c.began.Load(), c.sequence.Load(), c.caller.Load()
		if began == 0 || began >= first || c.began.Load() != began {
			return
		}
		first, r = began, OldestReader{Age: time.Since(processBegan) - time.Duration(began), Sequence: sequence}
		if caller != nil {
			r.Caller = *caller
		}
	})
	return r
}

// each visits the cells in use, in the order in which acquireBehind moves on. Blocks that are added meanwhile are visited, too.
func (p *pins) each(visit func(c *pinCell)) {
	for n := 0; ; n++ {
		all := p.blocks.Load()
		if all == nil || n >= len(*all) {
			return
		}
		block := (*all)[n]
		for i := range block {
			if c := &block[i]; c.generation.Load() != 0 {
				visit(c)
			}
		}
	}
}
