//go:build linux || darwin || freebsd

package mapfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/pager"
)

// TestOpenErrors opens what is no good map. Both kinds of open say why, name the path and change nothing.
func TestOpenErrors(t *testing.T) {
	good := func(t *testing.T) []byte {
		path := newPath(t)
		fill(t, path, nil)
		return readFile(t, path)
	}
	patched := func(field int, x uint32) func(*testing.T) []byte {
		return func(t *testing.T) []byte {
			b := good(t)
			patchMeta(b, field, x)
			return b
		}
	}
	rows := []struct {
		name    string
		content func(t *testing.T) []byte
		want    error
	}{
		{"text", func(*testing.T) []byte { return []byte("Dear diary, this is no map.\n") }, mapfile.ErrNotMapfile},
		{"long text", func(*testing.T) []byte { return bytes.Repeat([]byte("no map "), 10000) }, mapfile.ErrNotMapfile},
		{"zeros", func(*testing.T) []byte { return make([]byte, 100<<10) }, mapfile.ErrNotMapfile},
		{"one byte", func(*testing.T) []byte { return []byte{1} }, mapfile.ErrNotMapfile},
		{"later version", patched(metaVersion, pager.FormatVersion+1), mapfile.ErrVersion},
		{"feature that must be known", patched(metaMustKnow, 1<<31), mapfile.ErrVersion},
		{"one meta page of a later version", func(t *testing.T) []byte {
			b := good(t)
			later := bytes.Clone(b)
			patchMeta(later, metaVersion, pager.FormatVersion+1)
			copy(b[pager.PageSize:2*pager.PageSize], later[pager.PageSize:])
			return b
		}, mapfile.ErrVersion},
		{"both meta pages damaged", func(t *testing.T) []byte {
			b := good(t)
			b[100] ^= 0xff
			b[pager.PageSize+100] ^= 0xff
			return b
		}, mapfile.ErrCorrupt},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			path, content := newPath(t), row.content(t)
			require.NoError(t, os.WriteFile(path, content, 0o600))
			for _, readOnly := range []bool{false, true} {
				_, err := mapfile.Open(path, &mapfile.Options{ReadOnly: readOnly})
				require.ErrorIs(t, err, row.want)
				requireNames(t, err, path)
				require.True(t, bytes.Equal(content, readFile(t, path)), "the file has changed")
			}
		})
	}
}

// TestCutShort cuts a closed map and a crashed one at every page, and within pages. What is left is
// refused, or opens and gives right values or ErrCorrupt.
func TestCutShort(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	want := map[string]string{}
	putRange(t, db, want, 0, 500)
	require.NoError(t, db.Checkpoint())
	putRange(t, db, want, 400, 900)
	closed := newPath(t)
	c := openTest(t, closed, nil)
	putRange(t, c, map[string]string{}, 0, 500)
	putRange(t, c, map[string]string{}, 400, 900)
	require.NoError(t, c.Close())
	for name, whole := range map[string][]byte{"crashed": readFile(t, crashed(t, db)), "closed": readFile(t, closed)} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			refused := 0
			for size := 1; size < len(whole); size += 2048 - size%2 {
				require.NoError(t, os.WriteFile(path, whole[:size], 0o600))
				for _, readOnly := range []bool{true, false} {
					if !opensOrRefuses(t, path, readOnly, want, size) {
						refused++
					}
				}
			}
			require.NotZero(t, refused)
		})
	}
}

// opensOrRefuses opens a file that may be damaged. What opens must tell no lie.
func opensOrRefuses(t *testing.T, path string, readOnly bool, want map[string]string, size int) bool {
	t.Helper()
	db, err := mapfile.Open(path, &mapfile.Options{ReadOnly: readOnly})
	if err != nil {
		require.True(t, errors.Is(err, mapfile.ErrNotMapfile) || errors.Is(err, mapfile.ErrCorrupt), "cut to %d bytes: %v", size, err)
		requireNames(t, err, path)
		return false
	}
	for k := range want {
		v, err := db.Get([]byte(k))
		switch {
		case errors.Is(err, mapfile.ErrCorrupt), err == mapfile.ErrNotFound:
		case err != nil || !strings.HasPrefix(string(v), "value "+strings.TrimPrefix(k, "key ")+" of"):
			t.Fatalf("cut to %d bytes: %q is %q, %v", size, k, v, err)
		}
	}
	require.NoError(t, db.Close(), "cut to %d bytes", size)
	return true
}

