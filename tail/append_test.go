package tail

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
)

// TestAppendReadsBack appends commits over many segments in both styles and finds each record where it was put.
func TestAppendReadsBack(t *testing.T) {
	for _, byWrite := range []bool{false, true} {
		t.Run(fmt.Sprintf("by write %v", byWrite), func(t *testing.T) {
			l := newLog(t, simPager(t, unitsOfFour, 256))
			l.ByWrite = byWrite
			rng := rand.New(rand.NewPCG(3, 4))
			var all []Record
			for range 60 {
				commit := make([]*Record, 1+rng.IntN(4))
				for i := range commit {
					commit[i] = aPut(rng.IntN(4000))
				}
				l.commit(commit...)
				for _, r := range commit {
					all = append(all, *r)
				}
			}
			require.Greater(t, len(l.used), 10)
			var r Record
			for _, want := range all {
				require.True(t, ParseHeader(l.p.View(), want.Position, l.Salt(want.Position), l.p.Pages()*pager.PageSize, &r))
				require.True(t, r.ValueHolds(r.Value))
				require.Equal(t, want.Value, r.Value)
				require.Equal(t, want.Sequence, r.Sequence)
			}
		})
	}
}

// TestSpans compares the spans, and those of a walk, with where each 8 bytes of the log lie by the segments' LSNs.
func TestSpans(t *testing.T) {
	l := newLog(t, simPager(t, unitsOfFour, 400))
	rng := rand.New(rand.NewPCG(5, 6))
	at := func(lsn uint64) uint64 {
		i := len(l.used) - 1
		for l.used[i].FirstLSN > lsn {
			i--
		}
		return l.used[i].Base() + lsn - l.used[i].FirstLSN
	}
	from := l.start.LSN
	for range 200 {
		l.commit(aPut(rng.IntN(3000)))
		if rng.IntN(3) > 0 {
			continue
		}
		from += 8 * rng.Uint64N((l.LSN-from)/8+1)
		to := from + 8*rng.Uint64N((l.LSN-from)/8+1)
		w := l.walk(0)
		require.Equal(t, l.LSN, w.End.LSN)
		require.Equal(t, l.Spans(from, l.LSN), w.Spans(from))
		lsn := from
		for i, span := range l.Spans(from, to) {
			require.Less(t, span.From, span.To, "span %d", i)
			for ; span.From < span.To; span.From, lsn = span.From+8, lsn+8 {
				require.Equal(t, at(lsn), span.From)
			}
		}
		require.Equal(t, to, lsn, "from %d", from)
	}
	require.Greater(t, len(l.used), 15)
	require.Empty(t, l.Spans(l.LSN, l.LSN))
}

func TestBeginAndUnbegin(t *testing.T) {
	l := newLog(t, simPager(t, unitsOfFour, 64))
	require.EqualValues(t, 64+SegmentHeader, l.LSN)
	s := l.Unbegin()
	require.Equal(t, l.known.Salt, s.Salt)
	require.EqualValues(t, 64, l.LSN)
	require.Empty(t, l.Segments())
	position, segment := l.Position()
	require.Zero(t, position)
	require.Nil(t, segment)
}

// TestRoomFull: an append that finds no room for the next segment changes nothing, and one that fits goes on.
func TestRoomFull(t *testing.T) {
	l := newLog(t, simPager(t, unitsOfFour, 8))
	l.commit(aPut(10_000))
	lsn, records := l.LSN, l.walk(0).Records
	l.Sequence++
	r := aPut(10_000)
	r.Sequence, r.Flags = l.Sequence, FlagFirst|FlagLast
	require.ErrorIs(t, l.Append(r), errs.ErrFull)
	require.Equal(t, lsn, l.LSN)
	l.Sequence--
	l.commit(aPut(100))
	w := l.walk(0)
	require.Equal(t, records+1, w.Records)
	require.Equal(t, l.LSN, w.End.LSN)
}

// TestNewSegments: a commit that was admitted goes through with what it was admitted for, however its
// records are ordered and wherever the log stands.
func TestNewSegments(t *testing.T) {
	rows := []struct {
		name        string
		unit, small uint32
		pages       uint64
	}{
		{"a file of one unit", 64, 2, 60},
		{"a file of one large unit", 512, 4, 400},
		{"a file of units", 4, 1, 64},
		{"a file of larger units", 16, 4, 64},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			for seed := range uint64(120) {
				g := unitsOfFour
				g.UnitPages, g.SmallPages = row.unit, row.small
				p := simPager(t, g, row.pages)
				rng := rand.New(rand.NewPCG(seed, 9))
				admitted(t, p, rng, seed)
			}
		})
	}
}

// admitted appends records in a log that may take the pages it was admitted for and no more.
func admitted(t *testing.T, p *pager.Pager, rng *rand.Rand, seed uint64) {
	tl, err := New(p)
	require.NoError(t, err)
	defer tl.Close()
	tl.Padded = seed%2 == 1
	unit := p.Geo.UnitPages
	tl.LSN = rng.Uint64N(1 << (10 + rng.UintN(16)))
	tl.Allocate = func(pages uint32) (pager.PageNo, error) { return pager.FirstPage, nil }
	require.NoError(t, tl.Begin())
	if tl.pos = tl.cur.End() - linkBytes; tl.Padded { // full
		tl.pos = tl.cur.End() - pager.PageSize
	}

	var sizes []uint64
	var bytes, largest uint64
	for range 1 + rng.IntN(40) {
		size := 40 + 8*rng.Uint64N(1<<(1+rng.UintN(10)))
		sizes, bytes, largest = append(sizes, size), bytes+size, max(largest, size)
	}
	n, pages := tl.NewSegments(len(sizes), bytes+tl.Padding(), largest)
	left, whole := n*uint64(pages), pages%unit == 0
	tl.Allocate = func(pages uint32) (pager.PageNo, error) {
		if uint64(pages) > left || whole && pages%unit != 0 {
			return 0, errs.ErrFull
		}
		left -= uint64(pages)
		return pager.FirstPage, nil
	}
	for i, size := range sizes {
		if err := tl.Room(size); err != nil {
			require.NoError(t, err, "seed %d: record %d of %d, sizes %v, admitted %d segments of %d pages", seed, i, len(sizes), sizes, n, pages)
		}
		tl.pos, tl.LSN = tl.pos+size, tl.LSN+size
	}
	require.LessOrEqual(t, tl.padEnd(tl.pos)+linkBytes, tl.cur.End(), "seed %d: no room for the PAD", seed)
}
