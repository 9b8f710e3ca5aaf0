package recovery

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

func TestNewFile(t *testing.T) {
	m := newMap(t, 64)
	m.check()
	require.True(t, m.Report.Clean)
	life, begun := m.Life()
	require.Zero(t, life)
	require.False(t, begun)
}

// TestCheckpointReopens: a state that was checkpointed is there again, with nothing to replay.
func TestCheckpointReopens(t *testing.T) {
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprintf("clean %v", clean), func(t *testing.T) {
			m := newMap(t, 400)
			m.fill(0, 60)
			require.NoError(t, m.write(aKey(3), ""))
			m.checkpoint(clean)
			before := m.Meta()
			m.kill()
			require.Zero(t, m.Report.Records)
			require.Equal(t, clean, m.Report.Clean)
			require.Equal(t, before.Number, m.Report.Checkpoint)
			require.NoError(t, m.Report.FellBack)
			m.check()
			m.fill(30, 60)
			m.check()
			life, begun := m.Life()
			require.True(t, begun)
			require.Equal(t, before.Life+1, life)
		})
	}
}

// TestReplay: what the log says behind the checkpoint is done again, by position.
func TestReplay(t *testing.T) {
	rows := []struct {
		name    string
		do      func(m *testMap)
		records uint64
	}{
		{"nothing", func(*testMap) {}, 0},
		{"a new key", func(m *testMap) { m.put("new", "x") }, 1},
		{"a key over another value", func(m *testMap) { m.put(aKey(1), "y") }, 1},
		{"a delete", func(m *testMap) { require.NoError(m.t, m.write(aKey(1), "")) }, 1},
		{"a key over its tombstone", func(m *testMap) { m.put(aKey(0), "z") }, 1},
		{"a drop of a tombstone", func(m *testMap) { m.again(tail.KindDrop, aKey(0)) }, 1},
		{"a new key where one was dropped", func(m *testMap) { m.again(tail.KindDrop, aKey(0)); m.put(aKey(0), "back") }, 2},
		{"a moved record", func(m *testMap) { m.again(tail.KindPut, aKey(1)) }, 1},
		{"a moved tombstone", func(m *testMap) { m.again(tail.KindPut, aKey(0)) }, 1},
		{"splits", func(m *testMap) { m.fill(100, 80) }, 80},
		{"long values over many segments", func(m *testMap) {
			for i := range 8 {
				m.put(aKey(i), strings.Repeat("v", 5000+i))
			}
		}, 8},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMap(t, 400)
			m.fill(0, 20)
			require.NoError(t, m.write(aKey(0), ""))
			m.checkpoint(false)
			row.do(m)
			m.check()
			m.kill()
			require.Equal(t, row.records, m.Report.Records)
			require.Zero(t, m.Report.Cut)
			m.check()
			require.Equal(t, row.records > 0, m.Unnamed())
			m.kill()
			require.Equal(t, row.records, m.Report.Records, "no meta page names what was replayed: it is replayed again")
			m.check()
			require.NoError(t, m.BeginLife())
			require.False(t, m.Unnamed())
			m.kill()
			require.Zero(t, m.Report.Records)
			m.check()
		})
	}
}

// TestReplayRetire: a segment that was emptied behind the checkpoint leaves the table again, and its pages become free
// once no meta page needs them.
func TestReplayRetire(t *testing.T) {
	m := newMap(t, 400)
	for i := range 12 {
		m.put(aKey(i%6), strings.Repeat("v", 4000+i))
	}
	m.checkpoint(false)
	segments := len(m.Tail.Segments())
	m.empty()
	require.Less(t, len(m.Tail.Segments()), segments+1)
	gone := len(m.Tail.Segments())
	m.check()
	m.kill()
	require.Len(t, m.Tail.Segments(), gone)
	require.NoError(t, m.BeginLife())
	require.Len(t, m.Tail.Segments(), gone+1, "and the segment of the new life")
	m.check()
	for range 2 {
		m.put("more", "x")
		m.checkpoint(false)
		m.check()
	}
}

