//go:build linux || darwin || freebsd

package pager

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/errs"
)

const mib = 1 << 20

func mapOS(t *testing.T, f File, o MapOptions) *osMapping {
	m, err := f.Map(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Unmap()) })
	return m.(*osMapping)
}

// bytesAt is [off, off+n) behind base, which must be mapped as long as the slice is used.
func bytesAt(base unsafe.Pointer, off, n int64) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(base, off)), n)
}

// faults reports whether touch hits memory that it may not.
func faults(touch func()) (yes bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			_, yes = r.(interface{ Addr() uintptr })
			if !yes {
				panic(r)
			}
		}
	}()
	touch()
	return false
}

func store(base unsafe.Pointer, off int64) func() {
	return func() { *(*byte)(unsafe.Add(base, off)) = 7 }
}

func TestOSMapGrowsWithTheFile(t *testing.T) {
	f := newOS(t, 4096)
	m := mapOS(t, f, MapOptions{Reserve: 16 * mib, Least: mib})
	require.Equal(t, int64(16*mib), m.Size())
	require.NotEqual(t, m.Write(), m.Read())
	require.Zero(t, uintptr(m.Write())%hugeSize)
	require.Zero(t, uintptr(m.Read())%hugeSize)
	require.True(t, faults(store(m.Write(), 3*mib)), "behind the end of the file")

	require.NoError(t, f.Allocate(4096, 4*mib))
	require.NoError(t, m.Populate(4096, 4*mib, true))
	content := randomBytes(10_000)
	copy(bytesAt(m.Write(), 3*mib, 10_000), content)
	require.True(t, bytes.Equal(content, bytesAt(m.Read(), 3*mib, 10_000)), "through the other view")
	got := make([]byte, 10_000)
	_, err := f.ReadAt(got, 3*mib)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got), "by a read")
	require.NoError(t, f.WriteSync([]byte("written"), 2*mib))
	require.Equal(t, "written", string(bytesAt(m.Read(), 2*mib, 7)))
	require.Equal(t, "written", string(bytesAt(m.Write(), 2*mib, 7)))
	require.NoError(t, m.SyncRange(3*mib-5, 10_001))
	require.NoError(t, m.SyncRange(0, 0))
	require.NoError(t, f.Sync())

	require.NoError(t, f.Truncate(4096))
	require.True(t, faults(func() { _ = bytes.Count(bytesAt(m.Read(), 3*mib, 10), []byte{0}) }), "cut under the mapping")
}

func TestOSReadViewRefusesStores(t *testing.T) {
	f := newOS(t, 8192)
	m := mapOS(t, f, MapOptions{Reserve: mib, Least: mib})
	for _, off := range []int64{0, 4095, 8191} {
		require.True(t, faults(store(m.Read(), off)))
		require.Zero(t, bytesAt(m.Read(), off, 1)[0])
		require.False(t, faults(store(m.Write(), off)))
		require.Equal(t, byte(7), bytesAt(m.Read(), off, 1)[0])
	}
}

func TestOSMapReadOnly(t *testing.T) {
	path := newOS(t, 8192).path
	m := mapOS(t, openOS(t, path, true), MapOptions{Reserve: mib, ReadOnly: true})
	require.Nil(t, m.Write())
	require.Equal(t, make([]byte, 8192), bytesAt(m.Read(), 0, 8192))
	require.True(t, faults(store(m.Read(), 0)))
	require.ErrorIs(t, m.Populate(0, 4096, false), errs.ErrReadOnly)
	require.ErrorIs(t, m.SyncRange(0, 4096), errs.ErrReadOnly)

	_, err := openOS(t, path, true).Map(MapOptions{Reserve: mib})
	require.ErrorIs(t, err, syscall.EACCES, "a writable view needs a file open for writing")
}

func TestOSMapPrivate(t *testing.T) {
	for name, size := range map[string]int{
		"empty": 0, "one byte": 1, "whole pages": 4 * 4096, "part of a page": 5000, "more than is mapped": 2 * mib,
	} {
		t.Run(name, func(t *testing.T) {
			content := randomBytes(size)
			w := newOS(t, 0)
			require.NoError(t, w.WriteAt(content, 0))
			f := openOS(t, w.path, true)
			before := modified(t, f)
			m := mapOS(t, f, MapOptions{Reserve: mib, Least: mib, ReadOnly: true, Private: true})
			require.Equal(t, m.Write(), m.Read())
			inFile := min(int64(size), mib)
			require.True(t, bytes.Equal(content[:inFile], bytesAt(m.Read(), 0, inFile)))
			end := min(roundUp(int64(size), osPageSize), mib)
			if end > 0 {
				require.True(t, faults(store(m.Write(), end-1)), "the file's last page")
			}
			for off := end; off < mib; off += osPageSize {
				require.False(t, faults(store(m.Write(), off)))
				require.Equal(t, byte(7), bytesAt(m.Read(), off, 1)[0])
			}
			require.ErrorIs(t, m.SyncRange(0, 1), errs.ErrReadOnly)
			require.Equal(t, before, modified(t, f))
			got, err := os.ReadFile(f.path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, got), "the file is as it was")
		})
	}
}

