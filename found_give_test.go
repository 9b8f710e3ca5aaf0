//go:build mapfile_debug

package mapfile

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// newGiver is a map that had long values, of which little is alive: most of it is free.
func newGiver(t *testing.T, long int) *lifeHistory {
	h := newFound(t, 1<<20, SyncNever)
	for i := range lifeKeys {
		h.set(fmt.Sprint("key", i), strings.Repeat("v", long))
	}
	for i := range lifeKeys {
		h.set(fmt.Sprint("key", i), fmt.Sprint("small ", i))
	}
	require.NoError(t, h.db.Compact(t.Context()))
	require.NoError(t, h.db.Checkpoint())
	return h
}

// blocks is the number of bytes that the map's file takes on its disk, and length its length.
func (h *lifeHistory) blocks() (blocks, length int64) {
	info, err := h.disk.Stat(lifePath)
	require.NoError(h.t, err)
	return info.Blocks, info.Size
}

// TestFoundGiveBack: free units go while the map is open, and come back, and a power cut at any of it leaves the map as it was.
func TestFoundGiveBack(t *testing.T) {
	h := newGiver(t, 14000)
	wasBlocks, wasLength := h.blocks()
	held, err := h.db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, giveSpace(h.db))
	h.account()
	blocks, length := h.blocks()
	require.Less(t, blocks, wasBlocks/2)
	require.Less(t, length, wasLength)
	require.NoError(t, held.Rollback())
	h.requireOn(h.disk.Crash(nil, nil, true, false), h.states[0], "the length is cut, and no block")
	h.requireOn(h.disk.Crash(nil, nil, false, false), h.states[0], "the length is not cut")
	h.requireOn(h.disk.Kill(), h.states[0], "killed")
	for i := range lifeKeys {
		h.set(fmt.Sprint("key", i), strings.Repeat("w", 14000))
	}
	h.account()
	require.NoError(t, h.db.Checkpoint())
	h.requireOn(h.disk.Kill(), h.states[0], "grown again")
	require.NoError(t, h.db.Close())
	h.requireOn(h.disk.Kill(), h.states[0], "closed")
}

// TestFoundGiveBackHeld: what a snapshot may need stays, whatever is given back meanwhile.
func TestFoundGiveBackHeld(t *testing.T) {
	h := newGiver(t, 14000)
	for i := range lifeKeys {
		h.set(fmt.Sprint("key", i), strings.Repeat("x", 9000))
	}
	held, err := h.db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
	require.NoError(t, err)
	for i := range lifeKeys {
		require.NoError(t, h.db.Put(fmt.Append(nil, "key", i), []byte("y")))
	}
	require.NoError(t, h.db.Compact(t.Context()))
	for range 3 {
		require.NoError(t, giveSpace(h.db))
		for key, value := range held.All() {
			require.Equal(t, h.states[0][string(key)], string(value))
		}
		require.NoError(t, held.Err())
		require.NoError(t, h.db.Checkpoint())
	}
	was, _ := h.blocks()
	require.NoError(t, held.Rollback())
	require.NoError(t, giveSpace(h.db))
	less, _ := h.blocks()
	require.Less(t, less, was, "the reader has gone")
}

// TestFoundGiveBackKeepsSpare: what is to be kept is.
func TestFoundGiveBackKeepsSpare(t *testing.T) {
	for keep := range uint64(6) {
		h := newGiver(t, 14000)
		h.db.checkpointMu.Lock()
		require.NoError(t, h.db.giveBack(t.Context(), keep))
		h.db.checkpointMu.Unlock()
		require.Equal(t, keep, h.db.s.Free.FreeUnits()+h.db.s.DryBlocks())
	}
}

