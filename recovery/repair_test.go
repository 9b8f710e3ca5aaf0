package recovery

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// play runs a random history with kills, checkpoints, deletes, drops, moved records and retired segments.
func (m *testMap) play(rng *rand.Rand, steps int) {
	m.t.Helper()
	for i := range steps {
		key := aKey(rng.IntN(60))
		value, there := m.want[key]
		switch n := rng.IntN(40); {
		case n == 0:
			m.kill()
		case n == 1 && m.begun:
			m.checkpoint(false)
		case n == 2 && len(m.Tail.Segments()) > 2:
			m.empty()
		case n < 8 && value != "":
			require.NoError(m.t, m.write(key, ""))
		case n < 12 && there && value == "":
			m.again(tail.KindDrop, key)
		case n < 16 && there:
			m.again(tail.KindPut, key)
		default:
			m.put(key, fmt.Sprintf("%*d", 1+rng.IntN(900), i))
		}
	}
}

// tx puts keys as one commit: pairs of key and value, "" deletes.
func (m *testMap) tx(pairs ...string) {
	m.t.Helper()
	var records []*tail.Record
	var bytes, largest uint64
	for i := 0; i < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		previous, found, err := m.Index.Lookup(xxhash.Sum64String(key), []byte(key))
		require.NoError(m.t, err)
		r := &tail.Record{Kind: tail.KindPut, Key: []byte(key), Value: []byte(value), Previous: previous}
		if value == "" {
			r.Kind = tail.KindDelete
		} else if !found || m.Matched.Kind == tail.KindDelete {
			r.Flags = tail.FlagNew
		}
		records = append(records, r)
		size := tail.Size(len(key), uint64(len(value)))
		bytes, largest = bytes+size, max(largest, size)
		m.want[key] = value
	}
	require.NoError(m.t, m.Admit(len(records), bytes, largest, Ordinary))
	require.NoError(m.t, m.BeginLife())
	m.Tail.Sequence++
	records[0].Flags |= tail.FlagFirst
	records[len(records)-1].Flags |= tail.FlagLast
	for _, r := range records {
		r.Sequence = m.Tail.Sequence
		require.NoError(m.t, m.Tail.Append(r))
	}
	require.NoError(m.t, m.Tail.Flush())
	for _, r := range records {
		found, err := m.Index.LookupPosition(xxhash.Sum64(r.Key), r.Key, r.Previous)
		require.NoError(m.t, err)
		require.NoError(m.t, m.Index.Set(r.Position))
		m.count(r, found)
	}
	m.publish()
}

// withoutIndex is a disk with the map as a killed process leaves it and every page trashed that is neither fixed, nor of the
// images, nor of a segment.
func (m *testMap) withoutIndex(rng *rand.Rand) *simdisk.Disk {
	b := m.disk.Bytes(testPath)
	keep := make([]bool, len(b)/pager.PageSize)
	own := func(start pager.PageNo, pages uint32) {
		for p := uint64(start); p < uint64(start)+uint64(pages); p++ {
			keep[p] = true
		}
	}
	own(0, uint32(pager.FirstPage))
	own(m.image.Start, m.image.Pages)
	for _, g := range m.Tail.Segments() {
		own(g.Start, g.Pages)
	}
	for p, kept := range keep {
		for i := 0; i < pager.PageSize && !kept; i += 8 {
			x := rng.Uint64()
			for k := range 8 {
				b[p*pager.PageSize+i+k] = byte(x >> (8 * k))
			}
		}
	}
	d := simdisk.New(m.disk.Capacity())
	d.Load(testPath, b)
	return d
}

// reopen opens a map on another disk, with a repair.
func (m *testMap) reopen(disk *simdisk.Disk, p *Repair, readOnly bool) (*testMap, error) {
	o := options(disk)
	o.Repair, o.ReadOnly = p, readOnly
	s, err := Open(o)
	if err != nil {
		return nil, err
	}
	return &testMap{State: s, t: m.t, disk: disk, want: maps.Clone(m.want)}, nil
}

// whole requires that a check finds nothing.
func whole(t testing.TB, disk *simdisk.Disk) {
	t.Helper()
	o := options(disk)
	r, err := Check(context.Background(), o, CheckOptions{})
	require.NoError(t, err)
	require.Empty(t, r.Findings)
}

