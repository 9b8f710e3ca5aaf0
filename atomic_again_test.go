package mapfile

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSwapDecidesAgain deletes a key while a Swap of it waits for room: what that saw at first is not what it answers.
func TestSwapDecidesAgain(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "m"), &Options{Sync: SyncNever, MaxSize: 16 << 20})
	require.NoError(t, err)
	defer db.Close()
	key, value := []byte("k"), make([]byte, 1<<20)
	require.NoError(t, db.Put(key, nil))
	db.checkpointMu.Lock() // nobody makes room
	done := make(chan struct{})
	go func() {
		defer close(done)
		for loaded := true; loaded; {
			var previous []byte
			var err error
			previous, loaded, err = db.Swap(key, value)
			assert.NoError(t, err)
			assert.Equal(t, loaded, previous != nil)
		}
	}()
	for last := uint64(0); last != db.Stats().Sequence; time.Sleep(50 * time.Millisecond) {
		last = db.Stats().Sequence
	}
	require.NoError(t, db.Delete(key))
	db.checkpointMu.Unlock()
	<-done
}
