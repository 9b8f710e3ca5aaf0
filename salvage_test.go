package mapfile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// lived is a map on a simulated disk with its model: what its keys have ever been, and are.
type lived struct {
	t    *testing.T
	disk *simdisk.Disk
	db   *DB
	rng  *rand.Rand
	seed uint64
	want kv
	ever map[string]map[string]bool
}

func newLived(t *testing.T, seed uint64) *lived {
	l := &lived{t: t, disk: simdisk.New(4 << 20), rng: rand.New(rand.NewPCG(seed, 77)), seed: seed, want: kv{}, ever: map[string]map[string]bool{}}
	l.open()
	t.Cleanup(func() { require.NoError(t, l.db.Close()); l.disk.Release() })
	return l
}

func (l *lived) open() {
	db, err := simOpen(l.disk, l.seed, l.rng.Uint64(), Options{Sync: SyncNever})
	require.NoError(l.t, err)
	l.db = db
}

func (l *lived) set(m kv, key, value string) {
	m[key] = value
	if l.ever[key] == nil {
		l.ever[key] = map[string]bool{}
	}
	l.ever[key][value] = true
}

// play runs random operations: all that can leave something in the log.
func (l *lived) play(steps int) {
	for i := range steps {
		key := fmt.Sprintf("key%d", l.rng.IntN(40))
		switch n := l.rng.IntN(40); {
		case n < 18:
			value := strings.Repeat(fmt.Sprintf("%d.", i), 1+l.rng.IntN(400))
			l.set(l.want, key, value)
			require.NoError(l.t, l.db.Put([]byte(key), []byte(value)))
		case n < 26:
			delete(l.want, key)
			require.NoError(l.t, l.db.Delete([]byte(key)))
		case n < 32:
			require.NoError(l.t, l.db.Update(func(tx *Tx) error {
				for range 4 {
					key := fmt.Sprintf("key%d", l.rng.IntN(40))
					l.set(l.want, key, fmt.Sprintf("tx %d", i))
					if err := tx.Put([]byte(key), []byte(l.want[key])); err != nil {
						return err
					}
				}
				return nil
			}))
		case n < 35:
			require.NoError(l.t, l.db.Checkpoint())
		case n < 37:
			require.NoError(l.t, l.db.Compact(context.Background()))
		case n < 38: // a clean end of the life
			require.NoError(l.t, l.db.Close())
			l.open()
		case n < 39: // a kill
			require.NoError(l.t, l.db.s.Close())
			l.open()
		}
	}
}

// extent is where the newest record of a key lies, a tombstone too.
type extent struct{ from, to uint64 }

func (l *lived) extents() map[string]extent {
	out := map[string]extent{}
	for i := range 40 {
		key := fmt.Sprintf("key%d", i)
		position, found, err := l.db.s.Index.Lookup(xxhash.Sum64String(key), []byte(key))
		require.NoError(l.t, err)
		if found {
			out[key] = extent{position, position + l.db.s.Matched.Size()}
		}
	}
	return out
}

