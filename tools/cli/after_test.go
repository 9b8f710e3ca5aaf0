package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const afterACrash = "../../docs/after-a-crash.md"

// scenes are the files that the document's commands are run on. Each is a map of the fixtures, changed.
var scenes = map[string]func(t *testing.T) string{
	"killed": func(t *testing.T) string { return newFixture(t, true) },
	"torn": func(t *testing.T) string {
		path := newFixture(t, true)
		log := decodeLog(t, call(t, "log", "--json", path).out)
		last := int(log[2]["position"].(float64)) // of the commit of three records
		return changed(t, path, func(b []byte) { clear(b[last : last+4096]) })
	},
	"meta": func(t *testing.T) string {
		path := newFixture(t, true)
		newer := newerMeta(t, path)
		return changed(t, path, func(b []byte) { copy(b[newer*4096+100:], "trashed!") })
	},
	"bucket": func(t *testing.T) string {
		return changed(t, newFixture(t, true), func(b []byte) { copy(b[32*4096+100:], "trashed!") })
	},
	"metas": func(t *testing.T) string {
		return changed(t, newFixture(t, true), func(b []byte) {
			copy(b[100:], "trashed!")
			copy(b[4096+100:], "trashed!")
		})
	},
	"text": func(t *testing.T) string {
		path := filepath.Join(t.TempDir(), "fruit.map")
		require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("no map\n", 1000)), 0o600))
		return path
	},
}

var block = regexp.MustCompile("(?s)<!-- ([a-z]+) -->\n```\n\\$ mapfile ([^\n]*)\n(.*?)```\n")

// TestAfterACrashShowsWhatTheToolSays runs every command of the document on the file that its comment names, and compares.
func TestAfterACrashShowsWhatTheToolSays(t *testing.T) {
	doc, err := os.ReadFile(afterACrash)
	require.NoError(t, err)
	shown := 0
	text := block.ReplaceAllStringFunc(string(doc), func(b string) string {
		m := block.FindStringSubmatch(b)
		require.Contains(t, scenes, m[1])
		path := scenes[m[1]](t)
		got := call(t, strings.Fields(strings.ReplaceAll(m[2], "fruit.map", path))...)
		out := strings.ReplaceAll(got.out+got.err, path, "fruit.map")
		out = regexp.MustCompile(`(recovery time +)\S+`).ReplaceAllString(out, "${1}1.2ms")
		shown++
		return "<!-- " + m[1] + " -->\n```\n$ mapfile " + m[2] + "\n" + out + "```\n"
	})
	require.Greater(t, shown, 4)
	if *update {
		require.NoError(t, os.WriteFile(afterACrash, []byte(text), 0o644))
		return
	}
	require.Equal(t, text, string(doc))
}

// TestAfterACrashHasTheToolsNextCommands holds the table of the document and the tool's equal, row by row.
func TestAfterACrashHasTheToolsNextCommands(t *testing.T) {
	doc, err := os.ReadFile(afterACrash)
	require.NoError(t, err)
	var rows [][2]string
	for _, m := range regexp.MustCompile("(?m)^\\| ([^|`]+) \\| `([^`]+)` \\| [^|]+ \\|$").FindAllStringSubmatch(string(doc), -1) {
		rows = append(rows, [2]string{m[1], m[2]})
	}
	var want [][2]string
	for _, r := range remedies {
		want = append(want, [2]string{r.name, r.next})
	}
	require.Equal(t, want, rows)
}

// TestNextCommandsExist: what a message says to run next is a command of the tool, with flags that it has.
func TestNextCommandsExist(t *testing.T) {
	for _, r := range remedies {
		words := strings.Fields(r.next)
		if words[0] != "mapfile" {
			continue
		}
		cmd, rest, err := testApp().root.Find(words[1:])
		require.NoError(t, err, r.next)
		require.NotEqual(t, "mapfile", cmd.Name(), r.next)
		require.NoError(t, cmd.ParseFlags(rest), r.next)
	}
}
