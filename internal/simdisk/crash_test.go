package simdisk

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnsynced(t *testing.T) {
	d, f := loaded(t, 'a', 'b', 'c', 0)
	put(t, f, 2, 'X')
	put(t, f, 0, 'Y')
	put(t, f, 2, 'Z', 'Z')
	put(t, f, 2, 'Z')
	got := d.Unsynced()
	require.Len(t, got, 3)
	for i, want := range []struct {
		sector   int64
		durable  byte
		versions string
		orders   []uint64
		fresh    bool
	}{
		{0, 'a', "Y", []uint64{2}, false},
		{2, 'c', "XZ", []uint64{1, 3}, false},
		{3, 0, "Z", []uint64{3}, true},
	} {
		require.Equal(t, want.sector, got[i].Sector)
		require.Equal(t, testName, got[i].Name)
		require.Equal(t, want.durable, got[i].Durable[0])
		var versions []byte
		for _, v := range got[i].Versions {
			versions = append(versions, v[0])
		}
		require.Equal(t, want.versions, string(versions))
		require.Equal(t, want.orders, got[i].Orders)
		require.Equal(t, want.fresh, got[i].Fresh)
	}
}

func TestUnsyncedFlags(t *testing.T) {
	d, f := loaded(t, 'a')
	require.False(t, d.LengthUnsynced())
	require.False(t, d.EntryUnsynced())
	put(t, f, 1, 'X')
	require.True(t, d.LengthUnsynced())
	require.NoError(t, f.Sync())
	require.False(t, d.LengthUnsynced())
	require.NoError(t, d.Link(f, "/dir/b", false))
	require.True(t, d.EntryUnsynced())
	require.NoError(t, d.SyncDir("/dir/b"))
	require.False(t, d.EntryUnsynced())
}

// TestCrash says what each choice leaves.
func TestCrash(t *testing.T) {
	for _, row := range []struct {
		name   string
		choice []int
		trash  []byte
		length bool
		want   string
	}{
		{"all durable", []int{Durable, Durable, Durable}, nil, true, "ab."},
		{"a version in between", []int{0, Durable, Durable}, nil, true, "Xb."},
		{"the newest", []int{1, 0, 0}, nil, true, "YZW"},
		{"the length old", []int{1, 0, 0}, nil, false, "YZ"},
		{"trash", []int{Durable, Durable, 0}, []byte{0, 0, '!'}, true, "ab!"},
		{"trash behind the end", []int{Durable, 0, 0}, []byte{0, 0, '!'}, false, "aZ"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, f := loaded(t, 'a', 'b')
			put(t, f, 0, 'X')
			put(t, f, 0, 'Y', 'Z', 'W')
			trash := func(i int) []byte {
				if row.trash == nil || row.trash[i] == 0 {
					return nil
				}
				return sectorsOf(row.trash[i], row.trash[i])
			}
			img := d.Crash(func(i int, _ *SectorState) int { return row.choice[i] }, trash, row.length, false)
			require.Equal(t, row.want, summary(img.Bytes(testName)))
			require.Equal(t, row.want, summary(img.DurableBytes(testName)))
			require.Empty(t, img.Unsynced())
			require.False(t, img.LengthUnsynced() || img.EntryUnsynced())
		})
	}
}

func TestTrashShorterThanASector(t *testing.T) {
	d, f := loaded(t, 'a', 'b')
	put(t, f, 0, 'X')
	img := d.Crash(nil, func(int) []byte { return []byte{'!'} }, false, false)
	want := sectorsOf('a', 'b')
	want[0] = '!'
	require.Equal(t, want, img.Bytes(testName))
}

func TestImagesAreIndependent(t *testing.T) {
	d, f := loaded(t, 'a', 'b')
	put(t, f, 0, 'X')
	img, twin, k := d.Crash(allNew, nil, true, true), d.Crash(allNew, nil, true, true), d.Clone()
	for _, other := range []*Disk{img, k} {
		g := opened(t, other)
		put(t, g, 1, 'Z')
		require.NoError(t, g.Sync())
		require.Equal(t, "XZ", after(other, false))
	}
	require.Equal(t, "Xb", after(twin, false))
	require.Equal(t, "ab", after(d, false))
	require.Equal(t, "Xb", after(d, true))
}