// trash replaces a range by bytes that are no records.
func trash(b []byte, rng *rand.Rand) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// salvaged gives what Salvage makes of these bytes.
func salvaged(t *testing.T, b []byte, o *SalvageOptions) (kv, *SalvageReport) {
	t.Helper()
	disk := simdisk.New(int64(len(b)+pager.PageSize) &^ (pager.PageSize - 1))
	defer disk.Release()
	disk.Load(crashPath, b)
	dst := filepath.Join(t.TempDir(), "new")
	if o == nil {
		o = &SalvageOptions{}
	}
	r, err := salvage(context.Background(), disk, crashPath, dst, o)
	require.NoError(t, err)
	require.Equal(t, b, disk.Bytes(crashPath), "the source was changed")
	names, err := os.ReadDir(filepath.Dir(dst))
	require.NoError(t, err)
	require.Len(t, names, 1, "what was made meanwhile is left behind")
	db, err := Open(dst, &Options{ReadOnly: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	got := kv{}
	require.NoError(t, db.View(func(tx *Tx) error {
		for k, v := range tx.All() {
			got[string(k)] = string(v)
		}
		return tx.Err()
	}))
	require.EqualValues(t, len(got), r.Keys)
	info, err := os.Stat(dst)
	require.NoError(t, err)
	require.LessOrEqual(t, info.Size(), r.NewBytes)
	return got, r
}

// damages are what may be gone without a key being lost: everything but the records, their segments' salts, and, where
// both copies of a header are gone, the segment table.
var damages = []struct {
	name string
	do   func(b []byte, l *lived)
}{
	{"nothing", func([]byte, *lived) {}},
	{"the meta pages", func(b []byte, l *lived) { trash(b[:4*pager.PageSize], l.rng) }},
	{"the meta pages zeroed", func(b []byte, l *lived) { clear(b[:4*pager.PageSize]) }},
	{"one meta page", func(b []byte, l *lived) { trash(b[:pager.PageSize], l.rng) }},
	{"everything but the segments", func(b []byte, l *lived) { l.trashOthers(b) }},
	{"the first copy of each header, too", func(b []byte, l *lived) { l.trashOthers(b); l.trashHeaders(b, 0, 1) }},
	{"the second copy of each header, too", func(b []byte, l *lived) { l.trashOthers(b); l.trashHeaders(b, 1, 2) }},
	{"both copies, but not the segment table", func(b []byte, l *lived) { l.trashHeaders(b, 0, 2) }},
}

func (l *lived) trashOthers(b []byte) {
	keep := map[uint32]bool{}
	for _, g := range l.db.s.Tail.Segments() {
		for i := range g.Pages {
			keep[uint32(g.Start)+i] = true
		}
	}
	for p := range uint32(len(b) / pager.PageSize) {
		if !keep[p] {
			trash(b[int(p)*pager.PageSize:][:pager.PageSize], l.rng)
		}
	}
}

func (l *lived) trashHeaders(b []byte, from, to int) {
	for _, g := range l.db.s.Tail.Segments() {
		trash(b[int(g.Base())+from*pager.SectorSize:int(g.Base())+to*pager.SectorSize], l.rng)
	}
}

// TestSalvage: as long as the records are there, nothing is lost, and nothing comes back, whatever else is gone.
func TestSalvage(t *testing.T) {
	for seed := range uint64(4) {
		l := newLived(t, seed)
		l.play(150)
		killed := l.disk.Bytes(crashPath)
		for _, d := range damages {
			t.Run(fmt.Sprintf("seed %d, without %s", seed, d.name), func(t *testing.T) {
				b := append([]byte(nil), killed...)
				d.do(b, l)
				if d.name == "both copies, but not the segment table" {
					// What was opened since the last checkpoint is not in it.
					require.NoError(t, l.db.Checkpoint())
					require.NoError(t, l.db.Checkpoint())
					b = l.disk.Bytes(crashPath)
					d.do(b, l)
				}
				got, r := salvaged(t, b, nil)
				require.Equal(t, brief40(l.want), brief40(got))
				require.Equal(t, l.want, got)
				require.Zero(t, r.Lost.Places, "%v", r.Lost.List)
			})
		}
	}
}

func brief40(m kv) (out []string) {
	for i := range 40 {
		k := fmt.Sprintf("key%d", i)
		if v, ok := m[k]; ok {
			out = append(out, fmt.Sprintf("%s=%.8s*%d", k, v, len(v)))
		}
	}
	return out
}

// TestSalvageOverRot trashes random sectors of a map without meta pages: a key whose newest record is whole has its value, a
// deleted key whose tombstone is whole is not there, no key has a value that it never had, and what is missing is told.
func TestSalvageOverRot(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			l := newLived(t, 100+seed)
			l.play(150)
			b := l.disk.Bytes(crashPath)
			extents := l.extents()
			segments := l.db.s.Tail.Segments()
			l.trashOthers(b)
			var hit []extent
			for range 1 + l.rng.IntN(8) {
				g := segments[l.rng.IntN(len(segments))]
				sector := uint64(2 + l.rng.IntN(int(g.Pages)*8-2))
				at := g.Base() + sector*pager.SectorSize
				trash(b[at:at+pager.SectorSize], l.rng)
				hit = append(hit, extent{at, at + pager.SectorSize})
			}
			got, r := salvaged(t, b, nil)
			older, _ := salvaged(t, b, &SalvageOptions{Older: true})
			missing, cut := 0, map[string]bool{}
			for _, x := range r.Lost.List {
				// Of the last commit that can be read the end is gone: it looks like one that was torn.
				cut[string(x.Key)] = cut[string(x.Key)] || x.Structure == "commit"
			}
			for i := range 40 {
				key := fmt.Sprintf("key%d", i)
				e, whole := extents[key], true
				for _, h := range hit {
					whole = whole && (h.to <= e.from || e.to <= h.from)
				}
				want, alive := l.want[key]
				value, there := got[key]
				if there {
					require.True(t, l.ever[key][value], "%s has a value that it never had", key)
				}
				if whole && !cut[key] {
					require.Equal(t, alive, there, "%s", key)
					require.Equal(t, want, value, "%s", key)
				} else if alive && value != want {
					missing++
				}
				if value, there := older[key]; there {
					require.True(t, l.ever[key][value], "%s has a value that it never had", key)
				}
			}
			if missing > 0 {
				require.NotZero(t, r.Lost.Places)
			}
		})
	}
}

