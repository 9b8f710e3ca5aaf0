package recovery

import (
	"context"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/index"
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
		{"a bucket", func(m *testMap) { _, at := m.find(aKey(1)); m.damage(at + 70) }, "index"},
		{"a directory", func(m *testMap) { m.damage(m.directory() + 70) }, "index"},
		{"the value of a live record", func(m *testMap) {
			at, _ := m.find(aKey(1))
			m.damage(at + tail.HeaderBytes + uint64(len(aKey(1))) + 2)
		}, "record"},
		{"the header of a live record", func(m *testMap) { at, _ := m.find(aKey(1)); m.damage(at + 16) }, "record"},
		{"the header of a segment, one copy", func(m *testMap) { m.damage(m.Tail.Segments()[0].Base() + 50) }, ""},
		{"the header of a segment, both copies", func(m *testMap) {
			base := m.Tail.Segments()[0].Base()
			m.damage(base + 50)
			m.damage(base + pager.SectorSize + 51)
		}, "log"},
		{"the header of a superseded record", func(m *testMap) {
			g := m.Tail.Segments()[0]
			m.damage(g.Base() + tail.SegmentHeader + 17)
		}, "log"},
		{"the images of the newer meta page", func(m *testMap) { m.damage(uint64(m.Meta().Image.Page)*pager.PageSize + 100) }, "meta"},
		{"the newer meta page", func(m *testMap) { m.damage(uint64(m.slot)*pager.PageSize + 100) }, "meta"},
		{"the older meta page", func(m *testMap) { m.damage(uint64(1-m.slot)*pager.PageSize + 100) }, "meta"},
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
			var structures []string
			for _, f := range report.Findings {
				structures = append(structures, f.Structure)
			}
			require.Contains(t, structures, row.structure, "%v", report.Findings)
		})
	}
}

// links is the number of LINK records that a whole log of so many segments of one life holds.
func links(r *CheckReport) uint64 { return r.Segments - 1 }
