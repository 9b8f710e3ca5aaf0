package freelist

import (
	"encoding/binary"
)

// The encoding of an image. A uvarint holds seven bits a byte, the lowest first,
// with the top bit set in all but the last (encoding/binary); a varint is a
// uvarint of the value with the sign moved to the lowest bit. A bitmap of n bits
// has (n+7)/8 bytes; bit i%8 of byte i/8 is set if page i of the unit is free;
// bits from n on are zero. Per unit, U is Geometry.UnitPages.
//
//	uvarint   pages that the image speaks of
//	bitmap    of min(pages, U) bits: unit 0; those of the fixed pages are zero
//	uvarint   number of runs of units, from unit 1 on; then for each
//	            uvarint   units << 2 | class, another class than the run before
//	                      0 free, 1 segment, 2 arena without a free page, 3 arena partly free
//	            bitmap    of U bits, for each unit of class 3
//	uvarint   number of retired runs, ascending; then for each
//	            uvarint   pages between the end of the one before (or page 0) and this
//	            uvarint   length in pages << 1 | kind (0 page, 1 segment)
//	            varint    epoch of retirement, less the one of the run before (or 0)
//	            uvarint   kind 1 only: LSN of the segment's end
//
// Equal states have equal encodings.

// AppendTo appends the encoding to b.
func (im *Image) AppendTo(b []byte) []byte {
	t := im.settle().table()
	b = t.appendTo(b, im.g.UnitPages)
	b = binary.AppendUvarint(b, uint64(len(im.entries)))
	var end uint64
	var epoch uint32
	for _, e := range im.entries {
		b = binary.AppendUvarint(b, uint64(e.Start)-end)
		b = binary.AppendUvarint(b, uint64(e.Pages)<<1|uint64(e.Kind))
		b = binary.AppendVarint(b, int64(e.Epoch)-int64(epoch))
		if e.Kind == KindSegment {
			b = binary.AppendUvarint(b, e.EndLSN)
		}
		end, epoch = e.end(), e.Epoch
	}
	return b
}

// appendTo appends the first three parts of the encoding.
func (t *table) appendTo(b []byte, unitPages uint32) []byte {
	stride := int(unitPages+63) / 64
	b = binary.AppendUvarint(b, t.pages)
	b = appendBits(b, t.words, uint32(min(t.pages, uint64(unitPages))))
	b = binary.AppendUvarint(b, uint64(len(t.runs)))
	words := t.words[stride:]
	for _, r := range t.runs {
		b = binary.AppendUvarint(b, uint64(r.n)<<2|uint64(r.class))
		for i := uint32(0); r.class == tabPartly && i < r.n; i++ {
			b = appendBits(b, words, unitPages)
			words = words[stride:]
		}
	}
	return b
}

// appendBits appends a bitmap of n bits.
func appendBits(b []byte, words []uint64, n uint32) []byte {
	for i := range (n + 7) / 8 {
		b = append(b, byte(words[i/8]>>(i%8*8)))
	}
	return b
}

// MaxSize is how long the encoding may be, even after one MarkUsed.
//
// The run marked may split a run of units at either end, and so may what it
// frees of a due entry that reaches beyond it on either side; growth adds one
// run. That makes at most four more bitmaps, unit 0's larger at most by one, and
// nine more runs. Numbers may become longer: four counts, and gap and epoch of
// the entry behind.
func (im *Image) MaxSize() int {
	const bitmaps, numbers = 6, 9 + 4 + 2
	bitmapBytes := int(im.g.UnitPages+7) / 8
	return len(im.AppendTo(nil)) + bitmaps*bitmapBytes + numbers*binary.MaxVarintLen32
}
