package mapfile

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// historyOf reads the history, behind which zeros fill the last page of the images.
func (r *docReader) historyOf(b []byte) {
	t := r.t
	history, life := readLayout(t, "History", "offset"), readLayout(t, "History", "byte of a life")
	r.floor, r.cleared = history.get(b, "floor"), history.get(b, "cleared")
	n := history.get(b, "lives")
	require.LessOrEqual(t, n, r.pages["recovery.maxLives"])
	b = b[history.size():]
	for range n {
		r.lives, b = append(r.lives, b[:life.size()]), b[life.size():]
	}
	require.Empty(t, bytes.Trim(b, "\x00"), "zeros fill the last page")
}

// TestFormatHistory reads the history of a map of three lives by the document alone.
func TestFormatHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.map")
	life := readLayout(t, "History", "byte of a life")
	var began []uint64
	for n := range 3 {
		var o *Options
		db, err := open(path, o.withDefaults(), internals{disk: pager.OS(), geometry: tinyGeometry(3), memory: pager.MemoryLimit})
		require.NoError(t, err)
		began = append(began, db.s.Tail.Sequence+1)
		for i := range 3 + n {
			require.NoError(t, db.Put([]byte{byte(i)}, letterBytes(3000)))
		}
		require.NoError(t, db.Delete([]byte{1}))
		var cleared uint64
		if n == 1 {
			require.NoError(t, db.Clear())
			cleared = db.s.Tail.Sequence
		}
		for i := range 4 {
			require.NoError(t, db.Put([]byte{byte(7 + i%2)}, letterBytes(7000+7000*n)))
			require.NoError(t, db.Compact(context.Background()))
		}
		require.NoError(t, db.Close())
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		r := newDocReader(t, file)
		if n == 1 {
			require.Equal(t, cleared, r.cleared)
		}
		require.Len(t, r.lives, n+1)
		for i, b := range r.lives {
			require.Equal(t, began[i], life.get(b, "first sequence"))
			require.Equal(t, db.s.Identity(began[i]), life.get(b, "identity"))
			require.NotZero(t, life.get(b, "identity"))
		}
		_, ok := db.s.Since(r.floor, db.s.Tail.Sequence)
		require.True(t, ok)
		if n == 0 {
			require.NotZero(t, r.floor, "a tombstone was dropped")
			_, ok = db.s.Since(r.floor-1, db.s.Tail.Sequence)
			require.False(t, ok)
		}
	}
}

// TestFormatBackup reads a backup and an increment by the document alone.
func TestFormatBackup(t *testing.T) {
	db := formatMap(t, pager.DefaultGeometry())
	db.opts.Sync = SyncNever
	var streams bytes.Buffer
	model := map[string]string{}
	put := func(key string, n int) {
		model[key] = string(letterBytes(n))
		require.NoError(t, db.Put([]byte(key), letterBytes(n)))
	}
	put("", 0)
	put("large", 300000) // across frames
	put("small", 3)
	first, err := db.Backup(context.Background(), &streams)
	require.NoError(t, err)
	put("small", 4)
	put("large", 0)
	require.NoError(t, db.Delete([]byte("")))
	delete(model, "")
	second, err := db.BackupSince(context.Background(), &streams, first)
	require.NoError(t, err)
	require.NoError(t, db.Clear())
	clear(model)
	put("last", 1)
	third, err := db.BackupSince(context.Background(), &streams, second)
	require.NoError(t, err)

	r := &streamReader{t: t, rest: streams.Bytes(), got: map[string]string{}}
	r.learn()
	uuid := db.s.Meta().UUID
	for i, want := range []struct{ base, sequence uint64 }{{0, first}, {first, second}, {second, third}} {
		begin := r.frame("internal/backup.KindBegin", 0)
		l := r.begin
		l.zeros(t, begin)
		require.EqualValues(t, l.size(), len(begin))
		require.Equal(t, uuid[:], l.bytes(begin, "uuid"))
		require.Equal(t, want.base, l.get(begin, "base"))
		require.Equal(t, want.sequence, l.get(begin, "sequence"))
		require.EqualValues(t, min(i, 1), l.get(begin, "increment"))
		require.Equal(t, db.s.Identity(want.sequence), l.get(begin, "identity"))
		require.Equal(t, i > 0, l.get(begin, "base identity") != 0)
		r.stream()
	}
	require.Empty(t, r.rest)
	require.Equal(t, model, r.got)
	require.Equal(t, map[uint64]int{1: 6, 2: 1, 3: 1}, r.ops)
}

