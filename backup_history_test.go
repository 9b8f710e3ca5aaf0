package mapfile

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/backup"
	invariants "github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// historyMap is a map on the simulated disk.
type historyMap struct {
	t      *testing.T
	disk   *simdisk.Disk
	db     *DB
	opened uint64
}

func newHistoryMap(t *testing.T) *historyMap {
	h := &historyMap{t: t}
	h.on(simdisk.New(4 << 20))
	t.Cleanup(func() { h.disk.Release() })
	return h
}

func (h *historyMap) on(disk *simdisk.Disk) {
	h.disk = disk
	h.watch(nil)
	h.open(Options{Sync: SyncAlways}, nil)
}

func (h *historyMap) open(o Options, repair *recovery.Repair) {
	h.opened++
	h.db = h.opening(h.disk, o, repair)
}

func (h *historyMap) opening(disk *simdisk.Disk, o Options, repair *recovery.Repair) *DB {
	db, err := open(crashPath, o.withDefaults(), internals{
		disk: disk, geometry: tinyGeometry(3), random: recovery.Random, memory: func() uint64 { return 1 << 40 }, repair: repair,
	})
	require.NoError(h.t, err)
	return db
}

// watch calls look at each event of the disk, with what a kill there leaves.
func (h *historyMap) watch(look func(killed *simdisk.Disk)) {
	disk := h.disk
	disk.OnEvent = func(simdisk.Event) {
		if !invariants.On {
			disk.Notice()
		}
		if look != nil {
			killed := disk.Kill()
			look(killed)
			killed.Release()
		}
	}
}

func (h *historyMap) reopen(o Options) {
	require.NoError(h.t, h.db.Close())
	h.open(o, nil)
}

func (h *historyMap) put(key int, n int) {
	require.NoError(h.t, h.db.Put([]byte(crashKeys[key]), []byte(letters[key][:n])))
}

func (h *historyMap) delete(key int) { require.NoError(h.t, h.db.Delete([]byte(crashKeys[key]))) }

func (h *historyMap) compact() { require.NoError(h.t, h.db.Compact(context.Background())) }

func (h *historyMap) whole() backupPoint {
	var b bytes.Buffer
	sequence, err := h.db.Backup(context.Background(), &b)
	require.NoError(h.t, err)
	return backupPoint{sequence: sequence, streams: [][]byte{b.Bytes()}}
}

// since is what a backup and the increment of a map behind it lead to.
func since(t *testing.T, db *DB, p backupPoint) (kv, error) {
	var b bytes.Buffer
	_, err := db.BackupSince(context.Background(), &b, p.sequence)
	if err != nil {
		return nil, err
	}
	got, _, err := replayBackup(append(p.streams[:1:1], b.Bytes())...)
	require.NoError(t, err)
	return got, nil
}

// TestHistoryOfDroppedTombstones: wherever a compaction is killed that drops a tombstone, an increment from before the deletion tells of it, or is
// refused; so are all later ones, in later lives. From behind the deletion there is one.
func TestHistoryOfDroppedTombstones(t *testing.T) {
	h := newHistoryMap(t)
	h.put(0, 900)
	h.put(1, 7000)
	before := h.whole()
	h.delete(0)
	after := h.whole()
	h.put(2, 7000)
	h.put(3, 20000)
	told, replayed, kept := 0, 0, 0
	for i := range 4 {
		want := contentsOf(t, h.db)
		h.watch(func(killed *simdisk.Disk) {
			db := h.opening(killed, Options{Sync: SyncNever}, nil)
			switch got, err := since(t, db, before); {
			case err == nil:
				require.Equal(t, want, got)
				told++
			case db.s.Report.Records > 0 && db.s.Meta().LSN > 0 && replaysDrop(db):
				replayed++
				fallthrough
			default:
				require.ErrorIs(t, err, ErrHistoryGone)
				kept++
			}
			got, err := since(t, db, after)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.NoError(t, db.Close())
		})
		h.compact()
		h.watch(nil)
		h.put(2+i%2, 7000)
	}
	require.NotZero(t, told)
	require.NotZero(t, replayed, "no kill left a DROP to be replayed")
	require.NotZero(t, kept)
	for range 3 {
		h.reopen(Options{Sync: SyncAlways})
		_, err := since(t, h.db, before)
		require.ErrorIs(t, err, ErrHistoryGone)
		got, err := since(t, h.db, after)
		require.NoError(t, err)
		require.Equal(t, contentsOf(t, h.db), got)
		h.put(4, 60)
	}
}

