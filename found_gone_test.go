//go:build mapfile_debug

package mapfile

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// The tests of this file look at segments that are gone: what must not come back from them, and who may write in their place.

// dugUp is what a salvage finds in a file, without an index: the newest values, but for those that are damaged.
func dugUp(t *testing.T, d *simdisk.Disk) lifeState {
	s, err := recovery.OpenSalvage(pager.OpenOptions{Disk: d, Path: lifePath, Geometry: pager.DefaultGeometry()})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.NoError(t, s.Survey(t.Context(), nil))
	got := lifeState{}
	require.NoError(t, s.Each(t.Context(), nil, func(r *tail.Record, _ bool) error {
		if delete(got, string(r.Key)); r.Kind == tail.KindPut && s.ValueHolds(r) {
			got[string(r.Key)] = string(r.Value)
		}
		return nil
	}))
	return got
}

// grave is a map in which key0 was set and deleted. All that ever told of it is in segments of its own: of the record, of the
// tombstone, and of what compaction made of the tombstone.
type grave struct {
	*lifeHistory
	record, stone, third tail.Segment
	before               []tail.Segment // older ones, all garbage
}

// dig makes the first two segments.
func dig(t *testing.T) *grave {
	g := &grave{lifeHistory: newFound(t, 1<<20, SyncNever)}
	for range 8 {
		g.before = append(g.before, g.current())
		g.fillSegment()
	}
	g.set("key0", "deleted")
	g.set("key2", strings.Repeat("l", 300)) // alive
	g.record = g.current()
	g.fillSegment()
	require.NoError(t, g.db.Delete([]byte("key0")))
	delete(g.states[0], "key0")
	g.stone = g.current()
	g.fillSegment()
	return g
}

func (g *grave) current() tail.Segment {
	_, now := g.db.s.Tail.Position()
	if now == nil { // the life begins with the first write
		g.set("key1", "first")
		_, now = g.db.s.Tail.Position()
	}
	return *now
}

// compacted takes a segment out of the table, as Compact does, without the checkpoints that free it.
func (g *grave) compacted(s tail.Segment) {
	g.t.Helper()
	g.db.checkpointMu.Lock()
	defer g.db.checkpointMu.Unlock()
	require.NoError(g.t, g.compact(s))
}

func (g *grave) compact(s tail.Segment) error {
	now := g.db.s.Tail.Lookup(s.Start)
	if now == nil || now.Salt != s.Salt {
		return nil // gone already
	}
	s = *now
	g.db.beginTombstones(false)
	return g.db.compactSegment(g.t.Context(), &s, func(uint64) {})
}

// retire compacts all that is as old as the record, or older: a life finds other free places for its segments.
func (g *grave) retire() {
	for _, s := range append(g.before, g.record) {
		g.compacted(s)
	}
}

// bury compacts the tombstone's segment, and the one that the tombstone was moved to or that says that it was dropped. That one
// may have to wait.
func (g *grave) bury() {
	g.third = g.current()
	g.compacted(g.stone)
	g.fillSegment()
	g.compactThird(true)
}

// compactThird compacts the third segment; kept says whether it may have to stay.
func (g *grave) compactThird(kept bool) {
	g.t.Helper()
	g.db.checkpointMu.Lock()
	defer g.db.checkpointMu.Unlock()
	if err := g.compact(g.third); !kept || err != nil && !errors.Is(err, errLater) {
		require.NoError(g.t, err)
	}
}

// revive opens what a power cut, or a kill, left.
func (g *grave) revive(d *simdisk.Disk) {
	g.end()
	g.disk.Release()
	g.disk = d
	g.life++
	var err error
	g.db, err = g.open(d, SyncNever)
	require.NoError(g.t, err)
}

// reborn goes on with what a power cut, or a kill, left, and begins a life.
func (g *grave) reborn(d *simdisk.Disk) {
	g.revive(d)
	g.set("key3", "of another life")
	g.fillSegment()
}

// crashed is what a power cut leaves that loses the newest bytes of the headers of some segments, and nothing else.
func (g *grave) crashed(headers ...tail.Segment) *simdisk.Disk {
	return g.disk.Crash(func(_ int, s *simdisk.SectorState) int {
		for _, h := range headers {
			if at := s.Sector * pager.SectorSize; at >= int64(h.Base()) && at < int64(h.Base()+tail.SegmentHeader) {
				return simdisk.Durable
			}
		}
		return len(s.Versions) - 1
	}, nil, true, true)
}

// requireGone salvages what a power cut leaves that loses the zeros in any of the headers.
func (g *grave) requireGone() {
	g.t.Helper()
	require.NoError(g.t, g.db.Sync()) // the headers that were stored; of the zeros no sync of the log knows
	for lost := range 8 {
		var headers []tail.Segment
		for i, s := range []tail.Segment{g.record, g.stone, g.third} {
			if lost>>i&1 != 0 {
				headers = append(headers, s)
			}
		}
		d := g.crashed(headers...)
		require.Equal(g.t, g.brief(g.states[0]), g.brief(dugUp(g.t, d)), "headers lost: %03b", lost)
		d.Release()
	}
}

// requireRebuilt makes the index anew from the log, and compares.
func (g *grave) requireRebuilt() {
	g.t.Helper()
	g.repair = &recovery.Repair{RebuildIndex: true}
	defer func() { g.repair = nil }()
	g.requireOn(g.disk.Kill(), g.states[0], "the index made anew")
}

