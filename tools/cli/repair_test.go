package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// tailMap makes a map as a killed process leaves it: some keys below a checkpoint, and synced records behind it.
func tailMap(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	db, err := mapfile.Open(filepath.Join(dir, "live"), nil)
	require.NoError(t, err)
	for _, key := range []string{"apple", "pear", "plum"} {
		require.NoError(t, db.Put([]byte(key), []byte("below of "+key)))
	}
	require.NoError(t, db.Checkpoint())
	for _, key := range []string{"pear", "quince", "cherry"} {
		require.NoError(t, db.Put([]byte(key), []byte("tail of "+key)))
	}
	require.NoError(t, db.Delete([]byte("plum")))
	b, err := os.ReadFile(filepath.Join(dir, "live"))
	require.NoError(t, err)
	require.NoError(t, db.Close())
	path := filepath.Join(dir, "m")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// spoilIn flips two bits in what follows some bytes of the file: one alone would be mended.
func spoilIn(t *testing.T, path, text string, behind int) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	at := bytes.LastIndex(b, []byte(text))
	require.Positive(t, at)
	b[at+behind] ^= 0x18
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// trashIndex spoils every page that says it is one of the index.
func trashIndex(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	pages := 0
	for n := 4; (n+1)*4096 <= len(b); n++ {
		page := b[n*4096 : (n+1)*4096]
		if (page[8] == 1 || page[8] == 2) && binary.LittleEndian.Uint32(page[12:]) == uint32(n) {
			for i := range page {
				page[i] ^= 0xa5
			}
			pages++
		}
	}
	require.Positive(t, pages)
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

var tailEntries = map[string]string{"apple": "below of apple", "pear": "tail of pear", "quince": "tail of quince", "cherry": "tail of cherry"}

// follow runs the command that an error ends with.
func follow(t *testing.T, r result, path string) result {
	t.Helper()
	_, next, found := strings.Cut(strings.TrimSpace(r.err), "; run: mapfile ")
	require.True(t, found, r.err)
	return call(t, strings.Fields(next)...)
}

func TestRecoverRebuildsTheIndex(t *testing.T) {
	path := tailMap(t)
	trashIndex(t, path)
	refused := call(t, "get", path, "pear")
	require.Equal(t, 3, refused.code)
	require.Contains(t, refused.err, "; run: mapfile recover --rebuild-index "+path+"\n")

	before, err := os.ReadFile(path)
	require.NoError(t, err)
	dry := call(t, "recover", "--dry-run", "--rebuild-index", path)
	require.Equal(t, 0, dry.code, dry.err)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after, "a dry run changed the file")

	done := follow(t, refused, path)
	require.Equal(t, 0, done.code, done.err)
	golden(t, "recover-rebuild", path, done.out)
	require.Equal(t, tailEntries, contents(t, path))
	require.Equal(t, 0, call(t, "check", path).code)
}

// TestRecoverWritesAHeaderAnew: check names the copy of a segment's header that does not hold, and what it says to run next mends it.
func TestRecoverWritesAHeaderAnew(t *testing.T) {
	for copy := range 2 {
		path := tailMap(t)
		require.Equal(t, 0, call(t, "recover", path).code) // closes it: there is nothing to replay
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		at := bytes.Index(b, []byte("segment\n")) + 512*copy
		b[at+40] ^= 0x18
		require.NoError(t, os.WriteFile(path, b, 0o600))
		damaged := call(t, "check", path)
		require.Equal(t, 3, damaged.code)
		require.Regexp(t, `segment table +damaged, \d+ judged\n`, damaged.out)
		require.Contains(t, damaged.out, "the "+[]string{"first", "second"}[copy]+" of the two copies of the segment's header does not hold: the other one does\n")
		require.Equal(t, 0, follow(t, damaged, path).code)
		require.Equal(t, 0, call(t, "check", path).code)
		require.Equal(t, tailEntries, contents(t, path))
	}
}

// TestRecoverMends: what check says to run about damage that costs nothing leaves a map about which check says nothing.
func TestRecoverMends(t *testing.T) {
	flip := func(text string, behind, bit int) func(b []byte) {
		return func(b []byte) { b[bytes.Index(b, []byte(text))+behind] ^= 1 << bit }
	}
	trash := func(page int) func(b []byte) {
		return func(b []byte) { copy(b[page*4096:], bytes.Repeat([]byte{0xa5}, 512)) }
	}
	rows := []struct {
		name  string
		spoil func(b []byte)
	}{
		{"a bit of a value below the checkpoint", flip("below of apple", 3, 5)},
		{"a bit of an older version", flip("below of pear", 3, 5)},
		{"a bit of a key", flip("apple", 1, 0)},
		{"a bit of a meta page", func(b []byte) { b[4096+70] ^= 4 }},
		{"meta page 0", trash(0)},
		{"meta page 1", trash(1)},
		{"meta page 0, and a bit", func(b []byte) { trash(0)(b); flip("below of apple", 3, 5)(b) }},
	}
	for _, closed := range []bool{false, true} {
		for _, row := range rows {
			t.Run(fmt.Sprintf("%s, closed %v", row.name, closed), func(t *testing.T) {
				path := tailMap(t)
				if closed {
					require.Equal(t, 0, call(t, "recover", path).code)
				}
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				row.spoil(b)
				require.NoError(t, os.WriteFile(path, b, 0o600))
				checked := call(t, "check", path)
				require.Equal(t, 3, checked.code, checked.out)
				require.Contains(t, checked.err, "; run: mapfile recover ")
				dry := call(t, "recover", "--mend", "--dry-run", path)
				require.Equal(t, 0, dry.code, dry.err)
				after, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, b, after, "a dry run changed the file")
				for range 2 { // where it is two kinds of damage, twice
					require.Equal(t, 0, follow(t, checked, path).code)
					if checked = call(t, "check", path); checked.code == 0 {
						break
					}
				}
				require.Equal(t, 0, checked.code, checked.out)
				require.Equal(t, tailEntries, contents(t, path))
			})
		}
	}
}