// TestRebuildIndex: with every index page trashed, the index made from the log alone is the model.
func TestRebuildIndex(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			m := newMap(t, 2000)
			rng := rand.New(rand.NewPCG(seed, 11))
			m.play(rng, 250)
			disk := m.withoutIndex(rng)
			_, err := Open(options(disk.Clone()))
			require.ErrorIs(t, err, errs.ErrCorrupt)

			before := disk.Bytes(testPath)
			dry, err := m.reopen(disk, &Repair{RebuildIndex: true}, true)
			require.NoError(t, err)
			dry.check()
			require.NoError(t, dry.Close())
			require.Equal(t, before, disk.Bytes(testPath), "a read-only open changed the file")

			got, err := m.reopen(disk, &Repair{RebuildIndex: true}, false)
			require.NoError(t, err)
			require.True(t, got.Report.Rebuilt)
			require.Zero(t, got.Report.Lost.Places)
			got.check()
			got.play(rng, 40)
			got.kill()
			got.check()
			got.put(aKey(0), "a life begins")
			got.checkpoint(false)
			got.check()
			require.NoError(t, got.Close())
			whole(t, disk)
		})
	}
}

// TestRebuildOfAClosedMap: there is no tail to walk, and the space of the old index comes back.
func TestRebuildOfAClosedMap(t *testing.T) {
	m := newMap(t, 2000)
	m.fill(0, 300)
	m.checkpoint(true)
	m.checkpoint(true)
	m.kill()
	got, err := m.reopen(m.copied(), &Repair{RebuildIndex: true}, false)
	require.NoError(t, err)
	got.check()
	got.fill(0, 5)
	got.checkpoint(false)
	got.checkpoint(false)
	got.check()
	require.LessOrEqual(t, got.P.Pages()-got.Free.FreePages()-got.DryPages(), m.P.Pages()-m.Free.FreePages()-m.DryPages()+uint64(testGeometry.UnitPages))
	require.NoError(t, got.Close())
}

// TestRebuildOverRot: a rotten value keeps its key answering damage; a rotten header is refused, changing nothing, and
// with AcceptLoss gone past and told.
func TestRebuildOverRot(t *testing.T) {
	m := newMap(t, 400)
	m.fill(0, 20)
	m.put("k", "older")
	m.put("k", "newest")
	position, found, err := m.Index.Lookup(xxhash.Sum64String("k"), []byte("k"))
	require.NoError(t, err)
	require.True(t, found)
	m.fill(30, 20)
	m.checkpoint(false)

	rotten := m.copied()
	spoil(rotten, position+tail.HeaderBytes+1)
	got, err := m.reopen(rotten, &Repair{RebuildIndex: true}, false)
	require.NoError(t, err)
	at, found, err := got.Index.Lookup(xxhash.Sum64String("k"), []byte("k"))
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, position, at, "the slot leads to the damaged record, not to an older one")
	require.Equal(t, []uint64{position}, got.Report.Damaged)
	require.EqualValues(t, 1, got.Report.Lost.Keys)
	require.Equal(t, "k", string(got.Report.Lost.List[0].Key))
	require.NoError(t, got.Close())

	headless := m.copied()
	spoil(headless, position+13)
	before := headless.Bytes(testPath)
	_, err = m.reopen(headless, &Repair{RebuildIndex: true}, false)
	var damage *errs.CorruptError
	require.ErrorAs(t, err, &damage)
	require.EqualValues(t, position, damage.Offset)
	require.Equal(t, withoutNote(before), withoutNote(headless.Bytes(testPath)))
	got, err = m.reopen(headless, &Repair{RebuildIndex: true, AcceptLoss: true}, false)
	require.NoError(t, err)
	got.want["k"] = "older"
	got.check()
	require.EqualValues(t, 1, got.Report.Lost.Places)
	require.EqualValues(t, 40, got.Report.Lost.Bytes)
	require.NoError(t, got.Close())
	whole(t, headless)
}

// spoil damages a byte in two bits: one alone would be mended.
func spoil(disk *simdisk.Disk, at uint64) {
	for bit := range int64(2) {
		disk.FlipBit(testPath, int64(8*at)+3+bit)
	}
}

// withoutNote is a file without the note of who opened it last.
func withoutNote(b []byte) []byte {
	clear(b[int(pager.MarkPage)*pager.PageSize+2048:][:64])
	return b
}

