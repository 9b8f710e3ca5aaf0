package mapfile

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
)

// The rot tests damage the file of a map at rest in every way that they can think of and open it. The maps are small, so
// that every bit can be tried, and have a bit of everything.

// rotGeometry has tiny buckets and segments. With a fan-out of eight bits the first hash is used up soonest. A small map stays within
// one unit, a deep one has many.
func rotGeometry(deep bool) pager.Geometry {
	g := pager.Geometry{
		BucketLines: 1, FillPercent: 80, FanoutBits: 8, UnitPages: 128, SmallPages: 1,
		GrowPages: 1, MaxGrowPages: 16, ReserveBytes: 3 << 19, CheckpointBytes: 1 << 40, MaxCheckpoint: 1 << 40,
	}
	if deep {
		g.UnitPages = 4
	}
	return g
}

// rotCapacity is the size of the simulated disk, and so the largest size of a rot map.
const rotCapacity = 1 << 20

func rotOpen(d *simdisk.Disk, deep bool, seed uint64, o Options) (*DB, error) {
	salts := rand.New(rand.NewPCG(seed, 0x5a17))
	o.LockTimeout, o.MaxSize = -1, d.Capacity()
	if !deep {
		o.MaxSize = 32 << 20 // units are smaller in a map that cannot become large
	}
	return open(crashPath, o.withDefaults(), internals{disk: d, geometry: rotGeometry(deep), random: salts.Uint64, memory: func() uint64 { return 1 << 40 }})
}

// rotMap is a map at rest, and what may be found in it.
type rotMap struct {
	name    string
	file    []byte
	states  []kv               // what an open may find: the last, or, above the durable mark, an earlier one
	keys    [][]byte           // every key there ever was, and as many that never were
	older   map[int64][][]byte // by sector: what it held before, newest last
	deep    bool
	tail    bool          // there is something to replay
	disk    *simdisk.Disk // on which the map is opened, again and again
	scratch []byte        // for the damaged file
}

// rotBuilder writes the history of the rot maps.
type rotBuilder struct {
	t      testing.TB
	deep   bool
	disk   *simdisk.Disk
	db     *DB
	states []kv
	was    []byte
	older  map[int64][][]byte
}

// rotHash is the first hash that the deep keys have in common. Where many keys have equal hashes other maps
// have a chain of overflow; here the trie goes on with a second hash, four directories below the root. Buckets on the way
// there hold a key or two each, whose hashes leave that of the chain at one bit.
const rotHash = 0xc5a3_96f0_1b2d_8e47

// deepKey is one of the keys with equal hashes.
func deepKey(i int) string { return string(KeyWithHash(uint64(i), rotHash)) }

// sideKey has a hash that leaves rotHash at a bit.
func sideKey(i int) string {
	return string(KeyWithHash(1000+uint64(i), rotHash^1<<(63-uint(i)%32)^uint64(i)))
}

// buildRotMaps gives two maps, each closed, killed with a tail that was synced, and killed with commits behind that which were not:
// a small one, and one whose trie goes on to the second hash.
func buildRotMaps(t testing.TB) []*rotMap {
	builtRotMaps.Do(func() { builtRotMaps.all = buildRotMapsOnce(t) })
	require.NotEmpty(t, builtRotMaps.all)
	return builtRotMaps.all
}

var builtRotMaps struct {
	sync.Once
	all []*rotMap
}

func buildRotMapsOnce(t testing.TB) (all []*rotMap) {
	for _, deep := range []bool{false, true} {
		b := &rotBuilder{t: t, deep: deep, disk: simdisk.New(rotCapacity), states: []kv{{}}, older: map[int64][][]byte{}}
		b.disk.OnEvent = func(simdisk.Event) { b.notice() }
		b.must(b.reopen())
		b.base()
		killed := b.end("killed", 1)
		b.unsynced()
		above := b.end("killed above the mark", 4)
		b.must(b.db.Close())
		all = append(all, b.end("closed", 1), killed, above)
	}
	return all
}

func (b *rotBuilder) must(err error) {
	b.t.Helper()
	require.NoError(b.t, err)
}

func (b *rotBuilder) reopen() (err error) {
	b.db, err = rotOpen(b.disk, b.deep, uint64(len(b.states)), Options{Sync: SyncAlways})
	return err
}

// notice keeps what the sectors held before they were last changed.
func (b *rotBuilder) notice() {
	if _, err := b.disk.Stat(crashPath); err != nil {
		return
	}
	now := b.disk.Bytes(crashPath)
	if bytes.Equal(now, b.was) {
		return
	}
	for at := 0; at+pager.SectorSize <= min(len(b.was), len(now)); at += pager.SectorSize {
		if was := b.was[at : at+pager.SectorSize]; !bytes.Equal(was, now[at:at+pager.SectorSize]) {
			i := int64(at / pager.SectorSize)
			b.older[i] = append(b.older[i], was)
		}
	}
	b.was = now
}

// value is a fresh value of n bytes.
func (b *rotBuilder) value(n int) string {
	return strings.Repeat(fmt.Sprintf("%d ", len(b.states)), n)[:n]
}

func (b *rotBuilder) note(change func(kv)) {
	next := maps.Clone(b.states[len(b.states)-1])
	change(next)
	b.states = append(b.states, next)
}

