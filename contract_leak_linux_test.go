package mapfile_test

import (
	"bytes"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// resources counts what an open map takes beside memory of the heap.
type resources struct{ mappings, descriptors, goroutines int }

func countResources(t *testing.T) resources {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return resources{bytes.Count(readFile(t, "/proc/self/maps"), []byte("a.map")), len(open), runtime.NumGoroutine()}
}

// above reports whether something is more than before: other tests' leftovers may go meanwhile.
func (r resources) above(before resources) bool {
	return r.mappings > before.mappings || r.descriptors > before.descriptors || r.goroutines > before.goroutines
}

func countMappings(t *testing.T) int {
	t.Helper()
	return bytes.Count(readFile(t, "/proc/self/maps"), []byte("\n"))
}

// TestNoLeak opens and closes maps 10,000 times: nothing stays behind.
func TestNoLeak(t *testing.T) {
	path := newPath(t)
	fill(t, path, nil)
	crashedPath := func() string {
		db := newMap(t, nil)
		require.NoError(t, db.Put([]byte("k"), nil))
		return crashed(t, db)
	}()
	notMap := newPath(t)
	require.NoError(t, os.WriteFile(notMap, []byte("no map"), 0o600))
	rows := []struct {
		name  string
		times int
		use   func(t *testing.T)
	}{
		{"read-write", 4500, func(t *testing.T) {
			db := openTest(t, path, nil)
			v, err := db.Get(stormKey(1))
			require.NoError(t, right(1, v, err))
			require.NoError(t, db.Close())
		}},
		{"read-only", 4500, func(t *testing.T) {
			db := openTest(t, path, &mapfile.Options{ReadOnly: true})
			v, err := db.Get(stormKey(1))
			require.NoError(t, right(1, v, err))
			require.NoError(t, db.Close())
		}},
		{"read-only of a crashed file", 500, func(t *testing.T) {
			require.NoError(t, openTest(t, crashedPath, &mapfile.Options{ReadOnly: true}).Close())
		}},
		{"with a life", 100, func(t *testing.T) {
			db := openTest(t, path, &mapfile.Options{Sync: mapfile.SyncInterval})
			require.NoError(t, db.Put(stormKey(1), []byte(stormValue(1))))
			require.NoError(t, db.Close())
		}},
		{"refused", 400, func(t *testing.T) {
			_, err := mapfile.Open(notMap, nil)
			require.ErrorIs(t, err, mapfile.ErrNotMapfile)
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			row.use(t)
			before, mappings := countResources(t), countMappings(t)
			for range row.times {
				row.use(t)
			}
			now := countResources(t)
			for deadline := time.Now().Add(5 * time.Second); now.above(before) && time.Now().Before(deadline); now = countResources(t) {
				time.Sleep(time.Millisecond) // goroutines of a map may take a moment to leave
			}
			require.False(t, now.above(before), "before %+v, now %+v", before, now)
			require.Less(t, countMappings(t), mappings+50, "mappings of all kinds: the runtime makes some")
		})
	}
}
