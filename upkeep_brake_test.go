package mapfile

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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

// TestBoundsOfGarbageInDocuments: where compaction begins, and where writers wait.
func TestBoundsOfGarbageInDocuments(t *testing.T) {
	garbage := float64((*Options)(nil).withDefaults().Compaction.Garbage)
	begin, wait := 100*(waitBelow+beginBelow), 100*waitBelow
	for file, want := range map[string]string{
		"options.go": fmt.Sprintf("begins %.0f below; %.0f below writers", begin, wait),
		"docs/decisions/0015-giving-room-back.md": fmt.Sprintf("begins %.0f points below, at 32 MiB a second of log looked at, nine times that %.0f points below", begin, wait),
		"README.md": fmt.Sprintf("is %.0f %% of what the file holds; at %.0f %% writers wait", garbage-begin, garbage-wait),
	} {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, strings.Join(strings.Fields(strings.ReplaceAll(string(b), "//", " ")), " "), want, file)
	}
	require.Equal(t, 9, 1+quickly)
}

// TestPollTurn: who polls gets the turn when it becomes free, gives up when it does not, and is alone in it.
func TestPollTurn(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "a.map"), &Options{Sync: SyncNever})
	require.NoError(t, err)
	db.polls = true
	require.True(t, db.pollTurn(), "a free turn")

	begin := time.Now()
	require.False(t, db.pollTurn(), "a turn that is held")
	require.GreaterOrEqual(t, time.Since(begin), pollFor)

	db.polling.Store(true) // as if another goroutine polled
	require.False(t, db.pollTurn())
	require.True(t, db.polling.Load(), "the other's mark")
	db.polling.Store(false)

	if runtime.GOMAXPROCS(0) == 1 {
		db.turn.Unlock()
		require.NoError(t, db.Close())
		t.Skip("there is no processor to poll with")
	}
	got := make(chan bool, 1)
	for again := true; again; { // it may come too late on a busy machine
		go func() { got <- db.pollTurn() }()
		for !db.polling.Load() && len(got) == 0 {
			runtime.Gosched()
		}
		db.turn.Unlock()
		if again = !<-got; again {
			require.True(t, db.turn.TryLock(), "who gave up has it")
		}
	}
	require.False(t, db.turn.TryLock(), "who polled has it")
	db.turn.Unlock()
	require.NoError(t, db.Close())
}

// TestNobodyPollsForAWriter: while there is upkeep, who finds another writer in the turn sleeps.
func TestNobodyPollsForAWriter(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "a.map"), &Options{Sync: SyncNever})
	require.NoError(t, err)
	db.polls = true
	end := db.work.run()
	done := make(chan error)
	for range 20 {
		db.turn.Lock()
		go func() { done <- db.Put([]byte("a"), nil) }()
		for begin := time.Now(); time.Since(begin) < 5*pollFor; runtime.Gosched() {
			require.False(t, db.polling.Load())
		}
		db.turn.Unlock()
		require.NoError(t, <-done)
	}
	end()
	require.NoError(t, db.Close())
}
