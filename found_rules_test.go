//go:build mapfile_debug

package mapfile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// The tests of this file play the histories that the model of the protocol found, for the rules that random histories hardly ever break.

// segments are the uses of segments that the table knows: salts, by first page.
func (h *lifeHistory) segments() map[uint64]uint64 {
	all := map[uint64]uint64{}
	for _, g := range h.db.s.Tail.Segments() {
		all[uint64(g.Start)] = g.Salt
	}
	return all
}

// fillSegment overwrites key1 until the log goes on in another segment.
func (h *lifeHistory) fillSegment() {
	_, began := h.db.s.Tail.Position()
	for i, now := 0, began; now == began; i++ {
		h.set("key1", fmt.Sprintf("%d %s", i, strings.Repeat("v", 700)))
		_, now = h.db.s.Tail.Position()
	}
}

// newRetired is a map whose first segment, which its last checkpoint lists, has been compacted and retired behind it. What was alive there
// is key0, of so many bytes.
func newRetired(t *testing.T, size int) (*lifeHistory, tail.Segment) {
	h := newFound(t, 1<<20, SyncNever)
	h.set("key0", strings.Repeat("f", size))
	_, g := h.db.s.Tail.Position()
	h.fillSegment()
	h.fillSegment()
	require.NoError(t, h.db.Checkpoint())
	h.db.checkpointMu.Lock()
	defer h.db.checkpointMu.Unlock()
	old := *g
	require.NoError(t, h.db.compactSegment(t.Context(), &old, func(uint64) {}))
	require.Nil(t, h.db.s.Tail.Lookup(old.Start))
	return h, old
}

// reuse makes a checkpoint, which hands over the retired segment, and writes until a record lies where its first one was.
func (h *lifeHistory) reuse(old tail.Segment) {
	require.NoError(h.t, h.db.Checkpoint())
	for range 60 {
		if g := h.db.s.Tail.Lookup(old.Start); g != nil {
			require.NotEqual(h.t, old.Salt, g.Salt)
			return
		}
		h.fillSegment()
	}
	h.fail("the retired segment is not used again")
}

// TestFoundRetired: what the log says of a segment is enough: recovery from the checkpoint before it was retired ends with the table of segments
// that there was.
func TestFoundRetired(t *testing.T) {
	h, old := newRetired(t, 5)
	want := h.segments()
	other := *h
	other.life++
	var err error
	other.disk = h.disk.Kill()
	other.db, err = other.open(other.disk, SyncNever)
	require.NoError(t, err)
	require.Equal(t, want, other.segments())
	require.NoError(t, other.db.beginLife())
	_, fresh := other.db.s.Tail.Position()
	want[uint64(fresh.Start)] = fresh.Salt
	require.NotContains(t, other.segments(), uint64(old.Start))
	require.Equal(t, want, other.segments())
	other.end()
	other.disk.Release()
}

// TestFoundReused: the older meta page leads to the newest state, too, when the segment to which it knows the slots to lead has
// been retired and filled anew since, by one as long or by a shorter one: replay reads no record but those of the log, and no page is lost.
func TestFoundReused(t *testing.T) {
	for name, size := range map[string]int{"as long": 5, "in part": 20000} {
		t.Run(name, func(t *testing.T) {
			h, old := newRetired(t, size)
			h.reuse(old)
			other := lifeHistory{t: t, disk: h.disk.Kill()}
			other.loseMeta()
			for _, f := range h.judged(other.disk) {
				require.Equal(t, "meta page", f.Structure[:9], "%+v", f)
			}
			h.life++
			h.requireOn(other.disk, h.states[0], "the older meta page")
		})
	}
}

// TestFoundSameSegment: records that a power cut left behind the end of the log never become part of what the next life writes, though
// its records be as long, with the same sequences.
func TestFoundSameSegment(t *testing.T) {
	h := newFound(t, 1<<20, SyncNever)
	long := func(c string) string { return strings.Repeat(c, pager.SectorSize-tail.HeaderBytes-len("key0")) }
	h.set("key2", long("x"))
	require.NoError(t, h.db.Checkpoint())
	h.set("key3", long("y"))
	require.NoError(t, h.db.Sync())
	base := h.states[0]
	for i, kept := range []string{"key1", "key0"} {
		h.states = []lifeState{base}
		require.NoError(t, h.commit([]lifeWrite{{key: "key0", value: long(fmt.Sprint(i))}, {key: "key1", value: long(fmt.Sprint(i))}}, SyncNever))
		at := (&rottenMap{h, nil}).record(int(kept[3] - '0'))
		require.Zero(t, at%pager.SectorSize)
		crashed := h.disk.Crash(func(_ int, s *simdisk.SectorState) int {
			if s.Sector == int64(at/pager.SectorSize) {
				return len(s.Versions) - 1
			}
			return simdisk.Durable
		}, nil, false, false)
		h.end()
		h.disk.Release()
		h.disk = crashed
		h.life++
		var err error
		h.db, err = h.open(h.disk, SyncNever)
		require.NoError(t, err)
		require.Equal(t, h.brief(base), h.brief(h.contents()), "%s alone of life %d was kept", kept, i+1)
		h.account()
	}
}

// TestFoundRoomOfAnother: a writer that found no room, and meets the work of another that has made some meanwhile, tries once more; one that found none behind
// it does not.
func TestFoundRoomOfAnother(t *testing.T) {
	h := newFound(t, 1<<20, SyncNever)
	key, value := []byte("key1"), []byte(strings.Repeat("v", 700))
	write := func() error {
		_, err := h.db.appendOne(tail.KindPut, xxhash.Sum64(key), key, value, &watched{})
		return err
	}
	var err error
	for err == nil {
		err = write()
	}
	require.ErrorIs(t, err, ErrFull)
	attempts := h.db.attempts.Load()
	require.ErrorIs(t, write(), ErrFull)
	require.True(t, h.db.makeSpace(1000, attempts), "the first writer makes room")
	require.True(t, h.db.makeSpace(1000, attempts), "the second one, which found none before, finds it")
	require.False(t, h.db.makeSpace(1000, h.db.attempts.Load()), "whoever comes behind it has nothing to gain")
	require.NoError(t, write())
	h.states[0]["key1"] = string(value)
	h.requireOn(h.disk.Kill(), h.states[0], "behind it")
}
