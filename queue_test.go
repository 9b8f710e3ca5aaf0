//go:build mapfile_debug

package mapfile

import (
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
)

// heldSync is a map of which the sync of one commit is held up on the disk.
type heldSync struct {
	t       *testing.T
	h       *lifeHistory
	db      *DB
	release chan struct{}
	first   chan error
	once    sync.Once
	later   atomic.Bool // syncs that would fail from now on have another cause
}

// letGo ends the hold.
func (q *heldSync) letGo() { q.once.Do(func() { close(q.release) }) }

// holdSync begins a commit and comes back when its sync has begun, which fails in the end if there is a cause.
func holdSync(t *testing.T, cause error) *heldSync {
	q := &heldSync{t: t, h: &lifeHistory{t: t, disk: simdisk.New(1 << 20)}, release: make(chan struct{}), first: make(chan error, 1)}
	db, err := q.h.open(q.h.disk, SyncAlways)
	require.NoError(t, err)
	require.NoError(t, db.Put([]byte("before"), nil))
	var held sync.Once
	holding := make(chan struct{})
	hold := func() {
		held.Do(func() {
			close(holding)
			<-q.release
		})
	}
	q.h.disk.OnEvent = func(e simdisk.Event) {
		if e.Kind == simdisk.EventSync && cause == nil { // behind what the sync writes, which others read
			hold()
		}
	}
	q.h.disk.Fail = func(c simdisk.Call) error {
		if cause == nil || c.Name != "Sync" && c.Name != "WriteSync" && c.Name != "SyncRange" {
			return nil
		}
		hold()
		if q.later.Load() {
			return syscall.ENOSPC
		}
		return cause
	}
	go func() { q.first <- db.Put([]byte("first"), []byte("1")) }()
	<-holding
	q.db = db
	t.Cleanup(func() {
		q.letGo()
		require.NoError(t, db.Close())
	})
	return q
}

// within gives what a channel brings, soon.
func within(t *testing.T, c chan error) error {
	select {
	case err := <-c:
		return err
	case <-time.After(5 * time.Second):
		require.Fail(t, "a call does not return")
		return nil
	}
}

// durable reads a key of what a power cut would leave now.
func (q *heldSync) durable(key string) error {
	img := q.h.disk.Crash(nil, nil, false, false)
	db, err := q.h.open(img, SyncNever)
	require.NoError(q.t, err)
	_, err = db.Get([]byte(key))
	require.NoError(q.t, db.Close())
	return err
}

// TestQueueFollower: a commit that was appended while another's sync was under way is synced by a later one before it returns.
func TestQueueFollower(t *testing.T) {
	q := holdSync(t, nil)
	appended, second := q.db.dur.appended.Load(), make(chan error, 1)
	go func() { second <- q.db.Put([]byte("second"), []byte("2")) }()
	for q.db.dur.appended.Load() == appended {
		time.Sleep(time.Millisecond)
	}
	q.letGo()
	require.NoError(t, within(t, q.first))
	require.NoError(t, within(t, second))
	require.NoError(t, q.durable("second"))
}

// TestQueueEmptyCommit: a transaction that wrote nothing does not return before what it saw is durable.
func TestQueueEmptyCommit(t *testing.T) {
	q := holdSync(t, nil)
	done := make(chan error, 1)
	go func() {
		done <- q.db.Update(func(tx *Tx) error {
			_, err := tx.Get([]byte("first"))
			return err
		})
	}()
	select {
	case err := <-done:
		require.Fail(t, "it returned while the commit that it saw is not durable", "%v", err)
	case <-time.After(50 * time.Millisecond):
	}
	q.letGo()
	require.NoError(t, within(t, q.first))
	require.NoError(t, within(t, done))
	require.NoError(t, q.durable("first"))
}