// TestSalvageAfterCrashes: power cuts leave records behind the end of a life. When the next life has begun they are not taken for its.
func TestSalvageAfterCrashes(t *testing.T) {
	images := 0
	for seed := uint64(1); images < 30; seed++ {
		disk := simdisk.New(1 << 20)
		disk.OnEvent = func(simdisk.Event) {
			if !debug.On {
				disk.Notice() // before each sync: it makes durable what it knows of
			}
		}
		db, err := simOpen(disk, seed, seed, Options{Sync: SyncNever})
		require.NoError(t, err)
		rng := rand.New(rand.NewPCG(seed, 5))
		write := func(db *DB, n int) {
			for range n {
				key := []byte(fmt.Sprintf("key%d", rng.IntN(9)))
				if rng.IntN(4) == 0 {
					require.NoError(t, db.Delete(key))
					continue
				}
				require.NoError(t, db.Update(func(tx *Tx) error {
					for range 1 + rng.IntN(3) {
						key := []byte(fmt.Sprintf("key%d", rng.IntN(9)))
						if err := tx.Put(key, []byte(strings.Repeat("v", 100+rng.IntN(900)))); err != nil {
							return err
						}
					}
					return nil
				}))
			}
		}
		write(db, 8)
		require.NoError(t, db.Checkpoint())
		write(db, 8)
		if !debug.On {
			disk.Notice()
		}
		disk.States(rng, simdisk.StateOptions{Sample: 8}, func(img *simdisk.Disk) bool {
			defer img.Release()
			if rng.IntN(6) != 0 {
				return true
			}
			again, err := simOpen(img, seed, seed+1, Options{Sync: SyncNever})
			require.NoError(t, err)
			write(again, rng.IntN(6))
			if _, begun := again.s.Life(); !begun {
				require.NoError(t, again.Close())
				return true // nothing that a record tells of
			}
			images++
			want := (&crashRun{point: "after a crash"}).contents(again)
			b := img.Bytes(crashPath)
			clear(b[:4*pager.PageSize])
			got, _ := salvaged(t, b, nil)
			require.Equal(t, want, got, "seed %d, image %d", seed, images)
			require.NoError(t, again.Close())
			return images < 30
		})
		require.NoError(t, db.Close())
		disk.Release()
	}
}

// TestSalvageNewestDamaged: the key is listed with the place of the older version, which is written when that is asked for.
func TestSalvageNewestDamaged(t *testing.T) {
	l := newLived(t, 3)
	for _, value := range []string{"first", "second", "newest"} {
		require.NoError(t, l.db.Put([]byte("k"), []byte(value)))
	}
	require.NoError(t, l.db.Put([]byte("other"), []byte("x")))
	position, found, err := l.db.s.Index.Lookup(xxhash.Sum64String("k"), []byte("k"))
	require.NoError(t, err)
	require.True(t, found)
	older := l.db.s.Matched.Previous
	b := l.disk.Bytes(crashPath)
	b[position+tail.HeaderBytes+2] ^= 3
	var told []Loss
	got, r := salvaged(t, b, &SalvageOptions{Lost: func(x Loss) { told = append(told, x) }})
	require.Equal(t, kv{"other": "x"}, got)
	require.Equal(t, r.Lost.List, told)
	require.Len(t, told, 1)
	require.Equal(t, []any{"k", int64(position), int64(older)}, []any{string(told[0].Key), told[0].Offset, told[0].Older})
	got, r = salvaged(t, b, &SalvageOptions{Older: true})
	require.Equal(t, kv{"k": "second", "other": "x"}, got)
	require.EqualValues(t, 1, r.Older)
}