func TestCrashInsideRecovery(t *testing.T) {
	d, f := loaded(t, 'a', 'b', 'c', 'd')
	put(t, f, 0, 'W')
	for i, want := range []string{"Wbcd", "WXcd", "WXYd"} {
		d = d.Crash(allNew, nil, true, true)
		require.Equal(t, want, summary(d.Bytes(testName)))
		put(t, opened(t, d), int64(i+1), byte('X'+i))
	}
}

func TestKillKeepsUnsyncedVersions(t *testing.T) {
	d, f := loaded(t, 'a', 'b')
	put(t, f, 0, 'X')
	put(t, f, 0, 'Y', 'Z')
	k := d.Kill()
	require.Equal(t, "YZ", summary(k.Bytes(testName)))
	require.Equal(t, images(d, 1, StateOptions{}, nil), images(k, 1, StateOptions{}, nil))
	g := opened(t, k)
	put(t, g, 0, 'Q')
	last := k.Unsynced()[0].Orders
	require.Greater(t, last[2], last[1], "program order goes on")
	require.NoError(t, g.Sync())
	require.Equal(t, "QZ", after(k, false))
}

func TestVersionsAreNotShared(t *testing.T) {
	d, f := loaded(t, 'a')
	for _, fill := range []byte("XYZ") {
		put(t, f, 0, fill)
	}
	k := d.Kill()
	put(t, opened(t, k), 0, 'K')
	put(t, f, 0, 'D')
	require.Equal(t, "K", after(k, true))
	require.Equal(t, "D", after(d, true))
}

func TestKillKeepsNames(t *testing.T) {
	d := New(testCapacity)
	g, err := d.CreateTemp(testName, 0o600)
	require.NoError(t, err)
	require.Empty(t, d.Kill().inodes, "a file without a name is gone")
	require.NoError(t, d.Link(g, testName, false))
	k := d.Kill()
	require.Equal(t, "", after(k, true))
	require.Equal(t, "none", after(k, false), "the entry is unsynced still")
	require.NoError(t, k.SyncDir(testName))
	require.Equal(t, "", after(k, false))
	require.Equal(t, "none", after(d, false))
}

func TestReleasedMemoryIsClean(t *testing.T) {
	d, _ := loaded(t, 'a')
	long := d.Clone()
	g := opened(t, long)
	_, mem := mapped(t, g)
	put(t, g, 0, letters('A', 100)...)
	require.NoError(t, g.Sync())
	require.Equal(t, byte('B'), mem[sectorSize])
	long.Release()
	for range 3 {
		img := d.Crash(nil, nil, true, true)
		_, mem = mapped(t, opened(t, img))
		require.True(t, isZeroAll(mem[sectorSize:]))
		require.Equal(t, "a", summary(mem[:sectorSize]))
	}
}

func isZeroAll(mem []byte) bool {
	for _, b := range mem {
		if b != 0 {
			return false
		}
	}
	return true
}

// TestRot says what each kind of damage does to the file, in cache and on the disk.
func TestRot(t *testing.T) {
	flipped := sectorsOf('a', 'b', 'c')
	flipped[sectorSize] ^= 0x80
	for _, row := range []struct {
		name string
		do   func(d *Disk)
		want []byte
	}{
		{"FlipBit", func(d *Disk) { d.FlipBit(testName, 8*sectorSize+7) }, flipped},
		{"FlipBit twice", func(d *Disk) { d.FlipBit(testName, 5); d.FlipBit(testName, 5) }, sectorsOf('a', 'b', 'c')},
		{"SetSector", func(d *Disk) { d.SetSector(testName, 1, sectorsOf('X', 'Y')) }, sectorsOf('a', 'X', 'c')},
		{"Truncate", func(d *Disk) { d.Truncate(testName, sectorSize+3) }, sectorsOf('a', 'b')[:sectorSize+3]},
		{"Truncate longer", func(d *Disk) { d.Truncate(testName, 4*sectorSize) }, sectorsOf('a', 'b', 'c', 0)},
		{"Truncate there and back", func(d *Disk) {
			d.Truncate(testName, sectorSize)
			d.Truncate(testName, 2*sectorSize)
		}, sectorsOf('a', 0)},
		{"Load", func(d *Disk) { d.Load(testName, sectorsOf('X')) }, sectorsOf('X')},
	} {
		for _, open := range []bool{false, true} {
			t.Run(row.name, func(t *testing.T) {
				d := New(testCapacity)
				d.Load(testName, sectorsOf('a', 'b', 'c'))
				before := d.Hash()
				if open {
					put(t, opened(t, d), 1, 'U')
				}
				row.do(d)
				if open {
					require.Zero(t, d.Notice(), "cache and disk agree on what is unsynced")
					require.Equal(t, d.Bytes(testName), d.Crash(allNew, nil, true, true).Bytes(testName))
					return
				}
				require.Equal(t, row.want, d.Bytes(testName))
				require.Equal(t, row.want, d.DurableBytes(testName))
				require.Equal(t, string(row.want) == string(sectorsOf('a', 'b', 'c')), d.Hash() == before)
			})
		}
	}
}

