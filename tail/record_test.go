package tail

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

const testSalt = 0x1234567

// store puts a record at its position.
func store(p *pager.Pager, r *Record, salt uint64) {
	put(p.View().Writable(r.Position, r.Size()), r, salt)
}

// holds reports whether the record at a position is whole.
func holds(p *pager.Pager, position, salt uint64) bool {
	var r Record
	return ParseHeader(p.View(), position, salt, p.Pages()*pager.PageSize, &r) && r.ValueHolds(r.Value)
}

func TestRecordRoundTrip(t *testing.T) {
	p := simPager(t, unitsOfFour, 64)
	limit := p.Pages() * pager.PageSize
	bodies := []struct {
		name       string
		key, value int
	}{
		{"nothing", 0, 0}, {"one byte", 1, 1}, {"padded", 5, 9}, {"a page", 16, 4096}, {"the longest key", MaxKey, 3}, {"a long value", 3, 100_000},
	}
	for kind := KindPut; kind <= lastKind; kind++ {
		for flags := uint8(0); flags <= knownFlags; flags++ {
			for _, body := range bodies {
				if body.key+body.value > 1000 && (kind != KindPut || flags%FlagMark != FlagFirst) {
					continue // long bodies with each choice of extra word
				}
				want := Record{
					Position: 8 * 777, Kind: kind, Flags: flags, Sequence: MaxSequence - uint64(flags), Previous: MaxPosition,
					Key: value(body.key), Value: value(body.value),
				}
				if flags&(FlagMark|FlagMoved) != 0 {
					want.Extra = 0xfedcba9876543210
				}
				clear(p.View().Writable(want.Position, want.Size()))
				store(p, &want, testSalt)
				var got Record
				require.True(t, ParseHeader(p.View(), want.Position, testSalt, limit, &got), "kind %d flags %d %s", kind, flags, body.name)
				require.True(t, got.ValueHolds(got.Value))
				got.sum, got.high = 0, 0
				require.Equal(t, want, got, "kind %d flags %d %s", kind, flags, body.name)
				require.Zero(t, got.Size()%8)
				require.LessOrEqual(t, got.Size(), Size(body.key, uint64(body.value)))
			}
		}
	}
}

func TestRecordVisible(t *testing.T) {
	r := Record{Sequence: 9, Extra: 4}
	require.EqualValues(t, 9, r.Visible())
	r.Flags = FlagMark
	require.EqualValues(t, 9, r.Visible())
	r.Flags = FlagMoved
	require.EqualValues(t, 4, r.Visible())
}

func TestRecordEveryFlippedBitIsRefused(t *testing.T) {
	rows := []struct {
		name string
		r    Record
	}{
		{"short", Record{Kind: KindPut, Key: []byte("k"), Value: []byte("v")}},
		{"no value", Record{Kind: KindDelete, Flags: FlagFirst | FlagLast, Key: []byte("gone"), Previous: 4096}},
		{"with a mark", Record{Kind: KindPut, Flags: FlagFirst | FlagMark, Extra: 99, Key: value(20), Value: value(30)}},
		{"a link", Record{Kind: KindLink, Value: value(16)}},
	}
	p := simPager(t, unitsOfFour, 16)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := row.r
			r.Position, r.Sequence = 4096+64, 3
			store(p, &r, testSalt)
			require.True(t, holds(p, r.Position, testSalt))
			covered := uint64(HeaderBytes + len(r.Key) + len(r.Value))
			if r.Flags&FlagMark != 0 {
				covered += extraBytes
			}
			b := p.View().Writable(r.Position, covered)
			for bit := range 8 * covered {
				b[bit/8] ^= 1 << (bit % 8)
				require.False(t, holds(p, r.Position, testSalt), "bit %d", bit)
				b[bit/8] ^= 1 << (bit % 8)
			}
		})
	}
}

func TestRecordStale(t *testing.T) {
	p := simPager(t, unitsOfFour, 16)
	r := Record{Kind: KindPut, Key: []byte("key"), Value: value(40), Position: 4096, Sequence: 5}
	store(p, &r, testSalt)
	copy(p.View().Writable(8192, r.Size()), p.View().Bytes(4096, r.Size()))
	require.True(t, holds(p, 4096, testSalt))
	require.False(t, holds(p, 4096, testSalt+2), "another use of the segment")
	require.False(t, holds(p, 8192, testSalt), "another place")
	require.False(t, holds(p, 4096+4, testSalt), "no multiple of 8")
}

func TestRecordValueOfAnotherHeader(t *testing.T) {
	p := simPager(t, unitsOfFour, 16)
	limit := p.Pages() * pager.PageSize
	var r Record
	for _, sequence := range []uint64{1, 2} {
		a := Record{Kind: KindPut, Key: []byte("key"), Value: value(40), Position: 4096 * sequence, Sequence: sequence}
		store(p, &a, testSalt)
	}
	copy(p.View().Writable(4096+4, 4), p.View().Bytes(8192+4, 4)) // the sum of the same value, below another header
	require.True(t, ParseHeader(p.View(), 4096, testSalt, limit, &r))
	require.False(t, r.ValueHolds(value(40)))
}

// TestRecordLimit: a record that is whole is refused if the limit lies inside it, wherever.
func TestRecordLimit(t *testing.T) {
	p := simPager(t, unitsOfFour, 16)
	r := Record{Kind: KindPut, Flags: FlagMark, Key: value(11), Value: value(21), Position: 4096}
	store(p, &r, testSalt)
	end := uint64(4096 + HeaderBytes + extraBytes + 11 + 21)
	var got Record
	for limit := uint64(0); limit < end; limit++ {
		require.False(t, ParseHeader(p.View(), r.Position, testSalt, limit, &got), "limit %d", limit)
	}
	require.True(t, ParseHeader(p.View(), r.Position, testSalt, end, &got))
}

// TestRecordUnknownKindAndFlags: what a later version may write is refused, though its sum holds.
func TestRecordUnknownKindAndFlags(t *testing.T) {
	p := simPager(t, unitsOfFour, 16)
	for _, r := range []Record{{Kind: 0}, {Kind: lastKind + 1}, {Kind: 255}, {Kind: KindPut, Flags: 1 << 5}, {Kind: KindPut, Flags: 1 << 7}} {
		r.Position = 4096
		store(p, &r, testSalt)
		require.False(t, holds(p, 4096, testSalt), "kind %d, flags %#x", r.Kind, r.Flags)
	}
}

func TestNextRecord(t *testing.T) {
	p := simPager(t, unitsOfFour, 16)
	r := Record{Kind: KindPut, Key: value(7), Position: 8 * 1000}
	store(p, &r, testSalt)
	v, end := p.View(), uint64(8*1010)
	require.EqualValues(t, 8000, NextRecord(v, 4096, testSalt, end))
	require.Equal(t, end, NextRecord(v, 8000, testSalt, end), "behind it, not at it")
	require.Equal(t, end, NextRecord(v, 4096, testSalt+1, end), "of another use")
	require.EqualValues(t, 8008, NextRecord(v, 4096, testSalt, 8008), "cut by the end")
}