func (b *rotBuilder) put(key string, n int) {
	v := b.value(n)
	b.note(func(m kv) { m[key] = v })
	b.must(b.db.Put([]byte(key), []byte(v)))
}

func (b *rotBuilder) drop(key string) {
	b.note(func(m kv) { delete(m, key) })
	b.must(b.db.Delete([]byte(key)))
}

// tx is a commit of several records: the values of the keys, or no longer any.
func (b *rotBuilder) tx(sync SyncMode, n int, keys ...string) {
	tx, err := b.db.BeginTx(b.t.Context(), &TxOptions{Sync: sync})
	b.must(err)
	v := b.value(n)
	b.note(func(m kv) {
		for i, k := range keys {
			if i%4 == 3 {
				delete(m, k)
				b.must(tx.Delete([]byte(k)))
				continue
			}
			m[k] = v
			b.must(tx.Put([]byte(k), []byte(v)))
		}
	})
	b.must(tx.Commit())
}

// base is a life with moved records and a retired segment, splits down to the second hash, tombstones, commits of several records, two
// checkpoints and a tail. It compacts while the index is small, and changes few buckets later: each epoch copies what it changes.
func (b *rotBuilder) base() {
	for i := range 12 {
		b.put(fmt.Sprint("moved ", i%4), 300+i)
	}
	b.must(b.db.Compact(b.t.Context()))
	if b.deep {
		b.deepen()
	}
	for i := 0; i < 6; i += 2 {
		b.tx(SyncDefault, 100, b.key(i), b.key(i+1))
	}
	b.put("large", 2000)
	b.put(rotLarge, 4600)
	b.put("empty", 0)
	b.must(b.db.Checkpoint())
	for i := range 3 {
		b.drop(fmt.Sprint("moved ", i))
	}
	b.put("large", 1900)
	b.tx(SyncDefault, 60, b.key(6), b.key(2), "new", b.key(3))
	b.drop(b.key(4))
	b.must(b.db.Checkpoint())
	// From here on the tail.
	b.tx(SyncDefault, 300, b.key(5), b.key(7), "moved 2", b.key(0))
	b.put(rotLarge, 4300)
	b.drop("new")
	for i := range 6 {
		b.put(fmt.Sprint("tail ", i), 100*i)
	}
	b.drop("tail 3")
	b.put("moved 1", 20)
}

// key is one of the keys with equal hashes in a deep map, else any.
func (b *rotBuilder) key(i int) string {
	if b.deep {
		return deepKey(i)
	}
	return fmt.Sprint("key ", i)
}

// deepen leads the trie on to the second hash, a bit at a time, so that the file stays small.
func (b *rotBuilder) deepen() {
	for i := range 6 {
		b.put(deepKey(100+i), 40+i)
	}
	for i := 0; i < 32; i += 2 {
		b.tx(SyncDefault, 100, sideKey(i), sideKey(i+1))
		b.must(b.db.Checkpoint())
	}
}

// unsynced are three commits that did not wait for the disk.
func (b *rotBuilder) unsynced() {
	b.tx(SyncNever, 100, b.key(1), "tail 1", b.key(8), b.key(6))
	b.tx(SyncNever, 900, "tail 2")
	b.tx(SyncNever, 10, "tail 9", b.key(9))
}

// end takes the map as it is: an open of it may find that many of the newest states.
func (b *rotBuilder) end(name string, states int) *rotMap {
	b.notice()
	m := &rotMap{
		name: name, deep: b.deep, file: bytes.Clone(b.was), states: slices.Clone(b.states[len(b.states)-states:]), older: maps.Clone(b.older),
		tail: name != "closed", disk: simdisk.New(rotCapacity),
	}
	copy(m.file[pager.MarkPage*pager.PageSize+2048:], "pid 7\x00\x00\x00\x00\x00") // the note of another process: an open that is refused leaves it
	if b.deep {
		m.name = "deep, " + name
	}
	all := map[string]bool{}
	for _, s := range b.states {
		for k := range s {
			all[k] = true
		}
	}
	for i := range 4 {
		all[deepKey(200+i)], all[sideKey(200+7*i)], all[fmt.Sprint("absent ", i)] = true, true, true
	}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		m.keys = append(m.keys, []byte(k))
	}
	return m
}

// TestRotMaps makes sure that the maps have what the tests are about.
func TestRotMaps(t *testing.T) {
	for _, m := range buildRotMaps(t) {
		t.Run(m.name, func(t *testing.T) {
			m.disk.Load(crashPath, m.file)
			db, err := rotOpen(m.disk, m.deep, 1, Options{ReadOnly: true})
			require.NoError(t, err)
			st := db.Stats()
			t.Logf("%d bytes, %d keys, %d states, %+v", len(m.file), len(m.keys), len(m.states), st)
			require.Equal(t, m.tail, st.Recovery.Recovered)
			if m.deep {
				require.Greater(t, st.DirectoryPages, uint64(4), "the second hash is in use")
			}
			require.Greater(t, st.IndexPages-st.DirectoryPages, uint64(3), "buckets were split")
			require.Greater(t, st.Tombstones, uint64(3))
			require.Greater(t, st.Segments, uint64(1))
			require.Less(t, len(m.file), rotCapacity)
			require.NotEmpty(t, m.older)
			require.NoError(t, db.Close())
		})
	}
}
