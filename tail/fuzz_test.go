package tail

import (
	"encoding/binary"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// FuzzRecord reads any bytes as a record at any place, bare and with sums that hold: it is refused, or it lies within the limit.
func FuzzRecord(f *testing.F) {
	p := simPager(f, unitsOfFour, 16)
	seed := Record{Position: 4096, Kind: KindPut, Flags: FlagFirst | FlagMark, Sequence: 9, Key: []byte("key"), Value: []byte("value")}
	b := make([]byte, seed.Size())
	put(b, &seed, testSalt)
	f.Add(b, uint64(4096), uint64(1<<16), false)
	for _, lengths := range []uint64{0, 1<<64 - 1, 1<<32 - 1, 0xffff, 0xffff_ffff_0000_0000, 0x8000_0000_1801_0003} {
		forged := append([]byte(nil), b...)
		binary.LittleEndian.PutUint64(forged[8:], lengths)
		f.Add(forged, uint64(4096), uint64(1<<16), true)
		f.Add(forged, uint64(1<<16-32), uint64(1<<16), true)
		f.Add(forged, ^uint64(0)&^7, uint64(1<<16), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, position, limit uint64, sum bool) {
		limit = min(limit, p.Pages()*pager.PageSize)
		file := p.View().Writable(0, p.Pages()*pager.PageSize)
		clear(file)
		if position <= limit {
			copy(file[position:], b)
		}
		if sum {
			holdSums(file, position, limit)
		}
		var r Record
		if !ParseHeader(p.View(), position, testSalt, limit, &r) {
			Mend(p, position, testSalt, limit)
			p.ForgetRot()
			return
		}
		require.LessOrEqual(t, r.valueAt()+uint64(len(r.Value)), limit-position)
		require.LessOrEqual(t, r.Sequence, uint64(MaxSequence))
		require.Equal(t, uint64(0), r.Size()%8)
		require.Greater(t, r.Size(), uint64(0))
		r.ValueHolds(r.Value)
		again := make([]byte, r.Size())
		put(again, &r, testSalt)
		require.Equal(t, file[position+8:position+r.valueAt()], again[8:r.valueAt()], "a record that is read can be written")
	})
}

// holdSums makes the sums of the record at position hold, if it has room.
func holdSums(file []byte, position, limit uint64) {
	if position%8 != 0 || position > limit || limit-position < HeaderBytes {
		return
	}
	b := file[position:limit]
	r := Record{Position: position, Flags: b[11], Key: make([]byte, binary.LittleEndian.Uint16(b[8:]))}
	keyEnd := r.valueAt()
	valueEnd := keyEnd + uint64(binary.LittleEndian.Uint32(b[12:]))
	if valueEnd > uint64(len(b)) {
		return
	}
	h := xxhash.Sum64(b[8:keyEnd]) ^ pager.Mix(testSalt, position)
	binary.LittleEndian.PutUint32(b, uint32(h))
	binary.LittleEndian.PutUint32(b[4:], uint32(xxhash.Sum64(b[keyEnd:valueEnd]))^uint32(h>>32))
}

// FuzzWalk takes bytes as fields of records that are written behind one another with sums that hold, LINKs and all, and walks
// them: it ends, and what it says of the log fits what visits it.
func FuzzWalk(f *testing.F) {
	f.Add([]byte("\x01\x07\x01\x00\x01\x07\x02\x00\x01\x07\x03\x00"), uint64(0))
	f.Add([]byte("\x01\x01\x01\x00\x01\x02\x00\x00\x05\x00\x00\x01\x01\x07\x01\x00"), uint64(5000))
	f.Add([]byte("\x05\x00\x00\x00\x05\x00\x00\x00\x05\x00\x00\x02"), ^uint64(0))
	f.Add([]byte("\x07\x00\x00\x00\x06\x07\x01\x00\x04\x07\x01\x00"), uint64(300))
	f.Fuzz(func(t *testing.T, b []byte, mark uint64) {
		l := newLog(t, simPager(t, unitsOfFour, 16))
		for ; len(b) >= 4; b = b[4:] {
			if !l.forge(b) {
				break
			}
		}
		w := l.walk(mark)
		require.LessOrEqual(t, w.End.LSN, w.Refused)
		require.GreaterOrEqual(t, w.Mark, mark)
		visited := uint64(0)
		ok, err := w.Each(l.p.View(), func(*Record) error { visited++; return nil })
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, w.Records, visited)
		bytes := uint64(0)
		for _, s := range w.Spans(0) {
			bytes += s.To - s.From
		}
		require.Equal(t, w.End.LSN-l.start.LSN, bytes, "the spans are the log")
	})
}

// forge appends a record as four bytes say: kind, flags, how far the sequence goes on, and what a LINK leads to or how long the
// value is. It answers false when there is no room.
func (l *testLog) forge(b []byte) bool {
	r := &Record{Kind: Kind(b[0] % 9), Flags: b[1] & knownFlags, Sequence: l.Sequence + uint64(int64(int8(b[2]))), Extra: uint64(b[3]) << 9, Key: []byte("k")}
	r.Value = value(int(b[3]) * 9)
	if r.Kind == KindLink || r.Kind == KindRetire {
		s := l.used[int(b[3])%len(l.used)]
		r.Value = binary.LittleEndian.AppendUint64(nil, uint64(s.Start))
		r.Value = binary.LittleEndian.AppendUint64(r.Value, s.Salt)
	}
	r.Sequence &= MaxSequence
	if b[2]&0x80 == 0 {
		l.Sequence = r.Sequence
	}
	if err := l.Append(r); err != nil {
		return false
	}
	l.note()
	return true
}

// FuzzEntries reads any bytes as the image of a segment table.
func FuzzEntries(f *testing.F) {
	f.Add(AppendEntries(nil, []Entry{{Segment{Start: 8, Pages: 4, Salt: 3, Used: 2000, FirstLSN: 1, FirstSeq: 1, LastSeq: 5}, 100}}), uint64(64))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"), uint64(1<<32))
	f.Fuzz(func(t *testing.T, b []byte, pages uint64) {
		all, err := ReadEntries(b, pages)
		if err != nil {
			return
		}
		require.LessOrEqual(t, EntriesSize(len(all)), len(b))
		for _, e := range all {
			require.LessOrEqual(t, uint64(e.Start)+uint64(e.Pages), pages)
			require.LessOrEqual(t, e.Used, uint64(e.Pages)*pager.PageSize)
		}
	})
}
