package simdisk

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUntrack: an image that is not tracked shows what the cache held, through every way of looking, and keeps what is
// stored without a sync; the disk that it was made from is not changed.
func TestUntrack(t *testing.T) {
	d, f := loaded(t, 'a', 'b', 'c')
	put(t, f, 1, 'x')
	put(t, f, 3, 'y')
	img := d.Kill()
	img.Untrack()
	require.Equal(t, "axcy", summary(img.Bytes(testName)))
	require.Equal(t, "axcy", summary(img.DurableBytes(testName)))
	require.Empty(t, img.Unsynced())
	g := opened(t, img)
	_, m := mapped(t, g)
	require.Equal(t, "axcy", summary(m[:4*sectorSize]))
	copy(m, sectorsOf('m'))
	g.Stored(0, sectorSize)
	put(t, g, 4, 'z')
	require.NoError(t, g.Truncate(6*sectorSize))
	require.NoError(t, g.Punch(sectorSize, sectorSize))
	require.Equal(t, "m.cyz.", summary(m[:6*sectorSize]))
	require.NoError(t, g.Sync())
	require.NoError(t, g.Truncate(3*sectorSize))
	require.NoError(t, g.Truncate(4*sectorSize))
	require.Equal(t, "m.c.", summary(img.DurableBytes(testName)))
	require.False(t, img.LengthUnsynced() || img.EntryUnsynced())
	require.Zero(t, img.Notice())
	require.NoError(t, g.Close())
	img.Release()
	require.Equal(t, "axcy", summary(d.Bytes(testName)))
	require.Equal(t, "abc", summary(d.DurableBytes(testName)))
	again := d.Kill() // in the released memory
	require.Equal(t, "axcy", summary(again.Bytes(testName)))
}

// TestKnown: an outcome that the caller knows is neither made nor counted.
func TestKnown(t *testing.T) {
	d, f := loaded(t, 'a', 'b')
	put(t, f, 0, 'x', 'y')
	known := map[uint64]bool{}
	all := d.States(seeded(1), StateOptions{Known: func(hash uint64) bool { return known[hash] }}, func(img *Disk) bool {
		if summary(img.Bytes(testName)) == "xb" {
			known[img.Hash()] = true
		}
		return true
	})
	require.Equal(t, 4, all)
	var left []string
	require.Equal(t, 3, d.States(seeded(1), StateOptions{Known: func(hash uint64) bool { return known[hash] }}, func(img *Disk) bool {
		left = append(left, summary(img.Bytes(testName)))
		return true
	}))
	require.NotContains(t, left, "xb")
}
