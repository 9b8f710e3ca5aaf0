package tail

import "github.com/mapfile-db/mapfile/pager"

// A padded log keeps each commit to blocks of its own: a disk that may leave anything in a block that is being written
// when the power goes cannot damage what was durable before. So the PAD is part of what the commit itself
// stores, behind its last record; a LINK, which is stored later, has the last block of its segment to itself; and
// a life's first commit begins behind the block of its segment's header.

// padBytes is the smallest PAD.
const padBytes = (HeaderBytes + 7) &^ 7

var zeros [pager.PageSize + padBytes]byte

// Padding is how many bytes of padding a commit takes at most: for admission.
func (t *Tail) Padding() uint64 {
	if !t.Padded {
		return 0
	}
	return pager.PageSize + padBytes
}

// padEnd is where the log goes on behind a commit that ends at an offset: at the next block with room for a PAD before it.
func (t *Tail) padEnd(at uint64) uint64 {
	rest := -at % pager.PageSize
	switch {
	case !t.Padded || rest == 0:
		return at
	case rest < padBytes:
		rest += pager.PageSize
	}
	return at + rest
}

// pad fills the block that the log ends in.
func (t *Tail) pad() error {
	n := t.padEnd(t.pos) - t.pos
	if n == 0 {
		return nil
	}
	return t.place(&Record{Kind: KindPad, Sequence: t.last, Value: zeros[:n-HeaderBytes]})
}
