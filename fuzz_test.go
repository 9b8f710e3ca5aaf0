//go:build linux || darwin || freebsd

package mapfile_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/pager"
)

// smallMaps are good maps to begin from: empty, closed, and left by a killed process.
func smallMaps(f *testing.F) [][]byte {
	dir := f.TempDir()
	var all [][]byte
	for i, keys := range []int{0, 3, 200} {
		db := openTest(f, filepath.Join(dir, fmt.Sprint(i)), &mapfile.Options{Sync: mapfile.SyncNever})
		for k := range keys {
			require.NoError(f, db.Put(numbered(k), fmt.Appendf(nil, "value %d", k)))
		}
		require.NoError(f, db.Checkpoint())
		if keys > 0 {
			require.NoError(f, db.Put(numbered(keys), []byte("in the tail")))
			require.NoError(f, db.Delete(numbered(0)))
			all = append(all, readFile(f, db.Path()))
		}
		require.NoError(f, db.Close())
		all = append(all, readFile(f, db.Path()))
	}
	return all
}

// FuzzOpenBytes opens any bytes as a file. With mend the sums of the meta pages are made to hold, and with
// mendIndex those of all pages that look like pages of the index, so that what is behind them is reached. Fuzzing it wants -fuzzminimizetime=20x: the default spends a minute on each find.
func FuzzOpenBytes(f *testing.F) {
	for _, b := range smallMaps(f) {
		f.Add(b, false, false)
		for _, size := range []int{1, 2 * pager.PageSize, len(b) - 1} {
			f.Add(b[:min(size, len(b))], false, false)
		}
		for i, at := 0, 20; at < len(b); i, at = i+1, at+1+at/8 {
			flipped := append([]byte(nil), b...)
			flipped[at] ^= 0x55
			f.Add(flipped, i%3 > 0, i%3 > 1)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, mend, mendIndex bool) {
		b = append([]byte(nil), b...)
		if mendIndex {
			sumIndex(b)
		}
		if mend {
			sumMetas(b)
		}
		path := filepath.Join(t.TempDir(), "f.map")
		for _, readOnly := range []bool{true, false} {
			require.NoError(t, os.WriteFile(path, b, 0o600))
			begin := time.Now()
			tryBytes(t, path, readOnly)
			require.Less(t, time.Since(begin), 10*time.Second, "no file may take so long")
		}
	})
}

// Where the header of an index page has its page number and epoch, and the meta page its salt.
const (
	metaFileSalt = 48
	pageNumberAt = 12
	pageEpochAt  = 16
)

// sumIndex makes the sums of the pages hold whose header names their own page number.
func sumIndex(b []byte) {
	if len(b) < pager.PageSize {
		return
	}
	le := binary.LittleEndian
	salt := le.Uint64(b[metaFileSalt:])
	for n := 4; (n+1)*pager.PageSize <= len(b); n++ {
		p := b[n*pager.PageSize : (n+1)*pager.PageSize]
		if le.Uint32(p[pageNumberAt:]) == uint32(n) {
			le.PutUint64(p, xxhash.Sum64(p[8:])^pager.Mix(pager.Mix(salt, uint64(n)), uint64(le.Uint32(p[pageEpochAt:]))))
		}
	}
}

// tryBytes opens a file and, if that works, calls everything. Only errors that say what is wrong may come.
func tryBytes(t *testing.T, path string, readOnly bool) {
	allowed := func(err error) {
		t.Helper()
		for _, ok := range []error{nil, mapfile.ErrNotFound, mapfile.ErrNotMapfile, mapfile.ErrVersion, mapfile.ErrCorrupt, mapfile.ErrFull, mapfile.ErrFailed} {
			if errors.Is(err, ok) {
				return
			}
		}
		t.Fatalf("read-only %v: %v", readOnly, err)
	}
	db, err := mapfile.Open(path, &mapfile.Options{ReadOnly: readOnly, Sync: mapfile.SyncNever, MaxSize: 64 << 20})
	if err != nil {
		allowed(err)
		require.NotErrorIs(t, err, mapfile.ErrNotFound)
		return
	}
	keys := [][]byte{nil, []byte("k")}
	for i := range 5 {
		keys = append(keys, numbered(i*40))
	}
	allowed(db.GetMany(keys, func(_ int, _ []byte, err error) error { allowed(err); return nil }))
	entries := uint64(0)
	allowed(db.View(func(tx *mapfile.Tx) error {
		for range tx.All() {
			entries++
		}
		return tx.Err()
	}))
	for _, k := range keys {
		_, err := db.Get(k)
		allowed(err)
		if !readOnly {
			allowed(db.Put(k, []byte("new")))
			allowed(db.Delete(k))
		}
	}
	if !readOnly {
		allowed(db.Checkpoint())
	}
	db.Stats()
	allowed(db.Close())
}

