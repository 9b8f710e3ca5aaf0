//go:build mapfile_debug

package mapfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// The tests of this file play what it takes to see one kind of mistake, where random histories seldom come.

// newFound is an empty map on a simulated disk of so many bytes.
func newFound(t *testing.T, size int64, mode SyncMode) *lifeHistory {
	h := &lifeHistory{t: t, disk: simdisk.New(size), r: rand.New(rand.NewPCG(1, 5)), states: []lifeState{{}}}
	var err error
	h.db, err = h.open(h.disk, mode)
	require.NoError(t, err)
	t.Cleanup(func() {
		h.end()
		h.disk.Release()
	})
	return h
}

// requireOn opens the map on a disk, compares it with a state, accounts for its pages, and lets it go.
func (h *lifeHistory) requireOn(d *simdisk.Disk, want lifeState, what string) {
	h.t.Helper()
	other := *h
	var err error
	other.db, err = h.open(d, SyncNever)
	require.NoError(h.t, err, what)
	require.Equal(h.t, h.brief(want), h.brief(other.contents()), what)
	other.account()
	other.end()
	d.Release()
}

// set puts a value, and notes it.
func (h *lifeHistory) set(key, value string) {
	h.t.Helper()
	require.NoError(h.t, h.db.Put([]byte(key), []byte(value)))
	h.states[0][key] = value
}

// TestFoundEveryCommitIsDurable: in a map with SyncAlways the disk alone holds what has returned, from one segment to the next, with
// unsynced commits in between, and in values of more than a megabyte.
func TestFoundEveryCommitIsDurable(t *testing.T) {
	for name, value := range map[string]int{"small": 900, "long": 3 << 19} {
		t.Run(name, func(t *testing.T) {
			h := newFound(t, 16<<20, SyncAlways)
			for i := range 40 {
				if h.set(fmt.Sprint("key", i%lifeKeys), strings.Repeat(string(rune('a'+i%26)), value)); value > 1<<20 && i == 2 {
					break
				}
				if i%4 == 0 {
					require.NoError(t, h.commit([]lifeWrite{{key: "key0", value: fmt.Sprint(i)}}, SyncNever))
					h.states[0]["key0"] = fmt.Sprint(i)
					continue // not durable yet
				}
				h.requireOn(h.disk.Crash(nil, nil, false, false), h.states[0], fmt.Sprint("commit ", i))
			}
		})
	}
}

// TestFoundInterval: SyncInterval syncs by itself.
func TestFoundInterval(t *testing.T) {
	d := simdisk.New(1 << 20)
	o := Options{Sync: SyncInterval, SyncEvery: time.Millisecond, LockTimeout: -1, MaxSize: d.Capacity()}
	db, err := open(lifePath, o.withDefaults(), internals{disk: d, geometry: pager.DefaultGeometry(), memory: func() uint64 { return 1 << 40 }, background: true})
	require.NoError(t, err)
	require.NoError(t, db.Put([]byte("key"), nil))
	require.Eventually(t, func() bool { return db.dur.synced.Load() >= db.dur.appended.Load() }, 5*time.Second, time.Millisecond)
	require.NoError(t, db.Close())
}

// churn runs one operation of those that fill, empty and reuse segments.
func (h *lifeHistory) churn(i int) {
	switch x := h.r.IntN(10); {
	case x < 6:
		w := h.write()
		w.value = w.value[:min(len(w.value), 900)]
		require.NoError(h.t, h.commit([]lifeWrite{w, h.write()}, SyncNever))
	case x < 8:
		require.NoError(h.t, h.db.Checkpoint())
	case x < 9:
		require.NoError(h.t, h.compactOne())
	default:
		require.NoError(h.t, h.db.Compact(h.t.Context()))
	}
	h.states = h.states[len(h.states)-1:]
}

// compactOne compacts a segment as Compact does, and stops before the checkpoints that free it.
func (h *lifeHistory) compactOne() error {
	h.db.checkpointMu.Lock()
	defer h.db.checkpointMu.Unlock()
	g, ok := h.db.emptiest(nil, everything, 0, false)
	if !ok {
		return nil
	}
	if err := h.db.compactSegment(h.t.Context(), &g, func(uint64) {}); !errors.Is(err, errLater) {
		return err
	}
	return nil // a DROP in it has to wait
}

