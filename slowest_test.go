//go:build linux || darwin || freebsd

package mapfile

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSlowestWrite holds up a Put in each way, and asks what it waited for.
func TestSlowestWrite(t *testing.T) {
	const long = 20 * time.Millisecond
	for _, waits := range []string{forWriter, forSeal, forFinish, forCompaction} {
		t.Run(waits, func(t *testing.T) {
			db, err := Open(filepath.Join(t.TempDir(), "a.map"), &Options{Sync: SyncNever})
			require.NoError(t, err)
			require.NoError(t, db.Put([]byte("key"), nil))
			require.Zero(t, db.Stats().Waits.Slowest, "nothing ran beside it")
			end := db.work.run()
			db.turn.Lock()
			release := func() {}
			if waits != forWriter {
				release = db.work.holds(waits)
			}
			done := make(chan error)
			go func() { done <- db.Put([]byte("key"), []byte("value")) }()
			time.Sleep(8 * long) // it has begun to wait by then, however busy the machine is
			release()
			db.turn.Unlock()
			require.NoError(t, <-done)
			end()
			s := db.Stats().Waits.Slowest
			require.Equal(t, waits, s.For, "%+v", s)
			require.GreaterOrEqual(t, s.Took, s.Waited)
			require.GreaterOrEqual(t, s.Waited, long)
			require.NoError(t, db.Close())
		})
	}
}

// TestSlowestWriteBeside: a Put beside checkpoints is measured.
func TestSlowestWriteBeside(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "a.map"), &Options{Sync: SyncNever})
	require.NoError(t, err)
	for i := 0; db.Stats().Waits.Slowest.Took == 0; i++ {
		done := make(chan error)
		go func() { done <- db.Checkpoint() }()
		for j := range 200 {
			require.NoError(t, db.Put(fmt.Append(nil, i*200+j), []byte("value")))
		}
		require.NoError(t, <-done)
	}
	require.NotEmpty(t, db.Stats().Waits.Slowest.For)
	require.NoError(t, db.Close())
}

// TestSlowestWriteJudged: what most of a write's time went to.
func TestSlowestWriteJudged(t *testing.T) {
	for _, row := range []struct {
		turn, growth, took time.Duration
		waited             time.Duration
		waits              string
	}{
		{0, 0, 10, 10, forKernel},
		{4, 3, 10, 4, forSeal},
		{3, 4, 10, 4, forGrowth},
		{2, 3, 10, 5, forKernel},
		{2, 100, 10, 8, forGrowth}, // somebody else's growth beside it
		{10, 0, 10, 10, forSeal},
	} {
		w := watched{turn: row.turn, holder: forSeal}
		require.Equal(t, &SlowestWrite{row.took, row.waited, row.waits}, w.judge(row.took, row.growth), fmt.Sprintf("%+v", row))
	}
}
