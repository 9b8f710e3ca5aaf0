package tail

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// TestWalkDamage: five commits of one record each; the fourth is damaged. A torn tail and damage are
// told apart by the mark alone.
func TestWalkDamage(t *testing.T) {
	const n, bad = 5, 3
	header, inValue := uint64(16), uint64(HeaderBytes+extraBytes+3+50)
	rows := []struct {
		name     string
		at       uint64 // byte of the damaged record, 0: none
		mark     int    // the mark known beforehand lies before this record
		carried  int    // the last record bears a mark that lies before this record, 0: none
		records  uint64
		refused  bool // below the mark
		damaged  bool
		markedAt int // the mark that the walk ends with
	}{
		{"whole", 0, 0, 0, 5, false, false, 0},
		{"whole, a mark found on the way", 0, 1, 4, 5, false, false, 4},
		{"a mark behind the end of the log", 0, 5, 0, 5, false, false, 5},
		{"header above the mark", header, bad, 0, 3, false, false, bad},
		{"header below the mark", header, bad + 1, 0, 3, true, false, bad + 1},
		{"header below the mark that a later record bears", header, 0, bad + 1, 3, true, false, bad + 1},
		{"header above the mark that a later record bears", header, 0, bad, 3, false, false, bad},
		{"value above the mark", inValue, bad, 0, 3, false, false, bad},
		{"value below the mark", inValue, bad + 1, 0, 5, false, true, bad + 1},
		{"value below the mark that a later record bears", inValue, 0, bad + 1, 5, false, true, bad + 1},
		{"value above the mark that a later record bears", inValue, 0, bad, 3, false, false, bad},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			l := newLog(t, simPager(t, unitsOfFour, 16))
			lsn, positions := []uint64{l.LSN}, []uint64{}
			for i := range n {
				r := aPut(100)
				r.Flags, r.Extra = FlagMoved, 1
				if i == n-1 && row.carried > 0 {
					r.Flags, r.Extra = FlagMark, lsn[row.carried]
				}
				l.commit(r)
				lsn, positions = append(lsn, l.LSN), append(positions, r.Position)
			}
			if row.at > 0 {
				l.flip(positions[bad] + row.at)
			}
			w := l.walk(lsn[row.mark])
			require.Equal(t, row.records, w.Records)
			require.Equal(t, lsn[row.records], w.End.LSN)
			require.Equal(t, l.start.Sequence+row.records, w.End.Sequence)
			require.Equal(t, w.End.LSN, w.Refused)
			require.Equal(t, w.End.Position, w.RefPos)
			require.Equal(t, lsn[row.markedAt], w.Mark)
			require.Equal(t, row.refused, w.Refused < w.Mark)
			if row.damaged {
				require.Equal(t, []Walked{{positions[bad], (lsn[bad+1] - lsn[bad]), 0}}, w.Damaged)
			} else {
				require.Empty(t, w.Damaged)
			}
			require.Equal(t, positions[:row.records], visited(t, l, w))
		})
	}
}

// visited lists the positions of the records that Each visits.
func visited(t *testing.T, l *testLog, w *Walk) (positions []uint64) {
	t.Helper()
	ok, err := w.Each(l.p.View(), func(r *Record) error {
		positions = append(positions, r.Position)
		return nil
	})
	require.NoError(t, err)
	require.True(t, ok)
	return positions
}

// TestWalkEveryByteTorn: wherever the last record is torn, without a mark above it, it is cut and nothing else.
func TestWalkEveryByteTorn(t *testing.T) {
	l := newLog(t, simPager(t, unitsOfFour, 16))
	l.commit(aPut(40))
	end := l.LSN
	last := aPut(21)
	l.commit(last)
	for i := range uint64(HeaderBytes + 3 + 21) {
		l.flip(last.Position + i)
		w := l.walk(0)
		require.Equal(t, end, w.End.LSN, "byte %d", i)
		require.Empty(t, w.Damaged)
		l.flip(last.Position + i)
	}
	require.Equal(t, l.LSN, l.walk(0).End.LSN)
}

