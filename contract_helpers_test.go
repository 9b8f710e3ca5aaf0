//go:build linux || darwin || freebsd

package mapfile_test

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/pager"
)

var (
	noContext   = context.Background()
	tooLargeKey = make([]byte, mapfile.MaxKeySize+1)
)

// requireNames checks the shape of a message: it begins with "mapfile:" and names the file.
func requireNames(t *testing.T, err error, path string) {
	t.Helper()
	require.Error(t, err)
	require.True(t, strings.HasPrefix(err.Error(), "mapfile: "), "message %q", err)
	require.Contains(t, err.Error(), path)
}

// newPath is a path for a new map, free of symbolic links as messages name it.
func newPath(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	return filepath.Join(dir, "a.map")
}

// newMap is an open map, closed when the test ends.
func newMap(t testing.TB, o *mapfile.Options) *mapfile.DB {
	t.Helper()
	db := openTest(t, newPath(t), o)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// crashed copies the file of an open map as a killed process leaves it, and gives the copy's path.
func crashed(t testing.TB, db *mapfile.DB) string {
	t.Helper()
	path := newPath(t)
	require.NoError(t, os.WriteFile(path, readFile(t, db.Path()), 0o600))
	return path
}

// metaField is where FORMAT.md puts a field of a meta page.
const (
	metaVersion  = 16
	metaMustKnow = 24
)

// patchMeta changes a 32-bit field in both meta pages and makes their sums hold.
func patchMeta(b []byte, field int, x uint32) {
	for which := range 2 {
		m := b[which*pager.PageSize:]
		binary.LittleEndian.PutUint32(m[field:], x)
	}
	sumMetas(b)
}

// sumMetas makes the sums of both meta pages hold.
func sumMetas(b []byte) {
	for which := range 2 {
		if from := which * pager.PageSize; len(b) >= from+pager.SectorSize {
			m := b[from : from+pager.SectorSize]
			binary.LittleEndian.PutUint64(m, xxhash.Sum64(m[8:])^pager.Mix(0x6d657461, uint64(which)))
		}
	}
}