// TestOpenSpecial opens what is no regular file, or cannot be opened.
func TestOpenSpecial(t *testing.T) {
	rows := []struct {
		name string
		path func(t *testing.T) string
		want error
	}{
		{"a directory", func(t *testing.T) string { return filepath.Dir(newPath(t)) }, syscall.EISDIR},
		{"in a directory that is not there", func(t *testing.T) string { return filepath.Join(newPath(t), "x") }, fs.ErrNotExist},
		{"below a file", func(t *testing.T) string {
			path := newPath(t)
			require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
			return filepath.Join(path, "x")
		}, syscall.ENOTDIR},
		{"a name too long", func(t *testing.T) string { return newPath(t) + strings.Repeat("x", 300) }, syscall.ENAMETOOLONG},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			path := row.path(t)
			for _, readOnly := range []bool{false, true} {
				_, err := mapfile.Open(path, &mapfile.Options{ReadOnly: readOnly})
				require.ErrorIs(t, err, row.want)
				requireNames(t, err, path)
			}
		})
	}
}

// TestPermission opens without permission. For root, whom nothing is forbidden, a child drops its rights.
func TestPermission(t *testing.T) {
	path := newPath(t)
	fill(t, path, nil)
	unreadable := newPath(t)
	require.NoError(t, os.WriteFile(unreadable, readFile(t, path), 0))
	require.NoError(t, os.Chmod(path, 0o444))
	if os.Getuid() == 0 {
		for dir := range strings.SplitSeq(path+"\n"+unreadable, "\n") {
			for dir = filepath.Dir(dir); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
				require.NoError(t, os.Chmod(dir, 0o755))
			}
		}
		c := startChild(t, "no permission", path, unreadable)
		require.Equal(t, []string{"good"}, c.rest())
		return
	}
	require.NoError(t, withoutPermission(path, unreadable))
}

// withoutPermission opens a file that may only be read, and one that may not.
func withoutPermission(path, unreadable string) error {
	if _, err := mapfile.Open(path, nil); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), path) {
		return errors.Join(errors.New("read-write open of a file that may only be read"), err)
	}
	if _, err := mapfile.Open(filepath.Join(filepath.Dir(path), "new"), nil); os.Getuid() != 0 && dirIsForeign(path) && !errors.Is(err, fs.ErrPermission) {
		return errors.Join(errors.New("creation in a directory that may not be written"), err)
	}
	if _, err := mapfile.Open(unreadable, &mapfile.Options{ReadOnly: true}); !errors.Is(err, fs.ErrPermission) {
		return errors.Join(errors.New("read-only open of a file that may not be read"), err)
	}
	db, err := mapfile.Open(path, &mapfile.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	if v, err := db.Get(stormKey(1)); right(1, v, err) != nil {
		return right(1, v, err)
	}
	return db.Close()
}

func dirIsForeign(path string) bool {
	info, err := os.Stat(filepath.Dir(path))
	st, ok := info.Sys().(*syscall.Stat_t)
	return err == nil && ok && int(st.Uid) != os.Getuid()
}