// replaysDrop reports whether the DROP was replayed: it lies behind the checkpoint that the open began from.
func replaysDrop(db *DB) (found bool) {
	v, n := db.s.P.View(), db.s.Report.Records
	for _, g := range db.s.Tail.Segments() {
		var r tail.Record
		for at := g.Base() + tail.SegmentHeader; at < g.Base()+g.Used && tail.ParseHeader(v, at, g.Salt, g.End(), &r); at += r.Size() {
			found = found || r.Kind == tail.KindDrop && r.Sequence+n > db.s.Tail.Sequence
		}
	}
	return found
}

// TestHistory: what an increment goes over.
func TestHistory(t *testing.T) {
	for _, row := range []struct {
		name  string
		after func(h *historyMap) // a backup of a map of two keys
	}{
		{"nothing", func(h *historyMap) {}},
		{"puts and a deletion", func(h *historyMap) { h.put(2, 60); h.delete(0); h.put(1, 5) }},
		{"clear", func(h *historyMap) { h.put(2, 60); require.NoError(h.t, h.db.Clear()); h.put(0, 5) }},
		{"clear, and a kill", func(h *historyMap) { require.NoError(h.t, h.db.Clear()); h.put(0, 5); h.on(h.disk.Kill()) }},
		{"clear, and two lives", func(h *historyMap) {
			require.NoError(h.t, h.db.Clear())
			h.put(0, 5)
			h.reopen(Options{})
			h.put(1, 5)
			h.reopen(Options{})
		}},
		{"read-only", func(h *historyMap) { h.put(2, 60); h.reopen(Options{ReadOnly: true}) }},
		{"index made anew", func(h *historyMap) {
			h.put(2, 60)
			h.delete(0)
			require.NoError(h.t, h.db.Close())
			h.open(Options{}, &recovery.Repair{RebuildIndex: true})
		}},
		{"index made anew behind a clear that is in the tail", func(h *historyMap) {
			h.put(2, 60)
			require.NoError(h.t, h.db.Clear())
			h.put(3, 60)
			h.disk = h.disk.Kill()
			h.watch(nil)
			h.open(Options{}, &recovery.Repair{RebuildIndex: true})
		}},
		{"read-only, killed before", func(h *historyMap) { h.put(2, 60); h.disk = h.disk.Kill(); h.open(Options{ReadOnly: true}, nil) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHistoryMap(t)
			h.put(0, 900)
			h.put(1, 60)
			before := h.whole()
			row.after(h)
			got, err := since(t, h.db, before)
			require.NoError(t, err)
			require.Equal(t, contentsOf(t, h.db), got)
		})
	}
}

// TestHistoryOfNoMap: a sequence that the map has not come to, by itself or because a crash took it back.
func TestHistoryOfNoMap(t *testing.T) {
	h := newHistoryMap(t)
	h.put(0, 60)
	var b bytes.Buffer
	_, err := h.db.BackupSince(context.Background(), &b, 2)
	require.ErrorIs(t, err, ErrHistoryGone)
	require.Zero(t, b.Len())
	_, err = h.db.BackupSince(context.Background(), &b, 1<<60)
	require.ErrorIs(t, err, ErrHistoryGone)
	var empty bytes.Buffer // what a backup would have been before the first commit
	w, err := backup.NewWriter(&empty, &backup.Begin{UUID: h.db.s.Meta().UUID})
	require.NoError(t, err)
	require.NoError(t, w.End(0))
	got, err := since(t, h.db, backupPoint{sequence: 0, streams: [][]byte{empty.Bytes()}})
	require.NoError(t, err, "from the begin, nothing was dropped since")
	require.Equal(t, contentsOf(t, h.db), got)
}

