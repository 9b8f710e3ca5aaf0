package mapfile

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPinHandedOn: a pin that goes from cell to cell is found by whoever goes through the cells meanwhile, wherever they are: when
// the old cell is looked at, the new one has been claimed already, and is looked at later.
func TestPinHandedOn(t *testing.T) {
	require.EqualValues(t, 64, unsafe.Sizeof(pinCell{}))
	var p pins
	var generation atomic.Uint64
	generation.Store(7)
	var held []*pinCell
	for range 3 * len(pinBlock{}) {
		c := p.acquire(&generation)
		next := p.acquireBehind(c, 7)
		require.Greater(t, next.place, c.place)
		next.release()
		held = append(held, c)
	}
	last, cells := held[0], uint32(len(*p.blocks.Load())*len(pinBlock{}))
	for _, c := range held {
		if c.place > last.place {
			last = c
		}
	}
	for _, c := range held {
		if c != last {
			c.release()
		}
	}
	seen := 0
	p.each(func(c *pinCell) {
		if seen++; c == last {
			var on []*pinCell
			for next := c; next.place < cells; on = append(on, next) { // until another block is added
				next = p.acquireBehind(next, 7)
			}
			for _, c := range append(on[:len(on)-1], c) {
				c.release()
			}
		}
	})
	require.Equal(t, 2, seen, "the old one, and the new one in a block that was added meanwhile")
	require.EqualValues(t, 7, p.oldest())
}

// TestCompactionIsNoReader: the pins under which compaction looks at what it will move are not told of as readers.
func TestCompactionIsNoReader(t *testing.T) {
	o := Options{Sync: SyncNever, Compaction: CompactionOptions{Off: true}, Debug: DebugOptions{Callers: true}}
	db, err := Open(filepath.Join(t.TempDir(), "m"), &o)
	require.NoError(t, err)
	defer db.Close()
	for i := range 120_000 {
		require.NoError(t, db.Put(fmt.Append(nil, i*7919%60_000), make([]byte, 100)))
	}
	done := make(chan error, 1)
	go func() { done <- db.Compact(t.Context()) }()
	for looks := 0; ; looks++ {
		select {
		case err := <-done:
			require.NoError(t, err)
			require.Positive(t, looks)
			return
		default:
		}
		st := db.Stats()
		require.Zero(t, st.Readers)
		require.Zero(t, st.Oldest)
	}
}

// TestSnapshotEndedMeanwhile: a read-only transaction may be ended by one goroutine while others use it. They find what they looked for, or
// that it has ended.
func TestSnapshotEndedMeanwhile(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "m"), &Options{Sync: SyncNever})
	require.NoError(t, err)
	defer db.Close()
	const keys = 500
	for i := range keys {
		require.NoError(t, db.Put(fmt.Append(nil, i), fmt.Append(nil, i)))
	}
	for range 200 {
		tx, err := db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
		require.NoError(t, err)
		var users sync.WaitGroup
		for range 2 {
			users.Go(func() {
				n := 0
				for range tx.All() {
					n++
				}
				if err := tx.Err(); err != nil {
					assert.Equal(t, ErrTxDone, err)
				} else {
					assert.Equal(t, keys, n)
				}
				if v, err := tx.Get([]byte("77")); err != nil {
					assert.Equal(t, ErrTxDone, err)
				} else {
					assert.Equal(t, "77", string(v))
				}
				assert.EqualValues(t, keys, tx.Len())
			})
		}
		require.NoError(t, tx.Rollback())
		users.Wait()
	}
}