// TestEmptyFileBecomesMap keeps the permission of the file that was there.
func TestEmptyFileBecomesMap(t *testing.T) {
	path := newPath(t)
	require.NoError(t, os.WriteFile(path, nil, 0o640))
	require.NoError(t, os.Chmod(path, 0o640))
	db := openTest(t, path, &mapfile.Options{Mode: 0o600})
	require.NoError(t, db.Put([]byte("k"), []byte("v")))
	require.NoError(t, db.Close())
	require.Equal(t, fs.FileMode(0o640), stat(t, path).Mode().Perm())
	db = openTest(t, path, nil)
	requireValue(t, db, []byte("k"), []byte("v"))
	require.NoError(t, db.Close())
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// replacements take the file away from under an open map.
var replacements = []struct {
	name string
	do   func(t *testing.T, path string)
}{
	{"renamed over", func(t *testing.T, path string) {
		require.NoError(t, os.WriteFile(path+".new", []byte("other"), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}},
	{"unlinked", func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }},
	{"cut short", func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 8192)) }},
}

// TestReplaced takes the file away: the next call that promises durability says ErrReplaced, later ones ErrFailed
// with that cause, and the process lives.
func TestReplaced(t *testing.T) {
	promises := []struct {
		name string
		sync mapfile.SyncMode
		call func(db *mapfile.DB) error
	}{
		{"Put", mapfile.SyncAlways, func(db *mapfile.DB) error { return db.Put([]byte("k"), []byte("lost")) }},
		{"Update", mapfile.SyncAlways, func(db *mapfile.DB) error {
			return db.Update(func(tx *mapfile.Tx) error { return tx.Put([]byte("k"), []byte("lost")) })
		}},
		{"Sync", mapfile.SyncNever, (*mapfile.DB).Sync},
		{"Checkpoint", mapfile.SyncNever, (*mapfile.DB).Checkpoint},
		{"Close", mapfile.SyncNever, (*mapfile.DB).Close},
	}
	for _, how := range replacements {
		for _, promise := range promises {
			t.Run(how.name+", "+promise.name, func(t *testing.T) {
				db := openTest(t, newPath(t), &mapfile.Options{Sync: promise.sync})
				defer db.Close()
				require.NoError(t, db.Put([]byte("k"), []byte("v")))
				how.do(t, db.Path())
				err := promise.call(db)
				if how.name == "cut short" {
					require.Error(t, err) // by the check of the path, or by a fault before it
				} else {
					require.ErrorIs(t, err, mapfile.ErrReplaced)
				}
				requireNames(t, err, db.Path())
				if promise.name == "Close" {
					return
				}
				require.ErrorIs(t, db.Put([]byte("k"), nil), mapfile.ErrFailed)
				_, err = db.Get([]byte("k"))
				require.ErrorIs(t, err, mapfile.ErrFailed)
				require.NoError(t, db.Close(), "a failed map writes nothing")
			})
		}
	}
}

// TestCutUnderReaders cuts the file under a map that is being read: an error of each call, no dead process.
func TestCutUnderReaders(t *testing.T) {
	db := openTest(t, newPath(t), &mapfile.Options{Sync: mapfile.SyncNever})
	putRange(t, db, map[string]string{}, 0, 30000)
	key := numbered(29999)
	tx, err := db.BeginTx(noContext, &mapfile.TxOptions{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, db.GetFunc(key, func(v []byte) error {
		require.NotEmpty(t, v)
		return nil
	}))
	inCallback := db.GetFunc(key, func(v []byte) error {
		require.NoError(t, os.Truncate(db.Path(), 4096))
		t.Errorf("there was no fault, but %q", bytes.Clone(v)) // the caller's own read faults
		return nil
	})
	_, getErr := db.Get(key)
	_, hasErr := db.Has(key)
	_, txErr := tx.Get(key)
	for range tx.All() {
		t.Error("All yields what is gone")
		break
	}
	for what, err := range map[string]error{
		"read in the callback": inCallback, "Get": getErr, "Has": hasErr, "Tx.Get": txErr, "All": tx.Err(),
		"GetFunc": db.GetFunc(key, func([]byte) error { return nil }),
		"GetMany": db.GetMany([][]byte{key}, func(_ int, _ []byte, err error) error { return err }),
		"Put":     db.Put([]byte("new"), nil),
	} {
		require.Error(t, err, what)
		requireNames(t, err, db.Path())
	}
	require.NoError(t, tx.Rollback())
	require.NoError(t, db.Close())
}
