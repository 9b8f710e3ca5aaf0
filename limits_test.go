package mapfile

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTooManyWrites takes a transaction to the largest number of writes, as if they had been made: one more is an error with a name,
// and the transaction goes on.
func TestTooManyWrites(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "a.map"), &Options{Sync: SyncNever})
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *Tx) error {
		require.NoError(t, tx.Put([]byte("k"), []byte("v")))
		made := tx.set.n
		tx.set.n = maxSet
		for _, err := range []error{tx.Put([]byte("l"), nil), tx.Delete([]byte("k"))} {
			require.ErrorIs(t, err, ErrTooManyWrites)
			require.ErrorContains(t, err, "2147483646")
			require.ErrorContains(t, err, db.Path())
		}
		tx.set.n = made
		return nil
	}))
	require.EqualValues(t, 1, db.Len())
	v, err := db.Get([]byte("k"))
	require.NoError(t, err)
	require.Equal(t, "v", string(v))
	require.NoError(t, db.Close())
}
