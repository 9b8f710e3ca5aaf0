package tail

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

func TestSegmentHeader(t *testing.T) {
	const page, pages = 8, 4
	s := Segment{Start: page, Pages: pages, Salt: 77, Life: 3, FirstLSN: 1 << 40, FirstSeq: 1 << 41, Used: SegmentHeader}
	rows := []struct {
		name   string
		change func(b []byte)
		ok     bool
	}{
		{"both copies", func([]byte) {}, true},
		{"the first is damaged", func(b []byte) { b[70] ^= 1 }, true},
		{"the second is damaged", func(b []byte) { b[512+70] ^= 1 }, true},
		{"the first is gone", func(b []byte) { clear(b[:512]) }, true},
		{"both are damaged", func(b []byte) { b[70] ^= 1; b[512+71] ^= 1 }, false},
		{"of another file", func(b []byte) { o := s; copy(b, o.header([16]byte{1})) }, false},
		{"of another page", func(b []byte) { o := s; o.Start++; copy(b, o.header(testUUID)) }, false},
		{"no pages", func(b []byte) { o := s; o.Pages = 0; copy(b, o.header(testUUID)) }, false},
		{"no salt", func(b []byte) { o := s; o.Salt = 0; copy(b, o.header(testUUID)) }, false},
	}
	p := simPager(t, unitsOfFour, 16)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			b := p.View().Writable(page*pager.PageSize, SegmentHeader)
			copy(b, s.header(testUUID))
			row.change(b)
			got, ok := ReadSegment(p.View(), page, 16*pager.PageSize, testUUID)
			require.Equal(t, row.ok, ok)
			if ok {
				require.Equal(t, s, got)
			}
		})
	}
}

// TestSegmentCutByTheFilesEnd: the pages that Close gave back are not the segment's any more.
func TestSegmentCutByTheFilesEnd(t *testing.T) {
	p := simPager(t, unitsOfFour, 16)
	s := Segment{Start: 8, Pages: 4, Salt: 77, Used: SegmentHeader}
	copy(p.View().Writable(s.Base(), SegmentHeader), s.header(testUUID))
	got, ok := ReadSegment(p.View(), 8, 10*pager.PageSize, testUUID)
	require.True(t, ok)
	require.EqualValues(t, 2, got.Pages)
	_, ok = ReadSegment(p.View(), 8, 8*pager.PageSize+100, testUUID)
	require.False(t, ok)
}

func TestTable(t *testing.T) {
	g := unitsOfFour
	g.UnitPages, g.SmallPages = 8, 2
	table, err := newTable(simPager(t, g, 32))
	require.NoError(t, err)
	defer table.free()
	small := &Segment{Start: 4, Pages: 2, Salt: 11, Used: 5000}
	large := &Segment{Start: 16, Pages: 16, Salt: 13, Used: 30_000}
	table.add(small)
	table.add(large)

	salts := func() (all []uint64) {
		for page := range uint64(32) {
			if salt := table.Salt(page * pager.PageSize); len(all) == 0 || all[len(all)-1] != salt {
				all = append(all, salt)
			}
		}
		return all
	}
	require.Equal(t, []uint64{0, 11, 0, 13}, salts())
	require.Equal(t, []*Segment{small, large}, table.Segments())

	table.AddLive(large.Base()+100, 700)
	table.AddLive(large.End()-100, 800)
	require.EqualValues(t, 1500, table.Live(large))
	table.AddLive(large.Base(), -5000)
	require.EqualValues(t, 0, table.Live(large), "a hint that went below zero")
	table.AddLive(large.Base(), 1<<30)
	require.EqualValues(t, 30_000, table.Live(large), "at most what it holds")

	require.Nil(t, table.Remove(16, 12), "another use")
	require.Same(t, large, table.Remove(16, 13))
	require.Nil(t, table.Remove(16, 13))
	require.Equal(t, []uint64{0, 11, 0, 13}, salts(), "readers may still come")
	table.Forget(16, 16)
	require.Equal(t, []uint64{0, 11, 0}, salts())
	table.add(large)
	require.EqualValues(t, 0, table.Live(large), "a new use begins with nothing")
}

func TestEntries(t *testing.T) {
	all := []Entry{
		{Segment{Start: 4, Pages: 2, Salt: 11, Life: 1, FirstLSN: 9, FirstSeq: 8, LastSeq: 7, Used: 1024}, 0},
		{Segment{Start: 16, Pages: 16, Salt: 13, Life: 2, FirstLSN: 1 << 50, FirstSeq: 1 << 47, LastSeq: 1<<48 - 1, Used: 16 * 4096}, 30_000},
	}
	b := AppendEntries(nil, all)
	require.Len(t, b, EntriesSize(2))
	got, err := ReadEntries(b, 32)
	require.NoError(t, err)
	require.Equal(t, all, got)
	rows := []struct {
		name  string
		bytes []byte
		pages uint64
	}{
		{"nothing", nil, 32}, {"cut short", b[:len(b)-1], 32}, {"behind the file's end", b, 31},
		{"more than there are", append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, b[8:]...), 32},
		{"no salt", AppendEntries(nil, []Entry{{Segment{Start: 4, Pages: 1}, 0}}), 32},
		{"no pages", AppendEntries(nil, []Entry{{Segment{Start: 4, Salt: 1}, 0}}), 32},
		{"used beyond its end", AppendEntries(nil, []Entry{{Segment{Start: 4, Pages: 1, Salt: 1, Used: 4097}, 0}}), 32},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := ReadEntries(row.bytes, row.pages)
			require.Error(t, err)
		})
	}
}
