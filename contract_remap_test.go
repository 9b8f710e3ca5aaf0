//go:build linux || darwin || freebsd

package mapfile

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// smallReserve opens a map whose reservation the file outgrows again and again.
func smallReserve(t *testing.T) *DB {
	t.Helper()
	g := pager.DefaultGeometry()
	g.ReserveBytes, g.UnitPages, g.MaxGrowPages = 64<<10, 16, 16
	o := Options{Sync: SyncNever}
	db, err := open(filepath.Join(t.TempDir(), "r.map"), o.withDefaults(), internals{disk: pager.OS(), geometry: g, memory: pager.MemoryLimit, background: true})
	require.NoError(t, err)
	return db
}

func remapValue(i uint64) []byte { return binary.LittleEndian.AppendUint64(make([]byte, 1000), i) }

func remapKey(i uint64) []byte { return binary.LittleEndian.AppendUint64(nil, i) }

// TestOutgrowReservation lets the file outgrow its mapping while readers of every kind are at work: what
// they hold stays valid, and no answer is wrong.
func TestOutgrowReservation(t *testing.T) {
	db := smallReserve(t)
	const keys = 20000
	var written sync.WaitGroup
	reached := make(chan struct{})
	require.NoError(t, db.Put(remapKey(0), remapValue(0)))
	written.Go(func() {
		defer close(reached)
		for i := range uint64(keys) {
			if err := db.Put(remapKey(i), remapValue(i)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	check := func(i uint64, v []byte, err error) error {
		if err == ErrNotFound && i > 0 {
			return nil
		}
		if err == nil && string(v) != string(remapValue(i)) {
			return errors.New("a wrong value")
		}
		return err
	}
	readers := map[string]func(i uint64) error{
		"Get": func(i uint64) error { v, err := db.Get(remapKey(i)); return check(i, v, err) },
		"GetMany": func(i uint64) error {
			many := make([][]byte, 100)
			for k := range many {
				many[k] = remapKey(i + uint64(k))
			}
			return db.GetMany(many, func(k int, v []byte, err error) error { return check(i+uint64(k), v, err) })
		},
		"GetFunc while the file grows": func(uint64) error {
			return db.GetFunc(remapKey(0), func(v []byte) error {
				<-reached
				return check(0, v, nil)
			})
		},
		"View": func(i uint64) error {
			return db.View(func(tx *Tx) error {
				v, err := tx.Get(remapKey(i))
				return check(i, v, err)
			})
		},
		"All": func(uint64) error {
			return db.View(func(tx *Tx) error {
				n := uint64(0)
				for k, v := range tx.All() {
					n++
					if err := check(binary.LittleEndian.Uint64(k), v, nil); err != nil {
						return err
					}
				}
				if tx.Err() == nil && n != tx.Len() {
					return errors.New("All does not yield as many as Len says")
				}
				return tx.Err()
			})
		},
	}
	var reading sync.WaitGroup
	for name, read := range readers {
		reading.Go(func() {
			for i := uint64(0); ; i = (i + 37) % keys {
				if err := read(i); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				select {
				case <-reached:
					return
				default:
				}
			}
		})
	}
	written.Wait()
	reading.Wait()
	require.NoError(t, db.Checkpoint())
	require.EqualValues(t, keys, db.Len())
	require.NoError(t, db.Close())
}

// TestRemapUnderASnapshot: a snapshot that is read all the time holds up neither writers nor the growth of the file, and sees what it saw.
func TestRemapUnderASnapshot(t *testing.T) {
	db := smallReserve(t)
	const keys = 500
	for i := range uint64(keys) {
		require.NoError(t, db.Put(remapKey(i), remapValue(i)))
	}
	tx, err := db.BeginTx(context.Background(), &TxOptions{ReadOnly: true})
	require.NoError(t, err)
	var reader sync.WaitGroup
	stop := make(chan struct{})
	reader.Go(func() {
		for scans := 0; ; scans++ {
			n := uint64(0)
			for k, v := range tx.All() {
				if n++; string(v) != string(remapValue(binary.LittleEndian.Uint64(k))) {
					t.Error("a wrong value")
				}
			}
			if err := tx.Err(); err != nil || n != keys {
				t.Errorf("%d keys are shown, %v", n, err)
				return
			}
			select {
			case <-stop:
				if scans > 2 {
					return
				}
			default:
			}
		}
	})
	before := db.Stats().FileSize
	for i := range uint64(10 * keys) {
		require.NoError(t, db.Put(remapKey(i), make([]byte, 1000)))
	}
	for i := range uint64(keys) {
		require.NoError(t, db.Delete(remapKey(i)))
	}
	close(stop)
	reader.Wait()
	st := db.Stats()
	require.Greater(t, st.FileSize, 4*before, "the file has grown meanwhile")
	require.Equal(t, 1, st.Readers)
	require.NoError(t, tx.Rollback())
	require.NoError(t, db.Close())
}
