package pager

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// mountFS mounts a file system of a kind for the test, which is skipped where that is not allowed.
func mountFS(t *testing.T, kind, options string) string {
	dir := tempDir(t)
	err := unix.Mount(kind, dir, kind, 0, options)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENODEV) {
		t.Skipf("mounting a %s is not allowed here: %v", kind, err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

func createIn(t *testing.T, dir string) *osFile {
	f, err := OS().CreateTemp(filepath.Join(dir, "m"), 0o600)
	require.NoError(t, err)
	require.NoError(t, OS().Link(f, filepath.Join(dir, "m"), false))
	t.Cleanup(func() { _ = f.Close() })
	return f.(*osFile)
}

func TestOSAllocateOnAFullDisk(t *testing.T) {
	for name, room := range map[string]string{"nothing fits": "size=64k", "half fits": "size=2m"} {
		t.Run(name, func(t *testing.T) {
			f := createIn(t, mountFS(t, "tmpfs", room))
			require.NoError(t, f.WriteAt([]byte("kept"), 0))
			before, err := f.Stat()
			require.NoError(t, err)
			require.ErrorIs(t, f.Allocate(4096, 4*mib), syscall.ENOSPC)
			after, err := f.Stat()
			require.NoError(t, err)
			require.Equal(t, before, after, "length and blocks")
		})
	}
}

func TestOSPopulateOnAFullDisk(t *testing.T) {
	for name, huge := range map[string]bool{"huge": true, "small": false} {
		t.Run(name, func(t *testing.T) {
			f := createIn(t, mountFS(t, "tmpfs", "size=1m"))
			require.NoError(t, f.Truncate(4*mib))
			m := mapOS(t, f, MapOptions{Reserve: 8 * mib, Least: 8 * mib})
			require.NoError(t, m.Populate(0, 4096, huge))
			err := m.Populate(0, 4*mib, huge)
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.ErrorIs(t, err, syscall.EFAULT, "the cause stays visible")
		})
	}
}

// A ramfs knows neither fallocate nor holes.
func TestOSFileSystemWithoutFallocate(t *testing.T) {
	f := createIn(t, mountFS(t, "ramfs", ""))
	require.NoError(t, f.WriteAt([]byte("kept"), 0))
	require.NoError(t, f.Allocate(0, 3*mib))
	got := make([]byte, 3*mib)
	_, err := f.ReadAt(got, 0)
	require.NoError(t, err)
	require.Equal(t, "kept", string(got[:4]))
	require.True(t, bytes.Equal(make([]byte, 3*mib-4), got[4:]))
	require.ErrorIs(t, f.Punch(0, 4096), errors.ErrUnsupported)
}

// The limit on the size of a file plays a disk that is full half-way through the zeros.
func TestOSAllocateGivesBackWhatItGained(t *testing.T) {
	f := createIn(t, mountFS(t, "ramfs", ""))
	require.NoError(t, f.WriteAt([]byte("kept"), 0))
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &was))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 3 * mib / 2, Max: was.Max}))
	err := f.Allocate(4096, 3*mib)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &was))
	require.ErrorIs(t, err, syscall.EFBIG)
	st, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, int64(4), st.Size)
}

func TestOSPunch(t *testing.T) {
	f := newOS(t, 0)
	content := bytes.Repeat([]byte("x"), 4*mib)
	require.NoError(t, f.WriteAt(content, 0))
	require.NoError(t, f.Sync())
	before, err := f.Stat()
	require.NoError(t, err)
	err = f.Punch(mib, 2*mib)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this file system has no holes")
	}
	require.NoError(t, err)
	after, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, before.Size, after.Size)
	require.LessOrEqual(t, after.Blocks, before.Blocks-2*mib)
	got := make([]byte, 4*mib)
	_, err = f.ReadAt(got, 0)
	require.NoError(t, err)
	copy(content[mib:], make([]byte, 2*mib))
	require.True(t, bytes.Equal(content, got))
}

func TestOSMapLeaksNothing(t *testing.T) {
	path := newOS(t, 64<<10).path
	rows := []MapOptions{
		{Reserve: 64 * mib, Least: mib},
		{Reserve: 64*mib + 4096, Least: mib, ReadOnly: true},
		{Reserve: 64*mib + 8192, Least: mib, ReadOnly: true, Private: true},
		{Reserve: 1 << 60, Least: 1 << 59}, // fails
	}
	cycle := func(n int) {
		for i := range n {
			f, err := OS().Open(path, i%2 == 1)
			require.NoError(t, err)
			o := rows[i%len(rows)]
			o.ReadOnly = o.ReadOnly || i%2 == 1
			m, err := f.Map(o)
			require.Equal(t, o.Least > mib, err != nil)
			if err == nil {
				require.NoError(t, m.Unmap())
			}
			require.NoError(t, f.Close())
		}
	}
	cycle(100)
	before := usage(t)
	cycle(10_000)
	after := usage(t)
	require.Equal(t, before.descriptors, after.descriptors)
	require.Less(t, after.mappings-before.mappings, 50, "the Go heap may take a few")
	require.Less(t, after.addressPages-before.addressPages, 1<<30/os.Getpagesize(), "10,000 leaks of 2 MiB would be 20 GiB")
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	require.NotContains(t, string(maps), path)
}