// TestSalvageTornCommit: of the last commit all counts or nothing, unless a meta page knows of it.
func TestSalvageTornCommit(t *testing.T) {
	l := newLived(t, 3)
	require.NoError(t, l.db.Put([]byte("before"), []byte("1")))
	require.NoError(t, l.db.Update(func(tx *Tx) error {
		return errors.Join(tx.Put([]byte("a"), []byte("2")), tx.Put([]byte("b"), []byte("3")), tx.Put([]byte("c"), []byte("4")))
	}))
	end, _ := l.db.s.Tail.Position()
	for _, known := range []bool{false, true} {
		if known {
			require.NoError(t, l.db.Checkpoint())
		}
		b := l.disk.Bytes(crashPath)
		trash(b[end-32:end], l.rng)
		if !known {
			clear(b[:4*pager.PageSize])
		}
		got, r := salvaged(t, b, nil)
		names := slices.Sorted(maps.Keys(got))
		if known {
			require.Equal(t, []string{"a", "b", "before"}, names)
			require.Equal(t, "log", r.Lost.List[0].Structure)
			require.EqualValues(t, 32, r.Lost.Bytes)
			continue
		}
		require.Equal(t, []string{"before"}, names)
		require.Equal(t, []string{"commit", "commit"}, []string{r.Lost.List[0].Structure, r.Lost.List[1].Structure})
		require.EqualValues(t, 2, r.Lost.Keys)
	}
}

// TestSalvageOfAFileCutShort: the report accounts for every byte of the log behind a cut, in a segment cut in two and in those
// that are gone, and takes nothing else for lost.
func TestSalvageOfAFileCutShort(t *testing.T) {
	const record = 256 // at most, in bytes
	l := newLived(t, 4)
	for i := range 300 {
		require.NoError(t, l.db.Put(fmt.Appendf(nil, "key%d", i), []byte(strings.Repeat("value ", 30))))
	}
	require.NoError(t, l.db.Checkpoint())
	require.NoError(t, l.db.Checkpoint())
	whole, end := l.disk.Bytes(crashPath), l.db.s.Tail.LSN
	segments, cuts := l.db.s.Tail.Segments(), 0
	for _, g := range segments {
		if slices.ContainsFunc(segments, func(o *tail.Segment) bool { return o.FirstLSN < g.FirstLSN && o.Start > g.Start }) {
			continue // the cut would take away what came before, too
		}
		for _, inside := range []uint64{0, pager.PageSize} {
			_, r := salvaged(t, whole[:g.Base()+inside], nil)
			lost := end - (g.FirstLSN + inside)
			require.GreaterOrEqual(t, uint64(r.Lost.Bytes), lost, "%v", r.Lost.List)
			require.LessOrEqual(t, uint64(r.Lost.Bytes), lost+record, "%v", r.Lost.List)
			require.LessOrEqual(t, r.Lost.Places, uint64(2), "%v", r.Lost.List)
			cuts++
		}
	}
	require.Greater(t, cuts, 4)
}

// TestSalvageEmbedded: a value that is a map, headers of segments and all, stays a value.
func TestSalvageEmbedded(t *testing.T) {
	l := newLived(t, 0)
	l.play(40)
	inner := l.disk.Bytes(crashPath)
	require.NoError(t, l.db.Put([]byte("a map"), inner))
	l.want["a map"] = string(inner)
	b := l.disk.Bytes(crashPath)
	clear(b[:2*pager.PageSize])
	got, r := salvaged(t, b, nil)
	require.Equal(t, l.want, got)
	require.Zero(t, r.Lost.Places)
}
