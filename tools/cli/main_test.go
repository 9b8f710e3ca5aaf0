package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// childEnv turns the test program into the command line.
const childEnv = "MAPFILE_CLI_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(Main(context.Background(), New(nil)))
	}
	os.Exit(m.Run())
}

// testApp is a tree whose children are this test program.
func testApp() *app {
	return newApp(&Options{Child: func(args ...string) (*exec.Cmd, error) {
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append(os.Environ(), childEnv+"=1")
		return cmd, nil
	}})
}

// result is what one call of the command line left.
type result struct {
	code     int
	out, err string
}

// call runs the command line in this process.
func call(t *testing.T, args ...string) result {
	t.Helper()
	return callApp(t.Context(), testApp(), strings.NewReader(""), args...)
}

func callWith(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return callApp(t.Context(), testApp(), strings.NewReader(stdin), args...)
}

func callApp(ctx context.Context, a *app, stdin io.Reader, args ...string) result {
	var out, errOut bytes.Buffer
	a.root.SetArgs(append([]string{}, args...)) // nil would mean those of this process
	a.root.SetIn(stdin)
	a.root.SetOut(&out)
	a.root.SetErr(&errOut)
	code := Main(ctx, a.root)
	return result{code, out.String(), errOut.String()}
}

// newMap makes a map of the given keys and values and returns its path.
func newMap(t *testing.T, entries map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.mapfile")
	db, err := mapfile.Open(path, &mapfile.Options{Sync: mapfile.SyncNever})
	require.NoError(t, err)
	for key, value := range entries {
		require.NoError(t, db.Put([]byte(key), []byte(value)))
	}
	require.NoError(t, db.Close())
	return path
}

// contents gives all entries of the map at path.
func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	db, err := mapfile.Open(path, &mapfile.Options{ReadOnly: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	got := map[string]string{}
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for key, value := range tx.All() {
			got[string(key)] = string(value)
		}
		return tx.Err()
	}))
	return got
}

// notMapfile makes a file that is no map.
func notMapfile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("no map "), 10_000), 0o600))
	return path
}

// damagedMap makes a map whose meta pages are whole and the rest of it not.
func damagedMap(t *testing.T) string {
	t.Helper()
	path := newMap(t, map[string]string{"a": "1", "b": "2"})
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := 2 * 4096; i < len(content); i++ {
		content[i] ^= 0xa5
	}
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

func decodeJSON(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &v))
	return v
}

var (
	volatileUUID   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	volatileNumber = regexp.MustCompile(`\b[0-9]+(,[0-9]{3})*(\.[0-9]+)?(ns|µs|ms|s)?`)
)

// golden compares text, with path and all that varies replaced, with the file of
// that name.
func golden(t *testing.T, name, path, text string) {
	t.Helper()
	text = strings.ReplaceAll(text, path, "FILE")
	text = volatileUUID.ReplaceAllString(text, "UUID")
	text = volatileNumber.ReplaceAllString(text, "N")
	file := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), text)
}
