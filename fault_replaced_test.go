//go:build linux || darwin || freebsd

package mapfile_test

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// TestReplacedTouchesNothing takes the file of an open map away in each way, and lets each call that promises durability
// find out. From then on nothing is read, nothing is written, neither to the old file nor to the one that has its path,
// and the old one still holds what was acknowledged.
func TestReplacedTouchesNothing(t *testing.T) {
	for _, how := range replacements {
		if how.name == "cut short" {
			continue // TestSIGBUS gives such a file its bytes back
		}
		for name, promise := range map[string]func(db *mapfile.DB) error{
			"Put": func(db *mapfile.DB) error { return db.Put([]byte("late"), []byte("unknown")) },
			"Update": func(db *mapfile.DB) error {
				return db.Update(func(tx *mapfile.Tx) error { return tx.Put([]byte("late"), []byte("unknown")) })
			},
			"Delete":     func(db *mapfile.DB) error { return db.Delete(numbered(5)) },
			"Checkpoint": (*mapfile.DB).Checkpoint,
		} {
			t.Run(how.name+", "+name, func(t *testing.T) { replacedTouchesNothing(t, how.do, promise) })
		}
	}
}

func replacedTouchesNothing(t *testing.T, replace func(*testing.T, string), promise func(*mapfile.DB) error) {
	path := newPath(t)
	db := openTest(t, path, nil)
	defer db.Close()
	model := map[string]string{}
	putRange(t, db, model, 0, 60)
	old, err := os.Open(path)
	require.NoError(t, err)
	defer old.Close()
	tx, err := db.BeginTx(noContext, &mapfile.TxOptions{ReadOnly: true})
	require.NoError(t, err)
	for range tx.All() { // the file goes away inside a loop
		replace(t, path)
		err = promise(db)
		require.ErrorIs(t, err, mapfile.ErrReplaced)
		require.ErrorIs(t, err, mapfile.ErrFailed)
	}
	require.ErrorIs(t, tx.Err(), mapfile.ErrFailed, "the loop ends")
	require.NoError(t, tx.Rollback())

	was, there := contentsOf(t, old), fileOrNil(t, path)
	for what, err := range map[string]error{
		"Get":        second(db.Get(numbered(1))),
		"Has":        second(db.Has(numbered(1))),
		"GetFunc":    db.GetFunc(numbered(1), func([]byte) error { return nil }),
		"GetMany":    db.GetMany([][]byte{numbered(1)}, func(int, []byte, error) error { return nil }),
		"View":       db.View(func(*mapfile.Tx) error { return nil }),
		"Put":        db.Put(numbered(1), nil),
		"Delete":     db.Delete(numbered(1)),
		"Sync":       db.Sync(),
		"Checkpoint": db.Checkpoint(),
		"Compact":    db.Compact(noContext),
	} {
		require.ErrorIs(t, err, mapfile.ErrFailed, what)
		require.ErrorIs(t, err, mapfile.ErrReplaced, what)
		requireNames(t, err, path)
	}
	require.EqualValues(t, db.Len(), db.Stats().Keys)
	require.NoError(t, db.Close())
	require.Equal(t, was, contentsOf(t, old), "nothing is written to the file that was")
	require.Equal(t, there, fileOrNil(t, path), "nor to the one that has its path")

	again := newPath(t)
	require.NoError(t, os.WriteFile(again, was, 0o600))
	db = openTest(t, again, nil)
	for k, v := range model {
		if k == string(numbered(5)) {
			continue // its deletion may have happened
		}
		got, err := db.Get([]byte(k))
		require.NoError(t, err)
		require.Equal(t, v, string(got))
	}
	require.NoError(t, db.Close())
}

// TestMovedAway is no replacement: a file that has a name goes on, wherever that is.
func TestMovedAway(t *testing.T) {
	path := newPath(t)
	db := openTest(t, path, nil)
	model := map[string]string{}
	putRange(t, db, model, 0, 20)
	require.NoError(t, os.Rename(path, path+".moved"))
	putRange(t, db, model, 20, 40)
	require.NoError(t, db.Checkpoint())
	require.NoError(t, db.Close())
	_, err := os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	db = openTest(t, path+".moved", nil)
	require.EqualValues(t, len(model), db.Len())
	require.NoError(t, db.Close())
}

func second[T any](_ T, err error) error { return err }

// contentsOf reads an open file, whatever its name is.
func contentsOf(t *testing.T, f *os.File) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	require.NoError(t, err)
	return b
}

// fileOrNil is the file at path, nil if there is none.
func fileOrNil(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	return b
}
