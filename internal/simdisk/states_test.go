package simdisk

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// images returns the summary of each state of the file, "none" without it.
func images(d *Disk, seed uint64, o StateOptions, keep func(*Plan) bool) []string {
	var all []string
	d.States(seeded(seed), o, func(img *Disk) bool {
		defer img.Release()
		switch {
		case keep != nil && !keep(img.Plan()):
		case img.lookup(testName) == nil:
			all = append(all, "none")
		default:
			all = append(all, summary(img.Bytes(testName)))
		}
		return true
	})
	return all
}

func untrashed(p *Plan) bool { return !slices.Contains(p.Choices, Trashed) }

// letters makes n sectors that differ, from a letter on.
func letters(from byte, n int) []byte {
	all := make([]byte, n)
	for i := range all {
		all[i] = from + byte(i)
	}
	return all
}

// TestStatesExactly lists small cases in full.
func TestStatesExactly(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(t *testing.T, d *Disk, f *file)
		want []string
	}{
		{"nothing unsynced", func(*testing.T, *Disk, *file) {}, []string{"ab"}},
		{"one sector", func(t *testing.T, _ *Disk, f *file) { put(t, f, 0, 'X') }, []string{"Xb", "ab"}},
		{"two sectors", func(t *testing.T, _ *Disk, f *file) { put(t, f, 0, 'X', 'Y') }, []string{"XY", "Xb", "aY", "ab"}},
		{"a value in between", func(t *testing.T, _ *Disk, f *file) {
			put(t, f, 0, 'X')
			put(t, f, 0, 'Y')
		}, []string{"Xb", "Yb", "ab"}},
		{"back to the durable value", func(t *testing.T, _ *Disk, f *file) {
			put(t, f, 0, 'X')
			put(t, f, 0, 'a')
		}, []string{"Xb", "ab"}},
		{"the same value again is no store", func(t *testing.T, _ *Disk, f *file) { put(t, f, 0, 'a') }, []string{"ab"}},
		{"a longer file", func(t *testing.T, _ *Disk, f *file) {
			require.NoError(t, f.Allocate(0, 3*sectorSize))
		}, []string{"ab", "ab."}},
		{"a longer file with bytes", func(t *testing.T, _ *Disk, f *file) { put(t, f, 2, 'X') }, []string{"ab", "ab.", "abX"}},
		{"a replaced file", func(t *testing.T, d *Disk, f *file) {
			g, err := d.CreateTemp(testName, 0o600)
			require.NoError(t, err)
			require.NoError(t, g.WriteAt(sectorsOf('X'), 0))
			require.NoError(t, d.Link(g, testName, true))
		}, []string{"", ".", "X", "ab"}},
		{"a file not synced under a new name", func(t *testing.T, d *Disk, _ *file) {
			g, err := d.CreateTemp(testName, 0o600)
			require.NoError(t, err)
			require.NoError(t, g.WriteAt(sectorsOf('X'), 0))
		}, []string{"ab"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, f := loaded(t, 'a', 'b')
			row.do(t, d, f)
			got := images(d, 1, StateOptions{}, untrashed)
			slices.Sort(got)
			require.Equal(t, row.want, got)
		})
	}
}

// TestStatesCount counts what the families make together.
func TestStatesCount(t *testing.T) {
	for _, row := range []struct {
		name     string
		sectors  int
		versions int
		o        StateOptions
		want     int
	}{
		{"combinations of 2 values", 8, 1, StateOptions{}, 256},
		{"combinations of 4 values", 4, 3, StateOptions{}, 256},
		{"the most combinations", 8, 3, StateOptions{}, 65536},
		{"subsets", 10, 1, StateOptions{}, 1024},
		{"the most subsets", 16, 1, StateOptions{}, 65536},
		// 5 values each: 4 subsets; prefixes store by store: of 8 stores, 6 in between
		// of which each is new; 6 versions in between, with none and all of the others:
		// 12, 3 of which are prefixes of the first sector and 3 of the second.
		{"too many values to combine", 2, 4, StateOptions{}, 4 + 6 + 12 - 6},
		// none, all, 17 alone, 17 but one, 136 pairs, 136 complements, and the prefixes of
		// 3 to 14 sectors both ways.
		{"above the bound", 17, 1, StateOptions{}, 2 + 34 + 272 + 24},
		{"a lower bound", 9, 1, StateOptions{Exhaustive: 8}, 2 + 18 + 72 + 8},
		{"random ones besides", 17, 1, StateOptions{Random: 500}, 332 + 500},
		{"a sample", 17, 1, StateOptions{Sample: 100}, 2 + 34 + 100},
		{"a sample of few", 2, 1, StateOptions{Sample: 100}, 4},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, f := loaded(t, letters(1, row.sectors)...)
			for i := range row.sectors {
				for v := range row.versions {
					put(t, f, int64(i), byte(100+v))
				}
			}
			distinct := map[uint64]bool{}
			got := d.States(seeded(7), row.o, func(img *Disk) bool {
				distinct[img.Hash()] = true
				img.Release()
				return true
			})
			require.Equal(t, row.want, got)
			require.Len(t, distinct, got)
		})
	}
}

