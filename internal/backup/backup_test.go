package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/errs"
)

// read reads all streams and describes what is in them.
func read(r io.Reader) (said []string, err error) {
	in := NewReader(r)
	for {
		if err := in.Next(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return said, err
		}
		said = append(said, fmt.Sprintf("%+v", in.Begin))
		for {
			e, err := in.Entry()
			if err == io.EOF {
				break
			}
			if err != nil {
				return said, err
			}
			said = append(said, fmt.Sprintf("%d %q %d %x", e.Op, e.Key, len(e.Value), xxhash.Sum64(e.Value)))
		}
		said = append(said, fmt.Sprintf("%d %d %d %d %d", in.End.Puts, in.End.Deletes, in.End.Clears, in.End.Bytes, in.End.Keys))
	}
}

// write writes a stream.
func write(t testing.TB, begin Begin, keys uint64, entries ...Entry) []byte {
	var b bytes.Buffer
	w, err := NewWriter(&b, &begin)
	require.NoError(t, err)
	for _, e := range entries {
		require.NoError(t, w.Entry(e.Op, e.Key, e.Value))
	}
	require.NoError(t, w.End(keys))
	return b.Bytes()
}

func put(key string, value int) Entry {
	return Entry{OpPut, []byte(key), bytes.Repeat([]byte{'v'}, value)}
}

var (
	whole     = Begin{UUID: [16]byte{1, 15: 2}, Sequence: 10, Identity: 77}
	increment = Begin{UUID: whole.UUID, Base: 10, BaseIdentity: 77, Sequence: 20, Identity: 99, Increment: true}
)

// small is a whole stream and an increment behind it.
func small(t testing.TB) []byte {
	return append(write(t, whole, 2, put("a", 3), put("", 0)), write(t, increment, 1, Entry{Op: OpDelete, Key: []byte("a")}, put("", 5))...)
}

