package mapfile

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestNobodyWaitsForUpkeepThatWaits: while a caller's own work keeps upkeep out, commits do not wait for what upkeep last let them have.
func TestNobodyWaitsForUpkeepThatWaits(t *testing.T) {
	for name, call := range map[string]func(db *DB) error{
		"Compact":    func(db *DB) error { return db.Compact(t.Context()) },
		"Checkpoint": (*DB).Checkpoint,
		"Clear":      (*DB).Clear,
	} {
		t.Run(name, func(t *testing.T) {
			db, err := Open(filepath.Join(t.TempDir(), "a.map"), &Options{Sync: SyncNever})
			require.NoError(t, err)
			for i := range 1000 {
				require.NoError(t, db.Put(fmt.Append(nil, i), make([]byte, 100)))
			}
			db.allowed.Store(1) // as if garbage had come to its bound
			require.NoError(t, call(db))
			begin := time.Now()
			for i := range 10 {
				require.NoError(t, db.Put(fmt.Append(nil, i), make([]byte, 100)))
			}
			require.Less(t, time.Since(begin), 10*brakeMost/2)
			require.NoError(t, db.Close())
		})
	}
}
