package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// backedUp is a map, a whole backup of it and an increment, as files, and what the map holds.
func backedUp(t *testing.T) (path, full, more string, entries map[string]string) {
	entries = map[string]string{}
	for i := range 500 {
		entries[fmt.Sprint("key ", i)] = strings.Repeat("v", i)
	}
	path = newMap(t, entries)
	dir := t.TempDir()
	full, more = filepath.Join(dir, "full"), filepath.Join(dir, "more")
	got := call(t, "backup", path, "-o", full)
	require.Equal(t, 0, got.code, got.err)
	require.Empty(t, got.out)
	since := regexp.MustCompile(`--since (\d+)\n$`).FindStringSubmatch(got.err)
	require.NotNil(t, since, got.err)
	require.Equal(t, 0, call(t, "delete", path, "key 7").code)
	delete(entries, "key 7")
	got = call(t, "backup", path, "--since", since[1], "--out", more)
	require.Equal(t, 0, got.code, got.err)
	require.Less(t, sizeOf(t, more), int64(400))
	return path, full, more, entries
}

func sizeOf(t *testing.T, path string) int64 {
	st, err := os.Stat(path)
	require.NoError(t, err)
	return st.Size()
}

func TestBackupAndRestore(t *testing.T) {
	path, full, more, entries := backedUp(t)
	for name, restore := range map[string]func(into string) result{
		"files":    func(into string) result { return call(t, "restore", full, more, into) },
		"stdin":    func(into string) result { return callWith(t, read(t, full)+read(t, more), "restore", "-", into) },
		"one each": func(into string) result { return callWith(t, read(t, more), "restore", full, "-", into) },
	} {
		t.Run(name, func(t *testing.T) {
			into := filepath.Join(t.TempDir(), "new")
			got := restore(into)
			require.Equal(t, 0, got.code, got.err)
			require.Contains(t, got.err, "/s) into "+into)
			require.Equal(t, entries, contents(t, into))
			got = restore(into)
			require.Equal(t, 2, got.code)
			require.Contains(t, got.err, "file already exists")
		})
	}
	piped := call(t, "backup", path)
	require.Equal(t, 0, piped.code, piped.err)
	into := filepath.Join(t.TempDir(), "new")
	require.Equal(t, 0, callWith(t, piped.out, "restore", "-", into).code)
	require.Equal(t, entries, contents(t, into))
	entriesOf, err := os.ReadDir(filepath.Dir(full))
	require.NoError(t, err)
	require.Len(t, entriesOf, 2, "no file of another name is left")
}

func read(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func TestBackupTakesThePlaceOfItsFileWhenItIsWhole(t *testing.T) {
	path, full, _, _ := backedUp(t)
	was := read(t, full)
	require.Equal(t, 1, call(t, "backup", path, "--since", "1000000", "-o", full).code)
	require.Equal(t, was, read(t, full))
	require.Equal(t, 0, call(t, "backup", path, "-o", full).code)
	require.NotEqual(t, was, read(t, full))
	names, err := os.ReadDir(filepath.Dir(full))
	require.NoError(t, err)
	require.Len(t, names, 2)
}

func TestBackupErrors(t *testing.T) {
	path, full, more, _ := backedUp(t)
	into := filepath.Join(t.TempDir(), "new")
	short := filepath.Join(t.TempDir(), "short")
	require.NoError(t, os.WriteFile(short, []byte(read(t, more)[:50]), 0o600))
	for _, row := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"history gone", []string{"backup", path, "--since", "900000"}, 1, "the history behind that sequence is gone: sequence 900000; the map is at 501; run: mapfile backup " + path + " -o " + path + ".backup\n"},
		{"no map", []string{"backup", short}, 3, "; run: mapfile check " + short},
		{"an increment alone", []string{"restore", more, into}, 3, "the whole backup before it is missing; run: mapfile verify-backup " + more + "\n"},
		{"cut short", []string{"restore", full, short, into}, 3, "stream 2: not a whole backup: byte 0: it is cut short; run: mapfile verify-backup " + full + " " + short + "\n"},
		{"no such file", []string{"restore", full + "x", into}, 2, "no such file"},
		{"no such directory", []string{"backup", path, "-o", filepath.Join(into, "x", "y")}, 2, "no such file"},
		{"one argument", []string{"restore", full}, 2, "run: mapfile restore --help"},
		{"verify: not in order", []string{"verify-backup", more, full}, 3, "stream 2: not a whole backup: it is whole: only increments follow another stream\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := call(t, row.args...)
			require.Equal(t, row.code, got.code, got.err)
			require.True(t, strings.HasPrefix(got.err, "mapfile: "), got.err)
			require.Contains(t, got.err, row.says)
			require.NoFileExists(t, into)
		})
	}
}

func TestVerifyBackup(t *testing.T) {
	path, full, more, entries := backedUp(t)
	got := call(t, "verify-backup", "--json", full, more)
	require.Equal(t, 0, got.code, got.err)
	var r verifyReport
	require.NoError(t, json.Unmarshal([]byte(got.out), &r))
	require.True(t, r.Whole)
	require.Len(t, r.Streams, 2)
	info, err := mapfile.ReadInfo(path)
	require.NoError(t, err)
	require.Equal(t, streamReport{UUID: info.UUID, Sequence: 500, Keys: 500, Puts: 500, Bytes: r.Streams[0].Bytes, Size: sizeOf(t, full)}, r.Streams[0])
	require.Equal(t, streamReport{UUID: info.UUID, Increment: true, Base: 500, Sequence: 501, Keys: uint64(len(entries)), Deletes: 1, Bytes: 5, Size: sizeOf(t, more)}, r.Streams[1])

	text := callWith(t, read(t, more), "verify-backup", "-")
	require.Equal(t, 0, text.code, text.err)
	require.Equal(t, "stream 1         increment, from sequence 500 to 501\nuuid             "+info.UUID+`
keys of the map  499
puts             0
deletes          1
cleared          no
keys and values  5 B
size             `+fmt.Sprint(sizeOf(t, more))+` B
can be restored  no
`, text.out)
}

func TestCompact(t *testing.T) {
	entries := map[string]string{}
	for i := range 3000 {
		entries[fmt.Sprint("key ", i)] = strings.Repeat("v", 2000)
	}
	path := newMap(t, entries)
	db, err := mapfile.Open(path, &mapfile.Options{Sync: mapfile.SyncNever, Compaction: mapfile.CompactionOptions{Off: true}})
	require.NoError(t, err)
	for i := range 2900 {
		require.NoError(t, db.Delete([]byte(fmt.Sprint("key ", i))))
		delete(entries, fmt.Sprint("key ", i))
	}
	require.NoError(t, db.Close())
	got := call(t, "compact", "--json", path)
	require.Equal(t, 0, got.code, got.err)
	require.Contains(t, got.err, "smaller\n")
	var r compactReport
	require.NoError(t, json.Unmarshal([]byte(got.out), &r))
	require.EqualValues(t, 100, r.Keys)
	require.Greater(t, r.Before.Garbage, int64(5<<20))
	require.Less(t, r.After.Allocated, r.Before.Allocated*3/5, "a unit of records, one of index pages, and the first are left")
	require.Equal(t, r.After.Size, sizeOf(t, path))
	require.Equal(t, entries, contents(t, path))
	text := call(t, "compact", path)
	require.Equal(t, 0, text.code, text.err)
	require.Contains(t, text.out, "garbage before")
	require.Equal(t, 2, call(t, "compact", path+"x").code)
}
