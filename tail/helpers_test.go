package tail

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
)

var testUUID = [16]byte{'a', ' ', 'f', 'i', 'l', 'e'}

// unitsOfFour makes segments of 16 KiB in a file of more than one unit.
var unitsOfFour = pager.Geometry{BucketLines: 1, FillPercent: 80, FanoutBits: 1, UnitPages: 4, SmallPages: 1, GrowPages: 1, MaxGrowPages: 4}

// newPager maps a file of zeros on a disk, that long and no longer.
func newPager(t testing.TB, disk pager.Disk, path string, g pager.Geometry, pages uint64) *pager.Pager {
	t.Helper()
	g.ReserveBytes = int64(pages) * pager.PageSize
	o := pager.OpenOptions{
		Disk: disk, Path: path, Mode: 0o600, MaxBytes: 1 << 30, Geometry: g,
		NewFile: func(pager.Geometry) []byte { return make([]byte, pages*pager.PageSize) },
	}
	f, err := pager.Open(o)
	require.NoError(t, err)
	p, err := pager.New(o, f, pages, false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// simPager is a pager of a file on a simulated disk.
func simPager(t testing.TB, g pager.Geometry, pages uint64) *pager.Pager {
	t.Helper()
	return newPager(t, simdisk.New(int64(pages)*pager.PageSize), "/log", g, pages)
}

// testLog is a tail that takes its segments from the pages of a file in order.
type testLog struct {
	*Tail
	t     testing.TB
	p     *pager.Pager
	start Start     // of the walk over all of it
	known Segment   // the first, as it was at the start
	used  []Segment // all segments, in order
}

// newLog begins a log in a file of so many pages.
func newLog(t testing.TB, p *pager.Pager) *testLog {
	t.Helper()
	return newLogWith(t, p, func(*Tail) {})
}

// newLogWith begins a log that set sets up.
func newLogWith(t testing.TB, p *pager.Pager, set func(*Tail)) *testLog {
	t.Helper()
	tl, err := New(p)
	require.NoError(t, err)
	t.Cleanup(tl.Close)
	l := &testLog{Tail: tl, t: t, p: p}
	next, salt := pager.FirstPage, uint64(1000)
	tl.UUID, tl.Life, tl.LSN, tl.Sequence = testUUID, 7, 64, 10
	tl.Random = func() uint64 { salt += 2; return salt }
	tl.Allocate = func(pages uint32) (pager.PageNo, error) {
		page := next
		if uint64(page)+uint64(pages) > p.Pages() {
			return 0, errs.ErrFull
		}
		next += pager.PageNo(pages)
		return page, nil
	}
	set(tl)
	require.NoError(t, tl.Begin())
	position, segment := tl.Position()
	l.known = *segment
	l.start = Start{Segment: segment.Start, Salt: segment.Salt, Position: position, LSN: tl.LSN, Sequence: tl.Sequence}
	l.note()
	return l
}

// note adds the current segment to the list of those used.
func (l *testLog) note() {
	_, s := l.Position()
	if n := len(l.used); n > 0 && l.used[n-1].Start == s.Start {
		n--
		l.used = l.used[:n]
	} else if n > 0 {
		l.used[n-1] = *l.Lookup(l.used[n-1].Start) // its link came since
	}
	l.used = append(l.used, *s)
}

// commit appends records as one commit, with the flags they need.
func (l *testLog) commit(records ...*Record) {
	l.t.Helper()
	l.Sequence++
	for i, r := range records {
		r.Sequence = l.Sequence
		if i == 0 {
			r.Flags |= FlagFirst
		}
		if i == len(records)-1 {
			r.Flags |= FlagLast
		}
		l.append(r)
	}
	require.NoError(l.t, l.Flush())
}

// append appends a record as it is.
func (l *testLog) append(r *Record) {
	l.t.Helper()
	require.NoError(l.t, l.Append(r))
	l.note()
}

// walk walks all of the log with a mark that is known beforehand.
func (l *testLog) walk(mark uint64) *Walk {
	known := l.known
	return NewWalk(l.p.View(), l.p.Pages()*pager.PageSize, testUUID, l.start, mark, &known, nil)
}

// flip damages a byte of the file.
func (l *testLog) flip(at uint64) {
	b := l.p.View().Writable(at, 1)
	b[0] ^= 0x40
	l.p.Stored(at, 1)
}

// value is n bytes that differ from place to place.
func value(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + n)
	}
	return b
}

// aPut is a record of a key with so many bytes.
func aPut(n int) *Record { return &Record{Kind: KindPut, Key: []byte("key"), Value: value(n)} }