func TestCoreComesFirst(t *testing.T) {
	d, f := loaded(t, letters('a', 20)...)
	put(t, f, 0, letters('A', 20)...)
	got := images(d, 3, StateOptions{Sample: 10}, nil)
	require.Equal(t, "abcdefghijklmnopqrst", got[0])
	require.Equal(t, "ABCDEFGHIJKLMNOPQRST", got[1])
	require.Equal(t, "Abcdefghijklmnopqrst", got[2])
	require.Equal(t, "abcdefghijklmnopqrsT", got[21])
	require.Equal(t, "aBCDEFGHIJKLMNOPQRST", got[22])
	require.Equal(t, "ABCDEFGHIJKLMNOPQRSt", got[41])
	require.Len(t, got, 52)
}

func TestPrefixesInProgramOrder(t *testing.T) {
	d, f := loaded(t, letters('a', 20)...)
	want := letters('a', 20)
	var prefixes []string
	for k, i := range []int64{7, 3, 7, 19, 0, 3, 11} {
		put(t, f, i, byte('0'+k))
		want[i] = byte('0' + k)
		prefixes = append(prefixes, string(want))
	}
	require.Subset(t, images(d, 3, StateOptions{Exhaustive: 1, Pairs: 1}, nil), prefixes)
}

func TestStatesBySeed(t *testing.T) {
	run := func(seed uint64) []string {
		d, f := loaded(t, letters('a', 20)...)
		put(t, f, 0, letters('A', 20)...)
		put(t, f, 20, letters('A', 5)...)
		return images(d, seed, StateOptions{Pairs: 5, Random: 200, TrashAll: true}, nil)
	}
	require.Equal(t, run(1), run(1))
	require.NotEqual(t, run(1), run(2))
}

func TestYieldStops(t *testing.T) {
	d, f := loaded(t, letters('a', 12)...)
	put(t, f, 0, letters('A', 12)...)
	seen := 0
	got := d.States(seeded(1), StateOptions{Random: 10, TrashAll: true}, func(*Disk) bool {
		seen++
		return seen < 100
	})
	require.Equal(t, 100, seen)
	require.Equal(t, 100, got)
}

// TestTrash says which sectors may end up as anything.
func TestTrash(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(t *testing.T, f *file)
		o    StateOptions
		want []int64
	}{
		{"durable bytes are not", func(t *testing.T, f *file) { put(t, f, 0, 'X', 'Y') }, StateOptions{}, nil},
		{"unless all are", func(t *testing.T, f *file) { put(t, f, 0, 'X') }, StateOptions{TrashAll: true}, []int64{0}},
		{"behind the durable length", func(t *testing.T, f *file) { put(t, f, 1, 'Y', 'Z') }, StateOptions{}, []int64{2}},
		{"durable zeros", func(t *testing.T, f *file) {
			require.NoError(t, f.Allocate(0, 4*sectorSize))
			require.NoError(t, f.Sync())
			put(t, f, 3, 'X')
		}, StateOptions{}, []int64{3}},
		{"what nobody stored is never", func(t *testing.T, f *file) {
			require.NoError(t, f.Allocate(0, 4*sectorSize))
		}, StateOptions{TrashAll: true}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, f := loaded(t, 'a', 'b')
			row.do(t, f)
			unsynced := d.Unsynced()
			var trashed []int64
			d.States(seeded(5), row.o, func(img *Disk) bool {
				for i, c := range img.Plan().Choices {
					if c == Trashed {
						trashed = append(trashed, unsynced[i].Sector)
					}
				}
				img.Release()
				return true
			})
			slices.Sort(trashed)
			require.Equal(t, row.want, slices.Compact(trashed))
		})
	}
}