func modified(t *testing.T, f *osFile) time.Time {
	st, err := os.Stat(f.path)
	require.NoError(t, err)
	return st.ModTime()
}

// TestOSAmend mends two words of a page of a read-only mapping: the file, and the pages beside, stay as they are.
func TestOSAmend(t *testing.T) {
	f := newOS(t, int(3*osPageSize))
	page := bytes.Repeat([]byte{0x55}, int(3*osPageSize))
	require.NoError(t, f.WriteAt(page, 0))
	m := mapOS(t, f, MapOptions{Reserve: mib, Least: 3 * osPageSize, ReadOnly: true, Private: true})
	want := bytes.Clone(page)
	for _, off := range []int64{osPageSize + 8, osPageSize + 800} {
		require.NoError(t, m.Amend(off, 0x0101010101010101))
		copy(want[off:], "\x01\x01\x01\x01\x01\x01\x01\x01")
		require.Equal(t, want, bytes.Clone(bytesAt(m.Read(), 0, 3*osPageSize)))
		require.True(t, faults(store(m.Read(), off)), "a caller may not store there")
	}
	got := make([]byte, len(page))
	_, err := f.ReadAt(got, 0)
	require.NoError(t, err)
	require.Equal(t, page, got)

	shared := mapOS(t, f, MapOptions{Reserve: mib, Least: 3 * osPageSize})
	require.ErrorIs(t, shared.Amend(8, 1), errors.ErrUnsupported)
}

func TestOSMapTakesWhatItGets(t *testing.T) {
	const most = 1 << 60 // more than any process has
	for name, row := range map[string]struct {
		o    MapOptions
		want error
	}{
		"two views":             {MapOptions{Reserve: most, Least: mib}, nil},
		"read-only":             {MapOptions{Reserve: most, Least: mib, ReadOnly: true}, nil},
		"private":               {MapOptions{Reserve: most, Least: mib, ReadOnly: true, Private: true}, nil},
		"less than is needed":   {MapOptions{Reserve: most, Least: most - 1}, syscall.ENOMEM},
		"least above reserve":   {MapOptions{Reserve: mib, Least: 3 * mib}, nil},
		"nothing is a page":     {MapOptions{}, nil},
		"not a number of pages": {MapOptions{Reserve: mib + 1, Least: mib + 1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newOS(t, 4096)
			m, err := f.Map(row.o)
			require.ErrorIs(t, err, row.want)
			if row.want != nil {
				return
			}
			require.GreaterOrEqual(t, m.Size(), row.o.Least)
			require.Positive(t, m.Size())
			require.Less(t, m.Size(), int64(most))
			require.Zero(t, m.Size()%osPageSize)
			require.NoError(t, m.Unmap())
			require.NoError(t, m.Unmap(), "once more")
		})
	}
}

func TestOSRangesGoByTheKernelsPages(t *testing.T) {
	for _, size := range []int64{4 << 10, 16 << 10, 64 << 10} {
		if size < osPageSize {
			continue // a kernel cannot be played that has smaller pages than ours
		}
		t.Run(fmt.Sprintf("%d KiB", size>>10), func(t *testing.T) {
			defer func(was int64) { osPageSize = was }(osPageSize)
			osPageSize = size
			f := newOS(t, 400<<10)
			m := mapOS(t, f, MapOptions{Reserve: mib + 1, Least: mib})
			require.Equal(t, mib+size, m.Size())
			for _, r := range []struct{ off, n int64 }{{0, 1}, {size - 1, 2}, {3*4096 + 5, 4096}, {size, size}, {5*size + 1, 100}} {
				b := m.write.bytes(r.off, r.n)
				start := int64(uintptr(unsafe.Pointer(&b[0])) - uintptr(m.Write()))
				require.Zero(t, start%size)
				require.LessOrEqual(t, r.off-start, size-1)
				require.Equal(t, r.off+r.n, start+int64(len(b)))
				require.NoError(t, m.Populate(r.off, r.n, true))
				m.Advise(r.off, r.n, AdviseWillNeed)
				copy(bytesAt(m.Write(), r.off, 1), "x")
				require.NoError(t, m.SyncRange(r.off, r.n))
			}
			private := mapOS(t, openOS(t, newOS(t, 5000).path, true),
				MapOptions{Reserve: mib, ReadOnly: true, Private: true})
			require.False(t, faults(store(private.Write(), size*(5000/size+1))))
		})
	}
}

func TestOSSyncStores(t *testing.T) {
	f := newOS(t, 4096)
	m := mapOS(t, f, MapOptions{Reserve: mib})
	other := newOS(t, 0)
	storing.mappings[m] = struct{}{}
	defer delete(storing.mappings, m)
	require.NoError(t, syncStores(f.id))
	require.NoError(t, f.Close())
	require.NoError(t, syncStores(other.id), "another file's mappings are left alone")
	require.ErrorIs(t, syncStores(f.id), syscall.EBADF, "the file is reached by its mapping")
}

func TestOSAdviseUnknown(t *testing.T) {
	_, ok := adviceFlag(Advice(99))
	require.False(t, ok)
}
