//go:build linux || darwin || freebsd

package mapfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// FuzzRepairBytes takes any bytes for a damaged map, and repairs and salvages it in every way: only errors that say what is
// wrong may come, and what comes out is a map that holds. mend and mendIndex are as in FuzzOpenBytes.
func FuzzRepairBytes(f *testing.F) {
	for _, b := range smallMaps(f) {
		f.Add(b, false, false)
		f.Add(b[:len(b)*2/3], true, false)
		for i, at := 0, 20; at < len(b); i, at = i+1, at*8+1 {
			spoiled := append([]byte(nil), b...)
			spoiled[at] ^= 0x55
			copy(spoiled[len(b)-1-at/2:], "trash")
			f.Add(spoiled, i%3 > 0, i%3 > 1)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, mend, mendIndex bool) {
		b = append([]byte(nil), b...)
		if mendIndex {
			sumIndex(b)
		}
		if mend {
			sumMetas(b)
		}
		begin := time.Now()
		dir := t.TempDir()
		path, into := filepath.Join(dir, "f.map"), filepath.Join(dir, "new")
		require.NoError(t, os.WriteFile(path, b, 0o600))
		for _, o := range []mapfile.RecoverOptions{
			{DryRun: true}, {DryRun: true, RebuildIndex: true}, {DryRun: true, AcceptLoss: true}, {DryRun: true, RebuildIndex: true, AcceptLoss: true},
		} {
			_, err := mapfile.Recover(t.Context(), path, &o)
			reasoned(t, err)
		}
		_, err := mapfile.Salvage(t.Context(), path, into, &mapfile.SalvageOptions{Older: mend})
		reasoned(t, err)
		require.Equal(t, b, readFile(t, path), "a dry run or a salvage changed the file")
		if err == nil {
			report, err := mapfile.Check(t.Context(), into, nil)
			require.NoError(t, err)
			require.Empty(t, report.Findings)
		}
		o := mapfile.RecoverOptions{RebuildIndex: mendIndex || mend, AcceptLoss: true}
		_, err = mapfile.Recover(t.Context(), path, &o)
		reasoned(t, err)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.LessOrEqual(t, len(left), 2, "something was left behind")
		require.Less(t, time.Since(begin), 20*time.Second, "no file may take so long")
	})
}

// reasoned requires that an error, if there is one, is what a damaged file may answer.
func reasoned(t *testing.T, err error) {
	t.Helper()
	for _, ok := range []error{nil, mapfile.ErrNotMapfile, mapfile.ErrVersion, mapfile.ErrCorrupt, mapfile.ErrFull, mapfile.ErrFailed, mapfile.ErrHashExhausted} {
		if errors.Is(err, ok) {
			require.NotErrorIs(t, err, fs.ErrNotExist)
			return
		}
	}
	t.Fatal(err)
}