func TestWalkCommits(t *testing.T) {
	rows := []struct {
		name    string
		tail    func(l *testLog) // behind two whole commits
		records uint64
		aborted uint64
	}{
		{"nothing more", func(*testLog) {}, 3, 0},
		{"a commit of three", func(l *testLog) { l.commit(aPut(1), aPut(2), aPut(3)) }, 6, 0},
		{"a commit without its last record", func(l *testLog) {
			l.append(&Record{Kind: KindPut, Flags: FlagFirst, Sequence: 13})
			l.append(&Record{Kind: KindPut, Sequence: 13})
		}, 3, 0},
		{"a commit without its first record", func(l *testLog) { l.append(&Record{Kind: KindPut, Flags: FlagLast, Sequence: 13}) }, 3, 0},
		{"a commit that begins before the last one ended", func(l *testLog) {
			l.append(&Record{Kind: KindPut, Flags: FlagFirst, Sequence: 13})
			l.append(&Record{Kind: KindPut, Flags: FlagFirst | FlagLast, Sequence: 14})
		}, 3, 0},
		{"a sequence left out", func(l *testLog) { l.append(&Record{Kind: KindPut, Flags: FlagFirst | FlagLast, Sequence: 14}) }, 3, 0},
		{"a sequence twice", func(l *testLog) { l.append(&Record{Kind: KindPut, Flags: FlagFirst | FlagLast, Sequence: 12}) }, 3, 0},
		{"a sequence that changes within a commit", func(l *testLog) {
			l.append(&Record{Kind: KindPut, Flags: FlagFirst, Sequence: 13})
			l.append(&Record{Kind: KindPut, Flags: FlagLast, Sequence: 14})
		}, 3, 0},
		{"aborted, and one more", func(l *testLog) {
			l.commit(aPut(1), &Record{Kind: KindAbort})
			l.commit(aPut(2))
		}, 6, 13},
		{"a pad is no record", func(l *testLog) {
			l.append(&Record{Kind: KindPad, Sequence: 12, Value: value(50)})
			l.commit(aPut(1))
		}, 4, 0},
		{"a pad of another sequence", func(l *testLog) {
			l.append(&Record{Kind: KindPad, Sequence: 11, Value: value(50)})
			l.commit(aPut(1))
		}, 3, 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			l := newLog(t, simPager(t, unitsOfFour, 16))
			l.commit(aPut(30))
			l.commit(aPut(30), aPut(31))
			row.tail(l)
			w := l.walk(0)
			require.Equal(t, row.records, w.Records)
			require.Len(t, visited(t, l, w), int(row.records))
			if row.aborted > 0 {
				require.Equal(t, map[uint64]bool{row.aborted: true}, w.Aborted)
			} else {
				require.Empty(t, w.Aborted)
			}
		})
	}
}

// TestWalkFollowsLinks: the segments that the walk finds are those that were appended to.
func TestWalkFollowsLinks(t *testing.T) {
	l := newLog(t, simPager(t, unitsOfFour, 64))
	for i := range 12 {
		l.commit(aPut(5000+i), aPut(50))
	}
	w := l.walk(0)
	require.EqualValues(t, 24, w.Records)
	require.Greater(t, len(l.used), 3)
	require.Equal(t, l.used, w.Segments)
	require.Equal(t, len(l.used)-1, w.EndIndex)
	position, segment := l.Position()
	require.Equal(t, Start{Segment: segment.Start, Salt: segment.Salt, Position: position, LSN: l.LSN, Sequence: l.Sequence}, w.End)
}

// relink stores another link in the place of the first segment's.
func relink(l *testLog, page, salt uint64) {
	first := l.used[0]
	at := first.Base() + first.Used - linkBytes
	var r Record
	require.True(l.t, ParseHeader(l.p.View(), at, first.Salt, first.End(), &r))
	require.Equal(l.t, KindLink, r.Kind)
	var to [16]byte
	binary.LittleEndian.PutUint64(to[:], page)
	binary.LittleEndian.PutUint64(to[8:], salt)
	r.Value = to[:]
	put(l.p.View().Writable(at, linkBytes), &r, first.Salt)
}