func TestStreams(t *testing.T) {
	all := []byte{}
	var want []string
	r := rand.New(rand.NewPCG(1, 1))
	for n, sizes := range [][]int{nil, {0}, {5}, {MaxPayload - entryBytes - 1}, {MaxPayload - entryBytes}, {MaxPayload - entryBytes + 1}, {MaxPayload}, {3 * MaxPayload}, {MaxPayload - 2*entryBytes - 2, 0, 7}, {1 << 20, 1 << 10, 0, 1 << 18}} {
		begin := increment
		begin.Sequence += uint64(n)
		var entries []Entry
		want = append(want, fmt.Sprintf("%+v", begin))
		total := 0
		for i, size := range sizes {
			e := Entry{OpPut, []byte{byte('a' + i)}, make([]byte, size)}
			for j := range e.Value {
				e.Value[j] = byte(r.Uint32())
			}
			total += 1 + size
			entries = append(entries, e)
			want = append(want, fmt.Sprintf("1 %q %d %x", e.Key, size, xxhash.Sum64(e.Value)))
		}
		all = append(all, write(t, begin, 1000, entries...)...)
		want = append(want, fmt.Sprintf("%d 0 0 %d 1000", len(sizes), total))
	}
	for name, in := range map[string]io.Reader{"at once": bytes.NewReader(all), "in halves": iotest.HalfReader(bytes.NewReader(all)), "with an early end": iotest.DataErrReader(bytes.NewReader(all))} {
		got, err := read(in)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
}

// TestDamage: every flipped bit and every truncation is found, but where a truncation leaves whole streams.
func TestDamage(t *testing.T) {
	b := small(t)
	whole, err := read(bytes.NewReader(b))
	require.NoError(t, err)
	first := len(b) / 2
	for n := range b {
		if _, err := read(bytes.NewReader(b[:n])); err == nil {
			first = n
			require.Less(t, n, len(b))
			continue
		}
		_, err := read(bytes.NewReader(b[:n]))
		require.ErrorIs(t, err, errs.ErrBackup, "%d bytes of %d", n, len(b))
	}
	require.True(t, strings.HasPrefix(string(b[first+8:]), Magic), "only the first stream whole")
	for bit := range 8 * len(b) {
		b[bit/8] ^= 1 << (bit % 8)
		_, err := read(bytes.NewReader(b))
		require.ErrorIs(t, err, errs.ErrBackup, "bit %d", bit)
		b[bit/8] ^= 1 << (bit % 8)
	}
	again, err := read(bytes.NewReader(b))
	require.NoError(t, err)
	require.Equal(t, whole, again)
	_, err = read(bytes.NewReader(append(b, 0)))
	require.ErrorIs(t, err, errs.ErrBackup, "something behind the end")
	_, err = read(bytes.NewReader(nil))
	require.ErrorIs(t, err, errs.ErrBackup, "nothing at all")
}

// frames takes a stream apart.
func frames(b []byte) (all [][]byte) {
	for len(b) > 0 {
		n := FrameHeader + int(b[20]) + int(b[21])<<8 + int(b[22])<<16
		all, b = append(all, b[:n:n]), b[n:]
	}
	return all
}

// reframed changes a frame and makes its sum hold.
func reframed(frame []byte, change func(f []byte)) []byte {
	f := bytes.Clone(frame)
	change(f)
	sum := xxhash.Sum64(f[8:])
	for i := range 8 {
		f[i] = byte(sum >> (8 * i))
	}
	return f
}

// TestForged: frames that hold, and streams that nobody wrote.
func TestForged(t *testing.T) {
	f := frames(write(t, increment, 1, put("a", MaxPayload), put("b", 5)))
	require.Len(t, f, 4)
	other := frames(write(t, increment, 1, put("a", MaxPayload), put("c", 5)))
	with := func(i int, change func(b []byte)) [][]byte {
		all := append([][]byte{}, f...)
		all[i] = reframed(f[i], change)
		return all
	}
	for _, row := range []struct {
		name   string
		frames [][]byte
		says   string
	}{
		{"a frame left out", [][]byte{f[0], f[1], f[3]}, "frame 3 where number 2"},
		{"a frame twice", [][]byte{f[0], f[1], f[1], f[2], f[3]}, "frame 1 where number 2"},
		{"frames changed over", [][]byte{f[0], f[2], f[1], f[3]}, "frame 2 where number 1"},
		{"a frame of another stream", [][]byte{f[0], f[1], other[2], f[3]}, "does not agree"},
		{"no begin", f[1:], "frame 1 where number 0"},
		{"entries first", [][]byte{reframed(f[1], func(b []byte) { b[24] = 0 })}, "does not begin"},
		{"two begins", [][]byte{f[0], reframed(f[0], func(b []byte) { b[24] = 1 })}, "a frame of kind 1"},
		{"an end inside an entry", [][]byte{f[0], f[1], reframed(f[3], func(b []byte) { b[24] = 2 })}, "a frame of kind 3"},
		{"no entries in a frame", [][]byte{f[0], reframed(f[1][:FrameHeader], func(b []byte) { b[20], b[21], b[22] = 0, 0, 0 })}, "0 bytes"},
		{"an unknown kind of frame", with(1, func(b []byte) { b[18] = 9 }), "kind 9"},
		{"an unknown kind of entry", with(1, func(b []byte) { b[FrameHeader] = 9 }), "kind 9"},
		{"a zero that is none", with(1, func(b []byte) { b[FrameHeader+1] = 1 }), "kind 1"},
		{"a longer frame than there may be", with(1, func(b []byte) { b[23] = 1 }), "a frame of"},
		{"a longer begin", [][]byte{reframed(append(bytes.Clone(f[0]), 0), func(b []byte) { b[20]++ })}, "a begin of 57"},
		{"a longer end", [][]byte{f[0], f[1], f[2], reframed(append(bytes.Clone(f[3]), 0), func(b []byte) { b[20]++ })}, "an end of 49"},
		{"a begin with something in its zeros", with(0, func(b []byte) { b[FrameHeader+50] = 1 }), "say nothing"},
		{"a base behind the sequence", with(0, func(b []byte) { b[FrameHeader+16] = 200 }), "from sequence 200 to 20"},
		{"a sequence that is none", with(0, func(b []byte) { b[FrameHeader+39] = 1 }), "sequence"},
		{"a whole one with a base", with(0, func(b []byte) { b[FrameHeader+48] = 0 }), "whole and goes on"},
		{"a wrong count", with(3, func(b []byte) { b[FrameHeader]++ }), "does not agree"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := read(bytes.NewReader(bytes.Join(row.frames, nil)))
			require.ErrorIs(t, err, errs.ErrBackup)
			require.ErrorContains(t, err, row.says)
		})
	}
	_, err := read(bytes.NewReader(bytes.Join(with(0, func(b []byte) { b[16] = 2 }), nil)))
	require.ErrorIs(t, err, errs.ErrVersion)
}

