package simdisk

import (
	"io"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// TestDurability says for each call what the cache shows and what a power cut leaves
// that takes back all it can.
func TestDurability(t *testing.T) {
	for _, row := range []struct {
		name   string
		do     func(t *testing.T, d *Disk, f *file)
		cache  string
		oldest string
		newest string
	}{
		{"nothing done", func(*testing.T, *Disk, *file) {}, "abcd", "abcd", "abcd"},
		{"a write is in the cache alone", func(t *testing.T, _ *Disk, f *file) {
			put(t, f, 1, 'X')
		}, "aXcd", "abcd", "aXcd"},
		{"sync makes a write durable", func(t *testing.T, _ *Disk, f *file) {
			put(t, f, 1, 'X')
			require.NoError(t, f.Sync())
		}, "aXcd", "aXcd", "aXcd"},
		{"WriteSync makes its own sectors durable", func(t *testing.T, _ *Disk, f *file) {
			put(t, f, 0, 'W')
			require.NoError(t, f.WriteSync(sectorsOf('X'), sectorSize))
		}, "WXcd", "aXcd", "WXcd"},
		{"SyncRange makes the sectors it touches durable", func(t *testing.T, _ *Disk, f *file) {
			m, _ := mapped(t, f)
			put(t, f, 0, 'W', 'X', 'Y', 'Z')
			require.NoError(t, m.SyncRange(2*sectorSize-1, 2))
		}, "WXYZ", "aXYd", "WXYZ"},
		{"an announced store is in the cache alone", func(t *testing.T, _ *Disk, f *file) {
			_, mem := mapped(t, f)
			copy(mem[2*sectorSize:], sectorsOf('X'))
			f.Stored(2*sectorSize, sectorSize)
		}, "abXd", "abcd", "abXd"},
		{"a store that was not announced is in no crash image", func(t *testing.T, _ *Disk, f *file) {
			_, mem := mapped(t, f)
			mem[0] = 'X'
		}, "Xbcd", "abcd", "abcd"},
		{"notice announces it", func(t *testing.T, d *Disk, f *file) {
			_, mem := mapped(t, f)
			mem[0] = 'X'
			require.Equal(t, 1, d.Notice())
			require.Equal(t, 0, d.Notice())
		}, "Xbcd", "abcd", "Xbcd"},
		{"a mapping sees writes", func(t *testing.T, _ *Disk, f *file) {
			_, mem := mapped(t, f)
			put(t, f, 3, 'X')
			require.Equal(t, "abcX", summary(mem[:4*sectorSize]))
		}, "abcX", "abcd", "abcX"},
		{"allocate grows by zeros", func(t *testing.T, _ *Disk, f *file) {
			require.NoError(t, f.Allocate(4*sectorSize, 2*sectorSize))
		}, "abcd..", "abcd", "abcd.."},
		{"sync makes the length durable", func(t *testing.T, _ *Disk, f *file) {
			require.NoError(t, f.Allocate(4*sectorSize, 2*sectorSize))
			require.NoError(t, f.Sync())
		}, "abcd..", "abcd..", "abcd.."},
		{"WriteSync makes the length durable", func(t *testing.T, _ *Disk, f *file) {
			require.NoError(t, f.WriteSync(sectorsOf('X'), 5*sectorSize))
		}, "abcd.X", "abcd.X", "abcd.X"},
		{"allocate inside changes nothing", func(t *testing.T, _ *Disk, f *file) {
			require.NoError(t, f.Allocate(0, 2*sectorSize))
		}, "abcd", "abcd", "abcd"},
		{"truncate cuts", func(t *testing.T, _ *Disk, f *file) {
			require.NoError(t, f.Truncate(2*sectorSize))
		}, "ab", "abcd", "ab"},
		{"what was cut off does not come back", func(t *testing.T, _ *Disk, f *file) {
			require.NoError(t, f.Truncate(2*sectorSize))
			require.NoError(t, f.Truncate(4*sectorSize))
			require.NoError(t, f.Sync())
		}, "ab..", "ab..", "ab.."},
		{"cut, synced, grown: zeros", func(t *testing.T, _ *Disk, f *file) {
			require.NoError(t, f.Truncate(2*sectorSize))
			require.NoError(t, f.Sync())
			require.NoError(t, f.Allocate(2*sectorSize, sectorSize))
		}, "ab.", "ab", "ab."},
		{"a range sync of a shorter file ends what was cut off", func(t *testing.T, d *Disk, f *file) {
			require.NoError(t, f.Truncate(2*sectorSize))
			require.Len(t, d.Unsynced(), 2)
			require.NoError(t, f.WriteSync([]byte{'a'}, 0))
			require.Empty(t, d.Unsynced())
		}, "ab", "ab", "ab"},
		{"punch reads as zero", func(t *testing.T, _ *Disk, f *file) {
			require.NoError(t, f.Punch(sectorSize, 2*sectorSize))
		}, "a..d", "abcd", "a..d"},
		{"a sync that lies makes nothing durable", func(t *testing.T, d *Disk, f *file) {
			put(t, f, 1, 'X')
			d.Lie = func() bool { return true }
			require.NoError(t, f.Sync())
		}, "aXcd", "abcd", "aXcd"},
		{"the next honest sync makes up for it", func(t *testing.T, d *Disk, f *file) {
			put(t, f, 1, 'X')
			lies := 0
			d.Lie = func() bool { lies++; return lies == 1 }
			require.NoError(t, f.Sync())
			require.NoError(t, f.Sync())
		}, "aXcd", "aXcd", "aXcd"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, f := loaded(t, 'a', 'b', 'c', 'd')
			row.do(t, d, f)
			require.Equal(t, row.cache, summary(d.Bytes(testName)))
			require.Equal(t, row.oldest, after(d, false))
			require.Equal(t, row.newest, after(d, true))
		})
	}
}