// TestHistoryOfCopies: two copies of one map that went on by themselves bear the same UUID and the same sequences. An increment of one is
// refused behind a backup of the other, unless they had not parted.
func TestHistoryOfCopies(t *testing.T) {
	h := newHistoryMap(t)
	h.put(0, 900)
	shared := h.whole()
	h.put(1, 60)
	other := &historyMap{t: t}
	other.on(h.disk.Kill())
	t.Cleanup(func() { other.disk.Release() })
	h.put(1, 5)
	other.put(2, 5)
	parted := h.whole()
	h.put(3, 5)
	other.put(4, 5)
	require.Equal(t, h.db.s.Tail.Sequence, other.db.s.Tail.Sequence)

	for name, db := range map[string]*DB{"itself": h.db, "the copy": other.db} {
		got, err := since(t, db, shared)
		require.NoError(t, err, name)
		require.Equal(t, contentsOf(t, db), got, name)
	}
	var b bytes.Buffer
	_, err := other.db.BackupSince(context.Background(), &b, parted.sequence)
	require.NoError(t, err, "a number says nothing of where it is from")
	_, _, err = replayBackup(parted.streams[0], b.Bytes())
	require.ErrorIs(t, err, ErrBackup)
	require.ErrorContains(t, err, "stream 2: not a whole backup: it goes on from another history of the same map")
}

// TestHistoryOfAcceptedLoss: behind a loss no increment goes on from before it, though the sequences that were lost are used again.
func TestHistoryOfAcceptedLoss(t *testing.T) {
	for _, row := range []struct {
		name string
		lost int // which of the commits, from 1
	}{{"in the middle", 4}, {"at the end", 6}} {
		t.Run(row.name, func(t *testing.T) {
			h := newHistoryMap(t)
			h.put(0, 5) // the life has begun
			var positions []int64
			for i := range 6 {
				positions = append(positions, h.end())
				h.put(i, 60)
			}
			before := h.whole()
			killed := h.disk.Kill()
			flip(killed, positions[row.lost-1])
			h.disk = killed
			h.watch(nil)
			h.open(Options{Sync: SyncAlways}, &recovery.Repair{AcceptLoss: true})
			require.NotZero(t, h.db.s.Report.Lost.Places)
			for i := range 12 {
				_, err := since(t, h.db, before)
				require.ErrorIs(t, err, ErrHistoryGone, "%d commits on", i)
				h.put(i%9, 5)
			}
			again := h.whole()
			h.delete(1)
			got, err := since(t, h.db, again)
			require.NoError(t, err)
			require.Equal(t, contentsOf(t, h.db), got)
		})
	}
}

// TestHistoryIsLookedAtAgain: a tombstone that goes while an increment is written, because compaction looked for pins just before, is seen behind the scan.
func TestHistoryIsLookedAtAgain(t *testing.T) {
	h := newHistoryMap(t)
	h.put(0, 60)
	before := h.whole()
	h.put(1, 60)
	var b bytes.Buffer
	_, err := h.db.BackupSince(context.Background(), writing(func(p []byte) (int, error) {
		h.db.s.Dropped(&tail.Record{Flags: tail.FlagMoved, Extra: before.sequence + 1})
		return b.Write(p)
	}), before.sequence)
	require.ErrorIs(t, err, ErrHistoryGone)
	_, _, err = replayBackup(before.streams[0], b.Bytes())
	require.ErrorIs(t, err, ErrBackup, "what was written is not whole")
}

// writing is a writer.
type writing func(p []byte) (int, error)

// Write calls f.
func (f writing) Write(p []byte) (int, error) { return f(p) }

// TestHistoryWithDamage: where a record behind the base cannot be read its key is not known, and there is no increment. A whole backup goes past it, if
// it is garbage.
func TestHistoryWithDamage(t *testing.T) {
	h := newHistoryMap(t)
	h.put(0, 60)
	before := h.whole()
	position := h.end()
	h.put(1, 60)
	h.put(1, 900)
	require.NoError(t, h.db.Checkpoint())
	killed := h.disk.Kill()
	flip(killed, position)
	h.on(killed)
	_, err := since(t, h.db, before)
	require.ErrorIs(t, err, ErrCorrupt)
	got, _, err := replayBackup(h.whole().streams...)
	require.NoError(t, err)
	require.Equal(t, kv{crashKeys[0]: letters[0][:60], crashKeys[1]: letters[1][:900]}, got)
}

// end is where the next record will lie.
func (h *historyMap) end() int64 {
	position, _ := h.db.s.Tail.Position()
	return int64(position)
}

// flip flips more bits of a record's header than are mended.
func flip(disk *simdisk.Disk, position int64) {
	for i := range int64(3) {
		disk.FlipBit(crashPath, 8*position+9*i)
	}
}