// eachCrash runs f on a disk and looks at what a power cut at each of its stores and syncs can leave.
func eachCrash(disk *simdisk.Disk, sample int, f func(), look func(img *simdisk.Disk, e simdisk.Event)) (images int) {
	seen := map[uint64]bool{}
	disk.OnEvent = func(e simdisk.Event) {
		if !debug.On {
			disk.Notice()
		} else if e.Kind == simdisk.EventStore && e.Count%8 != 0 {
			return // each store is an event
		}
		disk.States(rand.New(rand.NewPCG(3, uint64(e.Count))), simdisk.StateOptions{Sample: sample}, func(img *simdisk.Disk) bool {
			if h := img.Hash(); !seen[h] {
				seen[h] = true
				images++
				look(img, e)
			}
			img.Release()
			return true
		})
	}
	f()
	disk.OnEvent = nil
	return images
}

// TestCrashInRebuild: a power cut at any moment of a rebuild leaves the old state or the new one: with a whole old index
// both open as they are; with a trashed one the rebuild can be begun again.
func TestCrashInRebuild(t *testing.T) {
	for _, trashed := range []bool{false, true} {
		t.Run(fmt.Sprintf("old index trashed %v", trashed), func(t *testing.T) {
			m := newMap(t, 200)
			rng := rand.New(rand.NewPCG(5, 5))
			m.play(rng, 30)
			disk := m.copied()
			if trashed {
				disk = m.withoutIndex(rng)
			}
			fresh := 0
			images := eachCrash(disk, 4, func() {
				got, err := m.reopen(disk, &Repair{RebuildIndex: true}, false)
				require.NoError(t, err)
				got.check()
				require.NoError(t, got.Close())
			}, func(img *simdisk.Disk, e simdisk.Event) {
				got, err := m.reopen(img, nil, false)
				if err != nil {
					require.True(t, trashed, "event %v: %v", e, err)
					require.ErrorIs(t, err, errs.ErrCorrupt)
					got, err = m.reopen(img, &Repair{RebuildIndex: true}, false)
				} else {
					fresh++
				}
				require.NoError(t, err, "event %v", e)
				got.check()
				got.fill(0, 3)
				got.check()
				require.NoError(t, got.Close())
			})
			require.Greater(t, images, 20)
			require.Positive(t, fresh)
			t.Logf("%d images, %d of them open as they are", images, fresh)
		})
	}
}

// change is what one commit of the tail did.
type change struct {
	sequence uint64
	pairs    []string
}

// lossyMap is a map killed with a synced tail of several segments.
func lossyMap(t *testing.T) (m *testMap, base map[string]string, tailOf []change) {
	m = newMap(t, 600)
	m.fill(0, 12)
	require.NoError(t, m.write(aKey(0), ""))
	m.checkpoint(false)
	base = maps.Clone(m.want)
	do := func(pairs ...string) {
		m.tx(pairs...)
		tailOf = append(tailOf, change{m.Tail.Sequence, pairs})
	}
	long := func(n int) string { return fmt.Sprintf("%*d", n, n) }
	for i := range 8 {
		do(aKey(i), long(2500+i))
		do(aKey(i+3), "a", "new"+aKey(i), long(3000), aKey(i+5), "b")
		do("new"+aKey(i), "")
		do("big"+aKey(i), long(6500))
	}
	require.NoError(t, m.P.WriteMark(m.Meta().FileSalt, m.Tail.LSN, m.life))
	return m, base, tailOf
}

// TestAcceptLoss damages each record of the tail, and each LINK: open refuses and changes nothing; with AcceptLoss all commits
// but the one that is hit are there, what was lost is told, and the log can be read from end to end again.
func TestAcceptLoss(t *testing.T) {
	m, base, changes := lossyMap(t)
	w, err := m.walkAgain()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(w.Segments), 3)
	for _, rebuilt := range []bool{false, true} {
		for _, g := range w.Segments {
			at := g.Base() + tail.SegmentHeader
			if g.Start == m.Meta().Segment {
				at = m.Meta().Position
			}
			require.NoError(t, readRecords(m.P.View(), g.Salt, at, g.Base()+g.Used, g.End(), nil, func(r *tail.Record) error {
				disk := m.copied()
				spoil(disk, r.Position+17)
				before := disk.Bytes(testPath)
				_, err := m.reopen(disk, nil, false)
				var damage *errs.CorruptError
				require.ErrorAs(t, err, &damage)
				require.Equal(t, "log", damage.Structure)
				require.NotZero(t, damage.LSN)
				require.Equal(t, withoutNote(before), withoutNote(disk.Bytes(testPath)))

				got, err := m.reopen(disk, &Repair{AcceptLoss: true, RebuildIndex: rebuilt}, false)
				require.NoError(t, err, "record at %d, kind %d", r.Position, r.Kind)
				got.want = maps.Clone(base)
				for _, c := range changes {
					if c.sequence == r.Sequence && r.Kind != tail.KindLink {
						continue
					}
					for i := 0; i < len(c.pairs); i += 2 {
						got.want[c.pairs[i]] = c.pairs[i+1]
					}
				}
				got.check()
				require.GreaterOrEqual(t, got.Report.Lost.Bytes, r.Size())
				got.fill(0, 3)
				got.kill()
				got.check()
				require.NoError(t, got.Close())
				whole(t, disk)
				return nil
			}, func(from, to uint64) error { return fmt.Errorf("rot at %d", from) }))
		}
	}
}

