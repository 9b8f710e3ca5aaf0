package simdisk

import (
	"errors"
	"io"
	"io/fs"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
)

// TestEntries says what a name leads to before and after a power cut.
func TestEntries(t *testing.T) {
	temp := func(t *testing.T, d *Disk, fill byte) pager.File {
		f, err := d.CreateTemp(testName, 0o640)
		require.NoError(t, err)
		require.NoError(t, f.WriteAt(sectorsOf(fill), 0))
		require.NoError(t, f.Sync())
		return f
	}
	for _, row := range []struct {
		name     string
		do       func(t *testing.T, d *Disk)
		old, new string
	}{
		{"a file without a name vanishes", func(t *testing.T, d *Disk) { temp(t, d, 'a') }, "none", "none"},
		{"a name is unsynced at first", func(t *testing.T, d *Disk) {
			require.NoError(t, d.Link(temp(t, d, 'a'), testName, false))
		}, "none", "a"},
		{"SyncDir makes it durable", func(t *testing.T, d *Disk) {
			require.NoError(t, d.Link(temp(t, d, 'a'), testName, false))
			require.NoError(t, d.SyncDir(testName))
		}, "a", "a"},
		{"SyncDir of another directory does not", func(t *testing.T, d *Disk) {
			require.NoError(t, d.Link(temp(t, d, 'a'), testName, false))
			require.NoError(t, d.SyncDir("/other/file"))
		}, "none", "a"},
		{"a failed SyncDir does not", func(t *testing.T, d *Disk) {
			require.NoError(t, d.Link(temp(t, d, 'a'), testName, false))
			d.Fail = func(Call) error { return syscall.EIO }
			require.ErrorIs(t, d.SyncDir(testName), syscall.EIO)
		}, "none", "a"},
		{"a lying SyncDir does not", func(t *testing.T, d *Disk) {
			require.NoError(t, d.Link(temp(t, d, 'a'), testName, false))
			d.Lie = func() bool { return true }
			require.NoError(t, d.SyncDir(testName))
		}, "none", "a"},
		{"replaced: the old file or the new", func(t *testing.T, d *Disk) {
			d.Load(testName, sectorsOf('a'))
			require.NoError(t, d.Link(temp(t, d, 'b'), testName, true))
		}, "a", "b"},
		{"replaced and synced", func(t *testing.T, d *Disk) {
			d.Load(testName, sectorsOf('a'))
			require.NoError(t, d.Link(temp(t, d, 'b'), testName, true))
			require.NoError(t, d.SyncDir(testName))
		}, "b", "b"},
		{"without replace the name stays", func(t *testing.T, d *Disk) {
			d.Load(testName, sectorsOf('a'))
			require.ErrorIs(t, d.Link(temp(t, d, 'b'), testName, false), fs.ErrExist)
		}, "a", "a"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := New(testCapacity)
			row.do(t, d)
			require.Equal(t, row.old, after(d, false))
			require.Equal(t, row.new, after(d, true))
		})
	}
}

func TestOpenErrors(t *testing.T) {
	d, f := loaded(t, 'a')
	_, err := d.Open("/dir/other", false)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = d.Stat("/dir/other")
	require.ErrorIs(t, err, fs.ErrNotExist)

	ro, err := d.Open(testName, true)
	require.NoError(t, err)
	require.ErrorIs(t, ro.WriteAt([]byte{1}, 0), syscall.EBADF)
	require.ErrorIs(t, ro.WriteSync([]byte{1}, 0), syscall.EBADF)
	_, err = ro.Map(pager.MapOptions{Reserve: 1})
	require.ErrorIs(t, err, syscall.EACCES)

	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Sync(), fs.ErrClosed)
	require.ErrorIs(t, f.WriteSync([]byte{1}, 0), fs.ErrClosed)
	_, err = f.Stat()
	require.ErrorIs(t, err, fs.ErrClosed)
	require.Equal(t, "a", summary(d.Bytes(testName)))
}

