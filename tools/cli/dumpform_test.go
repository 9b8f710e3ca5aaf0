package cli

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// anyBytes are entries of any bytes, with keys that LMDB takes too: 1 to 511 bytes.
func anyBytes(seed uint64, n int) map[string]string {
	r := rand.New(rand.NewPCG(seed, 1))
	random := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	}
	entries := map[string]string{
		"\x00": "\x00\xff\n\r\t\\", "\t\n": "", `\x00`: `\`, " ": " a ", "DATA=END": "HEADER=END", strings.Repeat("k", 511): strings.Repeat("\n", 5000),
	}
	for range n {
		entries[random(1+r.IntN(511))] = random(r.IntN(300))
	}
	return entries
}

// TestDumpForms writes each form and reads it back.
func TestDumpForms(t *testing.T) {
	const seed = 1
	entries := anyBytes(seed, 300)
	entries[""] = "empty key"
	from := newMap(t, entries)
	for _, format := range []string{formNDJSON, formBDB, formTSV} {
		t.Run(format, func(t *testing.T) {
			dump := call(t, "dump", from, "--format", format)
			require.Equal(t, 0, dump.code, dump.err)
			path := filepath.Join(t.TempDir(), "copy")
			loaded := callWith(t, dump.out, "load", path, "--format", format)
			require.Equal(t, 0, loaded.code, loaded.err)
			require.Equal(t, entries, contents(t, path), "seed %d", seed)
		})
	}
}

func TestDumpFormRows(t *testing.T) {
	const bdbHead = "VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n"
	rows := []struct {
		name, format, dump string
		want               map[string]string // nil: refused
		message            string
	}{
		{"tsv", formTSV, "a\tb\n\\t\\n\\r\\\\\\x00\t\\x41\n\t\n", map[string]string{"a": "b", "\t\n\r\\\x00": "A", "": ""}, ""},
		{"tsv with the line ends of another system", formTSV, "a\tb\r\n", map[string]string{"a": "b"}, ""},
		{"tsv without a tab", formTSV, "a\tb\nc\n", nil, "line 2: want key, tab, value"},
		{"tsv with two tabs", formTSV, "a\tb\tc\n", nil, "line 1"},
		{"tsv with an unknown escape", formTSV, "a\t\\q\n", nil, `\q`},
		{"tsv with half a byte", formTSV, "a\t\\x4\n", nil, "two digits"},
		{"tsv with a backslash at the end", formTSV, "a\\\tb\n", nil, "backslash"},
		{"bdb", formBDB, bdbHead + " 6B\n 76\n \n \nDATA=END\n", map[string]string{"k": "v", "": ""}, ""},
		{"bdb for people", formBDB, "VERSION=3\nformat=print\ntype=hash\nh_nelem=2\ndb_pagesize=4096\nHEADER=END\n a\\\\b\\0a\n v \nDATA=END\n", map[string]string{"a\\b\n": "v "}, ""},
		{"bdb of LMDB", formBDB, "VERSION=3\nformat=bytevalue\ntype=btree\nmapsize=1048576\nmaxreaders=126\ndb_pagesize=4096\nHEADER=END\nDATA=END\n", map[string]string{}, ""},
		{"bdb cut in the entries", formBDB, bdbHead + " 6b\n 76\n", nil, "cut short"},
		{"bdb cut in an entry", formBDB, bdbHead + " 6b\nDATA=END\n", nil, "line 6: a key without a value"},
		{"bdb cut in the header", formBDB, "VERSION=3\n", nil, "cut short"},
		{"bdb of records by number", formBDB, "VERSION=3\nformat=bytevalue\ntype=recno\nHEADER=END\nDATA=END\n", nil, "type=recno"},
		{"bdb with many values a key", formBDB, "VERSION=3\nduplicates=1\ntype=btree\nHEADER=END\nDATA=END\n", nil, "duplicates=1"},
		{"bdb of two databases", formBDB, bdbHead + "DATA=END\n" + bdbHead, nil, "more than one database"},
		{"bdb without the space", formBDB, bdbHead + "6b\n", nil, "line 5"},
		{"bdb that is not hexadecimal", formBDB, bdbHead + " xy\n", nil, "line 5"},
		{"bdb with half an escape", formBDB, "VERSION=3\nformat=print\ntype=btree\nHEADER=END\n a\\0\n", nil, "backslash"},
		{"bdb with a wrong escape", formBDB, "VERSION=3\nformat=print\ntype=btree\nHEADER=END\n a\\zz\n", nil, "no byte"},
		{"bdb that is something else", formBDB, "frob\n", nil, "NAME=VALUE"},
		{"an unknown form", "xml", "", nil, "want one of ndjson, bdb, tsv"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m")
			got := callWith(t, row.dump, "load", path, "--format", row.format)
			if row.want == nil {
				require.Equal(t, 2, got.code)
				require.Contains(t, got.err, row.message)
				require.NoFileExists(t, path)
				return
			}
			require.Equal(t, 0, got.code, got.err)
			require.Equal(t, row.want, contents(t, path))
		})
	}
}

// TestDumpThroughRivals sends entries of any bytes through the programs of Berkeley DB and of LMDB, and back. (LMDB's form for
// people, mdb_dump -p, is left out: version 0.9.24 does not escape a backslash, so it cannot be read back for sure.)
func TestDumpThroughRivals(t *testing.T) {
	const seed = 2
	entries := anyBytes(seed, 500)
	from := newMap(t, entries)
	for _, rival := range []struct {
		name    string
		load    []string // FILE follows
		dump    []string
		flags   []string // of our dump
		program string   // of the Debian package
	}{
		{"LMDB", []string{"mdb_load", "-n"}, []string{"mdb_dump", "-n"}, []string{"--mapsize", fmt.Sprint(8 << 20)}, "lmdb-utils"},
		{"Berkeley DB", []string{"db5.3_load"}, []string{"db5.3_dump"}, nil, "db5.3-util"},
		{"Berkeley DB, for people", []string{"db5.3_load"}, []string{"db5.3_dump", "-p"}, nil, "db5.3-util"},
	} {
		t.Run(rival.name, func(t *testing.T) {
			if _, err := exec.LookPath(rival.load[0]); err != nil {
				t.Skipf("%s is not there: install the Debian package %s", rival.load[0], rival.program)
			}
			dump := call(t, append([]string{"dump", from, "--format", "bdb"}, rival.flags...)...)
			require.Equal(t, 0, dump.code, dump.err)
			file := filepath.Join(t.TempDir(), "rival")
			load := exec.Command(rival.load[0], append(rival.load[1:], file)...)
			load.Stdin = strings.NewReader(dump.out)
			out, err := load.CombinedOutput()
			require.NoError(t, err, "%s", out)
			back, err := exec.Command(rival.dump[0], append(rival.dump[1:], file)...).Output()
			require.NoError(t, err)
			path := filepath.Join(t.TempDir(), "back")
			loaded := callWith(t, string(back), "load", path, "--format", "bdb")
			require.Equal(t, 0, loaded.code, loaded.err)
			require.Equal(t, entries, contents(t, path), "seed %d", seed)
		})
	}
}
