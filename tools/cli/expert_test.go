package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
)

// reading are the verbs that look at FILE and never change it, as they are called on a fixture.
var reading = map[string][]string{
	"info": {"info", "FILE"}, "stats": {"stats", "FILE"}, "check": {"check", "FILE"}, "check-quick": {"check", "--quick", "FILE"},
	"recover-dry-run": {"recover", "--dry-run", "FILE"}, "get": {"get", "FILE", "key 2"}, "keys": {"keys", "FILE"}, "dump": {"dump", "FILE"}, "backup": {"backup", "FILE"},
	"pages": {"pages", "FILE"}, "log": {"log", "FILE"}, "log-all": {"log", "--all", "--limit", "50", "FILE"}, "log-from": {"log", "--from", "3000", "--hex", "FILE"},
	"locate": {"locate", "FILE", "key 2"}, "locate-deleted": {"locate", "FILE", "key 7"}, "locate-none": {"locate", "FILE", "no such key"},
	"meta-show": {"surgery", "meta", "show", "FILE"}, "meta-validate": {"surgery", "meta", "validate", "FILE"},
	"page-0": {"page", "FILE", "0"}, "page-2": {"page", "--hex", "FILE", "2"}, "page-3": {"page", "FILE", "3"},
	"page-6": {"page", "FILE", "6"}, "page-9": {"page", "FILE", "9"}, "page-12": {"page", "--hex", "FILE", "12"}, "page-17": {"page", "FILE", "17"},
}

// on gives the arguments with the path in.
func on(path string, args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = strings.ReplaceAll(a, "FILE", path)
	}
	return out
}

// TestExpertVerbs compares what the verbs say of a closed, a killed and a damaged map, as text and as JSON.
func TestExpertVerbs(t *testing.T) {
	killed := newFixture(t, true)
	files := map[string]string{
		"closed": newFixture(t, false), "killed": killed,
		"damaged": changed(t, killed, func(b []byte) { // neither meta page, and a page in free space
			copy(b[100:], "trashed!")
			copy(b[4096+100:], "trashed!")
			copy(b[5*4096+2000:], "trashed!")
		}),
		"rotten": changed(t, killed, func(b []byte) { // a bucket that an open needs for its replay, and a record
			copy(b[32*4096+100:], "trashed!")
			copy(b[66624+40:], "trashed!")
		}),
	}
	for _, verb := range []string{"pages", "log", "log-all", "log-from", "locate", "locate-deleted", "locate-none", "check",
		"meta-show", "meta-validate", "page-0", "page-2", "page-3", "page-6", "page-9", "page-12", "page-17"} {
		for state, path := range files {
			t.Run(verb+" "+state, func(t *testing.T) {
				before, err := os.ReadFile(path)
				require.NoError(t, err)
				stat, err := os.Stat(path)
				require.NoError(t, err)
				text := call(t, on(path, reading[verb])...)
				asJSON := call(t, append(on(path, reading[verb]), "--json")...)
				goldenExact(t, state+"-"+verb, path, text.out+"--\n"+text.err+"exit "+strconv.Itoa(text.code)+"\n--\n"+asJSON.out)
				require.Equal(t, text.code, asJSON.code)
				after, err := os.ReadFile(path)
				require.NoError(t, err)
				require.True(t, bytes.Equal(before, after), "a reading verb changed the file")
				now, err := os.Stat(path)
				require.NoError(t, err)
				require.Equal(t, stat.ModTime(), now.ModTime())
			})
		}
	}
}

// TestPagesAccountsForEveryPage: each page is in one run, and the totals are the runs'.
func TestPagesAccountsForEveryPage(t *testing.T) {
	for _, killed := range []bool{false, true} {
		path := newFixture(t, killed)
		got := decodeJSON(t, call(t, "pages", "--json", path).out)
		at := 0.0
		for _, r := range got["runs"].([]any) {
			run := r.(map[string]any)
			require.Equal(t, at, run["first"])
			require.NotEqual(t, kindUnknown, run["kind"], "%v", run)
			at += run["pages"].(float64)
		}
		require.Equal(t, got["pages"], at)
		total := 0.0
		for _, x := range got["totals"].([]any) {
			total += x.(map[string]any)["pages"].(float64)
		}
		require.Equal(t, at, total)
		require.Equal(t, at*4096, float64(fileSize(path)))
	}
}

