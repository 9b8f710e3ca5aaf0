package mapfile

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// A forger changes fields of a map's structures and makes the sums hold again: what is behind a sum is reached
// with values that no program of ours writes.
type forger struct {
	file     []byte
	salt     uint64
	index    []uint64 // byte offsets of directory and bucket pages
	buckets  []uint64
	images   []uint64
	segments []tail.Segment
	records  []forgedRecord
	values   []uint64 // worth writing anywhere
}

type forgedRecord struct{ at, salt, end uint64 }

// forgedField is a place in a structure and its size, in bytes.
type forgedField struct{ at, size int }

// The fields of FORMAT.md's tables.
var (
	metaFields = []forgedField{
		{16, 4}, {20, 4}, {24, 4}, {28, 4}, {48, 8}, {56, 8}, {72, 8}, {80, 4}, {84, 4}, {88, 8}, {96, 4}, {100, 4}, {104, 4}, {108, 4}, {112, 8}, {120, 4},
		{128, 8}, {136, 8}, {144, 8}, {152, 8}, {160, 8}, {176, 1}, {177, 1}, {178, 1}, {179, 1}, {180, 4}, {184, 4}, {188, 4}, {192, 4}, {200, 8},
	}
	markFields    = []forgedField{{8, 8}, {16, 8}}
	indexFields   = []forgedField{{8, 1}, {9, 1}, {10, 1}, {11, 1}, {12, 4}, {16, 4}, {20, 2}, {22, 2}, {24, 8}}
	segmentFields = []forgedField{{32, 8}, {40, 4}, {44, 4}, {48, 4}, {56, 8}, {64, 8}}
	recordFields  = []forgedField{{8, 2}, {10, 1}, {11, 1}, {12, 4}, {16, 6}, {22, 6}, {28, 8}, {36, 8}, {44, 8}}
)

var le = binary.LittleEndian

// newForger finds the structures of a whole file.
func newForger(file []byte) *forger {
	f := &forger{file: bytes.Clone(file), salt: le.Uint64(file[48:])}
	f.values = []uint64{
		0, 1, 2, 3, 4, 5, 7, 8, 16, 63, 64, 65, 1<<16 - 1, 1<<31 - 1, 1 << 31, 1<<32 - 4096, 1<<32 - 1, 1 << 32, 1<<41 - 1, tail.MaxPosition, 1<<48 - 8, 1<<48 - 1,
		1<<63 - 1, 1 << 63, ^uint64(0) - 4095, ^uint64(0), uint64(len(file)), uint64(len(file)) - 8, uint64(len(file)) / pager.PageSize, uint64(len(file))/pager.PageSize - 1,
	}
	for at := uint64(pager.FirstPage) * pager.PageSize; at+pager.PageSize <= uint64(len(file)); at += pager.PageSize {
		p := file[at : at+pager.PageSize]
		switch {
		case le.Uint64(p) == 0: // unused, or of an epoch that was not sealed: nothing leads there
		case string(p[8:16]) == "segment\n":
			f.segment(at)
		case le.Uint32(p[12:]) == uint32(at/pager.PageSize) && (p[8] == index.TypeDirectory || p[8] == index.TypeBucket):
			if f.sumPage(at, f.salt); !bytes.Equal(f.file[at:at+pager.PageSize], p) { // nothing leads there: a child was used again
				copy(f.file[at:], p)
				continue
			}
			f.index = append(f.index, at)
			f.values = append(f.values, at/pager.PageSize)
			if p[8] == index.TypeBucket {
				f.buckets = append(f.buckets, at)
			}
		case le.Uint32(p[12:]) == uint32(at/pager.PageSize) && p[8] == index.TypeImage:
			f.images = append(f.images, at)
			f.values = append(f.values, at/pager.PageSize)
		}
	}
	return f
}

// segment notes a segment and its records.
func (f *forger) segment(at uint64) {
	s := tail.Segment{Start: pager.PageNo(at / pager.PageSize), Pages: le.Uint32(f.file[at+44:]), Salt: le.Uint64(f.file[at+32:])}
	end := min(s.End(), uint64(len(f.file)))
	f.segments = append(f.segments, s)
	f.values = append(f.values, at/pager.PageSize, s.Salt)
	for at += tail.SegmentHeader; at+tail.HeaderBytes <= end; {
		n, ok := f.recordBytes(at, end)
		if !ok || le.Uint32(f.file[at:]) != uint32(f.hash(at, n.key, s.Salt)) {
			return
		}
		f.records = append(f.records, forgedRecord{at, s.Salt, end})
		f.values = append(f.values, at)
		at += (n.value - at + uint64(le.Uint32(f.file[at+12:])) + 7) &^ 7
	}
}

// recordEnds are the byte offsets in the file of a record's value and of the end of its key, which is the same.
type recordEnds struct{ key, value uint64 }

// recordBytes reads a record's lengths; false if it does not end before end.
func (f *forger) recordBytes(at, end uint64) (recordEnds, bool) {
	key := at + tail.HeaderBytes + uint64(le.Uint16(f.file[at+8:]))
	if f.file[at+11]&(tail.FlagMark|tail.FlagMoved) != 0 {
		key += 8
	}
	return recordEnds{key, key}, key+uint64(le.Uint32(f.file[at+12:])) <= end
}