// TestFailedSync plays what kernels do: after a failed sync the cache shows what the disk
// does not have, and a second sync is no help.
func TestFailedSync(t *testing.T) {
	fail := func(err error) func(d *Disk, f *file) error {
		return func(d *Disk, f *file) error {
			d.Fail = func(c Call) error {
				if c.Name == "Sync" || c.Name == "WriteSync" || c.Name == "SyncRange" {
					return err
				}
				return nil
			}
			defer func() { d.Fail = nil }()
			return f.Sync()
		}
	}
	for _, row := range []struct {
		name   string
		err    error
		then   func(t *testing.T, d *Disk, f *file)
		cache  string
		oldest string
		newest string
	}{
		{"the cache keeps it, the disk never gets it", syscall.EIO, func(*testing.T, *Disk, *file) {}, "XYcd", "abcd", "abcd"},
		{"a second sync succeeds and does nothing", syscall.EIO, func(t *testing.T, _ *Disk, f *file) {
			require.NoError(t, f.Sync())
		}, "XYcd", "abcd", "abcd"},
		{"its own bytes stored again are dirty", syscall.EIO, func(t *testing.T, _ *Disk, f *file) {
			put(t, f, 0, 'X')
		}, "XYcd", "abcd", "Xbcd"},
		{"stored again and synced it is durable", syscall.EIO, func(t *testing.T, _ *Disk, f *file) {
			put(t, f, 0, 'X', 'Y')
			require.NoError(t, f.Sync())
		}, "XYcd", "XYcd", "XYcd"},
		{"another value replaces the lost one", syscall.EIO, func(t *testing.T, d *Disk, f *file) {
			put(t, f, 0, 'Z')
			require.Equal(t, "ZYcd", summary(d.Kill().Bytes(testName)))
		}, "ZYcd", "abcd", "Zbcd"},
		{"stored back it is clean", syscall.EIO, func(t *testing.T, _ *Disk, f *file) {
			put(t, f, 0, 'a')
		}, "aYcd", "abcd", "abcd"},
		{"evicted pages read as the disk has them", syscall.EIO, func(_ *testing.T, d *Disk, _ *file) {
			d.Evict()
		}, "abcd", "abcd", "abcd"},
		{"half of it written", &Short{sectorSize, syscall.EIO}, func(*testing.T, *Disk, *file) {}, "XYcd", "Xbcd", "Xbcd"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, f := loaded(t, 'a', 'b', 'c', 'd')
			put(t, f, 0, 'X', 'Y')
			require.ErrorIs(t, fail(row.err)(d, f), syscall.EIO)
			row.then(t, d, f)
			require.Equal(t, row.cache, summary(d.Bytes(testName)))
			require.Equal(t, row.oldest, after(d, false))
			require.Equal(t, row.newest, after(d, true))
		})
	}
}

// TestFailWriteback: the loss is silent until the next sync of each description, and of those opened since nobody hears.
func TestFailWriteback(t *testing.T) {
	d, f := loaded(t, 'a', 'b')
	g := opened(t, d)
	require.False(t, d.FailWriteback(syscall.EIO), "nothing was dirty")
	require.NoError(t, f.Sync())
	put(t, f, 0, 'x')
	require.True(t, d.FailWriteback(syscall.EIO))
	later := opened(t, d)
	put(t, f, 1, 'y')
	require.NoError(t, later.Sync())
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	require.ErrorIs(t, g.Sync(), syscall.EIO)
	require.NoError(t, f.Sync())
	require.Equal(t, "xy", summary(d.Bytes(testName)))
	require.Equal(t, "ay", summary(d.DurableBytes(testName)))
	d.Evict()
	require.Equal(t, "ay", summary(d.Bytes(testName)))
}

