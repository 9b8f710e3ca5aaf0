package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeys(t *testing.T) {
	path := newMap(t, map[string]string{"a\nb": "1", "c": "2"})
	rows := []struct {
		name string
		args []string
		end  string
		want []string
	}{
		{"as they are, ended by zero", []string{"--null"}, "\x00", []string{"a\nb", "c"}},
		{"hexadecimal", []string{"--hex"}, "\n", []string{"610a62", "63"}},
		{"base64", []string{"--base64"}, "\n", []string{"YQpi", "Yw=="}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got := call(t, append([]string{"keys", path}, row.args...)...)
			require.Equal(t, 0, got.code)
			require.True(t, strings.HasSuffix(got.out, row.end))
			keys := strings.Split(strings.TrimSuffix(got.out, row.end), row.end)
			sort.Strings(keys)
			require.Equal(t, row.want, keys)
		})
	}
}

func TestDumpAndLoad(t *testing.T) {
	entries := map[string]string{"": "empty key", "empty value": "", "\x00\xff\n": "\"\\\n"}
	for i := range 3 * batchEntries {
		entries[fmt.Sprint("key ", i)] = strings.Repeat("v", i%100)
	}
	dump := call(t, "dump", newMap(t, entries))
	require.Equal(t, 0, dump.code)
	require.Equal(t, len(entries), strings.Count(dump.out, "\n"))

	path := filepath.Join(t.TempDir(), "copy")
	loaded := callWith(t, dump.out, "load", path)
	require.Equal(t, 0, loaded.code, loaded.err)
	require.Empty(t, loaded.out)
	require.Contains(t, loaded.err, "loaded 3,003 entries")
	require.Equal(t, entries, contents(t, path))

	again := callWith(t, "\n"+strings.TrimSpace(`{"value":"bmV3","key":""}`), "load", path)
	require.Equal(t, 0, again.code, again.err)
	require.Equal(t, "new", contents(t, path)[""], "blank lines, another order of fields, no last line feed")
}

func TestLoadRefusesWhatIsNoDump(t *testing.T) {
	good := `{"key":"YQ==","value":"YQ=="}` + "\n"
	for name, bad := range map[string]string{
		"no JSON":        "frob",
		"no base64":      `{"key":"*","value":""}`,
		"no key":         `{"value":""}`,
		"no value":       `{"key":""}`,
		"null":           `{"key":null,"value":""}`,
		"unknown field":  `{"key":"","value":"","extra":1}`,
		"two on a line":  `{"key":"","value":""} {"key":"","value":""}`,
		"cut short":      `{"key":"","val`,
		"another type":   `{"key":1,"value":""}`,
		"array":          `[]`,
		"trailing comma": `{"key":"","value":""},`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m")
			got := callWith(t, good+bad+"\n", "load", path)
			require.Equal(t, 2, got.code)
			require.Contains(t, got.err, "mapfile: stdin: line 2: ")
			require.Contains(t, got.err, errEntry.Error())
			require.NoFileExists(t, path, "a half-made map")
		})
	}
}

func TestLoadIntoAnExistingMapKeepsWhatItCommitted(t *testing.T) {
	path := newMap(t, map[string]string{"old": "1"})
	var dump strings.Builder
	for i := range batchEntries + 5 {
		dump.Write(appendEntry(nil, fmt.Appendf(nil, "%03d", i), []byte("v")))
	}
	got := callWith(t, dump.String()+"frob\n", "load", path)
	require.Equal(t, 2, got.code)
	require.Contains(t, got.err, "line 1006")
	require.Contains(t, got.err, "; the first 1,000 entries (4.0 kB) are in "+path)
	require.Len(t, contents(t, path), 1+batchEntries)
	require.Equal(t, "1", contents(t, path)["old"])
}

// stuck is a stdin that gives some bytes, says so, and then nothing for ever.
type stuck struct {
	first io.Reader
	empty func()
}

func (s *stuck) Read(p []byte) (int, error) {
	if n, err := s.first.Read(p); err == nil {
		return n, nil
	}
	s.empty()
	select {}
}

func TestInterruptedLoad(t *testing.T) {
	dump := strings.Repeat(string(appendEntry(nil, []byte("k"), []byte("v"))), 2*batchEntries+1)
	t.Run("new map is removed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "m")
		got := interruptLoad(dump, path)
		require.Equal(t, result{2, "", "mapfile: stdin: interrupted\n"}, got)
		require.NoFileExists(t, path)
	})
	t.Run("existing map stays", func(t *testing.T) {
		path := newMap(t, map[string]string{"old": "1"})
		got := interruptLoad(dump, path)
		require.Equal(t, 2, got.code)
		require.Contains(t, got.err, "interrupted; the first 2,000 entries")
		require.Equal(t, map[string]string{"old": "1", "k": "v"}, contents(t, path))
	})
}

func interruptLoad(dump, path string) result {
	ctx, cancel := context.WithCancel(context.Background())
	return callApp(ctx, testApp(), &stuck{strings.NewReader(dump), cancel}, "load", path)
}

// newTree makes a directory of the given files.
func newTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return dir
}

func TestImport(t *testing.T) {
	files := map[string]string{"a": "1", "d/b": "", "d/e/c": "\x00"}
	dir := newTree(t, files)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	require.NoError(t, os.Symlink("a", filepath.Join(dir, "link")))
	link := filepath.Join(t.TempDir(), "link to dir")
	require.NoError(t, os.Symlink(dir, link))

	path := filepath.Join(dir, "d", "m") // the map lies in what it takes in
	for _, from := range []string{dir, link} {
		got := call(t, "import", from, path)
		require.Equal(t, 0, got.code, got.err)
		require.Contains(t, got.err, "imported 3 files, ")
		require.Equal(t, files, contents(t, path))
	}
}

func TestImportWithoutASourceMakesNoMap(t *testing.T) {
	for name, dir := range map[string]string{"missing": t.TempDir() + "/none", "no files": t.TempDir(), "a file": notMapfile(t)} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m")
			require.Equal(t, 2, call(t, "import", dir, path).code)
			require.NoFileExists(t, path)
		})
	}
}

func TestInterruptedImport(t *testing.T) {
	files := map[string]string{}
	for i := range batchEntries + 10 {
		files[fmt.Sprintf("%05d", i)] = "content"
	}
	dir := newTree(t, files)
	for name, path := range map[string]string{"new": filepath.Join(t.TempDir(), "m"), "existing": newMap(t, map[string]string{"old": "1"})} {
		t.Run(name, func(t *testing.T) {
			a := testApp()
			ctx, cancel := context.WithCancel(t.Context())
			// Asked when the bar begins, between opening the map and the first file.
			a.isTerminal = func(io.Writer) bool { cancel(); return false }
			got := callApp(ctx, a, strings.NewReader(""), "import", dir, path)
			require.Equal(t, result{2, "", "mapfile: interrupted\n"}, got)
			if name == "new" {
				require.NoFileExists(t, path)
			} else {
				require.Equal(t, map[string]string{"old": "1"}, contents(t, path))
			}
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, left, len(files), "the source has changed")
		})
	}
}