// streamReader reads backups with what FORMAT.md says.
type streamReader struct {
	t                         *testing.T
	rest                      []byte
	values                    map[string]uint64
	header, begin, entry, end layout
	got                       map[string]string
	ops                       map[uint64]int
}

func (r *streamReader) learn() {
	t, section := r.t, "Backup stream"
	r.header, r.begin = readLayout(t, section, "offset"), readLayout(t, section, "byte of a begin")
	r.entry, r.end = readLayout(t, section, "byte of an entry"), readLayout(t, section, "byte of an end")
	r.values, r.ops = map[string]uint64{}, map[uint64]int{}
	for _, table := range formatTables() {
		for _, row := range table.rows {
			if len(table.head) > 1 && table.head[1] == "value" {
				r.values[row[0]] = number(t, row[1])
			}
		}
	}
	require.Equal(t, r.values["internal/backup.FrameHeader"], r.header.size())
}

// frame is the payload of the next frame, which is of a kind and has a number.
func (r *streamReader) frame(kind string, n uint64) []byte {
	t, b := r.t, r.rest
	require.Equal(t, "mapback\n", string(r.header.bytes(b, "magic")))
	require.Equal(t, r.values["internal/backup.Version"], r.header.get(b, "version"))
	require.Equal(t, n, r.header.get(b, "number"))
	require.Equal(t, r.values[kind], r.header.get(b, "kind"))
	length := r.header.get(b, "length")
	require.LessOrEqual(t, length, r.values["internal/backup.MaxPayload"])
	b = b[:r.header.size()+length]
	require.Equal(t, r.header.get(b, "sum"), xxhash.Sum64(b[8:]))
	r.rest = r.rest[len(b):]
	return b[r.header.size():]
}

// stream reads the entries and the end of a stream.
func (r *streamReader) stream() {
	t, n, bytes := r.t, uint64(1), uint64(0)
	var all []byte
	for ; r.header.get(r.rest, "kind") == r.values["internal/backup.KindEntries"]; n++ {
		all = append(all, r.frame("internal/backup.KindEntries", n)...)
	}
	end := r.frame("internal/backup.KindEnd", n)
	require.EqualValues(t, r.end.size(), len(end))
	require.Equal(t, xxhash.Sum64(all), r.end.get(end, "sum"))
	ops := map[uint64]int{}
	for len(all) > 0 {
		r.entry.zeros(t, all)
		kind, key, value := r.entry.get(all, "kind"), r.entry.get(all, "key length"), r.entry.get(all, "value length")
		all = all[r.entry.size():]
		switch k, v := string(all[:key]), string(all[key:key+value]); kind {
		case r.values["internal/backup.OpPut"]:
			r.got[k] = v
		case r.values["internal/backup.OpDelete"]:
			delete(r.got, k)
		case r.values["internal/backup.OpClear"]:
			clear(r.got)
		}
		ops[kind]++
		r.ops[kind]++
		bytes += key + value
		all = all[key+value:]
	}
	require.EqualValues(t, ops[1], r.end.get(end, "puts"))
	require.EqualValues(t, ops[2], r.end.get(end, "deletes"))
	require.EqualValues(t, ops[3], r.end.get(end, "clears"))
	require.Equal(t, bytes, r.end.get(end, "bytes"))
	require.EqualValues(t, len(r.got), r.end.get(end, "keys"))
}

func letterBytes(n int) []byte { return bytes.Repeat([]byte{'x'}, n) }