func TestReadAtEnd(t *testing.T) {
	_, f := loaded(t, 'a')
	got, err := f.ReadAt(make([]byte, 10), sectorSize-4)
	require.Equal(t, 4, got)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = f.ReadAt(make([]byte, 10), sectorSize)
	require.ErrorIs(t, err, io.EOF)
}

func TestReopenFollowsTheName(t *testing.T) {
	d, f := loaded(t, 'a')
	g, err := f.Reopen()
	require.NoError(t, err)
	was, err := f.Stat()
	require.NoError(t, err)
	is, err := g.Stat()
	require.NoError(t, err)
	require.True(t, was.Same(is))
	require.Equal(t, uint64(1), is.Links)

	other, err := d.CreateTemp(testName, 0o600)
	require.NoError(t, err)
	_, err = other.Reopen()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, d.Link(other, testName, true))
	_, err = f.Reopen()
	require.ErrorIs(t, err, errs.ErrReplaced)
	_, err = other.Reopen()
	require.NoError(t, err)
	now, err := d.Stat(testName)
	require.NoError(t, err)
	require.False(t, was.Same(now))
}

func TestInfoIsStable(t *testing.T) {
	d, _ := loaded(t, 'a')
	was, err := d.Stat(testName)
	require.NoError(t, err)
	for _, img := range []*Disk{d.Clone(), d.Kill(), d.Crash(nil, nil, false, false)} {
		is, err := img.Stat("dir/../dir/file")
		require.NoError(t, err)
		require.Equal(t, was, is)
	}
}

func TestLocks(t *testing.T) {
	d, first := loaded(t, 'a')
	second, third := opened(t, d), opened(t, d)
	for _, step := range []struct {
		name string
		f    *file
		kind pager.LockKind
		want bool
	}{
		{"shared", first, pager.LockShared, true},
		{"shared twice", second, pager.LockShared, true},
		{"exclusive beside shared", third, pager.LockExclusive, false},
		{"exclusive over the own shared one beside another", first, pager.LockExclusive, false},
	} {
		got, err := step.f.Lock(step.kind)
		require.NoError(t, err, step.name)
		require.Equal(t, step.want, got, step.name)
	}
	require.NoError(t, second.Close())
	got, err := first.Lock(pager.LockExclusive)
	require.NoError(t, err)
	require.True(t, got, "alone now")
	got, err = third.Lock(pager.LockShared)
	require.NoError(t, err)
	require.False(t, got, "shared beside exclusive")

	got, err = opened(t, d.Kill()).Lock(pager.LockExclusive)
	require.NoError(t, err)
	require.True(t, got, "the dead hold no locks")

	ro, err := d.Open(testName, true)
	require.NoError(t, err)
	_, err = ro.Lock(pager.LockExclusive)
	require.ErrorIs(t, err, syscall.EBADF)
}