func (f *forger) hash(at, keyEnd, salt uint64) uint64 {
	return xxhash.Sum64(f.file[at+8:keyEnd]) ^ pager.Mix(salt, at)
}

// editBytes is the length of an edit: what, which, where (2), how, and a number (8).
const editBytes = 13

// forge applies edits and makes the sums hold.
func (f *forger) forge(edits []byte) []byte {
	for n := 0; len(edits) >= editBytes && n < 64; n++ {
		e := edits[:editBytes]
		edits = edits[editBytes:]
		f.edit(e[0], int(e[1]), int(le.Uint16(e[2:])), e[4], le.Uint64(e[5:]))
	}
	f.sum()
	return f.file
}

// edit changes one field of one structure.
func (f *forger) edit(what byte, which, where int, how byte, x uint64) {
	pick := func(all []uint64) uint64 {
		if len(all) == 0 {
			return 0
		}
		return all[which%len(all)]
	}
	at, in := uint64(0), forgedField{where % pager.PageSize, 1 << (how & 3)}
	switch what % 10 {
	case 0:
		at, in = uint64(which%2)*pager.PageSize, metaFields[where%len(metaFields)]
	case 1:
		at, in = uint64(pager.MarkPage)*pager.PageSize, markFields[where%len(markFields)]
	case 2:
		at, in = pick(f.index), indexFields[where%len(indexFields)]
	case 3: // a child of a directory, a tag, or a bucket's slot, its tops too
		at = pick(f.index)
	case 4:
		at = pick(f.images)
	case 5:
		if len(f.segments) > 0 {
			at, in = f.segments[which%len(f.segments)].Base(), segmentFields[where%len(segmentFields)]
		}
	case 6, 7:
		if len(f.records) > 0 {
			at, in = f.records[which%len(f.records)].at, recordFields[where%len(recordFields)]
		}
	case 8: // the position in a slot in use, its tag as it was
		f.editSlot(pick(f.buckets), where, how, x)
		return
	case 9: // a child of a directory
		at, in = pick(f.index), forgedField{1088 + where%8*4, 4}
	}
	if at += uint64(in.at); at+8 <= uint64(len(f.file)) {
		f.put(at, in.size, how, x)
	}
}

// put stores a number, one that is worth trying, or what was there and a bit more or less.
func (f *forger) put(at uint64, size int, how byte, x uint64) {
	var b [8]byte
	copy(b[:size], f.file[at:])
	switch how >> 2 % 4 {
	case 0, 1:
		x = f.values[x%uint64(len(f.values))]
	case 2:
		x = le.Uint64(b[:]) + uint64(int64(int8(x)))
	}
	le.PutUint64(b[:], x)
	copy(f.file[at:at+uint64(size)], b[:])
}

func (f *forger) editSlot(bucket uint64, where int, how byte, x uint64) {
	if bucket == 0 {
		return
	}
	at := bucket + 64 + uint64(where%8)*8
	word := le.Uint64(f.file[at:])
	f.put(at, 8, how, x)
	le.PutUint64(f.file[at:], word&^(1<<41-1)|le.Uint64(f.file[at:])>>3&(1<<41-1))
}

// sum makes every sum hold that can: of records first, of meta pages last.
func (f *forger) sum() {
	for _, r := range f.records {
		if n, ok := f.recordBytes(r.at, r.end); ok {
			h := f.hash(r.at, n.key, r.salt)
			value := f.file[n.value : n.value+uint64(le.Uint32(f.file[r.at+12:]))]
			le.PutUint32(f.file[r.at:], uint32(h))
			le.PutUint32(f.file[r.at+4:], uint32(xxhash.Sum64(value))^uint32(h>>32))
		}
	}
	for _, s := range f.segments {
		b := f.file[s.Base():]
		le.PutUint64(b, xxhash.Sum64(b[8:pager.SectorSize]))
		copy(b[pager.SectorSize:], b[:pager.SectorSize])
	}
	salt := le.Uint64(f.file[48:])
	for _, at := range slices.Concat(f.index, f.images) {
		f.sumPage(at, salt)
	}
	le.PutUint64(f.file[2*pager.PageSize:], xxhash.Sum64(f.file[2*pager.PageSize+8:2*pager.PageSize+32])^pager.Mix(salt, 2))
	for which := range 2 {
		m := f.file[which*pager.PageSize:]
		le.PutUint64(m, xxhash.Sum64(m[8:pager.SectorSize])^pager.Mix(0x6d657461, uint64(which)))
	}
}

// sumPage makes the sum of an index page or of images hold, and the tags of a directory's children what they expect.
func (f *forger) sumPage(at, salt uint64) {
	length := uint64(pager.PageSize)
	b := f.file[at:]
	switch b[8] {
	case index.TypeImage:
		if n := le.Uint64(b[24:]); n >= 8 && n <= uint64(len(b)) {
			length = n
		}
	case index.TypeDirectory:
		for i := range 512 {
			if child := uint64(le.Uint32(b[1088+4*i:])) * pager.PageSize; child != 0 && child+pager.PageSize <= uint64(len(f.file)) {
				le.PutUint16(b[64+2*i:], le.Uint16(f.file[child+16:]))
			}
		}
	}
	page := at / pager.PageSize
	le.PutUint64(b, index.Sum(b[:length], salt, pager.PageNo(page), le.Uint32(b[16:])))
}