// TestModel plays random histories with kills and checkpoints at random places.
func TestModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			m := newMap(t, 2000)
			rng := rand.New(rand.NewPCG(seed, 7))
			for i := range 300 {
				key := aKey(rng.IntN(60))
				value, there := m.want[key]
				switch n := rng.IntN(40); {
				case n == 0:
					m.kill()
					m.check()
				case n == 1 && m.begun:
					clean := rng.IntN(2) == 0
					m.checkpoint(clean)
					m.check()
					if clean { // nothing may be appended behind it in this life
						m.kill()
					}
				case n == 2 && len(m.Tail.Segments()) > 2:
					m.empty()
				case n < 8 && value != "":
					require.NoError(t, m.write(key, ""))
				case n < 12 && there && value == "":
					m.again(tail.KindDrop, key)
				case n < 16 && there:
					m.again(tail.KindPut, key)
				default:
					m.put(key, fmt.Sprintf("%*d", 1+rng.IntN(1500), i))
				}
			}
			m.kill()
			m.check()
		})
	}
}

// TestReplayOfAnUnknownPrevious: a record whose previous position no slot has is damage, whatever its kind.
func TestReplayOfAnUnknownPrevious(t *testing.T) {
	rows := []struct {
		name string
		r    tail.Record
	}{
		{"a put", tail.Record{Kind: tail.KindPut, Key: []byte(aKey(1)), Previous: 8 * 999}},
		{"a put of an unknown key", tail.Record{Kind: tail.KindPut, Key: []byte("unknown"), Previous: 8 * 999}},
		{"a delete", tail.Record{Kind: tail.KindDelete, Key: []byte(aKey(1)), Previous: 8 * 999}},
		{"a drop", tail.Record{Kind: tail.KindDrop, Key: []byte(aKey(1)), Previous: 8 * 999}},
		{"a drop of nothing", tail.Record{Kind: tail.KindDrop, Key: []byte("unknown")}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMap(t, 200)
			m.fill(0, 5)
			m.checkpoint(false)
			r := row.r
			require.NoError(t, m.commit(&r, Ordinary))
			_, err := Open(Options{OpenOptions: readOnly(m.copied())})
			var damage *errs.CorruptError
			require.ErrorAs(t, err, &damage)
			require.EqualValues(t, r.Position, damage.Offset)
			require.Contains(t, damage.Reason, "previous position")
		})
	}
}

func readOnly(disk *simdisk.Disk) pager.OpenOptions {
	o := options(disk).OpenOptions
	o.ReadOnly = true
	return o
}

// TestReadOnlyReplaysAside: a read-only open of a map that was killed sees all and changes no byte.
func TestReadOnlyReplaysAside(t *testing.T) {
	m := newMap(t, 400)
	m.fill(0, 30)
	m.checkpoint(false)
	m.fill(20, 40)
	disk := m.copied()
	before := disk.Bytes(testPath)
	s, err := Open(Options{OpenOptions: readOnly(disk)})
	require.NoError(t, err)
	require.EqualValues(t, 40, s.Report.Records)
	(&testMap{State: s, t: t, disk: disk, want: m.want}).check()
	require.NoError(t, s.Close())
	require.Equal(t, before, disk.Bytes(testPath))
}

// TestTornTail: a last record that is torn is cut when nothing proves that it was synced, and damage when the mark does.
func TestTornTail(t *testing.T) {
	m := newMap(t, 200)
	m.fill(0, 5)
	m.checkpoint(false)
	m.put("a", "1")
	end := m.Tail.LSN
	position, _ := m.Tail.Position()
	m.put("b", "2")
	require.NoError(t, m.P.WriteMark(m.Meta().FileSalt, end, m.life))
	disk := m.copied()
	m.damage(position + 17)
	delete(m.want, "b")
	m.kill()
	require.EqualValues(t, 1, m.Report.Records)
	m.check()

	o := options(disk)
	f, err := pager.Open(o.OpenOptions)
	require.NoError(t, err)
	p, err := pager.New(o.OpenOptions, f, uint64(f.Info.Size)/pager.PageSize, false)
	require.NoError(t, err)
	require.NoError(t, p.WriteMark(m.Meta().FileSalt, end+8, 1))
	require.NoError(t, p.Close())
	damage(disk, position+17)
	_, err = Open(options(disk))
	var damage *errs.CorruptError
	require.ErrorAs(t, err, &damage)
	require.Equal(t, end, damage.LSN)
	require.EqualValues(t, position, damage.Offset)
}