// TestEveryPageDecodes: page names each page as pages does, and a page of the map that is damaged has a wrong sum.
func TestEveryPageDecodes(t *testing.T) {
	path := newFixture(t, false)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	runs := decodeJSON(t, call(t, "pages", "--json", path).out)["runs"].([]any)
	for _, x := range runs {
		run := x.(map[string]any)
		n, kind := int(run["first"].(float64)), run["kind"].(string)
		got := call(t, "page", "--json", path, strconv.Itoa(n))
		require.Equal(t, 0, got.code, "page %d, %s: %s", n, kind, got.out)
		page := decodeJSON(t, got.out)
		if kind != kindFree && kind != kindArenaFree && kind != kindPending {
			require.Equal(t, kind, page["kind"], "page %d", n)
		}
		if kind != kindDirectory && kind != kindBucket && kind != kindImage && kind != kindMeta {
			continue
		}
		bad := changed(t, path, func(b []byte) { copy(b[n*4096+300:], "trashed!") })
		got = call(t, "page", "--json", bad, strconv.Itoa(n))
		require.Equal(t, 3, got.code, "page %d, %s", n, kind)
		sum := decodeJSON(t, got.out)["sum"].(map[string]any)
		require.Equal(t, false, sum["right"])
		require.NotEqual(t, sum["stored"], sum["want"])
		if kind == kindDirectory || kind == kindBucket {
			h := index.ReadHeader(whole[n*4096:])
			require.Equal(t, n, int(h.Page))
		}
	}
}

// TestLocate finds every key of a map, and the value's place is where the file has it.
func TestLocate(t *testing.T) {
	path := newFixture(t, true)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for key, value := range contents(t, path) {
		got := call(t, "locate", "--json", path, key)
		require.Equal(t, 0, got.code, got.err)
		r := decodeJSON(t, got.out)
		newest := r["versions"].([]any)[0].(map[string]any)
		at := int(newest["position"].(float64))
		require.Contains(t, string(b[at:at+200]), key+value, "key %s", key)
		require.Equal(t, "right", newest["sum"])
		require.Equal(t, "there", r["verdict"])
	}
	require.Equal(t, 1, call(t, "locate", path, "no such key").code)
	require.Equal(t, 1, call(t, "locate", path, "key 3").code, "deleted behind the checkpoint")
}

// TestLogTellsWhyItEnds plants an end and reads the reason.
func TestLogTellsWhyItEnds(t *testing.T) {
	killed := newFixture(t, true)
	log := decodeLog(t, call(t, "log", "--json", killed).out)
	require.Len(t, log, 5, "four records and the end")
	last := int(log[3]["position"].(float64))
	first := int(log[0]["position"].(float64))
	mark := func(b []byte, lsn uint64) {
		m := pager.MetaFields(b[newerMeta(t, killed)*4096:])
		p := pager.ReadMarkPage(b[2*4096:3*4096], m.FileSalt)
		require.Equal(t, p.Sum, p.Want)
		putLE(b[2*4096+8:], lsn)
		putLE(b[2*4096:], pager.ReadMarkPage(b[2*4096:3*4096], m.FileSalt).Want)
	}
	end := uint64(log[4]["end_lsn"].(float64))
	rows := []struct {
		name   string
		change func(b []byte)
		shown  int
		reason string
		code   int
	}{
		{"whole", func([]byte) {}, 4, "where nothing more was written", 0},
		{"last record torn", func(b []byte) { clear(b[last : last+8]) }, 3, "at bytes that are no whole record", 0},
		{"commit torn", func(b []byte) { clear(b[first+60 : first+70]) }, 0, "in a torn tail", 0},
		{"last record damaged below the mark", func(b []byte) { clear(b[last : last+8]); mark(b, end) }, 3, "by damage", 3},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			path := changed(t, killed, row.change)
			got := call(t, "log", "--json", path)
			require.Equal(t, row.code, got.code, got.out)
			log := decodeLog(t, got.out)
			require.Contains(t, log[len(log)-1]["reason"], row.reason)
			if row.name != "commit torn" {
				require.Len(t, log, row.shown+1)
			}
		})
	}
}

func putLE(b []byte, x uint64) {
	for i := range 8 {
		b[i] = byte(x >> (8 * i))
	}
}

// newerMeta is the meta page that an open begins from.
func newerMeta(t *testing.T, path string) int {
	info, err := mapfile.ReadInfo(path)
	require.NoError(t, err)
	return info.Newest
}

func decodeLog(t *testing.T, text string) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		all = append(all, decodeJSON(t, line))
	}
	return all
}

