package recovery

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// find gives the places of a key's record and of the bucket that leads to it.
func (m *testMap) find(key string) (position, bucket uint64) {
	m.t.Helper()
	position, found, err := m.Index.Lookup(xxhash.Sum64String(key), []byte(key))
	require.NoError(m.t, err)
	require.True(m.t, found)
	bucket, _, err = m.Index.Find(m.Root(), xxhash.Sum64String(key), []byte(key), true)
	require.NoError(m.t, err)
	return position, bucket
}

// directory is the place of a directory page below the root.
func (m *testMap) directory() (at uint64) {
	m.t.Helper()
	require.NoError(m.t, m.Index.Visit(m.Root(), func(page pager.PageNo, directory bool, level int, _ index.Path) error {
		if directory && level > 0 {
			at = uint64(page) * pager.PageSize
		}
		return nil
	}))
	require.NotZero(m.t, at)
	return at
}

// TestCheck plants damage in each structure: the check names it, and says nothing of a whole map.
func TestCheck(t *testing.T) {
	rows := []struct {
		name      string
		damage    func(m *testMap)
		structure string
	}{
		{"whole", func(*testMap) {}, ""},
		{"a bucket", func(m *testMap) { _, at := m.find(aKey(1)); m.damage(at + 70) }, StructureBucket},
		{"a directory", func(m *testMap) { m.damage(m.directory() + 70) }, StructureDirectory},
		{"the value of a live record", func(m *testMap) {
			at, _ := m.find(aKey(1))
			m.damage(at + tail.HeaderBytes + uint64(len(aKey(1))) + 2)
		}, StructureRecord},
		{"the header of a live record", func(m *testMap) { at, _ := m.find(aKey(1)); m.damage(at + 16) }, StructureRecord},
		{"the header of a segment, first copy", func(m *testMap) { m.damage(m.Tail.Segments()[0].Base() + 50) }, StructureTable},
		{"the header of a segment, second copy", func(m *testMap) { m.damage(m.Tail.Segments()[0].Base() + pager.SectorSize + 50) }, StructureTable},
		{"the header of a segment, both copies", func(m *testMap) {
			base := m.Tail.Segments()[0].Base()
			m.damage(base + 50)
			m.damage(base + pager.SectorSize + 51)
		}, StructureTable},
		{"the header of a superseded record", func(m *testMap) {
			g := m.Tail.Segments()[0]
			m.damage(g.Base() + tail.SegmentHeader + 17)
		}, StructureRecord},
		{"the images of the newer meta page", func(m *testMap) { m.damage(uint64(m.Meta().Image.Page)*pager.PageSize + 100) }, StructureImages},
		{"the newer meta page", func(m *testMap) { m.damage(uint64(m.slot)*pager.PageSize + 100) }, "meta page of the state"},
		{"the older meta page", func(m *testMap) { m.damage(uint64(1-m.slot)*pager.PageSize + 100) }, "the other meta page"},
		{"the mark page", func(m *testMap) { m.damage(uint64(pager.MarkPage)*pager.PageSize + 9) }, ""}, // it is never synced for its own sake: a power cut may leave it so
		{"the value of a superseded record", func(m *testMap) {
			at := m.Tail.Segments()[0].Base() + tail.SegmentHeader
			m.damage(at + tail.HeaderBytes + uint64(len(aKey(0))) + 8)
		}, StructureRecord},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMap(t, 400)
			m.fill(0, 30)
			m.checkpoint(false)
			m.fill(0, 10)
			require.NoError(t, m.write(aKey(20), ""))
			m.checkpoint(false)
			live, tombstones, pages := m.Keys, m.Tombstones, m.Index.Pages()
			m.disk = m.copied()
			row.damage(m)
			before := m.disk.Bytes(testPath)
			report, err := Check(context.Background(), options(m.disk), CheckOptions{})
			require.NoError(t, err)
			require.Equal(t, before, m.disk.Bytes(testPath), "a check writes nothing")
			if row.structure == "" {
				require.Empty(t, report.Findings)
				require.Equal(t, []uint64{live, tombstones, pages, 41}, []uint64{report.Keys, report.Tombstones, report.IndexPages, report.Records - links(report)})
				return
			}
			want := map[string]string{"meta page of the state": structures[m.slot], "the other meta page": structures[1-m.slot]}[row.structure]
			if want == "" {
				want = row.structure
			}
			damaged := map[string]bool{}
			for _, v := range report.Verdicts {
				damaged[v.Structure] = v.Judgement == Damaged
			}
			require.True(t, damaged[want], "%+v", report.Findings)
			for _, f := range report.Findings {
				require.True(t, damaged[f.Structure], "a finding against a structure that holds: %+v", f)
				require.False(t, f.Flipped, "%+v", f)
				require.Equal(t, strings.HasSuffix(row.name, " copy"), f.Copy, "%+v", f)
			}
		})
	}
}