// FuzzHistory takes bytes as operations and holds the map against Go's own. Three bytes are an operation: what, which key, how long.
func FuzzHistory(f *testing.F) {
	f.Add([]byte("\x00aa\x00ba\x01aa\x02aa\x03aa\x05aa\x06aa\x00bz\x07aa\x04ba\x06aa"))
	f.Add([]byte("\x00a\xff\x00a\xfe\x05aa\x00b\xff\x06aa\x01aa\x01ba\x05aa\x05aa\x06aa"))
	f.Add([]byte("\x04aa\x04bb\x04cc\x07aa\x04\x00\xff\x06aa\x07aa"))
	long := make([]byte, 0, 3*120)
	for i := range 120 {
		long = append(long, byte(i*7%8), byte(i*31), byte(i*17))
	}
	f.Add(long)
	f.Fuzz(func(t *testing.T, b []byte) {
		o := &mapfile.Options{Sync: mapfile.SyncNever}
		h := history{t: t, db: openTest(t, filepath.Join(t.TempDir(), "h.map"), o), o: o, model: map[string]string{}}
		for ; len(b) >= 3 && h.n < 1000; b = b[3:] {
			h.step(b[0], b[1], b[2])
		}
		requireMap(t, h.db, h.model)
		h.reopen()
		requireMap(t, h.db, h.model)
		require.NoError(t, h.db.Close())
	})
}

// history is a running history with its model.
type history struct {
	t     *testing.T
	db    *mapfile.DB
	o     *mapfile.Options
	model map[string]string
	n     int
}

func (h *history) reopen() {
	require.NoError(h.t, h.db.Close())
	h.db = openTest(h.t, h.db.Path(), h.o)
}

func (h *history) step(what, key, length byte) {
	h.n++
	k, v := fmt.Sprintf("key %d", key), fmt.Sprintf("%d %*d", h.n, int(length)*int(length)/8, h.n)
	switch what % 8 {
	case 0, 1:
		h.model[k] = v
		require.NoError(h.t, h.db.Put([]byte(k), []byte(v)))
	case 2:
		delete(h.model, k)
		require.NoError(h.t, h.db.Delete([]byte(k)))
	case 3:
		got, err := h.db.Get([]byte(k))
		want, ok := h.model[k]
		require.Equal(h.t, ok, err == nil)
		require.Equal(h.t, want, string(got))
	case 4:
		h.transaction(k, v, int(length))
	case 5:
		require.NoError(h.t, h.db.Checkpoint())
	case 6:
		h.reopen()
	case 7: // as a killed process leaves it
		left := h.db.Path() + fmt.Sprint(h.n)
		require.NoError(h.t, os.WriteFile(left, readFile(h.t, h.db.Path()), 0o600))
		require.NoError(h.t, h.db.Close())
		h.db = openTest(h.t, left, h.o)
	}
	require.EqualValues(h.t, len(h.model), h.db.Len())
}

// transaction writes a few keys in one step, and rolls every fourth one back.
func (h *history) transaction(k, v string, n int) {
	tx, err := h.db.BeginTx(noContext, &mapfile.TxOptions{Sync: mapfile.SyncMode(n % 4)})
	require.NoError(h.t, err)
	next := maps.Clone(h.model)
	for i := range 1 + n%7 {
		key := fmt.Sprint(k, i%3)
		if i%3 == 2 {
			delete(next, key)
			require.NoError(h.t, tx.Delete([]byte(key)))
			continue
		}
		next[key] = v
		require.NoError(h.t, tx.Put([]byte(key), []byte(v)))
	}
	require.EqualValues(h.t, len(next), tx.Len())
	if n%4 == 3 {
		require.NoError(h.t, tx.Rollback())
		return
	}
	require.NoError(h.t, tx.Commit())
	h.model = next
}
