package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// TestCrashtest runs a short one: it passes, says so, and leaves nothing. One whose map loses a key between kill and check
// fails and keeps its folder.
func TestCrashtest(t *testing.T) {
	rows := []struct {
		name  string
		spoil func(path string) error
		code  int
		last  string
		left  int
	}{
		{"whole", nil, 0, "crashtest: ok", 0},
		{"a lost key", loseAKey, 1, "crashtest: FAILED", 1},
		{"a damaged map", func(path string) error { return os.Truncate(path, 8192) }, 3, "crashtest: FAILED", 1},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a, dir := testApp(), t.TempDir()
			a.afterKill = row.spoil
			got := callApp(t.Context(), a, strings.NewReader(""), "crashtest", "--for", "1ms", "--size", "100kB", "--seed", "1", dir)
			require.Equal(t, row.code, got.code, got.out+got.err)
			require.True(t, strings.HasSuffix(got.out, row.last+"\n"), got.out)
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, left, row.left)
		})
	}
}

// loseAKey deletes what the map holds behind the test's back.
func loseAKey(path string) error {
	db, err := mapfile.Open(path, nil)
	if err != nil {
		return err
	}
	var keys [][]byte
	err = db.View(func(tx *mapfile.Tx) error {
		for key := range tx.All() {
			keys = append(keys, append([]byte(nil), key...))
		}
		return tx.Err()
	})
	for _, key := range keys {
		err = first(err, db.Delete(key))
	}
	return first(err, db.Close())
}
