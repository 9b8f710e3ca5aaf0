package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// killedMap makes a map whose process was killed while it wrote, and says how
// many Puts had returned.
func killedMap(t *testing.T) (path string, puts int64) {
	t.Helper()
	a, dir := testApp(), demoTree(t)
	src, err := listSource(t.Context(), dir, nil)
	require.NoError(t, err)
	path = filepath.Join(t.TempDir(), "killed")
	d := &demo{app: a, cmd: a.root, dir: dir, path: path, ledger: newLedger(src)}
	lived, err := d.runChild(t.Context(), "never", time.Minute, func() bool { return d.ledger.puts >= 50 })
	require.NoError(t, err)
	return path, lived.puts
}

func TestRecoverAfterAKill(t *testing.T) {
	path, puts := killedMap(t)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, call(t, "info", path).out, "closed cleanly   no\n")

	dry := call(t, "recover", "--dry-run", "--json", path)
	require.Equal(t, 0, dry.code, dry.err)
	would := decodeJSON(t, dry.out)
	require.Equal(t, true, would["recovered"])
	require.GreaterOrEqual(t, would["records"], float64(puts))
	for _, verb := range []string{"stats", "check", "keys", "dump"} {
		got := call(t, verb, path)
		require.Equal(t, 0, got.code, got.err)
	}
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after, "a reading verb changed the file")

	text := call(t, "recover", path)
	require.Equal(t, 0, text.code, text.err)
	golden(t, "recover-after-kill", path, text.out)
	require.Contains(t, call(t, "info", path).out, "closed cleanly   yes\n")
	again := decodeJSON(t, call(t, "recover", "--json", path).out)
	require.Equal(t, false, again["recovered"])
	require.Equal(t, would["keys"], again["keys"])
}