// walkAgain walks the tail of a map as a killed process leaves it.
func (m *testMap) walkAgain() (*tail.Walk, error) {
	disk := m.copied()
	o := options(disk)
	o.ReadOnly = true
	f, err := pager.Open(o.OpenOptions)
	if err != nil {
		return nil, err
	}
	s, err := openState(&o, f)
	if err != nil {
		return nil, err
	}
	defer func() { require.NoError(m.t, s.Close()) }()
	return s.walk(false)
}

// TestAcceptLossOfTheEnd: when the last synced records are gone, the log goes on behind where it is known to have reached.
func TestAcceptLossOfTheEnd(t *testing.T) {
	m := newMap(t, 200)
	m.fill(0, 5)
	m.checkpoint(false)
	m.put("a", "1")
	position, _ := m.Tail.Position()
	m.put("b", "2")
	require.NoError(t, m.P.WriteMark(m.Meta().FileSalt, m.Tail.LSN, m.life))
	end := m.Tail.LSN
	for _, dry := range []bool{true, false} {
		disk := m.copied()
		spoil(disk, position+17)
		got, err := m.reopen(disk, &Repair{AcceptLoss: true}, dry)
		require.NoError(t, err)
		delete(got.want, "b")
		got.check()
		require.EqualValues(t, 32, got.Report.Lost.Bytes)
		require.Equal(t, position, got.Report.Lost.List[0].Offset)
		if dry {
			require.NoError(t, got.Close())
			continue
		}
		require.GreaterOrEqual(t, got.Meta().LSN, end)
		got.kill()
		require.Zero(t, got.Report.Lost.Places)
		got.check()
		require.NoError(t, got.Close())
	}
}

// TestCrashInAcceptLoss: a power cut at any moment of it leaves the refused state, which can be accepted again, or the new one.
func TestCrashInAcceptLoss(t *testing.T) {
	m := newMap(t, 200)
	m.fill(0, 5)
	m.checkpoint(false)
	m.put("a", "1")
	position, _ := m.Tail.Position()
	m.tx("b", "2", aKey(1), "x", "c", "3")
	m.put(aKey(2), "y")
	require.NoError(t, m.P.WriteMark(m.Meta().FileSalt, m.Tail.LSN, m.life))
	value := m.want
	delete(value, "b")
	delete(value, "c")
	value[aKey(1)] = fmt.Sprintf("value 1 of %d", 0)
	disk := m.copied()
	spoil(disk, position+17)
	dry, err := m.reopen(disk, &Repair{AcceptLoss: true}, true)
	require.NoError(t, err)
	var r tail.Record
	at, _, err := dry.Index.Lookup(xxhash.Sum64String(aKey(1)), []byte(aKey(1)))
	require.NoError(t, err)
	require.NoError(t, dry.Record(at, &r, true))
	value[aKey(1)] = string(r.Value)
	require.Contains(t, value[aKey(1)], "value 1 of ")
	dry.want = value
	dry.check()
	require.NoError(t, dry.Close())
	opened := 0
	images := eachCrash(disk, 4, func() {
		got, err := m.reopen(disk, &Repair{AcceptLoss: true}, false)
		require.NoError(t, err)
		require.NoError(t, got.Close())
	}, func(img *simdisk.Disk, e simdisk.Event) {
		got, err := m.reopen(img, nil, false)
		if err != nil {
			require.ErrorIs(t, err, errs.ErrCorrupt)
			got, err = m.reopen(img, &Repair{AcceptLoss: true}, false)
		} else {
			opened++
		}
		require.NoError(t, err, "event %v", e)
		got.want = maps.Clone(value)
		got.check()
		require.NoError(t, got.Close())
	})
	require.Greater(t, images, 10)
	require.Positive(t, opened)
	whole(t, disk)
}