func TestRotForgetsWhatWasUnsynced(t *testing.T) {
	d, f := loaded(t, 'a', 'b')
	put(t, f, 0, 'X', 'Y')
	d.SetSector(testName, 1, sectorsOf('!'))
	require.Len(t, d.Unsynced(), 1)
	require.Equal(t, "X!", summary(d.Bytes(testName)))
	require.Equal(t, "a!", after(d, false))
}

func TestRotPanicsOnMistakes(t *testing.T) {
	d, _ := loaded(t, 'a')
	require.Panics(t, func() { d.FlipBit("/nothing", 0) })
	require.Panics(t, func() { d.FlipBit(testName, 8*sectorSize) })
	require.Panics(t, func() { d.SetSector(testName, 1, nil) })
	require.Panics(t, func() { d.Load(testName, make([]byte, testCapacity+1)) })
}

func TestHash(t *testing.T) {
	base, f := loaded(t, 'a', 'b', 0)
	was := base.Hash()
	put(t, f, 0, 'X')
	require.Equal(t, was, base.Hash(), "unsynced bytes do not count")
	require.NoError(t, f.Sync())
	require.NotEqual(t, was, base.Hash())
	require.NoError(t, f.WriteSync(sectorsOf('a'), 0))
	require.Equal(t, was, base.Hash(), "the same image again")
	require.NoError(t, f.Truncate(2*sectorSize))
	require.NoError(t, f.Sync())
	shorter := base.Hash()
	require.NotEqual(t, was, shorter, "the length counts")
	require.NoError(t, base.Link(f, "/dir/b", false))
	require.NoError(t, base.SyncDir("/dir/b"))
	require.NotEqual(t, shorter, base.Hash(), "names count")
	other, _ := loaded(t, 'b', 'a', 0)
	require.NotEqual(t, was, other.Hash(), "places count")
}

// TestTwoFiles has the younger file under the lower name, and one under two.
func TestTwoFiles(t *testing.T) {
	d := New(testCapacity)
	d.Load("/dir/z", sectorsOf('a'))
	d.Load("/dir/b", sectorsOf('b'))
	z, err := d.Open("/dir/z", false)
	require.NoError(t, err)
	require.NoError(t, d.Link(z, "/dir/a", false))
	require.NoError(t, d.SyncDir("/dir/a"))
	b, err := d.Open("/dir/b", false)
	require.NoError(t, err)
	require.NoError(t, b.WriteAt(sectorsOf('X'), 0))
	require.NoError(t, z.WriteAt(sectorsOf('Y'), 0))

	unsynced := d.Unsynced()
	require.Len(t, unsynced, 2)
	require.Equal(t, []string{"/dir/a", "/dir/b"}, []string{unsynced[0].Name, unsynced[1].Name})
	var got []string
	d.States(seeded(1), StateOptions{}, func(img *Disk) bool {
		defer img.Release()
		require.Equal(t, img.Bytes("/dir/a"), img.Bytes("/dir/z"))
		got = append(got, summary(img.Bytes("/dir/a"))+summary(img.Bytes("/dir/b")))
		hash := img.Hash()
		img.hashed = false
		require.Equal(t, hash, img.Hash())
		return true
	})
	require.ElementsMatch(t, []string{"ab", "Yb", "aX", "YX"}, got)
	info, err := d.Clone().Stat("/dir/z")
	require.NoError(t, err)
	require.Equal(t, uint64(2), info.Links)
}