func TestRecoverAcceptsLoss(t *testing.T) {
	path := tailMap(t)
	spoilIn(t, path, "quincetail", 0)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	refused := call(t, "dump", path)
	require.Equal(t, 3, refused.code)
	require.Contains(t, refused.err, "; run: mapfile recover --accept-loss "+path+"\n")

	report := filepath.Join(t.TempDir(), "report")
	dry := call(t, "recover", "--dry-run", "--accept-loss", "--json", "--report", report, path)
	require.Equal(t, 0, dry.code, dry.err)
	golden(t, "recover-accept-loss-json", path, dry.out)
	lost, err := os.ReadFile(report)
	require.NoError(t, err)
	require.Equal(t, "log", decodeJSON(t, string(lost))["structure"])
	require.Equal(t, 2, call(t, "recover", "--accept-loss", "--report", report, path).code, "a report that is there is not written over")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)

	done := follow(t, refused, path)
	require.Equal(t, 0, done.code, done.err)
	golden(t, "recover-accept-loss", path, done.out)
	got := contents(t, path)
	require.Equal(t, map[string]string{"apple": "below of apple", "pear": "tail of pear", "cherry": "tail of cherry"}, got)
	require.Equal(t, 0, call(t, "check", path).code)
}

func TestRebuildAsksBeforeItLoses(t *testing.T) {
	path := newMap(t, map[string]string{"apple": "red", "pear": "green"})
	spoilIn(t, path, "applered", 0)
	refused := call(t, "recover", "--rebuild-index", path)
	require.Equal(t, 3, refused.code)
	require.Contains(t, refused.err, "could show older versions; run: mapfile recover --rebuild-index --accept-loss "+path)
	done := follow(t, refused, path)
	require.Equal(t, 0, done.code, done.err)
	require.Equal(t, map[string]string{"pear": "green"}, contents(t, path))
}