// TestFull says which calls a full disk refuses.
func TestFull(t *testing.T) {
	const page = pager.PageSize
	for _, row := range []struct {
		name  string
		limit int64
		do    func(f *file, m pager.Mapping) error
		want  error
	}{
		{"allocate within the limit", 2 * page, func(f *file, _ pager.Mapping) error { return f.Allocate(0, 2*page) }, nil},
		{"allocate over the limit", 2 * page, func(f *file, _ pager.Mapping) error { return f.Allocate(0, 3*page) }, syscall.ENOSPC},
		{"allocate at the capacity", 0, func(f *file, _ pager.Mapping) error { return f.Allocate(0, testCapacity) }, nil},
		{"allocate over the capacity", 0, func(f *file, _ pager.Mapping) error { return f.Allocate(page, testCapacity) }, syscall.ENOSPC},
		{"write over the limit", page, func(f *file, _ pager.Mapping) error { return f.WriteAt([]byte{1}, page) }, syscall.ENOSPC},
		{"write in place", page, func(f *file, _ pager.Mapping) error { return f.WriteAt([]byte{1}, 0) }, nil},
		{"synced write over the limit", page, func(f *file, _ pager.Mapping) error { return f.WriteSync([]byte{1}, page) }, syscall.ENOSPC},
		{"truncate makes a hole", page, func(f *file, _ pager.Mapping) error { return f.Truncate(3 * page) }, nil},
		{"truncate over the capacity", 0, func(f *file, _ pager.Mapping) error { return f.Truncate(testCapacity + 1) }, syscall.EFBIG},
		{"populate a hole", page, func(f *file, m pager.Mapping) error {
			return errors.Join(f.Truncate(3*page), m.Populate(page, page, false))
		}, syscall.ENOSPC},
		{"populate a hole that was paid for", 2 * page, func(f *file, m pager.Mapping) error {
			return errors.Join(f.Allocate(0, 2*page), f.Punch(0, page), f.Allocate(0, page), m.Populate(0, 2*page, true))
		}, nil},
		{"punched blocks serve elsewhere", page, func(f *file, _ pager.Mapping) error {
			return errors.Join(f.Punch(0, page), f.Allocate(page, page))
		}, nil},
		{"blocks that were cut off serve elsewhere", 2 * page, func(f *file, _ pager.Mapping) error {
			return errors.Join(f.Allocate(0, 2*page), f.Truncate(page), f.Allocate(2*page, page))
		}, nil},
		{"populate behind the end", 0, func(_ *file, m pager.Mapping) error { return m.Populate(page, page, false) }, syscall.EFAULT},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := New(testCapacity)
			d.Load(testName, make([]byte, page))
			d.Limit = row.limit
			f := opened(t, d)
			m, _ := mapped(t, f)
			if row.want == nil {
				require.NoError(t, row.do(f, m))
				return
			}
			require.ErrorIs(t, row.do(f, m), row.want)
		})
	}
}

func TestStoredPanicsLikeSIGBUS(t *testing.T) {
	d, f := loaded(t, 'a')
	require.Panics(t, func() { f.Stored(sectorSize, 1) }, "behind the end")
	require.NoError(t, f.Truncate(2*pager.PageSize))
	d.Limit = pager.PageSize
	require.Panics(t, func() { f.Stored(pager.PageSize, 1) }, "a hole of a full disk")
	require.NotPanics(t, func() { f.Stored(0, sectorSize) })
	require.NoError(t, f.Sync(), "a panic leaves no lock behind")
}

func TestMappingSizes(t *testing.T) {
	_, f := loaded(t, 'a', 'b')
	m, mem := mapped(t, f)
	require.Equal(t, int64(testCapacity), m.Size(), "the system grants less")
	require.Zero(t, uintptr(m.Read())%pager.PageSize)
	_, err := f.Map(pager.MapOptions{Reserve: 1 << 40, Least: testCapacity + 1})
	require.ErrorIs(t, err, syscall.ENOMEM)

	base := m.Write()
	require.NoError(t, f.Allocate(0, testCapacity))
	require.Equal(t, base, m.Write())
	again, _ := mapped(t, f)
	require.Equal(t, base, again.Read(), "all shared mappings are the cache")
	require.Equal(t, "ab..", summary(mem[:4*sectorSize]))

	ro, err := f.Map(pager.MapOptions{Reserve: 1 << 20, ReadOnly: true})
	require.NoError(t, err)
	require.Nil(t, ro.Write())
	require.NoError(t, m.Unmap())
}

func TestPrivateMapping(t *testing.T) {
	d, f := loaded(t, 'a', 'b')
	ro, err := d.Open(testName, true)
	require.NoError(t, err)
	m, err := ro.Map(pager.MapOptions{Reserve: 1 << 40, ReadOnly: true, Private: true})
	require.NoError(t, err)
	require.Equal(t, int64(2*testCapacity), m.Size())
	mem := unsafe.Slice((*byte)(m.Write()), m.Size())
	require.Equal(t, "ab..", summary(mem[:4*sectorSize]))

	mem[pager.PageSize] = 'X'
	ro.Stored(pager.PageSize, 1)
	require.NoError(t, m.SyncRange(0, m.Size()))
	require.NoError(t, m.Populate(pager.PageSize, pager.PageSize, false))
	put(t, f, 0, 'Z')
	require.Equal(t, byte('a'), mem[0], "a copy of that moment")
	require.Equal(t, "Zb", summary(d.Bytes(testName)))
	require.Len(t, d.Unsynced(), 1)
	_, err = ro.Map(pager.MapOptions{Reserve: 2 << 30, Least: 2 << 30, ReadOnly: true, Private: true})
	require.ErrorIs(t, err, syscall.ENOMEM)
}

