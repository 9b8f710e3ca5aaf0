//go:build mapfile_debug

package mapfile

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// buildOn lets another writer build on the commit that is held, and comes back when it has appended.
func (q *heldSync) buildOn() (done chan error) {
	appended, done := q.db.dur.appended.Load(), make(chan error, 1)
	go func() {
		done <- q.db.Update(func(tx *Tx) error {
			v, err := tx.Get([]byte("first"))
			return errors.Join(err, tx.Put([]byte("second"), append(v, '2')))
		})
	}()
	for q.db.dur.appended.Load() == appended {
		time.Sleep(time.Millisecond)
	}
	return done
}

// TestQueueUnseen: while a commit waits for its sync the next writer builds on it, and readers see nothing of either.
func TestQueueUnseen(t *testing.T) {
	q := holdSync(t, nil)
	unseen := func() {
		_, err := q.db.Get([]byte("first"))
		require.Equal(t, ErrNotFound, err)
		require.NoError(t, q.db.View(func(tx *Tx) error {
			for k := range tx.Keys() {
				require.Equal(t, "before", string(k))
			}
			require.EqualValues(t, 1, tx.Len())
			return tx.Err()
		}))
	}
	unseen()
	second := q.buildOn()
	unseen()
	q.letGo()
	require.NoError(t, within(t, q.first))
	require.NoError(t, within(t, second))
	v, err := q.db.Get([]byte("second"))
	require.NoError(t, err)
	require.Equal(t, "12", string(v))
}

// TestQueueNothingAppended: a call that appends nothing because of a commit that waits for its sync waits with it.
func TestQueueNothingAppended(t *testing.T) {
	rows := []struct {
		name string
		call func(db *DB) error
	}{
		{"GetOrPut that finds", func(db *DB) error { _, _, err := db.GetOrPut([]byte("first"), nil); return err }},
		{"CompareAndSwap that does not match", func(db *DB) error { _, err := db.CompareAndSwap([]byte("first"), []byte("x"), nil); return err }},
		{"CompareAndDelete that does not match", func(db *DB) error { _, err := db.CompareAndDelete([]byte("first"), nil); return err }},
		{"Update that deletes what is not there", func(db *DB) error {
			return db.Update(func(tx *Tx) error { return tx.Delete([]byte("missing")) })
		}},
		{"Delete of a missing key", func(db *DB) error { return db.Delete([]byte("missing")) }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			q := holdSync(t, nil)
			done := make(chan error, 1)
			go func() { done <- row.call(q.db) }()
			select {
			case err := <-done:
				require.Fail(t, "it returned while the commit that it saw is not durable", "%v", err)
			case <-time.After(30 * time.Millisecond):
			}
			q.letGo()
			require.NoError(t, within(t, q.first))
			require.NoError(t, within(t, done))
			require.NoError(t, q.durable("first"))
		})
	}
}

// TestQueueSyncFails: when the sync of a commit fails, the commit that was built on it fails too, and from then on every call
// answers ErrFailed with the first cause. Only Close works.
func TestQueueSyncFails(t *testing.T) {
	cause := errors.New("the first cause")
	q := holdSync(t, cause)
	snap, err := q.db.BeginTx(context.Background(), &TxOptions{ReadOnly: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = snap.Rollback() })
	second := q.buildOn()
	writing, err := q.db.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = writing.Rollback() })
	require.NoError(t, writing.Put([]byte("third"), nil))
	q.letGo()
	first := within(t, q.first)
	q.later.Store(true)
	for name, err := range map[string]error{"the commit": first, "the one built on it": within(t, second), "one that had begun": writing.Commit()} {
		require.ErrorIs(t, err, ErrFailed, name)
		require.ErrorIs(t, err, cause, name)
	}
	for name, call := range everyCall(q.db, snap) {
		err := call()
		require.ErrorIs(t, err, ErrFailed, name)
		require.ErrorIs(t, err, cause, name)
		require.NotErrorIs(t, err, syscall.ENOSPC, name)
	}
	require.NoError(t, snap.Rollback())
	require.NoError(t, q.db.Close())
	require.NoError(t, q.durable("before"))
	require.Equal(t, ErrNotFound, q.durable("first"))
}

// everyCall is each call of the map but Close, Path, Len and Stats, and those of a transaction that had begun.
func everyCall(db *DB, tx *Tx) map[string]func() error {
	k := []byte("before")
	none := func([]byte) error { return nil }
	return map[string]func() error{
		"Get":              func() error { _, err := db.Get(k); return err },
		"AppendGet":        func() error { _, err := db.AppendGet(nil, k); return err },
		"Has":              func() error { _, err := db.Has(k); return err },
		"GetFunc":          func() error { return db.GetFunc(k, none) },
		"GetMany":          func() error { return db.GetMany([][]byte{k}, func(int, []byte, error) error { return nil }) },
		"View":             func() error { return db.View(func(*Tx) error { return nil }) },
		"Update":           func() error { return db.Update(func(*Tx) error { return nil }) },
		"BeginTx":          func() error { _, err := db.BeginTx(context.Background(), nil); return err },
		"Put":              func() error { return db.Put(k, nil) },
		"Delete":           func() error { return db.Delete(k) },
		"GetOrPut":         func() error { _, _, err := db.GetOrPut(k, nil); return err },
		"GetAndDelete":     func() error { _, _, err := db.GetAndDelete(k); return err },
		"Swap":             func() error { _, _, err := db.Swap(k, nil); return err },
		"CompareAndSwap":   func() error { _, err := db.CompareAndSwap(k, nil, nil); return err },
		"CompareAndDelete": func() error { _, err := db.CompareAndDelete(k, nil); return err },
		"Modify":           func() error { return db.Modify(k, func([]byte, bool) ([]byte, bool, error) { return nil, true, nil }) },
		"Add":              func() error { _, err := db.Add(k, 1); return err },
		"Clear":            db.Clear,
		"Sync":             db.Sync,
		"Checkpoint":       db.Checkpoint,
		"Compact":          func() error { return db.Compact(context.Background()) },
		"Tx.Get":           func() error { _, err := tx.Get(k); return err },
		"Tx.GetFunc":       func() error { return tx.GetFunc(k, none) },
		"Tx.Has":           func() error { _, err := tx.Has(k); return err },
		"Tx.All": func() error {
			for range tx.All() {
				return errors.New("it shows an entry")
			}
			return tx.Err()
		},
	}
}