func TestEvictShowsInMappings(t *testing.T) {
	d, f := loaded(t, 'a', 'b')
	_, mem := mapped(t, f)
	put(t, f, 0, 'X')
	d.Fail = func(Call) error { return syscall.EIO }
	require.Error(t, f.Sync())
	d.Fail = nil
	put(t, f, 1, 'Y')
	require.Equal(t, "XY", summary(mem[:2*sectorSize]))
	d.Evict()
	require.Equal(t, "aY", summary(mem[:2*sectorSize]), "dirty pages stay")
}

func TestKillKeepsTheLostCache(t *testing.T) {
	d, f := loaded(t, 'a', 'b')
	put(t, f, 0, 'X')
	d.Fail = func(c Call) error { return syscall.EIO }
	require.Error(t, f.Sync())
	k := d.Kill()
	require.Equal(t, "Xb", summary(k.Bytes(testName)), "the next process reads it")
	require.Equal(t, "ab", summary(k.DurableBytes(testName)))
	g := opened(t, k)
	require.NoError(t, g.Sync(), "and is not told")
	require.Equal(t, "ab", after(k, true))
}

func TestFailedSyncKeepsTheLengthUnsynced(t *testing.T) {
	d, f := loaded(t, 'a')
	put(t, f, 1, 'X')
	d.Fail = func(Call) error { return &Short{sectorSize, syscall.EIO} }
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	require.Equal(t, "a", after(d, false))
	require.Equal(t, "a.", after(d, true))
}

// TestErrorOncePerDescription is assumption A3.
func TestErrorOncePerDescription(t *testing.T) {
	for _, row := range []struct {
		name string
		sync func(f *file, m pager.Mapping) error
	}{
		{"Sync", func(f *file, _ pager.Mapping) error { return f.Sync() }},
		{"WriteSync", func(f *file, _ pager.Mapping) error { return f.WriteSync([]byte{1}, 0) }},
		{"SyncRange", func(_ *file, m pager.Mapping) error { return m.SyncRange(0, 1) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, first := loaded(t, 'a', 'b')
			second := opened(t, d)
			m, _ := mapped(t, second)
			reopened, err := second.Reopen()
			require.NoError(t, err)

			put(t, second, 1, 'X')
			d.Fail = func(c Call) error { return map[bool]error{true: syscall.EIO}[c.Name == "Sync"] }
			require.ErrorIs(t, first.Sync(), syscall.EIO, "the caller is told now")
			d.Fail = nil
			late := opened(t, d)

			require.NoError(t, first.Sync(), "the caller was told")
			require.ErrorIs(t, row.sync(second, m), syscall.EIO, "another description at its next sync")
			require.NoError(t, row.sync(second, m), "once")
			require.ErrorIs(t, reopened.Sync(), syscall.EIO, "reopened is a description of its own")
			require.NoError(t, late.Sync(), "opened after the error")
		})
	}
}

func TestPendingErrorStillSyncs(t *testing.T) {
	d, first := loaded(t, 'a', 'b')
	second := opened(t, d)
	d.Fail = func(Call) error { return syscall.EIO }
	require.Error(t, first.Sync())
	d.Fail = nil
	put(t, second, 1, 'X')
	require.ErrorIs(t, second.Sync(), syscall.EIO)
	require.Equal(t, "aX", after(d, false), "what is dirty now is written all the same")
}

// TestShort says what part of a call is done that fails in the middle.
func TestShort(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(f *file) error
		want error
		then string
	}{
		{"WriteAt", func(f *file) error { return f.WriteAt(sectorsOf('X', 'Y'), 0) }, syscall.ENOSPC, "Xbc"},
		{"WriteSync stores all", func(f *file) error { return f.WriteSync(sectorsOf('X', 'Y'), 0) }, syscall.ENOSPC, "XYc"},
		{"Allocate", func(f *file) error { return f.Allocate(3*sectorSize, 2*sectorSize) }, syscall.ENOSPC, "abc."},
		{"Punch", func(f *file) error { return f.Punch(0, 2*sectorSize) }, syscall.ENOSPC, ".bc"},
		{"Truncate does nothing", func(f *file) error { return f.Truncate(0) }, syscall.ENOSPC, "abc"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, f := loaded(t, 'a', 'b', 'c')
			d.Fail = func(Call) error { return &Short{sectorSize, syscall.ENOSPC} }
			require.ErrorIs(t, row.do(f), row.want)
			require.Equal(t, row.then, summary(d.Bytes(testName)))
		})
	}
}

func TestShortWithoutCause(t *testing.T) {
	d, f := loaded(t, 'a', 'b')
	d.Fail = func(Call) error { return &Short{N: 10} }
	got, err := f.ReadAt(make([]byte, 100), 0)
	require.Equal(t, 10, got)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorIs(t, f.WriteAt([]byte{1}, 0), io.ErrShortWrite)
}