// TestFallBack: what only the newer meta page leads to is rotten, so the older one serves, and the log brings the rest.
func TestFallBack(t *testing.T) {
	base := func(n pager.PageNo) uint64 { return uint64(n) * pager.PageSize }
	rows := []struct {
		name     string
		at       func(newer pager.Meta, slot int) uint64
		fallback bool
	}{
		{"the meta page itself", func(_ pager.Meta, slot int) uint64 { return base(pager.PageNo(slot)) + 90 }, true},
		{"its images", func(newer pager.Meta, _ int) uint64 { return base(newer.Image.Page) + 100 }, true},
		{"the header of its images", func(newer pager.Meta, _ int) uint64 { return base(newer.Image.Page) + 12 }, true},
		{"its root", func(newer pager.Meta, _ int) uint64 { return base(newer.Root.Page) + 2000 }, true},
		{"nothing that it needs", func(pager.Meta, int) uint64 { return base(pager.ControlPage) + 5 }, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMap(t, 400)
			m.fill(0, 30)
			m.checkpoint(false)
			m.fill(10, 40)
			m.checkpoint(false)
			m.fill(90, 3)
			newer := m.Meta()
			require.NoError(t, m.Close())
			m.damage(row.at(newer, m.slot))
			m.open()
			if row.fallback {
				require.Error(t, m.Report.FellBack)
				require.Equal(t, newer.Number-1, m.Report.Checkpoint)
				require.EqualValues(t, 43, m.Report.Records)
			} else {
				require.NoError(t, m.Report.FellBack)
				require.EqualValues(t, 3, m.Report.Records)
			}
			m.check()
			m.kill()
			require.NoError(t, m.Report.FellBack, "both meta pages were written anew")
			m.check()
		})
	}
}

// TestFallBackFails: if no meta page leads to a whole state the map is damaged, and opening it changes nothing.
func TestFallBackFails(t *testing.T) {
	m := newMap(t, 200)
	m.fill(0, 10)
	older := m.Meta()
	m.checkpoint(false)
	disk := m.copied()
	for _, image := range []pager.Ref{older.Image, m.Meta().Image} {
		damage(disk, uint64(image.Page)*pager.PageSize+100)
	}
	_, err := Open(options(disk))
	require.ErrorIs(t, err, errs.ErrCorrupt)
	require.NotContains(t, err.Error(), "\n")
	disk = m.copied()
	for page := range uint64(2) {
		damage(disk, page*pager.PageSize+100)
	}
	_, err = Open(options(disk))
	require.ErrorIs(t, err, errs.ErrCorrupt)
}

// TestFullChangesNothing: a commit that is not admitted leaves state and accounts as they were; deletes still go.
func TestFullChangesNothing(t *testing.T) {
	for _, pages := range []int64{100, 200, 400} {
		t.Run(fmt.Sprintf("%d pages", pages), func(t *testing.T) {
			m := newMap(t, pages)
			m.put("first", "x")
			var err error
			for i := 0; err == nil; i++ {
				err = m.write(aKey(i), strings.Repeat("v", 200*(i%7)+1))
			}
			require.ErrorIs(t, err, errs.ErrFull)
			require.Greater(t, len(m.want), 5)
			lsn, sequence := m.Tail.LSN, m.Tail.Sequence
			m.check()
			require.ErrorIs(t, m.write("another", strings.Repeat("w", 30_000)), errs.ErrFull)
			require.Equal(t, []uint64{lsn, sequence}, []uint64{m.Tail.LSN, m.Tail.Sequence})
			m.check()
			require.NoError(t, m.write("first", ""))
			m.checkpoint(false)
			m.check()
			m.kill()
			m.check()
		})
	}
}

