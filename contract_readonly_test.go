//go:build linux || darwin || freebsd

package mapfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// readOnlyFiles are files that a ReadOnly open must leave alone, however they came to be.
var readOnlyFiles = []struct {
	name string
	make func(t *testing.T) (path string, want map[string]string)
}{
	{"closed", func(t *testing.T) (string, map[string]string) {
		path := newPath(t)
		fill(t, path, nil)
		return path, stormMap()
	}},
	{"empty map", func(t *testing.T) (string, map[string]string) {
		db := openTest(t, newPath(t), nil)
		require.NoError(t, db.Close())
		return db.Path(), map[string]string{}
	}},
	{"crashed before the first checkpoint", func(t *testing.T) (string, map[string]string) {
		db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
		want := map[string]string{}
		putRange(t, db, want, 0, 3000)
		return crashed(t, db), want
	}},
	{"crashed behind a checkpoint", func(t *testing.T) (string, map[string]string) {
		db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
		want := map[string]string{}
		putRange(t, db, want, 0, 20000)
		require.NoError(t, db.Checkpoint())
		putRange(t, db, want, 10000, 30000)
		for i := range 5000 {
			require.NoError(t, db.Delete(numbered(i)))
			delete(want, string(numbered(i)))
		}
		return crashed(t, db), want
	}},
}

func numbered(i int) []byte { return fmt.Appendf(nil, "key %d", i) }

func stormMap() map[string]string {
	m := map[string]string{}
	for i := range stormKeys {
		m[string(stormKey(i))] = stormValue(i)
	}
	return m
}

// putRange puts the numbered keys of a range, in one transaction, and notes them.
func putRange(t *testing.T, db *mapfile.DB, want map[string]string, from, to int) {
	t.Helper()
	require.NoError(t, db.Update(func(tx *mapfile.Tx) error {
		for i := from; i < to; i++ {
			k, v := numbered(i), fmt.Sprintf("value %d of [%d, %d)", i, from, to)
			want[string(k)] = v
			if err := tx.Put(k, []byte(v)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// requireMap checks that a map holds exactly what is wanted, by iteration and by Get.
func requireMap(t testing.TB, db *mapfile.DB, want map[string]string) {
	t.Helper()
	require.EqualValues(t, len(want), db.Len())
	seen := 0
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for k, v := range tx.All() {
			if want[string(k)] != string(v) {
				return fmt.Errorf("key %q has the value %.40q, want %.40q", k, v, want[string(k)])
			}
			seen++
		}
		return tx.Err()
	}))
	require.Equal(t, len(want), seen)
	var got []byte
	for k, v := range want {
		var err error
		if got, err = db.AppendGet(got[:0], []byte(k)); err != nil || string(got) != v {
			require.NoError(t, err, "key %q", k)
			require.Equal(t, v, string(got), "key %q", k)
		}
	}
}

// TestReadOnlyWritesNothing opens files read-only, several at once, reads all, tries to write,
// and compares bytes, length and time of change.
func TestReadOnlyWritesNothing(t *testing.T) {
	for _, row := range readOnlyFiles {
		t.Run(row.name, func(t *testing.T) {
			path, want := row.make(t)
			require.NoError(t, os.Chmod(path, 0o400))
			before, info := readFile(t, path), stat(t, path)
			o := &mapfile.Options{ReadOnly: true, LockTimeout: -1}
			a, b := openTest(t, path, o), openTest(t, path, o)
			for _, db := range []*mapfile.DB{a, b} {
				requireMap(t, db, want)
				requireRefusesWrites(t, db)
				require.NoError(t, db.Sync())
			}
			require.NoError(t, a.Close())
			requireMap(t, b, want)
			require.NoError(t, b.Close())
			after := stat(t, path)
			require.Equal(t, info.Size(), after.Size())
			require.Equal(t, info.ModTime(), after.ModTime())
			require.True(t, bytes.Equal(before, readFile(t, path)), "the file has changed")
			entries, err := os.ReadDir(filepath.Dir(path))
			require.NoError(t, err)
			require.Len(t, entries, 1, "nothing was created beside it")
		})
	}
}

func stat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info
}

// requireRefusesWrites tries everything that would write.
func requireRefusesWrites(t *testing.T, db *mapfile.DB) {
	t.Helper()
	tx, err := db.BeginTx(noContext, &mapfile.TxOptions{ReadOnly: true})
	require.NoError(t, err)
	defer tx.Rollback()
	_, beginErr := db.BeginTx(noContext, nil)
	for what, err := range map[string]error{
		"Put":           db.Put([]byte("k"), nil),
		"Delete":        db.Delete([]byte("k")),
		"Delete a key":  db.Delete(numbered(7000)),
		"Update":        db.Update(func(*mapfile.Tx) error { return errors.New("fn was called") }),
		"BeginTx":       beginErr,
		"Checkpoint":    db.Checkpoint(),
		"Tx.Put":        tx.Put([]byte("k"), nil),
		"Tx.Delete":     tx.Delete([]byte("k")),
		"View's Tx.Put": db.View(func(tx *mapfile.Tx) error { return tx.Put([]byte("k"), nil) }),
	} {
		require.ErrorIs(t, err, mapfile.ErrReadOnly, what)
		requireNames(t, err, db.Path())
	}
}

// TestReadOnlyNeverCreates opens what is not a map, read-only.
func TestReadOnlyNeverCreates(t *testing.T) {
	t.Run("missing", func(t *testing.T) {
		path := newPath(t)
		_, err := mapfile.Open(path, &mapfile.Options{ReadOnly: true})
		require.ErrorIs(t, err, fs.ErrNotExist)
		requireNames(t, err, path)
		_, err = os.Stat(path)
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
	t.Run("empty file", func(t *testing.T) {
		path := newPath(t)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		_, err := mapfile.Open(path, &mapfile.Options{ReadOnly: true})
		require.ErrorIs(t, err, mapfile.ErrNotMapfile)
		requireNames(t, err, path)
		require.Zero(t, stat(t, path).Size())
	})
}

// TestReadOnlyByManyGoroutines shares one read-only Tx of a crashed file.
func TestReadOnlyByManyGoroutines(t *testing.T) {
	path, want := readOnlyFiles[3].make(t)
	db := openTest(t, path, &mapfile.Options{ReadOnly: true})
	defer func() { require.NoError(t, db.Close()) }()
	tx, err := db.BeginTx(noContext, &mapfile.TxOptions{ReadOnly: true})
	require.NoError(t, err)
	defer tx.Rollback()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; i < 30000; i += 7 {
				v, err := tx.Get(numbered(i))
				w, ok := want[string(numbered(i))]
				if ok != (err == nil) || string(v) != w {
					t.Errorf("key %d is %q, %v; want %q", i, v, err, w)
					return
				}
			}
		})
	}
	wg.Wait()
}