// TestFoundOlderMeta: at any time the older meta page leads to the newest state too, though the newer one has let
// segments go that the older one knows.
func TestFoundOlderMeta(t *testing.T) {
	for seed := range uint64(6) {
		h := newFound(t, 1<<20, SyncNever)
		h.r = rand.New(rand.NewPCG(seed, 6))
		for i := range 120 {
			h.churn(i)
			other := lifeHistory{t: t, disk: h.disk.Kill()}
			other.loseMeta()
			h.requireOn(other.disk, h.states[0], fmt.Sprintf("seed %d, operation %d", seed, i))
		}
	}
}

// TestFoundDeletedStaysDeleted: no scan of the log brings a deleted key back, not between two steps of a compaction and not behind a
// kill.
func TestFoundDeletedStaysDeleted(t *testing.T) {
	for seed := range uint64(12) {
		h := newFound(t, 1<<20, SyncNever)
		h.r = rand.New(rand.NewPCG(seed, 7))
		for i := range 120 {
			h.churn(i)
			h.raw()
			if i%20 != 19 {
				continue
			}
			img := h.disk.Kill()
			h.end()
			h.disk.Release()
			h.disk = img
			var err error
			h.db, err = h.open(h.disk, SyncNever)
			require.NoError(t, err)
		}
	}
}

// TestFoundAbort: a commit that an ABORT ends does not count.
func TestFoundAbort(t *testing.T) {
	h := newFound(t, 1<<20, SyncNever)
	h.set("key0", "good")
	l := h.db.s.Tail
	l.Sequence++
	require.NoError(t, l.Append(&tail.Record{Kind: tail.KindPut, Flags: tail.FlagFirst | tail.FlagNew, Sequence: l.Sequence, Key: []byte("key1"), Value: []byte("bad")}))
	require.NoError(t, l.Append(&tail.Record{Kind: tail.KindAbort, Flags: tail.FlagLast, Sequence: l.Sequence}))
	require.NoError(t, l.Flush())
	h.set("key2", "good")
	h.requireOn(h.disk.Kill(), h.states[0], "an aborted commit")
}

// TestFoundErrorReachesBoth: an error that a commit's sync was told reaches a checkpoint's too, and the other way around.
func TestFoundErrorReachesBoth(t *testing.T) {
	h := newFound(t, 1<<20, SyncNever)
	h.set("key0", "value")
	failed := false
	h.disk.Fail = func(c simdisk.Call) error {
		if c.Name == "WriteSync" && !failed {
			failed = true
			return syscall.EIO
		}
		return nil
	}
	require.ErrorIs(t, h.db.Sync(), ErrFailed)
	require.True(t, failed)
	require.ErrorIs(t, h.db.s.P.SyncFile(), syscall.EIO, "the checkpoint's description has not heard of it yet")
}

// TestFoundNoRoomForImages: a checkpoint that finds no room for its images leaves pages to sum to the next one.
func TestFoundNoRoomForImages(t *testing.T) {
	h := newFound(t, 1<<20, SyncNever)
	for i := range lifeKeys {
		h.set(fmt.Sprint("key", i), "value")
	}
	h.disk.Fail = func(c simdisk.Call) error {
		if c.Name == "WriteAt" && c.Length >= pager.PageSize {
			return syscall.ENOSPC
		}
		return nil
	}
	require.ErrorIs(t, h.db.Checkpoint(), syscall.ENOSPC)
	h.disk.Fail = nil
	require.NoError(t, h.db.Checkpoint())
	h.requireOn(h.disk.Kill(), h.states[0], "the next checkpoint")
}

// TestFoundPartOfAUnit: what a growth that was cut off left behind the last whole unit is not used.
func TestFoundPartOfAUnit(t *testing.T) {
	h := newFound(t, 1<<20, SyncNever)
	h.set("key0", strings.Repeat("v", 40000))
	require.NoError(t, h.db.Close())
	d := h.disk.Kill()
	d.Truncate(lifePath, int64(len(d.Bytes(lifePath)))+pager.PageSize)
	h.disk = d
	var err error
	h.db, err = h.open(d, SyncNever)
	require.NoError(t, err)
	for i := range 40 {
		h.set(fmt.Sprint("key", i%lifeKeys), strings.Repeat("w", 3000))
		h.account()
	}
}

