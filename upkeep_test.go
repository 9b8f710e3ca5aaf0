package mapfile

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// testEvery is the time between two looks of upkeep in these tests.
const testEvery = 10 * time.Millisecond

// newKept is a map of small units with upkeep that looks around often.
func newKept(t *testing.T, o Options) *DB { return newKeptEvery(t, o, testEvery) }

func newKeptEvery(t *testing.T, o Options, every time.Duration) *DB {
	g := pager.DefaultGeometry()
	g.UnitPages, g.SmallPages, g.MaxGrowPages, g.CheckpointBytes = 32, 4, 4*32, 4<<20
	o.Sync = SyncNever
	db, err := open(filepath.Join(t.TempDir(), "kept.map"), o.withDefaults(), internals{disk: pager.OS(), geometry: g, memory: pager.MemoryLimit, background: true, every: every})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// putAll overwrites n keys, with values of 1,000 bytes.
func putAll(t *testing.T, db *DB, n int, value string) {
	for i := range n {
		require.NoError(t, db.Put([]byte("key"+string(rune('a'+i))), []byte(strings.Repeat(value, 1000))))
	}
}

// rested waits until upkeep rests.
func rested(t *testing.T, db *DB) Stats {
	require.Eventually(t, func() bool { return !db.background.awake.Load() }, 20*time.Second, testEvery)
	return db.Stats()
}

// TestUpkeepIdle: what garbage, pages that wait and free units there are when the last write is over goes back, and then nothing wakes the machine
// any more.
func TestUpkeepIdle(t *testing.T) {
	db := newKept(t, Options{})
	for range 10 {
		putAll(t, db, 300, "v")
	}
	st := rested(t, db)
	require.Less(t, float64(st.GarbageBytes+st.PendingBytes), 0.4*float64(st.LiveBytes+st.GarbageBytes+st.PendingBytes+int64(st.IndexPages)*pageSize)+float64(2*db.s.P.Geo.UnitBytes()))
	require.Less(t, st.Allocated, int64(2_000_000), "of 300,000 bytes; the spare units are most of it")
	time.Sleep(20 * testEvery)
	require.False(t, db.background.awake.Load())
	again := db.Stats()
	require.Equal(t, st.Checkpoints, again.Checkpoints)
	require.Equal(t, st.Sequence, again.Sequence)

	putAll(t, db, 1, "w") // wakes it up
	require.True(t, db.background.awake.Load())
	rested(t, db)
}

// newPending is a map with so much that waits for checkpoints that an idle one takes it back.
func newPending(t *testing.T, every time.Duration) *DB {
	db := newKeptEvery(t, Options{Compaction: CompactionOptions{Off: true}}, every)
	for range 2 {
		for i := range 30_000 {
			require.NoError(t, db.Put(numberedKey(i), nil))
		}
		require.NoError(t, db.Checkpoint())
	}
	st := db.Stats()
	require.Greater(t, st.PendingBytes, max(st.FileSize/pendingShare, db.s.P.Geo.UnitBytes()))
	return db
}

// TestIdleTakesTime: the longer checkpoints take, the longer there must have been no commits until the map counts as idle.
func TestIdleTakesTime(t *testing.T) {
	const every = 100 * time.Millisecond
	db := newPending(t, every)
	db.counters.took.Store(int64(time.Hour))
	before := db.Stats()
	time.Sleep(5 * every) // beside writers it would take ten looks
	require.Equal(t, before.Checkpoints, db.Stats().Checkpoints)
	require.True(t, db.background.awake.Load())
	db.counters.took.Store(0)
	require.Less(t, rested(t, db).PendingBytes, before.PendingBytes/2)
	require.Greater(t, db.Stats().Checkpoints, before.Checkpoints)
}

// TestLooksInARow: a look right behind another, of a writer whose log grows, sees no commit since then, and yet does not take the map for idle and
// make the checkpoints of that.
func TestLooksInARow(t *testing.T) {
	db := newPending(t, time.Hour)
	before := db.Stats()
	for range 20 {
		db.background.logGrown()
		require.Eventually(t, func() bool { return len(db.background.grown) == 0 }, 10*time.Second, time.Millisecond)
	}
	db.checkpointMu.Lock() // the last look is over, or waits
	defer db.checkpointMu.Unlock()
	require.Equal(t, before.Checkpoints, db.Stats().Checkpoints)
}

// TestUpkeepReader: what a snapshot holds comes back when it has ended, though nobody writes any more.
func TestUpkeepReader(t *testing.T) {
	db := newKept(t, Options{})
	putAll(t, db, 300, "v")
	held, err := db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
	require.NoError(t, err)
	for range 10 {
		putAll(t, db, 300, "w")
	}
	require.Eventually(t, func() bool {
		_, due := db.s.Free.Retired()
		return due > 4*uint64(db.s.P.Geo.UnitPages)
	}, 20*time.Second, testEvery, "the snapshot holds what was compacted")
	value, err := held.Get([]byte("keya"))
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("v", 1000), string(value))
	with := db.Stats().Allocated
	require.NoError(t, held.Rollback())
	require.Eventually(t, func() bool { return db.Stats().Allocated < with/2 }, 20*time.Second, testEvery)
	rested(t, db)
}

