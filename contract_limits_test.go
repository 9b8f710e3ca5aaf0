//go:build linux || darwin || freebsd

package mapfile_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// millionth is key i and its value.
func millionth(i uint64) (key, value []byte) {
	return binary.BigEndian.AppendUint64(nil, i*0x9e3779b97f4a7c15), binary.BigEndian.AppendUint64(nil, i)
}

// requireMillion checks that the keys below n are there, each with its value, and no others.
func requireMillion(t *testing.T, db *mapfile.DB, n uint64) {
	t.Helper()
	require.Equal(t, n, db.Len())
	seen, shown := make([]bool, n), uint64(0)
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for k, v := range tx.All() {
			i := binary.BigEndian.Uint64(v)
			if i >= n || seen[i] || binary.BigEndian.Uint64(k) != i*0x9e3779b97f4a7c15 {
				return fmt.Errorf("key %x has the value %x", k, v)
			}
			seen[i] = true
			shown++
		}
		return tx.Err()
	}))
	require.Equal(t, n, shown)
}

// TestMillionRecords commits a million records in one transaction: all are there, also in what a kill leaves and behind Close.
func TestMillionRecords(t *testing.T) {
	n := uint64(1_000_000)
	if testing.Short() {
		n = 100_000
	}
	db := openTest(t, newPath(t), nil)
	before := beginTx(t, db, &mapfile.TxOptions{ReadOnly: true})
	sequence := db.Stats().Sequence
	require.NoError(t, db.Update(func(tx *mapfile.Tx) error {
		for i := range n {
			if err := tx.Put(millionth(i)); err != nil {
				return err
			}
		}
		return nil
	}))
	require.Equal(t, sequence+1, db.Stats().Sequence, "one commit")
	require.Zero(t, before.Len())
	for k := range before.Keys() {
		require.Fail(t, "an older snapshot sees the transaction", "%x", k)
	}
	require.NoError(t, before.Rollback())
	left := crashed(t, db)
	require.NoError(t, db.Close())
	for _, path := range []string{db.Path(), left} {
		db := openTest(t, path, &mapfile.Options{Sync: mapfile.SyncNever})
		requireMillion(t, db, n)
		require.NoError(t, db.Close())
	}
}

// TestTransactionWithoutRoom writes more in one transaction than Options.MaxSize has room for: Commit is ErrFull, nothing has changed, and
// smaller ones go on.
func TestTransactionWithoutRoom(t *testing.T) {
	for _, mode := range []mapfile.SyncMode{mapfile.SyncNever, mapfile.SyncAlways} {
		t.Run(mode.String(), func(t *testing.T) {
			db := newMap(t, &mapfile.Options{Sync: mode, MaxSize: 12 << 20})
			want := map[string]string{}
			require.NoError(t, db.Update(func(tx *mapfile.Tx) error {
				for i := range 100 {
					want[string(numbered(i))] = "v"
					if err := tx.Put(numbered(i), []byte("v")); err != nil {
						return err
					}
				}
				return nil
			}))
			err := db.Update(func(tx *mapfile.Tx) error {
				for i := range 50_000 {
					if err := tx.Put(numbered(1000+i), make([]byte, 300)); err != nil {
						return err
					}
				}
				return tx.Delete(numbered(1))
			})
			require.ErrorIs(t, err, mapfile.ErrFull)
			requireNames(t, err, db.Path())
			requireMap(t, db, want)
			require.NoError(t, db.Put(numbered(0), []byte("w")))
			want[string(numbered(0))] = "w"
			requireMap(t, db, want)
		})
	}
}