// TestDryUnits: units that were free when the map was opened are free to be allocated when they have blocks, and not before.
func TestDryUnits(t *testing.T) {
	m := newMap(t, 400)
	m.fill(0, 10)
	require.NoError(t, m.Grow(10*uint64(testGeometry.UnitPages)))
	m.checkpoint(false)
	m.kill()
	dry := m.DryPages()
	require.GreaterOrEqual(t, dry, 10*uint64(testGeometry.UnitPages))
	require.Zero(t, m.Free.FreeUnits())
	require.NoError(t, m.Account())

	free := m.Free.FreePages()
	m.disk.Fail = func(c simdisk.Call) error {
		if c.Name == "Allocate" || c.Name == "Populate" {
			return syscall.ENOSPC
		}
		return nil
	}
	require.ErrorIs(t, m.Grow(1), errs.ErrFull)
	require.Equal(t, []uint64{dry, free}, []uint64{m.DryPages(), m.Free.FreePages()})
	m.disk.Fail = nil
	pages := m.P.Pages()
	require.NoError(t, m.Grow(uint64(testGeometry.UnitPages)+1))
	require.Equal(t, dry-2*uint64(testGeometry.UnitPages), m.DryPages())
	require.EqualValues(t, 2, m.Free.FreeUnits())
	require.Equal(t, pages, m.P.Pages(), "the file did not grow")
	require.NoError(t, m.Account())
	m.fill(5, 20)
	m.checkpoint(false)
	m.kill()
	m.check()
}

// TestMaySeal: after many checkpoints that could not be made there is no further seal; the map goes on behind a reopening.
func TestMaySeal(t *testing.T) {
	m := newMap(t, 400)
	m.fill(0, 1)
	n := 0
	for ; m.MaySeal() == nil; n++ {
		m.fill(n, 1)
		c := m.Seal()
		m.disk.Fail = func(c simdisk.Call) error {
			if c.Name == "WriteAt" && c.Length >= pager.PageSize {
				return syscall.ENOSPC
			}
			return nil
		}
		require.Error(t, c.Store())
		m.disk.Fail = nil
		c.Abandon()
		require.NoError(t, m.Account())
	}
	require.EqualValues(t, maxEpochs, n)
	require.ErrorIs(t, m.MaySeal(), errs.ErrFull)
	m.check()
	m.kill()
	m.check()
	m.fill(0, 30)
	require.NoError(t, m.MaySeal())
	m.checkpoint(false)
	m.kill()
	m.check()
}

// TestFailedSyncIsFinal: behind a sync that failed no meta page is written.
func TestFailedSyncIsFinal(t *testing.T) {
	m := newMap(t, 200)
	m.fill(0, 10)
	number := m.Meta().Number
	c := m.Seal()
	require.NoError(t, c.Store())
	m.disk.Fail = func(c simdisk.Call) error {
		if c.Name == "Sync" {
			return syscall.EIO
		}
		return nil
	}
	require.ErrorIs(t, c.Sync(), errs.ErrFailed)
	m.disk.Fail = nil
	require.ErrorIs(t, c.WriteMeta(), errs.ErrFailed)
	m.kill()
	require.EqualValues(t, number, m.Report.Checkpoint)
	m.check()
}

// TestTidyAndShrink: after most keys are gone the file gets shorter, and holds what it held.
func TestTidyAndShrink(t *testing.T) {
	m := newMap(t, 2000)
	m.fill(0, 600)
	for range 2 {
		m.checkpoint(false)
	}
	require.NoError(t, m.Tidy())
	m.publish()
	for range 3 {
		m.checkpoint(true)
	}
	m.check()
	before := m.P.Pages()
	require.NoError(t, m.Shrink())
	require.LessOrEqual(t, m.P.Pages(), before)
	m.kill()
	require.True(t, m.Report.Clean)
	m.check()
}