// TestFoundOlderVersions: an index page, or a record, that reads as it once was, in this life or in one that died, is never believed. The
// history holds checkpoints that a kill cut off behind their sums, with commits behind the seal.
func TestFoundOlderVersions(t *testing.T) {
	h := newFound(t, 1<<20, SyncNever)
	var images [][]byte
	keep := func() { images = append(images, h.disk.Bytes(lifePath)) }
	for life := range 3 {
		for i := range 30 {
			h.set(fmt.Sprint("key", i%lifeKeys), fmt.Sprintf("%d %d %s", life, i, strings.Repeat("v", 300)))
			if i%10 == 9 && i < 29 {
				require.NoError(t, h.db.Compact(t.Context()))
				keep()
			}
		}
		keep()
		var killed *simdisk.Disk
		h.disk.OnEvent = func(e simdisk.Event) { // behind the sums, before the meta page
			if e.Kind == simdisk.EventSync && e.Length > pager.PageSize && killed == nil {
				keep()
				for i := range lifeKeys * (2 - life) / 2 { // none in the last: what is not synced may read as it was
					h.set(fmt.Sprint("key", i), fmt.Sprintf("%d behind the seal", life))
				}
				killed = h.disk.Kill()
			}
		}
		require.NoError(t, h.db.Checkpoint())
		h.disk.OnEvent = nil
		if life < 2 {
			h.end()
			h.disk = killed
			var err error
			h.db, err = h.open(h.disk, SyncNever)
			require.NoError(t, err)
			require.Greater(t, h.requireNoneBelieved(images), 20, "before the life begins")
			require.NoError(t, h.db.beginLife())
		}
		require.Greater(t, h.requireNoneBelieved(images), 20)
	}
}

// requireNoneBelieved replaces each page of the file by what it was in each of the images, and answers how many there are.
func (h *lifeHistory) requireNoneBelieved(images [][]byte) (tried int) {
	h.t.Helper()
	now := h.disk.Bytes(lifePath)
	for i, old := range images {
		for at := pager.FirstPage * pager.PageSize; int(at)+pager.PageSize <= min(len(old), len(now)); at += pager.PageSize {
			if bytes.Equal(old[at:at+pager.PageSize], now[at:at+pager.PageSize]) {
				continue
			}
			tried++
			rotten := slices.Clone(now)
			copy(rotten[at:], old[at:at+pager.PageSize])
			h.requireRightOrCorrupt(rotten, fmt.Sprintf("page %d as it was in image %d", at/pager.PageSize, i))
		}
	}
	return tried
}

// requireRightOrCorrupt reads every key of a damaged file.
func (h *lifeHistory) requireRightOrCorrupt(file []byte, what string) {
	h.t.Helper()
	d := simdisk.New(h.disk.Capacity())
	defer d.Release()
	d.Load(lifePath, file)
	db, err := h.open(d, SyncNever)
	if err != nil {
		require.ErrorIs(h.t, err, ErrCorrupt, what)
		return
	}
	for i := range lifeKeys {
		k := fmt.Sprint("key", i)
		v, err := db.Get([]byte(k))
		if want, ok := h.states[0][k]; errors.Is(err, ErrCorrupt) || ok && err == nil && string(v) == want || !ok && err == ErrNotFound {
			continue
		}
		h.fail("%s: Get(%s) is %.8q, %v; want %.8q", what, k, v, err, h.states[0][k])
	}
	_ = db.s.Close()
}

// TestFoundSwappedPages: an index page that reads as another one, as a misdirected write leaves it, is never believed.
func TestFoundSwappedPages(t *testing.T) {
	h := newFound(t, 1<<20, SyncNever)
	for i := range lifeKeys {
		h.set(fmt.Sprint("key", i), fmt.Sprint("value ", i))
	}
	require.NoError(t, h.db.Checkpoint())
	final := h.disk.Bytes(lifePath)
	for to := pager.FirstPage; to < 24; to++ {
		for from := pager.FirstPage; from < 24; from++ {
			rotten := slices.Clone(final)
			copy(rotten[to*pager.PageSize:], final[from*pager.PageSize:(from+1)*pager.PageSize])
			h.requireRightOrCorrupt(rotten, fmt.Sprintf("page %d reads as page %d", to, from))
		}
	}
}

