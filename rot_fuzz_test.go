package mapfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
)

// What any bytes may cost, at most: a watchdog's time, long enough for a busy machine, and memory.
const (
	fuzzTime  = 20 * time.Second
	fuzzBytes = 256 << 20
)

// FuzzOpen opens any bytes on the simulated disk, read-only and for writing, and calls everything: no panic, no hang, no
// memory without bound, whatever they are. FuzzOpenBytes does it with a real file.
func FuzzOpen(f *testing.F) {
	for _, m := range buildRotMaps(f) {
		if !m.deep {
			f.Add(m.file)
			f.Add(m.file[:5*pager.PageSize])
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) <= rotCapacity {
			tryForged(t, file, false, nil)
		}
	})
}

// forgeSeeds are edits that reach known weak spots, as forger.edit takes them: what, which, where, how, number.
var forgeSeeds = []struct {
	name  string
	edits [][5]uint64
}{
	{"nothing", nil},
	{"a directory that is its own child", [][5]uint64{{9, 0, 0, 12, 5}, {9, 0, 1, 12, 5}, {2, 0, 1, 12, 0}}},
	{"a bucket of width", [][5]uint64{{2, 1, 3, 12, 9}}},
	{"a bucket of depth", [][5]uint64{{2, 1, 2, 12, 64}}},
	{"a bucket that counts more slots than it has", [][5]uint64{{2, 1, 6, 12, 8}}},
	{"a slot that leads behind the file", [][5]uint64{{8, 1, 0, 12, 1 << 43}}},
	{"a slot that leads to a meta page", [][5]uint64{{8, 1, 3, 12, 8}}},
	{"a record whose previous version is itself", [][5]uint64{{6, 9, 5, 4, 0}, {6, 9, 4, 12, 1 << 47}}},
	{"a record of a sequence to come", [][5]uint64{{6, 5, 4, 12, 1<<48 - 1}}},
	{"a record that is visible never", [][5]uint64{{6, 20, 2, 12, 19}, {6, 20, 6, 12, 1<<64 - 1}}},
	{"a previous position to come", [][5]uint64{{6, 30, 5, 12, 1<<48 - 8}, {6, 31, 5, 12, 1<<48 - 1}}},
	{"a value of four gigabytes", [][5]uint64{{6, 10, 3, 12, 1<<32 - 1}}},
	{"a key of all that there is", [][5]uint64{{6, 10, 0, 12, 1<<16 - 1}}},
	{"an unknown kind", [][5]uint64{{6, 12, 1, 12, 8}}},
	{"a retirement of the log itself", [][5]uint64{{6, 40, 1, 12, 4}}},
	{"a link to itself", [][5]uint64{{6, 40, 1, 12, 5}}},
	{"a segment longer than the file", [][5]uint64{{5, 0, 2, 12, 1<<32 - 1}, {5, 1, 2, 12, 1<<32 - 1}}},
	{"a segment at a fixed page", [][5]uint64{{5, 0, 1, 12, 0}}},
	{"an epoch at the end", [][5]uint64{{0, 0, 7, 12, 1<<31 - 1}, {0, 1, 7, 12, 1<<31 - 1}}},
	{"a sequence at the end", [][5]uint64{{0, 0, 19, 12, 1<<48 - 1}, {0, 1, 19, 12, 1<<48 - 1}}},
	{"a log position at the end", [][5]uint64{{0, 0, 18, 12, 1<<64 - 1}, {0, 1, 18, 12, 1<<64 - 1}}},
	{"a mark at the end", [][5]uint64{{1, 0, 0, 12, 1<<64 - 1}}},
	{"a number at the end", [][5]uint64{{0, 0, 6, 12, 1<<64 - 1}}},
	{"a file of all pages", [][5]uint64{{0, 0, 9, 12, 1<<32 - 1}, {0, 1, 9, 12, 1<<32 - 1}}},
	{"images of all pages", [][5]uint64{{0, 0, 14, 12, 1 << 30}, {0, 1, 14, 12, 1 << 30}}},
	{"no keys", [][5]uint64{{0, 0, 20, 12, 0}, {0, 1, 20, 12, 0}}},
	{"units of a page", [][5]uint64{{0, 0, 25, 12, 4}, {0, 1, 25, 12, 4}}},
	{"all free", [][5]uint64{{4, 0, 66, 15, 1<<64 - 1}, {4, 1, 66, 15, 1<<64 - 1}, {4, 2, 66, 15, 1<<64 - 1}, {4, 3, 66, 15, 1<<64 - 1}}},
}

// forgeEdits gives the bytes of a seed.
func forgeEdits(edits [][5]uint64) (b []byte) {
	for _, e := range edits {
		b = append(b, byte(e[0]), byte(e[1]), byte(e[2]), byte(e[2]>>8), byte(e[3]))
		b = le.AppendUint64(b, e[4])
	}
	return b
}