// graves are ways by which the record's segment goes, or does not, before the tombstone's.
var graves = []struct {
	name string
	way  func(g *grave)
}{
	{"the record stays", func(*grave) {}},
	{"retired, and not yet let go of", func(g *grave) { g.retire() }},
	{"retired, and let go of", func(g *grave) {
		g.retire()
		require.NoError(g.t, g.db.Checkpoint())
		require.NoError(g.t, g.db.Checkpoint())
	}},
	{"retired by the life before", func(g *grave) {
		g.retire()
		g.reborn(g.disk.Kill())
	}},
	{"retired by the life before, which ended with a checkpoint", func(g *grave) {
		g.retire()
		require.NoError(g.t, g.db.Checkpoint())
		g.reborn(g.disk.Kill())
	}},
	{"let go of by the life before, and the zeros lost", func(g *grave) {
		g.retire()
		require.NoError(g.t, g.db.Checkpoint())
		require.NoError(g.t, g.db.Checkpoint())
		g.reborn(g.crashed(g.record))
	}},
}

// TestFoundGone: a salvage does not bring a deleted key back, whatever became of the segments that its record and its
// tombstone were in, and whatever a power cut keeps of their headers.
func TestFoundGone(t *testing.T) {
	for _, row := range graves {
		t.Run(row.name, func(t *testing.T) {
			g := dig(t)
			row.way(g)
			g.requireGone()
			g.bury()
			for range 4 {
				g.requireGone()
				require.NoError(t, g.db.Checkpoint())
			}
			g.compactThird(false)
			for range 3 {
				g.requireGone()
				require.NoError(t, g.db.Checkpoint())
			}
			g.requireGone()
			g.requireOn(g.disk.Kill(), g.states[0], "the next life")
			g.requireRebuilt()
		})
	}
}

// TestFoundInItsPlace: a segment that writers begin while another is let go of keeps its header, wherever it lies.
func TestFoundInItsPlace(t *testing.T) {
	h, old := newRetired(t, 5)
	between := false
	h.disk.OnEvent = func(e simdisk.Event) {
		if between || e.Kind != simdisk.EventStore || e.Offset != int64(old.Base()) || e.Length != tail.SegmentHeader {
			return
		}
		between = true
		for range 20 {
			if _, now := h.db.s.Tail.Position(); now.Start == old.Start {
				break
			}
			h.fillSegment()
		}
	}
	require.NoError(t, h.db.Checkpoint())
	require.True(t, between)
	h.disk.OnEvent = nil
	h.set("key5", "behind it")
	h.account()
	h.life++
	h.requireOn(h.disk.Kill(), h.states[0], "the next life")
}

// TestFoundRottenStays: a segment that holds a rotten record stays in the table: once it were gone, an older value would be the newest that
// a salvage finds, and what lies behind the record would be lost with it.
func TestFoundRottenStays(t *testing.T) {
	for name, off := range map[string]uint64{"value": 100, "header": 17} {
		t.Run(name, func(t *testing.T) {
			m := newRottenMap(t)
			m.fillSegment() // older values are in another segment
			m.set("key3", strings.Repeat("n", 300))
			m.set("key5", "behind it")
			at := m.record(3)
			m.fillSegment()
			require.NoError(t, m.db.Checkpoint())
			g := m.segmentOf(at)
			m.file = m.disk.Bytes(lifePath)
			m.spoil(at + off)
			m.end()
			m.disk.Load(lifePath, m.file)
			var err error
			m.db, err = m.open(m.disk, SyncAlways)
			require.NoError(t, err)
			m.set("key4", "the life begins")
			m.db.checkpointMu.Lock()
			err = m.db.compactSegment(t.Context(), &g, func(uint64) {})
			m.db.checkpointMu.Unlock()
			for range 3 {
				require.NoError(t, m.db.Checkpoint())
			}
			v, lost := m.db.Get([]byte("key5"))
			require.NoError(t, lost)
			require.Equal(t, "behind it", string(v))
			_, lost = m.db.Get([]byte("key3"))
			require.ErrorIs(t, lost, ErrCorrupt)
			d := m.disk.Kill()
			defer d.Release()
			got := dugUp(t, d)
			if name == "header" {
				delete(got, "key3") // whose record it was cannot be read, and the salvage says so
			}
			delete(m.states[0], "key3")
			require.Equal(t, m.brief(m.states[0]), m.brief(got))
			require.ErrorIs(t, err, errKept)
		})
	}
}

// segmentOf is the segment that holds a position.
func (m *rottenMap) segmentOf(at uint64) tail.Segment {
	for _, s := range m.db.s.Tail.Segments() {
		if s.Base() <= at && at < s.End() {
			return *s
		}
	}
	m.fail("no segment holds %d", at)
	return tail.Segment{}
}

// TestFoundGoneBesideAReader is that where the life before retired the tombstone's segment too, leaving a DROP, and a reader comes between the open and the first
// write. It must hold nothing that replay gave up: the DROP's segment would go while the record's header still stands, and then both at once.
func TestFoundGoneBesideAReader(t *testing.T) {
	g := dig(t)
	g.retire()
	g.third = g.current()
	g.compacted(g.stone)
	g.fillSegment()
	g.fillSegment()
	g.revive(g.disk.Kill())
	tx, err := g.db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
	require.NoError(t, err)
	g.set("key3", "of another life")
	require.LessOrEqual(t, g.db.s.Free.Stats().Due, uint64(1), "the reader holds the images that the life replaced, and nothing else")
	g.fillSegment()
	checkpoints := func() {
		for range 3 {
			g.requireGone()
			require.NoError(t, g.db.Checkpoint())
		}
		g.requireGone()
	}
	g.requireGone()
	g.compactThird(true)
	checkpoints()
	require.NoError(t, tx.Rollback())
	checkpoints()
}