func TestPlanRepeatsAnImage(t *testing.T) {
	d, f := loaded(t, letters('a', 6)...)
	put(t, f, 2, letters('A', 6)...)
	put(t, f, 3, 'X')
	count := 0
	d.States(seeded(9), StateOptions{Random: 50, TrashAll: true}, func(img *Disk) bool {
		defer img.Release()
		again := d.CrashWith(img.Plan())
		defer again.Release()
		require.Equal(t, img.Hash(), again.Hash(), img.Plan().String())
		require.Equal(t, img.Plan().String(), again.Plan().String())
		count++
		return true
	})
	require.Greater(t, count, 100)
	require.Equal(t, "1:v0 2:trash of 3; length new true, entry new false",
		(&Plan{Choices: []int{Durable, 0, Trashed}, LengthNew: true}).String())
}

// TestRandomHistories checks images of random histories against what is allowed.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := seeded(seed)
			d, f := loaded(t, letters('a', 8)...)
			_, mem := mapped(t, f)
			for range 12 {
				step(t, r, f, mem)
				checkImages(t, r, d)
			}
		})
	}
}

// step does something at odd offsets.
func step(t *testing.T, r *rand.Rand, f *file, mem []byte) {
	off, count := r.Int64N(5000), r.Int64N(1500)+1
	bytes := make([]byte, count)
	for i := range bytes {
		bytes[i] = byte(r.IntN(3))
	}
	info, err := f.Stat()
	require.NoError(t, err)
	switch r.IntN(8) {
	case 0, 1:
		require.NoError(t, f.WriteAt(bytes, off))
	case 2, 3:
		if off+count <= info.Size {
			copy(mem[off:], bytes)
			f.Stored(off, count)
		}
	case 4:
		require.NoError(t, f.Truncate(off))
	case 5:
		require.NoError(t, f.Punch(off, count))
	case 6:
		require.NoError(t, f.Allocate(off, count))
	case 7:
		require.NoError(t, f.WriteSync(bytes, off))
	}
}

// checkImages looks at a sample of the images of this point.
func checkImages(t *testing.T, r *rand.Rand, d *Disk) {
	now, durable := d.Bytes(testName), d.DurableBytes(testName)
	full := d.Crash(allNew, nil, true, true)
	require.Equal(t, now, full.Bytes(testName), "all new is what the cache shows")
	none := d.Crash(nil, nil, false, false)
	require.Equal(t, durable, none.Bytes(testName), "all old is what the disk holds")
	c := d.Clone()
	require.Equal(t, now, c.Bytes(testName))
	require.Equal(t, len(d.Unsynced()), len(c.Unsynced()))
	require.Equal(t, 0, d.Notice())

	contents := map[string]bool{}
	d.States(r, StateOptions{Sample: 30}, func(img *Disk) bool {
		defer img.Release()
		content := img.Bytes(testName)
		require.False(t, contents[string(content)], "an image twice")
		contents[string(content)] = true
		require.Contains(t, []int{len(now), len(durable)}, len(content))
		hash := img.Hash()
		img.hashed = false
		require.Equal(t, img.Hash(), hash, "the hash in advance is the hash")
		require.Empty(t, img.Unsynced())
		return true
	})
	for _, img := range []*Disk{full, none, c} {
		img.Release()
	}
}

// BenchmarkStates makes every subset of 16 sectors of a file of 128 KiB.
func BenchmarkStates(b *testing.B) {
	d := benchDisk(b)
	total := 0
	for b.Loop() {
		total += d.States(seeded(1), StateOptions{}, func(img *Disk) bool {
			img.Release()
			return true
		})
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "images/s")
}

// BenchmarkStatesOpened also reads each image in, as opening it does.
func BenchmarkStatesOpened(b *testing.B) {
	d := benchDisk(b)
	total := 0
	for b.Loop() {
		total += d.States(seeded(1), StateOptions{}, func(img *Disk) bool {
			f := opened(b, img)
			mapped(b, f)
			img.Release()
			return true
		})
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "images/s")
}

func benchDisk(b *testing.B) *Disk {
	d := New(256 << 10)
	d.Load(testName, sectorsOf(letters('a', 256)...))
	f := opened(b, d)
	for i := range int64(16) {
		put(b, f, i*13, 'X')
	}
	return d
}