// TestUpkeepTombstones: tombstones go when there are more than a tenth of what is alive, and no deleted key comes back.
func TestUpkeepTombstones(t *testing.T) {
	db := newKept(t, Options{})
	for i := range 30_000 {
		require.NoError(t, db.Put(numberedKey(i), []byte("value")))
	}
	for i := range 30_000 {
		if i%10 > 0 {
			require.NoError(t, db.Delete(numberedKey(i)))
		}
	}
	require.Eventually(t, func() bool { return db.Stats().Tombstones < 4000 }, 20*time.Second, testEvery)
	rested(t, db)
	for i := range 30_000 {
		found, err := db.Has(numberedKey(i))
		require.NoError(t, err)
		require.Equal(t, i%10 == 0, found, "key %d", i)
	}
}

func numberedKey(i int) []byte { k := spaceKeyOf(uint64(i)); return k[:] }

// TestCompactionOff: garbage stays until Compact is called.
func TestCompactionOff(t *testing.T) {
	db := newKept(t, Options{Compaction: CompactionOptions{Off: true}})
	for range 10 {
		putAll(t, db, 300, "v")
	}
	st := rested(t, db)
	require.Greater(t, st.GarbageBytes, 5*st.LiveBytes)
	require.NoError(t, db.Compact(t.Context()))
	require.Less(t, db.Stats().GarbageBytes, st.LiveBytes)
}

// refusingDisk is a disk whose files can neither be punched nor cut.
type refusingDisk struct{ pager.Disk }

type refusingFile struct{ pager.File }

func (d refusingDisk) Open(path string, readOnly bool) (pager.File, error) {
	f, err := d.Disk.Open(path, readOnly)
	return refusingFile{f}, err
}

func (refusingFile) Punch(off, n int64) error  { return syscall.EIO }
func (refusingFile) Truncate(size int64) error { return syscall.EIO }

// TestUpkeepRefused: what cannot be given back is logged, once in a while, and the map goes on.
func TestUpkeepRefused(t *testing.T) {
	db := newKept(t, Options{})
	require.NoError(t, db.Close())
	var log bytes.Buffer
	o := Options{Sync: SyncNever, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	db, err := open(db.Path(), o.withDefaults(), internals{disk: refusingDisk{pager.OS()}, geometry: db.s.P.Geo, memory: pager.MemoryLimit, background: true, every: testEvery})
	require.NoError(t, err)
	for range 20 {
		putAll(t, db, 300, "v")
	}
	rested(t, db)
	require.NoError(t, db.s.P.Failed())
	value, err := db.Get([]byte("keya"))
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("v", 1000), string(value))
	require.NoError(t, db.Close())
	require.Equal(t, 1, strings.Count(log.String(), "space could not be given back"), log.String())
}

// TestInfoSpace: what the tool's info tells without opening the map is what Stats told at the checkpoint.
func TestInfoSpace(t *testing.T) {
	db := newKept(t, Options{Compaction: CompactionOptions{Off: true}})
	for range 4 {
		putAll(t, db, 300, "v")
	}
	rested(t, db)
	require.NoError(t, db.Checkpoint())
	info, err := ReadInfo(db.Path())
	require.NoError(t, err)
	st := db.Stats()
	require.NotNil(t, info.Space)
	require.Equal(t, st.LiveBytes, info.Space.Live)
	require.Equal(t, st.GarbageBytes, info.Space.Garbage)
	require.Equal(t, int64(st.IndexPages)*pageSize, info.Space.Index)
	require.InDelta(t, float64(st.FreeBytes), float64(info.Space.Free), float64(db.s.P.Geo.UnitBytes()))
	require.InDelta(t, float64(st.PendingBytes), float64(info.Space.Pending), float64(db.s.P.Geo.UnitBytes()))

	b, err := os.ReadFile(db.Path())
	require.NoError(t, err)
	meta := db.s.Meta()
	clear(b[uint64(meta.Image.Page)*pageSize:][:64])
	damaged := filepath.Join(t.TempDir(), "damaged.map")
	require.NoError(t, os.WriteFile(damaged, b, 0o600))
	info, err = ReadInfo(damaged)
	require.NoError(t, err)
	require.Nil(t, info.Space, "the images do not hold")
	require.Equal(t, meta.Number, info.Metas[info.Newest].Number)
}