func TestWalkLinks(t *testing.T) {
	rows := []struct {
		name     string
		change   func(l *testLog)
		segments int
	}{
		{"whole", func(*testLog) {}, 3},
		{"to a segment with another salt", func(l *testLog) { relink(l, uint64(l.used[1].Start), l.used[1].Salt+2) }, 1},
		{"back to its own segment", func(l *testLog) { relink(l, uint64(l.used[0].Start), l.used[0].Salt) }, 1},
		{"behind the file's end", func(l *testLog) { relink(l, 1<<20, 5) }, 1},
		{"to no page number", func(l *testLog) { relink(l, 1<<40, 5) }, 1},
		{"to the last page", func(l *testLog) { relink(l, l.p.Pages()-1, 5) }, 1},
		{"to a header of which one copy holds", func(l *testLog) { l.flip(l.used[1].Base() + 40) }, 3},
		{"to a header of which none holds", func(l *testLog) { l.flip(l.used[1].Base() + 40); l.flip(l.used[1].Base() + 512 + 40) }, 1},
		{"the link is damaged", func(l *testLog) { l.flip(l.used[0].Base() + l.used[0].Used - linkBytes + 30) }, 1},
		{"the second link is damaged", func(l *testLog) { l.flip(l.used[1].Base() + l.used[1].Used - linkBytes + 2) }, 2},
		{"the known segment's own header is damaged", func(l *testLog) { l.flip(l.used[0].Base() + 40); l.flip(l.used[0].Base() + 512 + 40) }, 3},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			l := newLog(t, simPager(t, unitsOfFour, 64))
			for range 7 {
				l.commit(aPut(4000))
			}
			require.Len(t, l.used, 3)
			row.change(l)
			w := l.walk(0)
			require.Len(t, w.Segments, row.segments)
			require.LessOrEqual(t, w.Mark, w.Refused, "no mark: a torn tail")
			if row.segments < 3 {
				require.Equal(t, l.used[row.segments-1].EndLSN()-linkBytes, w.End.LSN)
				w = l.walk(l.LSN)
				require.Less(t, w.Refused, w.Mark, "synced: damage")
			}
		})
	}
}

// TestWalkWitnessBehindALink: a mark in a later segment proves damage in an earlier one, as long as a link leads there.
func TestWalkWitnessBehindALink(t *testing.T) {
	l := newLog(t, simPager(t, unitsOfFour, 64))
	first := aPut(4000)
	l.commit(first)
	synced := l.LSN
	for range 3 {
		l.commit(aPut(4000))
	}
	late := aPut(10)
	late.Flags, late.Extra = FlagMark, synced
	l.commit(late)
	require.Len(t, l.used, 2)
	require.GreaterOrEqual(t, late.Position, l.used[1].Base())
	l.flip(first.Position + 10)
	w := l.walk(0)
	require.Equal(t, synced, w.Mark)
	require.Less(t, w.Refused, w.Mark)
	require.Zero(t, w.Records)
}

// TestWalkStaleRecords: what an earlier use of the segment left behind the end is not taken, whatever its sequence.
func TestWalkStaleRecords(t *testing.T) {
	l := newLog(t, simPager(t, unitsOfFour, 16))
	l.commit(aPut(10))
	position, segment := l.Position()
	stale := aPut(10)
	stale.Position, stale.Sequence, stale.Flags = position, l.Sequence+1, FlagFirst|FlagLast
	stale.Flags, stale.Extra = stale.Flags|FlagMark, 1<<40
	put(l.p.View().Writable(position, stale.Size()), stale, segment.Salt-2)
	w := l.walk(0)
	require.Equal(t, l.LSN, w.End.LSN)
	require.Equal(t, l.start.LSN, w.Mark, "its mark is not believed")
	put(l.p.View().Writable(position, stale.Size()), stale, segment.Salt)
	require.EqualValues(t, 2, l.walk(0).Records, "the same with the salt of this use")
}

func TestWalkWithoutALog(t *testing.T) {
	l := newLog(t, simPager(t, unitsOfFour, 16))
	l.commit(aPut(10))
	w := NewWalk(l.p.View(), 16*pager.PageSize, testUUID, l.start, 0, nil, nil)
	require.Equal(t, l.start, w.End)
	require.Empty(t, visited(t, l, w))
	require.Empty(t, w.Spans(0))
}

// TestWalkEachFindsChange: bytes that change between the walk and the replay are noticed.
func TestWalkEachFindsChange(t *testing.T) {
	l := newLog(t, simPager(t, unitsOfFour, 16))
	r := aPut(10)
	l.commit(aPut(10))
	l.commit(r)
	w := l.walk(0)
	l.flip(r.Position + 9)
	n := 0
	ok, err := w.Each(l.p.View(), func(*Record) error { n++; return nil })
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, 1, n)
}
