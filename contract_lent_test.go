//go:build linux || darwin || freebsd

package mapfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile"
)

// callbacks are the calls that run code of the caller's over bytes that the map lends it, of the key "k" alone.
var callbacks = []struct {
	name     string
	borrowed bool // the bytes are the mapping's own
	call     func(db *mapfile.DB, fn func(value []byte)) error
}{
	{"GetFunc", true, func(db *mapfile.DB, fn func([]byte)) error {
		return db.GetFunc([]byte("k"), func(v []byte) error { fn(v); return nil })
	}},
	{"GetMany", true, func(db *mapfile.DB, fn func([]byte)) error {
		return db.GetMany([][]byte{[]byte("k")}, func(_ int, v []byte, err error) error {
			if err == nil {
				fn(v)
			}
			return err
		})
	}},
	{"Tx.GetFunc of a snapshot", true, func(db *mapfile.DB, fn func([]byte)) error {
		return db.View(func(tx *mapfile.Tx) error { return tx.GetFunc([]byte("k"), func(v []byte) error { fn(v); return nil }) })
	}},
	{"All", false, func(db *mapfile.DB, fn func([]byte)) error {
		return db.View(func(tx *mapfile.Tx) error {
			for k, v := range tx.All() {
				if string(k) == "k" {
					fn(v)
				}
			}
			return tx.Err()
		})
	}},
	{"Scan", false, func(db *mapfile.DB, fn func([]byte)) error {
		return db.View(func(tx *mapfile.Tx) error {
			for k, v := range tx.Scan(mapfile.Range{}).All() {
				if string(k) == "k" {
					fn(v)
				}
			}
			return tx.Err()
		})
	}},
	{"Tx.GetFunc of a transaction that writes", true, func(db *mapfile.DB, fn func([]byte)) error {
		return db.Update(func(tx *mapfile.Tx) error { return tx.GetFunc([]byte("k"), func(v []byte) error { fn(v); return nil }) })
	}},
	{"Modify", true, func(db *mapfile.DB, fn func([]byte)) error {
		return db.Modify([]byte("k"), func(old []byte, ok bool) ([]byte, bool, error) { fn(old); return old, ok, nil })
	}},
}

// holdsTurn are the callbacks in which other writers wait.
func holdsTurn(name string) bool {
	return name == "Modify" || name == "Tx.GetFunc of a transaction that writes"
}

// TestLentBytesStay overwrites, deletes and clears what is lent, compacts, checkpoints and lets the file grow, while the callback
// has it: not a byte of it changes.
func TestLentBytesStay(t *testing.T) {
	for _, row := range callbacks {
		if holdsTurn(row.name) {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
			value := bytes.Repeat([]byte("lent "), 200)
			require.NoError(t, db.Put([]byte("k"), value))
			ran := 0
			require.NoError(t, row.call(db, func(v []byte) {
				ran++
				churn := map[string]func(round int) error{
					"overwritten": func(int) error { return db.Put([]byte("k"), []byte("other")) },
					"deleted":     func(int) error { return db.Delete([]byte("k")) },
					"more":        func(round int) error { return db.Put(fmt.Append(nil, "more ", round), make([]byte, 2<<20)) },
					"compacted":   func(int) error { return db.Compact(noContext) },
					"cleared":     func(int) error { return db.Clear() },
					"checkpoint":  func(int) error { return db.Checkpoint() },
				}
				for round := range 4 {
					for name, f := range churn {
						require.NoError(t, f(round), name)
						require.True(t, bytes.Equal(value, v), "round %d, %s", round, name)
					}
				}
			}))
			require.Equal(t, 1, ran)
		})
	}
}

