//go:build mapfile_debug

package mapfile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
)

// quickModel is a map on the simulated disk, with a Go map that must stay equal to it. There are no crashes, no
// faults and one goroutine: what this test sees needs no other, so no planted bug may show here.
type quickModel struct {
	t      *testing.T
	r      *rand.Rand
	seed   uint64
	disk   *simdisk.Disk
	db     *DB
	opened int
	want   lifeState
}

// TestModelQuick mixes all operations in the geometry of the crash tests, where a few of them split buckets, change
// segments and reuse pages.
func TestModelQuick(t *testing.T) {
	for seed := range uint64(4) {
		m := &quickModel{t: t, r: rand.New(rand.NewPCG(seed, 3)), seed: seed, disk: simdisk.New(4 << 20), want: lifeState{}}
		m.open()
		for range 400 {
			m.step()
			require.EqualValues(t, len(m.want), m.db.Len(), "seed %d", seed)
		}
		m.compare()
		require.NoError(t, m.db.Close())
		m.disk.Release()
	}
}

func (m *quickModel) open() {
	db, err := (&lifeHistory{seed: m.seed, life: m.opened}).open(m.disk, SyncMode(1+m.r.IntN(3)))
	require.NoError(m.t, err, "seed %d", m.seed)
	m.db = db
	m.opened++
}

func (m *quickModel) key() []byte { return fmt.Appendf(nil, "key%d", m.r.IntN(60)) }

func (m *quickModel) value() []byte {
	v := make([]byte, []int{0, 5, 60, 400, 2000}[m.r.IntN(5)])
	for i := range v {
		v[i] = byte(m.r.Uint32())
	}
	return v
}

// step runs one operation.
func (m *quickModel) step() {
	var err error
	switch x := m.r.IntN(100); {
	case x < 45:
		k, v := m.key(), m.value()
		m.want[string(k)] = string(v)
		err = m.db.Put(k, v)
	case x < 60:
		k := m.key()
		delete(m.want, string(k))
		err = m.db.Delete(k)
	case x < 80:
		k := m.key()
		v, err := m.db.Get(k)
		m.holds(k, v, err)
	case x < 90:
		err = m.update()
	case x < 94:
		err = m.db.Checkpoint()
	case x < 96:
		err = m.db.Compact(m.t.Context())
	case x < 97:
		err = m.db.Sync()
	case x < 98:
		m.compare()
	default:
		require.NoError(m.t, m.db.Close(), "seed %d", m.seed)
		m.open()
	}
	require.NoError(m.t, err, "seed %d", m.seed)
}

// update is a transaction of some writes, rolled back one time in three.
func (m *quickModel) update() error {
	next, rollback := lifeState{}, errors.New("rolled back")
	for k, v := range m.want {
		next[k] = v
	}
	err := m.db.Update(func(tx *Tx) error {
		for range 1 + m.r.IntN(6) {
			k, v := m.key(), m.value()
			if m.r.IntN(3) == 0 {
				delete(next, string(k))
				require.NoError(m.t, tx.Delete(k))
				continue
			}
			next[string(k)] = string(v)
			require.NoError(m.t, tx.Put(k, v))
		}
		if m.r.IntN(3) == 0 {
			return rollback
		}
		return nil
	})
	if err == rollback {
		return nil
	}
	m.want = next
	return err
}

// holds compares an answer with the Go map.
func (m *quickModel) holds(k, v []byte, err error) {
	want, ok := m.want[string(k)]
	if !ok {
		require.Equal(m.t, ErrNotFound, err, "seed %d, key %s", m.seed, k)
		return
	}
	require.NoError(m.t, err, "seed %d, key %s", m.seed, k)
	require.Equal(m.t, want, string(v), "seed %d, key %s", m.seed, k)
}

// compare reads the whole map, by iteration and by GetMany.
func (m *quickModel) compare() {
	got := lifeState{}
	require.NoError(m.t, m.db.View(func(tx *Tx) error {
		for k, v := range tx.All() {
			got[string(k)] = string(v)
		}
		return tx.Err()
	}))
	require.Equal(m.t, m.want, got, "seed %d", m.seed)
	var keys [][]byte
	for i := range 60 {
		keys = append(keys, fmt.Appendf(nil, "key%d", i))
	}
	require.NoError(m.t, m.db.GetMany(keys, func(i int, v []byte, err error) error {
		m.holds(keys[i], v, err)
		return nil
	}))
}
