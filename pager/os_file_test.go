//go:build linux || darwin || freebsd

package pager

import (
	"bytes"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func randomBytes(n int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func TestOSRoundTrip(t *testing.T) {
	content := randomBytes(100_000)
	for name, write := range map[string]func(*osFile) error{
		"WriteAt":   func(f *osFile) error { return f.WriteAt(content, 777) },
		"WriteSync": func(f *osFile) error { return f.WriteSync(content, 777) },
		"WriteSync without RWF_DSYNC": func(f *osFile) error {
			f.noDSync.Store(true)
			return f.WriteSync(content, 777)
		},
		"WriteAt and Sync": func(f *osFile) error {
			if err := f.WriteAt(content, 777); err != nil {
				return err
			}
			return f.Sync()
		},
		"nothing, then all": func(f *osFile) error {
			if err := f.WriteSync(nil, 5); err != nil {
				return err
			}
			return f.WriteAt(content, 777)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newOS(t, 0)
			require.NoError(t, write(f))
			got := make([]byte, len(content))
			n, err := openOS(t, f.path, true).ReadAt(got, 777)
			require.NoError(t, err)
			require.Equal(t, len(content), n)
			require.True(t, bytes.Equal(content, got))
			st, err := f.Stat()
			require.NoError(t, err)
			require.Equal(t, int64(777+len(content)), st.Size)
		})
	}
}

func TestOSReadAtTheEnd(t *testing.T) {
	f := newOS(t, 10)
	for name, row := range map[string]struct {
		len, off, want int
		err            error
	}{
		"whole":                {10, 0, 10, nil},
		"over the end":         {10, 4, 6, io.ErrUnexpectedEOF},
		"at the end":           {10, 10, 0, io.EOF},
		"behind the end":       {1, 99, 0, io.EOF},
		"nothing":              {0, 99, 0, nil},
		"before the beginning": {1, -1, 0, syscall.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := f.ReadAt(make([]byte, row.len), int64(row.off))
			require.ErrorIs(t, err, row.err)
			require.Equal(t, row.want, n)
		})
	}
}

func TestOSWriteAll(t *testing.T) {
	type step struct {
		n   int
		err error
	}
	for name, row := range map[string]struct {
		steps []step
		want  error
	}{
		"whole":           {[]step{{8, nil}}, nil},
		"short":           {[]step{{3, nil}, {1, nil}, {4, nil}}, nil},
		"interrupted":     {[]step{{0, unix.EINTR}, {3, nil}, {0, unix.EINTR}, {5, nil}}, nil},
		"fails half-way":  {[]step{{3, nil}, {0, unix.ENOSPC}}, unix.ENOSPC},
		"does not get on": {[]step{{3, nil}, {0, nil}}, io.ErrShortWrite},
	} {
		t.Run(name, func(t *testing.T) {
			var got []byte
			steps := row.steps
			err := writeAll([]byte("abcdefgh"), 100, func(p []byte, off int64) (int, error) {
				require.Equal(t, int64(100+len(got)), off)
				s := steps[0]
				steps = steps[1:]
				got = append(got, p[:s.n]...)
				return s.n, s.err
			})
			require.ErrorIs(t, err, row.want)
			require.Empty(t, steps)
			if row.want == nil {
				require.Equal(t, "abcdefgh", string(got))
			}
		})
	}
}

func TestOSWriteErrors(t *testing.T) {
	f := openOS(t, newOS(t, 10).path, true)
	require.ErrorIs(t, f.WriteAt([]byte("x"), 0), syscall.EBADF)
	require.ErrorIs(t, f.WriteSync([]byte("x"), 0), syscall.EBADF)
	require.Error(t, f.Truncate(0))
	require.Error(t, f.Allocate(0, 1<<20))
	st, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, int64(10), st.Size)
}

func TestOSAllocate(t *testing.T) {
	allocators := map[string]func(f *osFile, off, n int64) error{
		"Allocate": (*osFile).Allocate,
		"zeros":    func(f *osFile, off, n int64) error { return f.writeZeros(max(off, 5000), off+n) },
	}
	for name, row := range map[string]struct{ off, n, size int64 }{
		"behind the end":   {8192, 8192, 16384},
		"over the end":     {0, 3 << 20, 3 << 20},
		"inside":           {100, 200, 5000},
		"from the end":     {5000, 1, 5001},
		"up to the end":    {0, 5000, 5000},
		"more than a step": {4096, zeroStep*2 + 5, zeroStep*2 + 4101},
	} {
		for how, allocate := range allocators {
			t.Run(how+" "+name, func(t *testing.T) {
				f := newOS(t, 0)
				content := randomBytes(5000)
				require.NoError(t, f.WriteAt(content, 0))
				require.NoError(t, allocate(f, row.off, row.n))
				got := make([]byte, row.size)
				_, err := f.ReadAt(got, 0)
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, got[:5000]))
				require.True(t, bytes.Equal(make([]byte, row.size-5000), got[5000:]))
				st, err := f.Stat()
				require.NoError(t, err)
				require.Equal(t, row.size, st.Size)
				require.NoError(t, f.Sync())
				st, err = f.Stat()
				require.NoError(t, err)
				require.GreaterOrEqual(t, st.Blocks, row.n, "blocks for the range")
			})
		}
	}
	for name, row := range map[string]struct{ off, n int64 }{
		"negative": {-1, 10}, "nothing": {0, 0}, "over the largest offset": {1 << 62, 1 << 62},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, newOS(t, 0).Allocate(row.off, row.n), syscall.EINVAL)
		})
	}
}

func TestOSTruncate(t *testing.T) {
	f := newOS(t, 100)
	for _, size := range []int64{10, 0, 1 << 20} {
		require.NoError(t, f.Truncate(size))
		st, err := f.Stat()
		require.NoError(t, err)
		require.Equal(t, size, st.Size)
	}
	require.ErrorIs(t, f.Truncate(-1), syscall.EINVAL)
}
