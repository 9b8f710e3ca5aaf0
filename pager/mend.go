package pager

import (
	"bytes"
	"errors"
	"sync"

	"github.com/mapfile-db/mapfile/internal/sabotage"
)

// Mending takes back a single flipped bit: rot that a sum finds, and that a sum can undo, because of all the
// bytes that differ from the rotten ones in one bit only the right ones fit it. It is done where the bytes stand.
// A crash in the middle leaves the sector as it was or mended (A1), so no page that a meta page leads to
// is in danger from it.

// Flip is a bit that was taken back.
type Flip struct {
	Off  uint64 // byte offset in the file
	Was  byte   // the rotten byte
	Now  byte   // the right one
	What string // what the byte belongs to
}

// maxFlips bounds the list of what was mended; the number goes on.
const maxFlips = 1000

// mending is what a pager knows of rot.
type mending struct {
	mu       sync.Mutex // a leaf: one bit is taken back at a time
	flips    []Flip
	count    uint64
	later    []Flip          // to be written when the map is known to open
	hopeless map[uint64]bool // byte offsets of what cannot be mended: not tried again soon
}

// NewFlip is the flip of a bit that FlippedBit found in b, which lies at off in the file.
func NewFlip(b []byte, bit int, off uint64, what string) Flip {
	at := bit / 8
	return Flip{off + uint64(at), b[at] ^ 1<<(bit%8), b[at], what}
}

// FlippedBit tries to flip each bit of b until holds answers true, and leaves b like that. bit counts from the lowest of
// the first byte; it is -1 if b holds as it is.
func FlippedBit(b []byte, holds func() bool) (bit int, ok bool) {
	if holds() {
		return -1, true
	}
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if holds() || sabotage.Is(sabotage.MendUnchecked) {
			return bit, true
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	return 0, false
}

// TryMend looks for the one flipped bit in the n bytes at off, and takes it back: in the file of a map that is open for
// writing, in private memory of a read-only one. find looks for it in a copy of the bytes, as FlippedBit does. It answers true if it is
// worth looking again. The caller's pin, or turn, keeps the bytes from being reused meanwhile.
func (p *Pager) TryMend(what string, off, n uint64, find func(b []byte) (bit int, ok bool)) bool {
	p.rot.mu.Lock()
	known := p.rot.hopeless[off]
	p.rot.mu.Unlock()
	if known {
		return false
	}
	b := bytes.Clone(p.View().Bytes(off, n))
	bit, ok := find(b)
	switch {
	case !ok:
		p.giveUp(off)
		return false
	case bit < 0:
		return true // somebody was faster
	}
	return p.mend(NewFlip(b, bit, off, what)) == nil
}

// giveUp notes that bytes cannot be mended.
func (p *Pager) giveUp(off uint64) {
	p.rot.mu.Lock()
	defer p.rot.mu.Unlock()
	if p.rot.hopeless == nil || len(p.rot.hopeless) >= maxFlips {
		p.rot.hopeless = map[uint64]bool{}
	}
	p.rot.hopeless[off] = true
}

// ForgetRot lets what could not be mended be tried again: it may read differently by now.
func (p *Pager) ForgetRot() {
	p.rot.mu.Lock()
	defer p.rot.mu.Unlock()
	p.rot.hopeless = nil
}

// mend stores the right byte, with the others of its word, unless the rotten one is gone.
func (p *Pager) mend(f Flip) error {
	p.rot.mu.Lock()
	defer p.rot.mu.Unlock()
	v := p.View()
	if v.Bytes(f.Off, 1)[0] != f.Was {
		return nil
	}
	if err := p.store(v, f.Off, f.Now); err != nil {
		return err
	}
	p.note(f)
	return nil
}

// store puts one byte where it belongs; its word is stored in one step, for readers look on.
func (p *Pager) store(v *View, off uint64, b byte) error {
	word, shift := off&^7, 8*(off&7)
	x := v.Load64(word)&^(0xff<<shift) | uint64(b)<<shift
	switch {
	case p.private:
		return v.m.Amend(int64(word), swap64(x))
	case p.readOnly:
		return errors.ErrUnsupported
	}
	p.Store64(v, word, x)
	return nil
}

// note keeps a flip for the report. rot.mu is held.
func (p *Pager) note(f Flip) {
	p.rot.count++
	if len(p.rot.flips) < maxFlips {
		p.rot.flips = append(p.rot.flips, f)
	}
	if p.OnMend != nil {
		p.OnMend(f)
	}
}

// MendLater notes flipped bits that were taken back in memory alone, for WriteMended.
func (p *Pager) MendLater(flips ...Flip) {
	p.rot.mu.Lock()
	defer p.rot.mu.Unlock()
	p.rot.later = append(p.rot.later, flips...)
}

// WriteMended takes back in the file what MendLater was told of, now that the map is known to open: by pwrite, as the
// first four pages are written, or, in a read-only map, nowhere but in the report.
func (p *Pager) WriteMended() error {
	p.rot.mu.Lock()
	defer p.rot.mu.Unlock()
	flips := p.rot.later
	p.rot.later = nil
	for _, f := range flips {
		if !p.readOnly {
			if err := p.file.WriteAt([]byte{f.Now}, int64(f.Off)); err != nil {
				return err
			}
		}
		p.note(f)
	}
	return nil
}

// Mended is what was mended since the file was opened, the first thousand, and how many there were.
func (p *Pager) Mended() (flips []Flip, count uint64) {
	p.rot.mu.Lock()
	defer p.rot.mu.Unlock()
	return append([]Flip(nil), p.rot.flips...), p.rot.count
}

// Unmend puts back what was mended in the mapping since there were count flips: an open that is refused leaves the file as it was.
func (p *Pager) Unmend(count uint64) error {
	if sabotage.Is(sabotage.RefusedOpenMends) {
		return nil
	}
	p.rot.mu.Lock()
	defer p.rot.mu.Unlock()
	for i := len(p.rot.flips) - 1; i >= int(count); i-- {
		f := p.rot.flips[i]
		if err := p.store(p.View(), f.Off, f.Was); err != nil {
			return err
		}
	}
	p.rot.flips = p.rot.flips[:min(int(count), len(p.rot.flips))]
	p.rot.count = min(p.rot.count, count)
	return nil
}