// TestFailAsksEachCall fails every call by its name and counts the calls.
func TestFailAsksEachCall(t *testing.T) {
	d, f := loaded(t, 'a')
	m, _ := mapped(t, f)
	second := func(_ any, err error) error { return err }
	calls := []struct {
		name string
		do   func() error
	}{
		{"Open", func() error { return second(d.Open(testName, false)) }},
		{"CreateTemp", func() error { return second(d.CreateTemp(testName, 0)) }},
		{"Link", func() error { return d.Link(f, "/dir/b", false) }},
		{"SyncDir", func() error { return d.SyncDir(testName) }},
		{"Stat", func() error { return second(d.Stat(testName)) }},
		{"Network", func() error { return second(d.Network(testName)) }},
		{"Resolve", func() error { return second(d.Resolve(testName)) }},
		{"ReadAt", func() error { return second(f.ReadAt(make([]byte, 1), 0)) }},
		{"WriteAt", func() error { return f.WriteAt([]byte{1}, 0) }},
		{"WriteSync", func() error { return f.WriteSync([]byte{1}, 0) }},
		{"Sync", func() error { return f.Sync() }},
		{"Allocate", func() error { return f.Allocate(0, 1) }},
		{"Truncate", func() error { return f.Truncate(1) }},
		{"Punch", func() error { return f.Punch(0, 1) }},
		{"FileStat", func() error { return second(f.Stat()) }},
		{"Reopen", func() error { return second(f.Reopen()) }},
		{"Lock", func() error { return second(f.Lock(pager.LockShared)) }},
		{"Map", func() error { return second(f.Map(pager.MapOptions{Reserve: 1})) }},
		{"Populate", func() error { return m.Populate(0, 1, false) }},
		{"SyncRange", func() error { return m.SyncRange(0, 1) }},
		{"Unmap", func() error { return m.Unmap() }},
		{"Close", func() error { return f.Close() }},
	}
	before := d.Calls()
	for i, call := range calls {
		d.Fail = func(c Call) error {
			require.Equal(t, call.name, c.Name)
			require.Equal(t, before+i+1, c.Number)
			return syscall.EDQUOT
		}
		err := call.do()
		require.ErrorIs(t, err, syscall.EDQUOT, call.name)
		var errno syscall.Errno
		require.True(t, errors.As(err, &errno), call.name)
	}
	require.Equal(t, before+len(calls), d.Calls())
}

// TestEvents says which events a call gives, and that a hook may look at the disk
// as it was before, or leave by a panic.
func TestEvents(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(t *testing.T, d *Disk, f *file)
		want []EventKind
	}{
		{"WriteAt", func(t *testing.T, _ *Disk, f *file) { put(t, f, 0, 'X') }, []EventKind{EventStore}},
		{"Stored", func(_ *testing.T, _ *Disk, f *file) { f.Stored(0, 1) }, []EventKind{EventStore}},
		{"WriteSync", func(t *testing.T, _ *Disk, f *file) {
			require.NoError(t, f.WriteSync([]byte{1}, 0))
		}, []EventKind{EventStore, EventSync}},
		{"Sync", func(t *testing.T, _ *Disk, f *file) { require.NoError(t, f.Sync()) }, []EventKind{EventSync}},
		{"Allocate", func(t *testing.T, _ *Disk, f *file) { require.NoError(t, f.Allocate(0, 1)) }, []EventKind{EventLength}},
		{"Truncate", func(t *testing.T, _ *Disk, f *file) { require.NoError(t, f.Truncate(1)) }, []EventKind{EventLength}},
		{"Punch", func(t *testing.T, _ *Disk, f *file) { require.NoError(t, f.Punch(0, 1)) }, []EventKind{EventStore}},
		{"Link", func(t *testing.T, d *Disk, f *file) { require.NoError(t, d.Link(f, "/dir/b", false)) }, []EventKind{EventName}},
		{"SyncDir", func(t *testing.T, d *Disk, _ *file) { require.NoError(t, d.SyncDir(testName)) }, []EventKind{EventSync}},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, f := loaded(t, 'a')
			var kinds []EventKind
			d.OnEvent = func(e Event) {
				kinds = append(kinds, e.Kind)
				require.Equal(t, len(kinds), e.Count)
			}
			row.do(t, d, f)
			require.Equal(t, row.want, kinds)
			require.Equal(t, len(kinds), d.Events())
		})
	}
}