// rottenMap is a file that a kill left, and where its parts are.
type rottenMap struct {
	*lifeHistory
	file []byte
}

// newRottenMap has a checkpoint, and twelve synced commits behind it; the mark page as a kill leaves it.
func newRottenMap(t *testing.T) *rottenMap {
	h := newFound(t, 1<<20, SyncAlways)
	for range 2 {
		for i := range lifeKeys {
			h.set(fmt.Sprint("key", i), fmt.Sprintf("old %d %s", i, strings.Repeat("v", 300)))
		}
		require.NoError(t, h.db.Checkpoint())
	}
	for i := range lifeKeys {
		h.set(fmt.Sprint("key", i), fmt.Sprintf("new %d %s", i, strings.Repeat("v", 300)))
	}
	return &rottenMap{h, h.disk.Bytes(lifePath)}
}

// record is where a key's newest record lies.
func (m *rottenMap) record(i int) uint64 {
	key := []byte(fmt.Sprint("key", i))
	at, found, err := m.db.s.Index.Lookup(xxhash.Sum64(key), key)
	require.NoError(m.t, err)
	require.True(m.t, found)
	return at
}

// spoil flips two bits of a byte: no mending helps.
func (m *rottenMap) spoil(at uint64) { m.file[at] ^= 0x81 }

// meta is a meta page of the file: the newest, or the other.
func (m *rottenMap) meta(newest bool) (which int, meta pager.Meta) {
	f, err := m.disk.Open(lifePath, true)
	require.NoError(m.t, err)
	defer func() { require.NoError(m.t, f.Close()) }()
	metas, err := pager.ReadMetas(f)
	require.NoError(m.t, err)
	which = metas.Order()[0]
	if !newest {
		which = metas.Order()[1]
	}
	return which, *metas.Meta[which]
}

// foundRot are damages, and what an open makes of them.
var foundRot = []struct {
	name    string
	damage  func(m *rottenMap)
	refused error // nil: it opens with every key
	fell    bool  // the newest meta page was not used
}{
	{"the last record", func(m *rottenMap) { m.spoil(m.record(lifeKeys-1) + 9) }, ErrCorrupt, false},
	{"a record in the middle, the mark page lost", func(m *rottenMap) {
		m.spoil(m.record(3) + 9)
		clear(m.file[pager.MarkPage*pager.PageSize : pager.MarkPage*pager.PageSize+32])
	}, ErrCorrupt, false},
	{"the mark page", func(m *rottenMap) {
		for i := range uint64(32) {
			m.file[uint64(pager.MarkPage)*pager.PageSize+i] = 0x55
		}
	}, nil, false},
	{"the newest root", func(m *rottenMap) { _, x := m.meta(true); m.spoil(uint64(x.Root.Page)*pager.PageSize + 70) }, nil, true},
	{"the newest images", func(m *rottenMap) { // the live bytes of a segment: they decode all the same
		_, x := m.meta(true)
		at := int(x.Image.Page) * pager.PageSize
		salt := binary.LittleEndian.AppendUint64(nil, m.db.s.Tail.Segments()[0].Salt)
		m.spoil(uint64(at + bytes.Index(m.file[at:], salt) + 40))
	}, nil, true},
	{"the newest meta page", func(m *rottenMap) { which, _ := m.meta(true); m.spoil(uint64(which)*pager.PageSize + 161) }, nil, true},
	{"the newest meta page, the older root", func(m *rottenMap) {
		which, _ := m.meta(true)
		_, x := m.meta(false)
		m.spoil(uint64(which)*pager.PageSize + 161)
		m.spoil(uint64(x.Root.Page)*pager.PageSize + 70)
	}, ErrCorrupt, false},
	{"a meta page of a newer version", func(m *rottenMap) {
		which, _ := m.meta(true)
		b := m.file[which*pager.PageSize : which*pager.PageSize+pager.SectorSize]
		binary.LittleEndian.PutUint32(b[16:], pager.FormatVersion+1)
		binary.LittleEndian.PutUint64(b, xxhash.Sum64(b[8:])^pager.Mix(0x6d657461, uint64(which)))
	}, ErrVersion, false},
	{"one bit of a record, and the last record", func(m *rottenMap) {
		m.file[m.record(3)+40] ^= 1
		m.spoil(m.record(lifeKeys-1) + 9)
	}, ErrCorrupt, false},
	{"one bit of a record", func(m *rottenMap) { m.file[m.record(3)+40] ^= 1 }, nil, false},
	{"one bit of a meta page", func(m *rottenMap) { m.file[161] ^= 1 }, nil, false},
}

