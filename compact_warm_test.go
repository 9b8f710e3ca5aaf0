package mapfile

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/tail"
)

// TestWarm: what is made warm ahead of steps is a piece of a segment, behind which no step looks; damage ends it, and it goes past a segment that has
// been retired or reused meanwhile without an error. It changes nothing.
func TestWarm(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "a.map"), &Options{Sync: SyncNever, Compaction: CompactionOptions{Off: true}})
	require.NoError(t, err)
	for i := range 40_000 {
		require.NoError(t, db.Put(fmt.Append(nil, i), make([]byte, 100)))
	}
	var g tail.Segment
	for _, s := range db.s.Tail.Segments() {
		if _, current := db.s.Tail.Position(); s != current && s.Used > g.Used {
			g = *s
		}
	}
	from, end := g.Base()+tail.SegmentHeader, g.Base()+g.Used
	begin := func() *compaction { return &compaction{db: db, g: &g, at: from, most: stepRecords, least: 1} }

	c := begin()
	c.warm()
	require.Greater(t, c.warmed, from)
	require.Less(t, c.warmed, end)
	for c.at < c.warmed {
		was := c.at
		done, err := c.step()
		require.NoError(t, err)
		require.False(t, done)
		require.Greater(t, c.at, was)
		require.LessOrEqual(t, c.at, c.warmed)
	}

	view := db.s.P.View()
	flip := func(b []byte) {
		for i := range b {
			b[i] ^= 0x55
		}
	}
	var r tail.Record
	at := from
	for range stage + stage/2 { // in the second group of look-ups
		require.NoError(t, db.s.Record(at, &r, false))
		at += r.Size()
	}
	for _, row := range []struct{ damaged, want uint64 }{{at, 0}, {from, end}} {
		bytes := view.Writable(row.damaged, tail.HeaderBytes)
		flip(bytes)
		c = begin()
		c.warm()
		if row.want == 0 {
			require.Greater(t, c.warmed, from)
			require.LessOrEqual(t, c.warmed, row.damaged)
		} else {
			require.Equal(t, row.want, c.warmed)
		}
		flip(bytes)
	}
	require.NoError(t, db.compactSegment(t.Context(), &g, func(uint64) {}))
	for range 3 {
		begin().warm()
		require.NoError(t, db.Checkpoint())
	}
	require.ErrorIs(t, db.compactSegment(t.Context(), &g, func(uint64) {}), errKept)
	for i := 0; i < 40_000; i++ { // it is used again
		require.NoError(t, db.Put(fmt.Append(nil, i), make([]byte, 90)))
		if i%1000 == 0 {
			begin().warm()
		}
	}
	require.Zero(t, db.Stats().Readers)
	require.NoError(t, db.Close())
}
