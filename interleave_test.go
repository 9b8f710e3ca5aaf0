//go:build mapfile_debug && mapfile_sabotage

package mapfile

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
)

// The tests of this file stop one side at a point that it names, run the other side there to its end, and let the first go
// on: the interleavings of the model of readers, on the engine itself. They are in builds with the tag mapfile_sabotage alone.

// between runs f the n-th time that a point is reached, and nothing more.
func between(t *testing.T, at sabotage.Point, n int, f func()) {
	sabotage.SetYield(func(p sabotage.Point) {
		if p != at {
			return
		}
		if n--; n == 0 {
			sabotage.SetYield(nil)
			f()
		}
	})
	t.Cleanup(func() { sabotage.SetYield(nil) })
}

// woven is a map whose records all have one size, so that new records lie where old ones did.
type woven struct {
	t       *testing.T
	db      *DB
	version int // of the last commit of all keys
	waiting sync.WaitGroup
}

const wovenKeys = 12

func wovenKey(i int) []byte { return []byte{byte('a' + i)} }

func wovenValue(key []byte, version int) string {
	return fmt.Sprintf("%s%03d", key, version) + strings.Repeat("-", 396)
}

func newWoven(t *testing.T, mode SyncMode) *woven {
	h := &lifeHistory{t: t, disk: simdisk.New(8 << 20)}
	db, err := h.open(h.disk, mode)
	require.NoError(t, err)
	w := &woven{t: t, db: db}
	t.Cleanup(func() {
		sabotage.SetYield(nil)
		require.NoError(t, db.Close())
		h.disk.Release()
	})
	w.commit()
	return w
}