// TestFoundRot: an open falls back where it can, refuses where a synced commit would be lost, and a file that is refused stays
// as it was.
func TestFoundRot(t *testing.T) {
	for _, row := range foundRot {
		t.Run(row.name, func(t *testing.T) {
			m := newRottenMap(t)
			row.damage(m)
			d := simdisk.New(m.disk.Capacity())
			d.Load(lifePath, m.file)
			db, err := m.open(d, SyncNever)
			if row.refused != nil {
				require.ErrorIs(t, err, row.refused)
				note := pager.MarkPage*pager.PageSize + 2048 // who opened it last is written at once
				b := d.Bytes(lifePath)
				copy(b[note:note+64], m.file[note:])
				require.True(t, bytes.Equal(m.file, b), "a refused file was changed")
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.fell, db.s.Report.FellBack != nil)
			other := *m.lifeHistory
			other.db = db
			require.Equal(t, m.brief(m.states[0]), m.brief(other.contents()))
			other.account()
			require.NoError(t, db.Close())
		})
	}
}

// TestFoundRottenRecord: rot in a record costs its key alone, also when its segment is compacted. New records are as long as the old ones, so that
// in a segment used again one begins where the rotten one did, and keys before it and behind it are not written again.
func TestFoundRottenRecord(t *testing.T) {
	for name, off := range map[string]uint64{"header": 17, "key": 30, "value": 100} {
		t.Run(name, func(t *testing.T) {
			m := newRottenMap(t)
			require.NoError(t, m.db.Checkpoint())
			m.file = m.disk.Bytes(lifePath)
			m.spoil(m.record(3) + off)
			m.end()
			d := simdisk.New(m.disk.Capacity())
			d.Load(lifePath, m.file)
			db, err := m.open(d, SyncAlways) // with marks, like the old ones
			require.NoError(t, err)
			want := maps.Clone(m.states[0])
			for range 10 {
				for i := range lifeKeys {
					k := fmt.Sprint("key", i)
					v, err := db.Get([]byte(k))
					if i == 3 {
						require.ErrorIs(t, err, ErrCorrupt)
						continue
					}
					require.NoError(t, err, k)
					require.Equal(t, want[k], string(v))
				}
				for i := 4; i < lifeKeys; i += 2 {
					k := fmt.Sprint("key", i)
					want[k] = strings.Repeat("n", len(want[k]))
					require.NoError(t, db.Put([]byte(k), []byte(want[k])))
				}
				require.NoError(t, db.Compact(t.Context()))
				require.NoError(t, db.Checkpoint())
			}
			require.NoError(t, db.s.Close())
		})
	}
}

// TestFoundRotBehindTrust: rot in an index page that was verified once is seen when trust in it has ended.
func TestFoundRotBehindTrust(t *testing.T) {
	m := newRottenMap(t)
	require.NoError(t, m.db.Checkpoint())
	key := []byte("key3")
	bucket, _, err := m.db.s.Index.Find(m.db.s.Root(), xxhash.Sum64(key), key, false)
	require.NoError(t, err)
	words := m.db.s.P.View().Writable(bucket+64, 3200)
	for i := 0; i < len(words); i += 8 {
		if binary.LittleEndian.Uint64(words[i:]) > 1 {
			words[i+7] ^= 3 // tags: a key would seem not to be there
		}
	}
	m.db.s.Distrust()
	_, err = m.db.Get(key)
	require.ErrorIs(t, err, ErrCorrupt)
}