// FuzzOpenMended changes fields of the structures of good maps, makes the sums hold, and calls everything. Wrong answers cannot be
// ruled out in such a file; a panic, a hang and memory without bound can.
func FuzzOpenMended(f *testing.F) {
	all := buildRotMaps(f)
	for i, m := range all {
		if m.name == "closed" || m.name == "deep, killed above the mark" {
			for _, s := range forgeSeeds {
				f.Add(uint8(i), forgeEdits(s.edits))
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, edits []byte) {
		m := all[int(which)%len(all)]
		tryForged(t, newForger(m.file).forge(edits), m.deep, m.keys)
	})
}

// TestForger: without edits a forged map is the map, so that what edits lead to is reached.
func TestForger(t *testing.T) {
	for _, m := range buildRotMaps(t) {
		f := newForger(m.file)
		require.NotEmpty(t, f.images)
		require.Greater(t, len(f.index), 5)
		require.Greater(t, len(f.records), 20)
		require.Equal(t, m.file, f.forge(nil))
	}
}

// TestForgedFields writes some values that are worth trying into some fields: a short run of FuzzOpenMended.
func TestForgedFields(t *testing.T) {
	all := buildRotMaps(t)
	r := rotRand(5)
	for range 60 {
		m := all[r.IntN(len(all))]
		var edits []byte
		for range 1 + r.IntN(4) {
			edits = append(edits, byte(r.IntN(10)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(16)), byte(r.IntN(16)))
			edits = le.AppendUint64(edits, r.Uint64())
		}
		tryForged(t, newForger(m.file).forge(edits), m.deep, m.keys)
	}
}

// heapBytes is how much was ever allocated.
func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// tryForged opens a file in each way and calls everything.
func tryForged(t *testing.T, file []byte, deep bool, keys [][]byte) {
	watch := time.AfterFunc(fuzzTime, func() { panic("no input may take so long") })
	defer watch.Stop()
	defer forgivenAssert()
	before := heapBytes()
	for _, readOnly := range []bool{true, false} {
		d := simdisk.New(rotCapacity)
		d.Load(crashPath, file)
		x := forgedTrial{t, d, deep, readOnly, keys}
		if len(keys) == 0 {
			x.keys = [][]byte{nil, []byte("key 1"), []byte("tail 2"), []byte("absent")}
		}
		x.run()
		if readOnly {
			require.Equal(t, file, d.Bytes(crashPath), "a read-only open writes nothing")
			x.check()
		}
		d.Release()
	}
	require.Less(t, heapBytes()-before, uint64(fuzzBytes))
}

// forgivenAssert lets a broken invariant pass in builds that check them: a forged file breaks some of those that only
// our own mistakes could break otherwise. Reading outside of the mapping is never forgiven.
func forgivenAssert() {
	if !debug.On {
		return
	}
	if s, ok := recover().(string); ok && (!strings.HasPrefix(s, "mapfile: invariant broken: ") || strings.Contains(s, "outside of the mapping")) {
		panic(s)
	}
}

// forgedTrial is one opening of a forged file.
type forgedTrial struct {
	t        *testing.T
	disk     *simdisk.Disk
	deep     bool
	readOnly bool
	keys     [][]byte
}

// allowed fails for errors that no damage explains.
func (x *forgedTrial) allowed(err error) {
	x.t.Helper()
	for _, ok := range []error{nil, ErrNotFound, ErrNotMapfile, ErrVersion, ErrCorrupt, ErrFull, ErrFailed, ErrHashExhausted} {
		if errors.Is(err, ok) {
			return
		}
	}
	x.t.Fatalf("read-only %v: %v", x.readOnly, err)
}

func (x *forgedTrial) run() {
	db, err := rotOpen(x.disk, x.deep, 7, Options{ReadOnly: x.readOnly, Sync: SyncNever})
	if err != nil {
		x.allowed(err)
		require.NotErrorIs(x.t, err, ErrNotFound)
		return
	}
	x.read(db)
	if !x.readOnly {
		x.write(db)
		x.read(db)
	}
	db.Stats()
	x.allowed(db.Close())
}

// read asks for everything that is read.
func (x *forgedTrial) read(db *DB) {
	for _, k := range x.keys {
		_, err := db.Get(k)
		x.allowed(err)
		_, err = db.Has(k)
		x.allowed(err)
	}
	x.allowed(db.GetMany(x.keys, func(_ int, _ []byte, err error) error { x.allowed(err); return nil }))
	x.allowed(db.View(func(tx *Tx) error {
		n := 0
		for range tx.All() {
			n++
		}
		require.Less(x.t, n, 1<<20, "an iteration shows more than there can be")
		return tx.Err()
	}))
}

// write writes in every way, beside a snapshot that reads older versions.
func (x *forgedTrial) write(db *DB) {
	old, err := db.BeginTx(context.Background(), &TxOptions{ReadOnly: true})
	x.allowed(err)
	for i, k := range x.keys {
		if i%3 == 2 {
			x.allowed(db.Delete(k))
		} else {
			x.allowed(db.Put(k, fmt.Appendf(nil, "new %d", i)))
		}
	}
	if old != nil {
		for _, k := range x.keys {
			_, err := old.Get(k)
			x.allowed(err)
		}
		x.allowed(old.Rollback())
	}
	x.allowed(db.Update(func(tx *Tx) error {
		for i, k := range x.keys {
			if err := tx.Put(append(bytes.Clone(k), byte(i%7)), k); err != nil {
				return err
			}
		}
		return nil
	}))
	x.allowed(db.Checkpoint())
	x.allowed(db.Compact(context.Background()))
	x.allowed(db.Sync())
}

// check judges the file as the tool does.
func (x *forgedTrial) check() {
	_, err := recovery.Check(context.Background(), recovery.Options{
		OpenOptions: pager.OpenOptions{Disk: x.disk, Path: crashPath, ReadOnly: true, Geometry: rotGeometry(x.deep)},
		Random:      rand.Uint64,
	}, recovery.CheckOptions{})
	x.allowed(err)
}