// TestLentBytesOutliveTheTransaction: a callback may commit the transaction that lent it bytes. They stay until it returns, and
// Close waits for that.
func TestLentBytesOutliveTheTransaction(t *testing.T) {
	db := openTest(t, newPath(t), &mapfile.Options{Sync: mapfile.SyncNever})
	value := bytes.Repeat([]byte("lent "), 200)
	require.NoError(t, db.Put([]byte("k"), value))
	tx, err := db.BeginTx(noContext, nil)
	require.NoError(t, err)
	closed := make(chan error, 1)
	require.NoError(t, tx.GetFunc([]byte("k"), func(v []byte) error {
		require.NoError(t, tx.Commit())
		require.NoError(t, db.Clear())
		go func() { closed <- db.Close() }()
		select {
		case err := <-closed:
			t.Errorf("closed under a callback: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		require.True(t, bytes.Equal(value, v))
		return nil
	}))
	require.NoError(t, <-closed)
}

// TestFaultsInCallbacks cuts the file under borrowed bytes: reading them is an error of the call, that no other panic is taken for.
func TestFaultsInCallbacks(t *testing.T) {
	for _, row := range callbacks {
		if !row.borrowed {
			continue // copied before the loop's body runs
		}
		t.Run(row.name, func(t *testing.T) {
			db := openTest(t, newPath(t), &mapfile.Options{Sync: mapfile.SyncNever})
			putRange(t, db, map[string]string{}, 0, 30000) // the record lies behind some pages
			require.NoError(t, db.Put([]byte("k"), bytes.Repeat([]byte("v"), 20000)))
			require.NoError(t, db.Close())
			db = openTest(t, db.Path(), &mapfile.Options{Sync: mapfile.SyncNever}) // nothing runs beside before the first write
			whole := readFile(t, db.Path())
			went := 0
			err := row.call(db, func(v []byte) {
				require.NoError(t, os.Truncate(db.Path(), 4096))
				for i := range v {
					went += int(v[i]) // faults
				}
			})
			require.Zero(t, went, "there was no fault")
			require.ErrorIs(t, err, unix.EIO)
			require.ErrorIs(t, err, mapfile.ErrReplaced, "the file was cut")
			requireNames(t, err, db.Path())
			require.NoError(t, os.WriteFile(db.Path(), whole, 0o600))
			err = row.call(db, func(v []byte) { went = len(v) })
			if row.name == "Modify" { // a commit was begun in a file that was cut: what it holds is in doubt
				require.ErrorIs(t, err, mapfile.ErrFailed)
			} else {
				require.NoError(t, err, "the bytes are there again")
				require.Equal(t, 20000, went)
			}
			require.NoError(t, db.Close())
		})
	}
}

// foreign is a page of another file than the map's, cut to nothing under its mapping: a read faults, and it is no business of the map.
func foreign(t *testing.T) []byte {
	f, err := os.Create(filepath.Join(t.TempDir(), "foreign"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(4096))
	page, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(page)) })
	require.NoError(t, f.Truncate(0))
	return page
}

// TestForeignFaults lets callbacks fault in memory of their own, and panic with values of their own: that passes through the call as it was.
func TestForeignFaults(t *testing.T) {
	page, mine := foreign(t), errors.New("mine")
	addr := func(r any) uintptr {
		f, ok := r.(interface{ Addr() uintptr })
		require.True(t, ok, "a fault with its address, not %v", r)
		return f.Addr()
	}
	for _, row := range callbacks {
		if !row.borrowed {
			continue // no guard is up around the body of a loop: a fault there ends the process, as anywhere
		}
		t.Run(row.name, func(t *testing.T) {
			db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
			require.NoError(t, db.Put([]byte("k"), []byte("v")))
			sum := byte(0)
			got := func() (r any) {
				defer func() { r = recover() }()
				_ = row.call(db, func([]byte) { sum += page[7] })
				return nil
			}()
			require.NotNil(t, got, "the fault became something else")
			require.Equal(t, uintptr(unsafe.Pointer(&page[7])), addr(got))
			require.PanicsWithValue(t, mine, func() { _ = row.call(db, func([]byte) { panic(mine) }) })
			requireValue(t, db, []byte("k"), []byte("v"))
			require.NoError(t, db.Put([]byte("k"), []byte("w")), "the map goes on")
		})
	}
}
