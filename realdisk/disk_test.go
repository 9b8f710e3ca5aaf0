//go:build linux

package main

import (
	"bytes"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// lockedWriter takes whole lines from several goroutines, as a pipe does.
type lockedWriter struct {
	mu sync.Mutex
	b  *bytes.Buffer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// TestDiskIsADisk compares it with plain bytes, while it records and after.
func TestDiskIsADisk(t *testing.T) {
	const size = 10 * diskPage
	d, want, rng := newDisk(size), make([]byte, size), rand.New(rand.NewPCG(1, 2))
	check := func() {
		got := make([]byte, size)
		d.read(got, 0)
		require.True(t, bytes.Equal(want, got))
	}
	write := func() {
		off := rng.IntN(size/sector) * sector
		b := bytes.Repeat([]byte{byte(rng.Uint32())}, min(size-off, sector*(1+rng.IntN(20))))
		require.True(t, d.write(b, int64(off)))
		copy(want[off:], b)
	}
	for range 20 {
		write()
	}
	check()
	d.record()
	begin := bytes.Clone(want)
	for range 50 {
		write()
		check()
		require.True(t, d.flush())
	}
	ops, _ := d.recorded()
	require.Equal(t, 100, ops)
	log, end := d.stop(), bytes.Clone(want)
	copy(want, begin)
	check() // back to where the log began
	d.become(log.ops, func(int, int) bool { return true })
	copy(want, end)
	check()
	d.become(log.ops, func(int, int) bool { return false })
	copy(want, begin)
	check()
	d.settle(log.ops)
	copy(want, end)
	check()
}

func TestCrashStates(t *testing.T) {
	d := newDisk(4 * diskPage)
	d.record()
	for i := range 3 {
		d.write(bytes.Repeat([]byte{byte(1 + i)}, 2*sector), int64(i*diskPage))
	}
	d.flush()
	d.flush()
	d.write(bytes.Repeat([]byte{9}, sector), 0)
	log := d.stop()
	require.Equal(t, []point{{0, 1}, {0, 3}, {5, 6}}, log.points())

	kept := map[string][][2]byte{} // of each outcome, the two sectors of each write
	distinct, seed := map[uint64]bool{}, maphash.MakeSeed()
	for _, o := range outcomes(3, rand.New(rand.NewPCG(1, 1))) {
		distinct[log.sum(seed, point{0, 3}, o)] = true
		d.become(log.ops[:3], o.keep)
		for i := range 3 {
			var b [2 * sector]byte
			d.read(b[:], int64(i*diskPage))
			kept[o.name] = append(kept[o.name], [2]byte{b[0], b[sector]})
		}
	}
	require.Equal(t, [][2]byte{{0, 0}, {0, 0}, {0, 0}}, kept["none"])
	require.Equal(t, [][2]byte{{1, 1}, {2, 2}, {3, 3}}, kept["all"])
	written := func(name string) (n int) {
		for _, pair := range kept[name] {
			if pair != [2]byte{} {
				n++
			}
		}
		return n
	}
	require.Equal(t, 1, written("one write"))
	require.Equal(t, 2, written("all but one"))
	require.GreaterOrEqual(t, len(distinct), 4)
}

func TestPick(t *testing.T) {
	all := []point{{0, 1}, {0, 2}, {3, 4}, {3, 5}}
	require.Equal(t, all, pick(all, 9))
	require.Equal(t, []point{{0, 1}, {3, 5}}, pick(all, 2))
}

func TestNeedGrowsWithTheLog(t *testing.T) {
	rec := &recording{acks: []recordedAck{{3, counts{1, 0, 0, 0}}, {9, counts{0, 5, 0, 0}}}}
	require.Equal(t, counts{}, rec.need(2))
	require.Equal(t, counts{1, 0, 0, 0}, rec.need(3))
	require.Equal(t, counts{1, 5, 0, 0}, rec.need(9))
}

func TestFaults(t *testing.T) {
	value := append(make([]byte, 100), mark...)
	rows := []struct {
		name string
		i    int
		want []bool // for: flush, plain write, value, flush, value, value
	}{
		{"the second write of a value", 0, []bool{false, false, false, false, true, false}},
		{"the second flush", 1, []bool{false, false, false, true, false, false}},
		{"all from the second on", 2, []bool{false, true, true, true, true, true}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			d := newDisk(diskPage)
			d.failing(fault(row.i, 2))
			got := []bool{!d.flush(), !d.write(make([]byte, sector), 0), !d.write(value, 0), !d.flush(), !d.write(value, 0), !d.write(value, 0)}
			require.Equal(t, row.want, got)
		})
	}
}