func TestSalvage(t *testing.T) {
	path := tailMap(t)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	clear(b[8 : 2*4096])
	copy(b[8:], "mapfile\n")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	spoilIn(t, path, "tail of pear", 0)
	refused := call(t, "get", path, "pear")
	require.Equal(t, 3, refused.code)
	require.Contains(t, refused.err, "; run: mapfile salvage "+path+" -o "+path+".salvaged\n")
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	done := follow(t, refused, path)
	require.Equal(t, 0, done.code, done.err)
	require.Contains(t, done.err, path+".salvaged may need up to ")
	golden(t, "salvage", path, done.out)
	require.Equal(t, map[string]string{"apple": "below of apple", "quince": "tail of quince", "cherry": "tail of cherry"}, contents(t, path+".salvaged"))
	require.Equal(t, 2, follow(t, refused, path).code, "a map that is there is not written over")

	older, report := filepath.Join(t.TempDir(), "older"), filepath.Join(t.TempDir(), "report")
	again := call(t, "salvage", path, "-o", older, "--older", "--json", "--report", report)
	require.Equal(t, 0, again.code, again.err)
	golden(t, "salvage-json", path, strings.ReplaceAll(again.out, older, "OLDER"))
	require.Equal(t, "below of pear", contents(t, older)["pear"])
	lost, err := os.ReadFile(report)
	require.NoError(t, err)
	require.Contains(t, string(lost), `"key":"cGVhcg=="`)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestSalvageIsInterrupted(t *testing.T) {
	path := tailMap(t)
	into := filepath.Join(t.TempDir(), "new")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := callApp(ctx, testApp(), strings.NewReader(""), "salvage", path, "-o", into)
	require.Equal(t, 2, got.code)
	require.Contains(t, got.err, "interrupted")
	left, err := os.ReadDir(filepath.Dir(into))
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, result{2, "", "mapfile: no -o NEW given; run: mapfile salvage --help\n"}, call(t, "salvage", path))
}

func TestDiff(t *testing.T) {
	one := newMap(t, map[string]string{"same": "1", "changed": "old", "missing": "x", "": "empty"})
	two := newMap(t, map[string]string{"same": "1", "changed": "new", "added\xff": "y", "": "empty"})
	rows := []struct {
		name string
		args []string
		code int
		out  []string
	}{
		{"equal", []string{one, one}, 0, nil},
		{"different", []string{one, two}, 1, []string{"+ added\xff", "- missing", "~ changed"}},
		{"the other way", []string{two, one}, 1, []string{"+ missing", "- added\xff", "~ changed"}},
		{"in hexadecimal", []string{"--hex", one, two}, 1, []string{"+ 6164646564ff", "- 6d697373696e67", "~ 6368616e676564"}},
		{"as JSON", []string{"--json", one, two}, 1, []string{
			`{"change":"added","key":"YWRkZWT/"}`, `{"change":"changed","key":"Y2hhbmdlZA=="}`, `{"change":"missing","key":"bWlzc2luZw=="}`,
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got := call(t, append([]string{"diff"}, row.args...)...)
			require.Equal(t, row.code, got.code, got.err)
			require.ElementsMatch(t, row.out, strings.Split(strings.TrimSuffix(got.out, "\n"), "\n")[:len(row.out)])
			if row.code == 1 {
				require.Contains(t, got.err, ": difference: 1 missing, 1 added, 1 changed\n")
			} else {
				require.Empty(t, got.out)
			}
		})
	}
	broken := tailMap(t)
	trashIndex(t, broken)
	got := call(t, "diff", one, broken)
	require.Equal(t, 3, got.code)
	require.Contains(t, got.err, "; run: mapfile recover --rebuild-index "+broken)
	require.Equal(t, 2, call(t, "diff", one, one+".none").code)
}