// TestFoundCutKeepsBothMetas: the file is never cut below what the older meta page needs, should the newer be lost.
func TestFoundCutKeepsBothMetas(t *testing.T) {
	h := newGiver(t, 14000)
	h.db.checkpointMu.Lock()
	require.NoError(t, h.db.giveBack(t.Context(), 2)) // two units at low addresses are left
	h.db.checkpointMu.Unlock()
	var long []*tail.Segment
	for i := range 2 {
		h.set(fmt.Sprint("key", i), strings.Repeat("v", 60000)) // longer than any gap: at the end
		_, g := h.db.s.Tail.Position()
		long = append(long, g)
	}
	h.set("key2", strings.Repeat("v", 12000)) // at a low address
	require.NoError(t, h.db.Checkpoint())     // its image has the long segments
	_, was := h.blocks()
	h.set("key0", "small")
	h.set("key1", "small")
	h.db.checkpointMu.Lock()
	for _, g := range long {
		require.NoError(t, h.db.compactSegment(t.Context(), g, func(uint64) {}))
	}
	h.db.checkpointMu.Unlock()
	require.NoError(t, h.db.Checkpoint()) // they are free: from the older meta page replay retires them
	require.NoError(t, giveSpace(h.db))
	other := *h
	other.disk = h.disk.Kill()
	other.loseMeta()
	h.requireOn(other.disk, h.states[0], "the newest meta page is lost")
	require.NoError(t, h.db.Checkpoint())
	require.NoError(t, giveSpace(h.db))
	_, length := h.blocks()
	require.Less(t, length, was, "no meta page needs the end any more")
}

// TestFoundGiveBackOnAFullDisk: what was given back may be another file's by then: a commit that finds no room changes nothing, and the
// map goes on.
func TestFoundGiveBackOnAFullDisk(t *testing.T) {
	h := newGiver(t, 40000)
	require.NoError(t, giveSpace(h.db))
	blocks, _ := h.blocks()
	h.disk.Limit = blocks + 4*pager.PageSize // one unit
	var err error
	for n := 3; err == nil && n < lifeKeys; n++ { // a segment for each record
		next := maps.Clone(h.states[0])
		err = h.db.Update(func(tx *Tx) error {
			for i := range n {
				next[fmt.Sprint("key", i)] = strings.Repeat("w", 9000+n)
				if err := tx.Put(fmt.Append(nil, "key", i), []byte(next[fmt.Sprint("key", i)])); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			h.states[0] = next
		}
	}
	require.ErrorIs(t, err, ErrFull)
	require.NotErrorIs(t, err, ErrFailed)
	h.account()
	require.Equal(t, h.brief(h.states[0]), h.brief(h.contents()))
	h.disk.Limit = 0
	require.NoError(t, h.db.Checkpoint())
	h.set("key0", strings.Repeat("x", 14000))
	h.requireOn(h.disk.Kill(), h.states[0], "room again")
}

// TestFoundGiveBackRefused: a system that refuses to punch or to cut costs space and nothing else.
func TestFoundGiveBackRefused(t *testing.T) {
	rows := []struct {
		name, call string
		refusal    error
		want       error // of giving back
		less       bool  // blocks
	}{
		{"no holes", "Punch", errors.ErrUnsupported, nil, true}, // the end can still be cut off
		{"a failing punch", "Punch", syscall.EIO, syscall.EIO, true},
		{"no room to punch", "Punch", syscall.ENOSPC, syscall.ENOSPC, true},
		{"a failing cut", "Truncate", syscall.EIO, syscall.EIO, false},
		{"a forbidden cut", "Truncate", fs.ErrPermission, fs.ErrPermission, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			h := newGiver(t, 14000)
			was, _ := h.blocks()
			h.set("key0", strings.Repeat("v", 60000)) // behind most of the free units
			require.NoError(t, h.db.Checkpoint())
			refused := 0
			h.disk.Fail = func(c simdisk.Call) error {
				if c.Name == row.call {
					refused++
					return row.refusal
				}
				return nil
			}
			err := giveSpace(h.db)
			require.ErrorIs(t, err, row.want)
			require.NotZero(t, refused)
			h.disk.Fail = nil
			h.account()
			require.NoError(t, h.db.s.P.Failed())
			blocks, _ := h.blocks()
			require.Equal(t, row.less, blocks < was)
			h.requireOn(h.disk.Kill(), h.states[0], "refused")
			for i := range lifeKeys {
				h.set(fmt.Sprint("key", i), strings.Repeat("w", 9000))
			}
			require.NoError(t, h.db.Checkpoint())
			h.requireOn(h.disk.Kill(), h.states[0], "gone on")
		})
	}
}