// TestFallback falls back to the older meta page in a copy, which opens with all its keys, and refuses what it must.
func TestFallback(t *testing.T) {
	for _, killed := range []bool{false, true} {
		path := newFixture(t, killed)
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		want, newer := contents(t, path), newerMeta(t, path)
		out := filepath.Join(t.TempDir(), "older.map")
		require.Equal(t, 2, call(t, "surgery", "meta", "fallback", path).code, "neither a copy nor in place")
		got := call(t, "surgery", "meta", "fallback", "--out", out, "--json", path)
		require.Equal(t, 0, got.code, got.err)
		r := decodeJSON(t, got.out)
		require.Equal(t, float64(newer), r["void"])
		require.Equal(t, float64(1-newer), r["use"])
		require.Equal(t, true, r["opens"])
		require.Equal(t, float64(len(want)), r["keys"])
		require.NotEmpty(t, r["fell_back"])
		require.Equal(t, want, contents(t, out))
		require.Equal(t, 1-newer, newerMeta(t, out))
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(before, after), "the source was changed")

		again := call(t, "surgery", "meta", "fallback", "--in-place", out)
		require.Equal(t, 1, strings.Count(again.err, "\n"), again.err)
		require.Equal(t, 3, again.code, "there is no older page any more")
		require.Equal(t, want, contents(t, out))
		require.Equal(t, 2, call(t, "surgery", "meta", "fallback", "--out", out, path).code, "the copy is there")
		require.Equal(t, 0, call(t, "surgery", "meta", "fallback", "--in-place", path).code)
		require.Equal(t, want, contents(t, path))
	}
}

// TestFallbackWantsTheWritersLock: a map that is open is not operated upon.
func TestFallbackWantsTheWritersLock(t *testing.T) {
	path := newFixture(t, false)
	db, err := mapfile.Open(path, &mapfile.Options{ReadOnly: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	got := call(t, "surgery", "meta", "fallback", "--in-place", "--lock-timeout", "0s", path)
	require.Equal(t, 2, got.code, got.err)
	require.Contains(t, got.err, "in use")
}

// TestValidateFindsAWrongField changes a field and mends the sum: only a look at the file can tell.
func TestValidateFindsAWrongField(t *testing.T) {
	path := newFixture(t, true)
	which := newerMeta(t, path)
	rows := []struct {
		name string
		at   int
		want string
	}{
		{"pages", 89, "pages"}, {"root page", 96, "root page"}, {"image page", 104, "image page"}, {"segment", 120, "segment"},
		{"salt", 128, "salt"}, {"position", 136, "position"}, {"lsn", 144, "lsn"}, {"keys", 160, "keys"}, {"buckets", 188, "buckets"},
		{"uuid", 32, "uuid"}, {"number", 73, "number"}, {"zero bytes", 300, "zero bytes"},
	}
	require.Equal(t, 0, call(t, "surgery", "meta", "validate", path).code)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			bad := changed(t, path, func(b []byte) {
				page := b[which*4096 : (which+1)*4096]
				page[row.at] ^= 5
				putLE(page, pager.MetaSum(page, which))
			})
			got := call(t, "surgery", "meta", "validate", bad)
			require.Equal(t, 3, got.code, got.out)
			require.Regexp(t, `meta page `+strconv.Itoa(which)+`, `+row.want+` +[^\n]*WRONG`, got.out)
		})
	}
}

// TestLogWithoutAMap: where there is no meta page log prints what it finds, and says that this is damage; a file that is none is told so.
func TestLogWithoutAMap(t *testing.T) {
	path := newFixture(t, false)
	records := call(t, "log", "--all", path)
	require.Equal(t, 0, records.code, records.err)
	for _, row := range []struct {
		name, flag string
		file       string
		lines      int
		want       string
	}{
		{"meta pages of zeros", "--all", changed(t, path, func(b []byte) { clear(b[:2*4096]) }), strings.Count(records.out, "\n"), "damaged: log: no meta page holds: where it ends is not known"},
		{"stopped before", "--limit=2", changed(t, path, func(b []byte) { clear(b[:2*4096]) }), 4, "damaged: log: no meta page holds: where it ends is not known"},
		{"a text", "--all", changed(t, path, func(b []byte) { copy(b, strings.Repeat("no map\n", len(b)/7+1)) }), 0, "not a mapfile"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := call(t, "log", row.flag, row.file)
			require.Equal(t, 3, got.code)
			require.Equal(t, row.lines, strings.Count(got.out, "\n"), got.out)
			require.Equal(t, "mapfile: "+row.file+": "+row.want+"; run: mapfile check "+row.file+"\n", got.err)
		})
	}
}