// put gives every key the next version, in one commit.
func (w *woven) put(mode SyncMode) error {
	w.version++
	tx, err := w.db.BeginTx(w.t.Context(), &TxOptions{Sync: mode})
	for i := 0; i < wovenKeys && err == nil; i++ {
		err = tx.Put(wovenKey(i), []byte(wovenValue(wovenKey(i), w.version)))
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}

// commit is put without a demand for a sync.
func (w *woven) commit() { require.NoError(w.t, w.put(SyncNever)) }

// overrunUnsynced is overrun while a commit waits for its sync, and all behind it for that one.
func (w *woven) overrunUnsynced() {
	for range 8 {
		for range 4 {
			was := w.db.dur.appended.Load()
			w.waiting.Go(func() {
				if err := w.put(SyncNever); err != nil {
					w.t.Error(err)
				}
			})
			for w.db.dur.appended.Load() == was {
				time.Sleep(10 * time.Microsecond)
			}
		}
		require.NoError(w.t, w.db.Compact(w.t.Context()))
		require.NoError(w.t, w.db.Checkpoint())
	}
}

// overrun overwrites everything until what was there is reused, more than once.
func (w *woven) overrun() {
	for range 4 {
		for range 4 {
			w.commit()
		}
		require.NoError(w.t, w.db.Compact(w.t.Context()))
		require.NoError(w.t, w.db.Checkpoint())
	}
}

// holds tells whether a value is key's, and its version.
func (w *woven) holds(key, value []byte, err error) (version int) {
	w.t.Helper()
	require.NoError(w.t, err, "key %s", key)
	_, scanErr := fmt.Sscanf(string(value[1:4]), "%d", &version)
	require.NoError(w.t, scanErr, "key %s has %.8q", key, value)
	require.Equal(w.t, wovenValue(key, version), string(value))
	return version
}

// wovenReads read some keys, all of which must be of one commit.
var wovenReads = []struct {
	name string
	read func(w *woven) []int
}{
	{"Get", func(w *woven) []int {
		v, err := w.db.Get(wovenKey(0))
		return []int{w.holds(wovenKey(0), v, err)}
	}},
	{"Has", func(w *woven) []int {
		ok, err := w.db.Has(wovenKey(0))
		require.NoError(w.t, err)
		require.True(w.t, ok)
		return nil
	}},
	{"GetFunc", func(w *woven) (versions []int) {
		require.NoError(w.t, w.db.GetFunc(wovenKey(0), func(v []byte) error {
			versions = append(versions, w.holds(wovenKey(0), v, nil))
			return nil
		}))
		return versions
	}},
	{"GetMany", func(w *woven) (versions []int) {
		var keys [][]byte
		for i := range wovenKeys {
			keys = append(keys, wovenKey(i))
		}
		require.NoError(w.t, w.db.GetMany(keys, func(i int, v []byte, err error) error {
			versions = append(versions, w.holds(keys[i], v, err))
			return nil
		}))
		return versions
	}},
	{"View", func(w *woven) (versions []int) {
		require.NoError(w.t, w.db.View(func(tx *Tx) error {
			for i := range wovenKeys {
				v, err := tx.Get(wovenKey(i))
				versions = append(versions, w.holds(wovenKey(i), v, err))
			}
			return nil
		}))
		return versions
	}},
	{"All", func(w *woven) (versions []int) {
		require.NoError(w.t, w.db.View(func(tx *Tx) error {
			for k, v := range tx.All() {
				versions = append(versions, w.holds(k, v, nil))
			}
			return tx.Err()
		}))
		require.Len(w.t, versions, wovenKeys)
		return versions
	}},
}

// TestWovenReads: whatever writers do between two steps of a read, it sees one moment, and that one not older than its begin.
func TestWovenReads(t *testing.T) {
	for _, row := range wovenReads {
		for point := sabotage.ReaderHasGeneration; point <= sabotage.ReaderHasCopy; point++ {
			for _, nth := range []int{1, 2} {
				for name, meanwhile := range map[string]func(*woven){"a commit": (*woven).commit, "all is overrun": (*woven).overrun} {
					w := newWoven(t, SyncNever)
					between(t, point, nth, func() { meanwhile(w) })
					w.oneMoment(row.read(w), row.name, name)
				}
			}
		}
	}
}

// oneMoment requires that all versions are the same.
func (w *woven) oneMoment(versions []int, what ...string) {
	w.t.Helper()
	for _, v := range versions {
		require.Equal(w.t, versions[0], v, "%v of %v", versions, what)
	}
}

// TestWovenSnapshot: a snapshot keeps what it saw, whatever is overrun, deleted or dropped behind it.
func TestWovenSnapshot(t *testing.T) {
	w := newWoven(t, SyncNever)
	require.NoError(t, w.db.View(func(tx *Tx) error {
		w.overrun()
		for i := range wovenKeys {
			require.NoError(t, w.db.Delete(wovenKey(i)))
		}
		require.NoError(t, w.db.Compact(t.Context()))
		require.NoError(t, w.db.Checkpoint())
		for i := range wovenKeys {
			v, err := tx.Get(wovenKey(i))
			require.Equal(t, 1, w.holds(wovenKey(i), v, err))
		}
		return nil
	}))
}

// TestWovenUnsynced: what waits for its sync is seen by nobody, and what it replaces stays until it is published.
func TestWovenUnsynced(t *testing.T) {
	for name, meanwhile := range map[string]func(*woven){"nothing": func(*woven) {}, "all is overrun": (*woven).overrunUnsynced} {
		t.Run(name, func(t *testing.T) {
			w := newWoven(t, SyncAlways)
			require.NoError(t, w.db.Sync())
			between(t, sabotage.CommitAppended, 1, func() {
				meanwhile(w)
				versions := wovenReads[3].read(w)
				w.oneMoment(versions, name)
				v, err := w.db.Get(wovenKey(0))
				require.Equal(t, versions[0], w.holds(wovenKey(0), v, err))
			})
			require.NoError(t, w.put(SyncAlways))
			w.waiting.Wait()
			versions := wovenReads[3].read(w)
			require.Equal(t, w.version, versions[0])
			w.oneMoment(versions, name)
		})
	}
}

// TestWovenRot: bytes that rot behind a reader's copy do not matter, and those that rot before it are found.
func TestWovenRot(t *testing.T) {
	w := newWoven(t, SyncNever)
	between(t, sabotage.ReaderHasCopy, 1, func() {
		w.valueOf(wovenKey(0))[20] ^= 3
	})
	v, err := w.db.Get(wovenKey(0))
	w.holds(wovenKey(0), v, err)
	_, err = w.db.Get(wovenKey(0))
	require.ErrorIs(t, err, ErrCorrupt)
}

// valueOf is a key's value where it lies.
func (w *woven) valueOf(key []byte) []byte {
	position, found, err := w.db.s.Index.Lookup(xxhash.Sum64(key), key)
	require.NoError(w.t, err)
	require.True(w.t, found)
	return w.db.s.P.View().Writable(position+28+uint64(len(key)), uint64(len(w.db.s.Matched.Value)))
}

// TestWovenReclaim: pages that were handed over while a read was in them make it begin anew, from the moment on at which
// somebody may store there.
func TestWovenReclaim(t *testing.T) {
	w := newWoven(t, SyncNever)
	key := wovenKey(0)
	between(t, sabotage.ReaderHasBucket, 1, func() {
		bucket, _, err := w.db.s.Index.Find(w.db.s.Root(), xxhash.Sum64(key), key, false)
		require.NoError(t, err)
		for i := range 40 { // splits
			require.NoError(t, w.db.Put(fmt.Append(nil, "more", i), nil))
		}
		freed, done := make(chan struct{}), make(chan struct{})
		t.Cleanup(func() { <-freed })
		sabotage.SetYield(func(p sabotage.Point) {
			if p == sabotage.ReclaimFreed {
				sabotage.SetYield(nil)
				close(done)
				<-freed // until the read has ended
			}
		})
		go func() { _ = w.db.Checkpoint() }()
		<-done
		was := string(w.db.s.P.View().Page(pager.PageNo(bucket / pager.PageSize)))
		for i := 0; i < 400 && string(w.db.s.P.View().Page(pager.PageNo(bucket/pager.PageSize))) == was; i++ {
			require.NoError(t, w.db.Put(fmt.Append(nil, "again", i), nil))
		}
		require.NotEqual(t, was, string(w.db.s.P.View().Page(pager.PageNo(bucket/pager.PageSize))), "the page was reused")
		t.Cleanup(func() { close(freed) })
	})
	v, err := w.db.Get(key)
	w.holds(key, v, err)
}

// TestWovenClose: a read that Close overtakes is told so, though the mapping has gone under it.
func TestWovenClose(t *testing.T) {
	for point := sabotage.ReaderHasGeneration; point <= sabotage.ReaderHasHeader; point++ {
		path := filepath.Join(t.TempDir(), "a.map")
		db, err := Open(path, nil)
		require.NoError(t, err)
		require.NoError(t, db.Put([]byte("key"), []byte("value")))
		require.NoError(t, db.Close())
		db, err = Open(path, nil) // a life that writes nothing makes no checkpoint
		require.NoError(t, err)
		between(t, point, 1, func() { require.NoError(t, db.Close()) })
		_, err = db.Get([]byte("key"))
		require.ErrorIs(t, err, ErrClosed, "point %d", point)
	}
}
