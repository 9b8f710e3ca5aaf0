package mapfile

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFoundClearUnpublished: compaction notes a generation while a CLEAR waits to be published. Who begins then does not see the CLEAR, and must not pin a
// generation behind that at which the index before it was retired: the next CLEAR would forget that index, and checkpoints would use its pages again.
func TestFoundClearUnpublished(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "a.map"), &Options{Sync: SyncNever})
	require.NoError(t, err)
	for i := range 100 {
		require.NoError(t, db.Put(fmt.Append(nil, i), []byte("v")))
	}
	before := db.s.Published.Load()
	require.NoError(t, db.Clear())
	cleared := db.s.Published.Load()
	db.s.Published.Store(before) // as while it waits for its sync
	generation := db.s.Generation.Load()
	db.checkpointMu.Lock()
	db.noteSeen()
	db.checkpointMu.Unlock()
	require.Equal(t, generation, db.s.Generation.Load())
	db.s.Published.Store(cleared)
	db.checkpointMu.Lock()
	db.noteSeen()
	db.checkpointMu.Unlock()
	require.Greater(t, db.s.Generation.Load(), generation)
	require.NoError(t, db.Close())
}