// TestRefusedEntries: entries that have no place where they stand.
func TestRefusedEntries(t *testing.T) {
	for _, row := range []struct {
		name    string
		begin   Begin
		entries []Entry
	}{
		{"a deletion in a whole stream", whole, []Entry{{Op: OpDelete, Key: []byte("a")}}},
		{"a clear in a whole stream", whole, []Entry{{Op: OpClear}}},
		{"a clear behind something", increment, []Entry{put("a", 1), {Op: OpClear}}},
		{"a clear with a key", increment, []Entry{{Op: OpClear, Key: []byte("a")}}},
		{"a deletion with a value", increment, []Entry{{OpDelete, []byte("a"), []byte("b")}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := read(bytes.NewReader(write(t, row.begin, 0, row.entries...)))
			require.ErrorIs(t, err, errs.ErrBackup)
		})
	}
}

func TestFollows(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(b *Begin)
		says   string
	}{
		{"another map", func(b *Begin) { b.UUID[3]++ }, "another map"},
		{"a gap", func(b *Begin) { b.Base = 11 }, "from sequence 11"},
		{"an older base", func(b *Begin) { b.Base = 9 }, "from sequence 9"},
		{"another history", func(b *Begin) { b.BaseIdentity++ }, "another history"},
		{"whole", func(b *Begin) { *b = whole }, "whole"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := increment
			require.NoError(t, b.Follows(&whole))
			row.change(&b)
			err := b.Follows(&whole)
			require.ErrorIs(t, err, errs.ErrBackup)
			require.ErrorContains(t, err, row.says)
		})
	}
}

// TestErrorsOfOthers: what reader and writer of the caller answer comes back.
func TestErrorsOfOthers(t *testing.T) {
	cause := errors.New("no more")
	b := small(t)
	for n := range b {
		_, err := read(io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(cause)))
		require.ErrorIs(t, err, cause, "%d", n)
		require.NotErrorIs(t, err, errs.ErrBackup)
	}
	for n := range 3 {
		w := &failing{left: n, err: cause}
		out, err := NewWriter(w, &whole)
		if err == nil {
			err = out.Entry(OpPut, nil, make([]byte, MaxPayload))
		}
		if err == nil {
			err = out.End(1)
		}
		require.ErrorIs(t, err, cause)
	}
}

// failing takes some writes and then fails.
type failing struct {
	left int
	err  error
}

func (f *failing) Write(b []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, f.err
	}
	return len(b), nil
}

// TestMemory: a frame that announces a value of 4 GiB takes no memory for it.
func TestMemory(t *testing.T) {
	f := frames(write(t, whole, 1, put("a", 100)))
	f[1] = reframed(f[1], func(b []byte) { copy(b[FrameHeader+4:], []byte{255, 255, 255, 255}) })
	b := bytes.Join(f, nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := read(bytes.NewReader(b))
	require.ErrorIs(t, err, errs.ErrBackup)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}

// FuzzRead: no input makes it panic, with its sums as they are and made to hold; what it accepts it accepts in pieces, too.
func FuzzRead(f *testing.F) {
	f.Add(small(f))
	f.Add([]byte{})
	f.Add(write(f, increment, 0, Entry{Op: OpClear}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, summed(b)} {
			said, err := read(bytes.NewReader(b))
			if err != nil {
				require.True(t, errors.Is(err, errs.ErrBackup) || errors.Is(err, errs.ErrVersion), "%v", err)
				continue
			}
			require.Greater(t, len(said), 1)
			again, err := read(iotest.HalfReader(bytes.NewReader(b)))
			require.NoError(t, err)
			require.Equal(t, said, again)
		}
	})
}

// summed makes the sums of frames hold, as far as there are frames.
func summed(b []byte) []byte {
	var out []byte
	for len(b) >= FrameHeader {
		n := min(FrameHeader+int(b[20])+int(b[21])<<8+int(b[22])<<16, len(b))
		out, b = append(out, reframed(b[:n], func([]byte) {})...), b[n:]
	}
	return append(out, b...)
}
