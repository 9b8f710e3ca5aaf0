//go:build linux || darwin || freebsd

package mapfile_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// shards is how many goroutines work on a map at once, each on keys of its own, which a model of its own follows.
const shards = 4

// TestConcurrentModel mixes all operations from several goroutines, with checkpoints forced in between and
// snapshots that must stay what they are.
func TestConcurrentModel(t *testing.T) {
	seed := rand.Uint64()
	for _, mode := range []mapfile.SyncMode{mapfile.SyncNever, mapfile.SyncAlways} {
		t.Run(mode.String(), func(t *testing.T) {
			operations := 15000
			if mode == mapfile.SyncAlways {
				operations = 300
			}
			db := openTest(t, newPath(t), &mapfile.Options{Sync: mode})
			var workers, checkpoints sync.WaitGroup
			done := make(chan struct{})
			checkpoints.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						if err := db.Checkpoint(); err != nil {
							t.Error(err)
						}
					}
				}
			})
			models := make([]map[string]string, shards)
			for g := range models {
				models[g] = map[string]string{}
				w := shardWorker{db: db, shard: g, r: rand.New(rand.NewPCG(seed, uint64(g))), model: models[g]}
				workers.Go(func() {
					for i := range operations {
						if err := w.step(); err != nil {
							t.Errorf("seed %d, shard %d, operation %d: %v", seed, g, i, err)
							return
						}
					}
				})
			}
			workers.Wait()
			close(done)
			checkpoints.Wait()
			want := map[string]string{}
			for _, m := range models {
				maps.Copy(want, m)
			}
			copied := crashed(t, db)
			requireMap(t, db, want)
			require.NoError(t, db.Close())
			for _, path := range []string{db.Path(), copied} {
				db := openTest(t, path, nil)
				requireMap(t, db, want)
				require.NoError(t, db.Close())
			}
		})
	}
}

// shardWorker runs random operations on the keys of one shard.
type shardWorker struct {
	db    *mapfile.DB
	shard int
	r     *rand.Rand
	model map[string]string
	dst   []byte
}

func (w *shardWorker) key() []byte { return fmt.Appendf(nil, "%d/%d", w.shard, w.r.IntN(2000)) }

func (w *shardWorker) value() []byte {
	v := make([]byte, w.r.IntN(300))
	for i := range v {
		v[i] = byte(w.r.Uint32())
	}
	return v
}

func (w *shardWorker) step() error {
	switch x := w.r.IntN(100); {
	case x < 35:
		k, v := w.key(), w.value()
		w.model[string(k)] = string(v)
		return w.db.Put(k, v)
	case x < 45:
		k := w.key()
		delete(w.model, string(k))
		return w.db.Delete(k)
	case x < 75:
		k := w.key()
		var err error
		w.dst, err = w.db.AppendGet(w.dst[:0], k)
		return w.compare(k, w.dst, err)
	case x < 85:
		k := w.key()
		err := w.db.GetFunc(k, func(v []byte) error { return w.compare(k, v, nil) })
		if err == mapfile.ErrNotFound {
			err = w.compare(k, nil, err)
		}
		return err
	case x < 93:
		keys := make([][]byte, w.r.IntN(70))
		for i := range keys {
			keys[i] = w.key()
		}
		return w.db.GetMany(keys, func(i int, v []byte, err error) error { return w.compare(keys[i], v, err) })
	case x < 98:
		return w.update()
	default:
		return w.db.View(func(tx *mapfile.Tx) error {
			for range 20 {
				k := w.key()
				v, err := tx.Get(k)
				if err := w.compare(k, v, err); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// update runs a transaction that rolls back every other time.
func (w *shardWorker) update() error {
	rollback := errors.New("rolled back")
	next := maps.Clone(w.model)
	err := w.db.Update(func(tx *mapfile.Tx) error {
		for range 1 + w.r.IntN(50) {
			k, v := w.key(), w.value()
			if w.r.IntN(4) == 0 {
				delete(next, string(k))
				if err := tx.Delete(k); err != nil {
					return err
				}
				continue
			}
			next[string(k)] = string(v)
			if err := tx.Put(k, v); err != nil {
				return err
			}
		}
		if w.r.IntN(2) == 0 {
			return rollback
		}
		return nil
	})
	if err == rollback {
		return nil
	}
	if err == nil {
		clear(w.model)
		maps.Copy(w.model, next)
	}
	return err
}

// compare holds an answer against the model.
func (w *shardWorker) compare(k, v []byte, err error) error {
	want, ok := w.model[string(k)]
	switch {
	case !ok && err == mapfile.ErrNotFound:
		return nil
	case ok && err == nil && string(v) == want:
		return nil
	case !ok && err == nil:
		return fmt.Errorf("key %q is there and should not be", k)
	}
	return fmt.Errorf("key %q: %d bytes, %v; want %d bytes", k, len(v), err, len(want))
}

// TestManyMaps holds 1,000 maps open at once, and writes to some of them.
func TestManyMaps(t *testing.T) {
	path := newPath(t)
	fill(t, path, nil)
	whole := readFile(t, path)
	all := make([]*mapfile.DB, 1000)
	for i := range all {
		name := fmt.Sprintf("%s.%d", path, i)
		require.NoError(t, os.WriteFile(name, whole, 0o600)) // (a map that Open creates is synced: slower)
		all[i] = openTest(t, name, &mapfile.Options{Sync: mapfile.SyncNever})
		if i%25 == 0 {
			require.NoError(t, all[i].Put(stormKey(2), fmt.Append(nil, i)))
		}
	}
	for i, db := range all {
		v, err := db.Get(stormKey(1))
		require.NoError(t, right(1, v, err))
		if i%25 == 0 {
			requireValue(t, db, stormKey(2), fmt.Append(nil, i))
		}
	}
	for _, db := range all {
		require.NoError(t, db.Close())
	}
}