type processUse struct{ descriptors, mappings, addressPages int }

func usage(t *testing.T) (u processUse) {
	runtime.GC()
	u.descriptors = len(namesIn(t, "/proc/self/fd"))
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	u.mappings = strings.Count(string(maps), "\n")
	statm, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	u.addressPages, err = strconv.Atoi(strings.Fields(string(statm))[0])
	require.NoError(t, err)
	return u
}

func TestOSAdviseReachesBothViews(t *testing.T) {
	for name, row := range map[string]struct {
		advice Advice
		flag   string // in VmFlags of /proc/self/smaps
	}{
		"random":     {AdviseRandom, "rr"},
		"sequential": {AdviseSequential, "sr"},
		"huge":       {AdviseHuge, "hg"},
		"small":      {AdviseSmall, "nh"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil && row.flag[1] != 'r' {
				t.Skip("a kernel without huge pages")
			}
			m := mapOS(t, newOS(t, 4*mib), MapOptions{Reserve: 8 * mib})
			for _, base := range []uintptr{uintptr(m.Write()), uintptr(m.Read())} {
				require.NotContains(t, vmFlags(t, base), row.flag)
			}
			m.Advise(0, 2*mib, row.advice)
			m.Advise(0, 2*mib, AdviseWillNeed)
			m.Advise(0, 0, AdviseNormal)
			for _, base := range []uintptr{uintptr(m.Write()), uintptr(m.Read())} {
				require.Contains(t, vmFlags(t, base), row.flag)
			}
			m.Advise(0, 2*mib, AdviseNormal)
			if row.flag[1] == 'r' {
				require.NotContains(t, vmFlags(t, uintptr(m.Read())), row.flag)
			}
		})
	}
}

// vmFlags are the flags of the mapping that starts at base.
func vmFlags(t *testing.T, base uintptr) []string {
	smaps, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	_, entry, ok := strings.Cut("\n"+string(smaps), "\n"+strconv.FormatUint(uint64(base), 16)+"-")
	require.True(t, ok, "no mapping at %x", base)
	_, flags, ok := strings.Cut(entry, "VmFlags:")
	require.True(t, ok)
	line, _, _ := strings.Cut(flags, "\n")
	return strings.Fields(line)
}

func TestOSPopulateBringsPagesIn(t *testing.T) {
	f := newOS(t, 0)
	require.NoError(t, f.Allocate(0, 4*mib))
	m := mapOS(t, f, MapOptions{Reserve: 8 * mib})
	require.NoError(t, m.Populate(mib+5, 2*mib, false))
	resident := make([]byte, 4*mib/os.Getpagesize())
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(m.Write()), 4*mib, uintptr(unsafe.Pointer(&resident[0])))
	require.Zero(t, errno)
	for page := mib / os.Getpagesize(); page <= (3*mib+4)/os.Getpagesize(); page++ {
		require.Equal(t, byte(1), resident[page]&1, "page %d", page)
	}
	require.NoError(t, m.Populate(0, 0, true))
	require.ErrorIs(t, m.Populate(6*mib, 4096, false), syscall.EFAULT, "behind the end of the file")
}

func TestOSNetworkNames(t *testing.T) {
	for name, row := range map[string]struct {
		magic uint32
		want  string
	}{
		"nfs": {0x6969, "nfs"}, "cifs": {0xff534d42, "cifs"}, "smb2": {0xfe534d42, "smb2"}, "9p": {0x01021997, "9p"},
		"ceph": {0x00c36400, "ceph"}, "afs": {0x5346414f, "afs"}, "lustre": {0x0bd00bd0, "lustre"},
		"fuse": {0x65735546, ""}, "ext4": {0xef53, ""}, "tmpfs": {0x01021994, ""}, "overlay": {0x794c7630, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var st unix.Statfs_t
			setMagic(&st.Type, row.magic)
			require.Equal(t, row.want, networkName(&st))
		})
	}
}

// setMagic sets a field whose type differs between processors.
func setMagic[T ~int32 | ~int64 | ~uint32](field *T, magic uint32) { *field = T(magic) }
