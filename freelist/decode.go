package freelist

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mapfile-db/mapfile/pager"
)

// DecodeImage reads the image at the start of b and returns what is behind it.
// Any bytes may come: what is no image of a file with this geometry is an error
// that names the reason. The memory it takes is in the length of b; that of
// FromImage is in the number of pages, so compare Pages with the file first.
func DecodeImage(g pager.Geometry, b []byte) (im *Image, rest []byte, err error) {
	d := decoder{b: b, unitPages: g.UnitPages}
	im = &Image{g: g, table: d.table()}
	im.entries = d.entries(im.table.pages)
	if d.err == nil {
		d.err = disjoint(&im.table, g.UnitPages, im.entries)
	}
	if d.err != nil {
		return nil, nil, fmt.Errorf("image of free space: %w", d.err)
	}
	return im, d.b, nil
}

// decoder reads numbers and bitmaps from b until the first error.
type decoder struct {
	b         []byte
	unitPages uint32
	err       error
}

// fail keeps the first error.
func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

var errShort = errors.New("it ends too early")

// uvarint reads a number of at most limit; 0 after an error.
func (d *decoder) uvarint(what string, limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	switch {
	case d.err != nil:
		return 0
	case n == 0:
		d.err = errShort
		return 0
	case n < 0 || v > limit:
		d.fail("%s: a number out of range", what)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// varint reads a signed number.
func (d *decoder) varint(what string) int64 {
	u := d.uvarint(what, 1<<64-1)
	return int64(u>>1) ^ -int64(u&1)
}

// count reads the number of things that take at least size bytes each.
func (d *decoder) count(what string, size int) int {
	return int(d.uvarint(what, uint64(len(d.b)/size)))
}

// table reads the first three parts.
func (d *decoder) table() (t table) {
	t.pages = d.uvarint("pages", pager.MaxPages)
	up := uint64(d.unitPages)
	if t.pages < uint64(pager.FirstPage) || t.pages > up && t.pages%up != 0 {
		d.fail("a file of %d pages", t.pages)
		return t
	}
	t.words = d.bitmap(nil, uint32(min(t.pages, up)))
	if d.err == nil && bits(t.words).count(0, uint32(pager.FirstPage)) > 0 {
		d.fail("a fixed page is free")
	}
	left := max(t.pages/up, 1) - 1
	for range d.count("runs of units", 1) {
		v := d.uvarint("run of units", left<<2|3)
		r := tableRun{uint32(v >> 2), uint8(v & 3)}
		if last := len(t.runs) - 1; d.err == nil && (r.n == 0 || last >= 0 && t.runs[last].class == r.class) {
			d.fail("a run of units is empty or of the class before it")
		}
		if r.class == tabPartly {
			t.words = d.partly(t.words, r.n)
		}
		if d.err != nil {
			return t
		}
		t.runs = append(t.runs, r)
		left -= uint64(r.n)
	}
	if left > 0 {
		d.fail("%d units are missing", left)
	}
	return t
}

// partly reads the bitmaps of n arenas that are partly free.
func (d *decoder) partly(words []uint64, n uint32) []uint64 {
	stride := int(d.unitPages+63) / 64
	for i := uint32(0); i < n && d.err == nil; i++ {
		words = d.bitmap(words, d.unitPages)
		if d.err != nil {
			break
		}
		if f := bits(words[len(words)-stride:]).count(0, d.unitPages); f == 0 || f == d.unitPages {
			d.fail("an arena that should be partly free has %d free pages", f)
		}
	}
	return words
}

// bitmap reads n bits and appends them to words as one unit's.
func (d *decoder) bitmap(words []uint64, n uint32) []uint64 {
	size := int(n+7) / 8
	if d.err == nil && len(d.b) < size {
		d.err = errShort
	}
	if d.err != nil {
		return words
	}
	if n%8 != 0 && d.b[size-1]>>(n%8) != 0 {
		d.fail("a bitmap has bits behind its end")
	}
	at := len(words)
	words = append(words, make([]uint64, int(d.unitPages+63)/64)...)
	for i, c := range d.b[:size] {
		words[at+i/8] |= uint64(c) << (i % 8 * 8)
	}
	d.b = d.b[size:]
	return words
}

// entries reads the retired runs.
func (d *decoder) entries(pages uint64) (out []Entry) {
	var end uint64
	var epoch int64
	for range d.count("retired runs", 3) {
		start := end + d.uvarint("start of a retired run", pages)
		v := d.uvarint("length of a retired run", pages<<1|1)
		epoch += d.varint("epoch of a retired run")
		e := Entry{Run: Run{pager.PageNo(start), uint32(v >> 1)}, Kind: Kind(v & 1), Epoch: uint32(epoch)}
		if e.Kind == KindSegment {
			e.EndLSN = d.uvarint("end of a retired segment", 1<<64-1)
		}
		end = start + v>>1
		if start < uint64(pager.FirstPage) || end > pages || e.Pages == 0 || epoch != int64(e.Epoch) {
			d.fail("a retired run of %d pages at page %d of %d, epoch %d", e.Pages, start, pages, epoch)
		}
		if d.err != nil {
			return nil
		}
		out = append(out, e)
	}
	return out
}

// disjoint says if no page is both free and retired. The entries ascend.
func disjoint(t *table, unitPages uint32, entries []Entry) error {
	for r := range t.freeRuns(unitPages) {
		for len(entries) > 0 && entries[0].end() <= uint64(r.Start) {
			entries = entries[1:]
		}
		if len(entries) > 0 && entries[0].overlaps(r) {
			return fmt.Errorf("page %d is free and retired", max(r.Start, entries[0].Start))
		}
	}
	return nil
}