// TestCheckGoesOnBehindDamage: a page of the index that does not hold leaves the others to be judged, and what could not be
// is counted.
func TestCheckGoesOnBehindDamage(t *testing.T) {
	rows := []struct {
		name   string
		damage func(m *testMap)
		pages  uint64 // not judged, but for the damaged one
	}{
		{"first bucket", func(m *testMap) { _, at := m.find(aKey(1)); m.damage(at + 70) }, 0},
		{"a directory", func(m *testMap) { m.damage(m.directory() + 70) }, 1},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMap(t, 400)
			m.fill(0, 60)
			m.checkpoint(false)
			m.disk = m.copied()
			row.damage(m)
			report, err := Check(context.Background(), options(m.disk), CheckOptions{})
			require.NoError(t, err)
			v := verdicts(report)
			buckets, directories, records := v[StructureBucket], v[StructureDirectory], v[StructureRecord]
			require.Equal(t, uint64(m.Index.Buckets), buckets.Judged+buckets.Unjudged)
			require.Equal(t, uint64(m.Index.Directories), directories.Judged+directories.Unjudged)
			require.Greater(t, buckets.Unjudged+directories.Unjudged, row.pages)
			require.Equal(t, uint64(60), report.Keys+records.Unjudged, "keys judged and not")
			require.Less(t, uint64(0), report.Keys, "the check ended at the damaged page")
			require.Less(t, uint64(0), records.Unjudged)
			require.Equal(t, uint64(60), report.Records-links(report))
		})
	}
}

func verdicts(r *CheckReport) map[string]Verdict {
	all := map[string]Verdict{}
	for _, v := range r.Verdicts {
		all[v.Structure] = v
	}
	return all
}

// TestCheckOfWhatDoesNotOpen judges segments by their headers where no meta page leads to them, and tells a file without a
// trace of a map from a damaged one.
func TestCheckOfWhatDoesNotOpen(t *testing.T) {
	m := newMap(t, 400)
	m.fill(0, 30)
	m.checkpoint(false)
	m.disk = m.copied()
	whole := m.disk.Bytes(testPath)
	rows := []struct {
		name   string
		damage func(b []byte)
		opens  bool
		err    error
	}{
		{"both meta pages trashed", func(b []byte) { fill(b[:2*pager.PageSize], 0x5a) }, false, nil},
		{"both meta pages zeroed", func(b []byte) { clear(b[:2*pager.PageSize]) }, false, nil},
		{"one meta page of two damaged", func(b []byte) { fill(b[100:120], 0x5a) }, true, nil},
		{"all zeroed", func(b []byte) { clear(b) }, false, errs.ErrNotMapfile},
		{"all trashed", func(b []byte) { fill(b, 0x5a) }, false, errs.ErrNotMapfile},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			b := bytes.Clone(whole)
			row.damage(b)
			disk := simdisk.New(m.disk.Capacity())
			disk.Load(testPath, b)
			report, err := Check(context.Background(), options(disk), CheckOptions{})
			require.Equal(t, b, disk.Bytes(testPath), "a check writes nothing")
			if row.err != nil {
				require.ErrorIs(t, err, row.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.opens, report.Opens)
			require.NotEmpty(t, report.Findings)
			require.Equal(t, uint64(30), report.Records-links(report))
			require.Equal(t, Holds, verdicts(report)[StructureRecord].Judgement)
			if !row.opens {
				require.ErrorIs(t, report.Refused, errs.ErrCorrupt)
			}
		})
	}
}

func fill(b []byte, with byte) {
	for i := range b {
		b[i] = with
	}
}

// TestCheckStopsAtEnough: it makes as many findings as were asked for and says that there may be more.
func TestCheckStopsAtEnough(t *testing.T) {
	m := newMap(t, 400)
	m.fill(0, 30)
	m.checkpoint(false)
	m.disk = m.copied()
	for i := range 4 {
		at, _ := m.find(aKey(i))
		m.damage(at + tail.HeaderBytes + uint64(len(aKey(i))) + 2)
	}
	for _, most := range []int{1, 3, 4, 100} {
		report, err := Check(context.Background(), options(m.disk), CheckOptions{MaxErrors: most})
		require.NoError(t, err)
		require.Len(t, report.Findings, min(most, 4))
		require.Equal(t, most <= 4, report.Stopped)
	}
}

// links is the number of LINK records that a whole log of so many segments of one life holds.
func links(r *CheckReport) uint64 { return r.Segments - 1 }