func TestEventComesBefore(t *testing.T) {
	d, f := loaded(t, 'a')
	_, mem := mapped(t, f)
	d.OnEvent = func(Event) {
		require.Equal(t, "a", after(d, true), "the store is not in an image yet")
		require.Equal(t, "a", summary(d.Kill().Bytes(testName)))
		panic("cut")
	}
	mem[0] = 'X'
	require.PanicsWithValue(t, "cut", func() { f.Stored(0, 1) })
	d.OnEvent = nil
	f.Stored(0, 1)
	require.Equal(t, "X", after(d, true))
}

func TestConcurrentCalls(t *testing.T) {
	d, f := loaded(t, make([]byte, 16)...)
	var wait sync.WaitGroup
	for i := range int64(4) {
		wait.Go(func() {
			for range 200 {
				_ = f.WriteAt(sectorsOf(byte('a'+i)), i*sectorSize)
				_ = f.Sync()
				_, _ = d.Stat(testName)
			}
		})
	}
	wait.Wait()
	require.Equal(t, "abcd", after(d, false)[:4])
}

func TestHeld(t *testing.T) {
	d, f := loaded(t, 'a')
	held := func() [2]int {
		descriptions, mappings := d.Held()
		return [2]int{descriptions, mappings}
	}
	require.Equal(t, [2]int{1, 0}, held())
	again, err := f.Reopen()
	require.NoError(t, err)
	m, _ := mapped(t, f)
	private, err := again.Map(pager.MapOptions{Reserve: 1 << 20, ReadOnly: true, Private: true})
	require.NoError(t, err)
	require.Equal(t, [2]int{2, 2}, held())
	require.NoError(t, m.Unmap())
	require.NoError(t, m.Unmap())
	require.NoError(t, private.Unmap())
	require.NoError(t, again.Close())
	require.Equal(t, [2]int{1, 0}, held())
	require.NoError(t, f.Close())
	require.Equal(t, [2]int{0, 0}, held())
}

func TestDescriptions(t *testing.T) {
	for _, row := range []struct{ got, want string }{
		{Event{EventSync, testName, 512, 1024, 7}.String(), "event 7: sync /dir/file [512, 1536)"},
		{Call{"Sync", testName, 9, 0, 0}.String(), "call 9: Sync /dir/file [0, 0)"},
		{(&Short{N: 5}).Error(), "short result after 5 bytes"},
	} {
		require.Equal(t, row.want, row.got)
	}
}

func TestLinkOfAnotherDisk(t *testing.T) {
	d, _ := loaded(t, 'a')
	_, other := loaded(t, 'b')
	require.ErrorIs(t, d.Link(other, "/dir/b", false), syscall.EXDEV)
}

func TestPathsAreResolved(t *testing.T) {
	d, _ := loaded(t, 'a')
	name, err := d.Resolve("dir//x/../file")
	require.NoError(t, err)
	require.Equal(t, testName, name)
	network, err := d.Network(testName)
	require.NoError(t, err)
	require.Empty(t, network)
}

func TestBadRanges(t *testing.T) {
	d, f := loaded(t, 'a')
	for _, err := range []error{
		f.WriteAt([]byte{1}, -1), f.WriteSync([]byte{1}, -1), f.Allocate(-1, 5), f.Punch(0, -1), f.Truncate(-1),
	} {
		require.ErrorIs(t, err, syscall.EINVAL)
	}
	require.Equal(t, "a", summary(d.Bytes(testName)))
}
