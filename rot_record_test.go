package mapfile

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// rotRecord is a record of a map at rest.
type rotRecord struct {
	tail.Record
	end    uint64 // byte offset behind it
	live   bool   // a slot leads to it
	tailed bool   // open replays it
}

// records lists every record of the log that a whole open of the map reads, in the order of the file.
func (m *rotMap) records(t *testing.T) (all []rotRecord) {
	m.disk.Load(crashPath, m.file)
	db, err := rotOpen(m.disk, m.deep, 7, Options{ReadOnly: true})
	require.NoError(t, err)
	from := db.s.Meta()
	for _, g := range db.s.Tail.Segments() {
		for at := g.Base() + tail.SegmentHeader; at < g.Base()+g.Used; {
			r := rotRecord{tailed: m.tail && g.FirstLSN+at-g.Base() >= from.LSN}
			require.True(t, tail.ParseHeader(db.s.P.View(), at, g.Salt, g.End(), &r.Record), "page %d", at/pager.PageSize)
			if r.Kind == tail.KindPut || r.Kind == tail.KindDelete {
				position, found, err := db.s.Index.Lookup(xxhash.Sum64(r.Key), r.Key)
				require.NoError(t, err)
				r.live = found && position == at
			}
			r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
			at += r.Size()
			r.end = at
			all = append(all, r)
		}
	}
	require.NoError(t, db.Close())
	return all
}

// rottenParts are the ways in which a record rots, more than a flipped bit each.
var rottenParts = []struct {
	name  string
	value bool // the header is whole
	rot   func(b []byte, header int)
}{
	{"all of it", false, func(b []byte, _ int) { clear(b) }},
	{"the header", false, func(b []byte, header int) { clear(b[:header]) }},
	{"its kind and flags", false, func(b []byte, _ int) { b[10] ^= 0x23; b[11] ^= 0x42 }},
	{"its lengths", false, func(b []byte, _ int) { b[8], b[12], b[13] = b[8]^0x81, b[12]^0xff, b[13]^0xff }},
	{"its previous position", false, func(b []byte, _ int) { b[22] ^= 0x18 }},
	{"the value", true, func(b []byte, header int) {
		for i := range b[header:] {
			b[header+i] ^= 0x5a
		}
	}},
}

// TestRotRecord rots every record, one at a time. Outside the part that open replays that costs the record's key alone. Below the
// durable mark a rotten record is never mistaken for the end of the log: open is refused and changes nothing, or, where only the value
// is rotten, that key alone is lost. Above the mark the log ends there.
func TestRotRecord(t *testing.T) {
	for _, m := range rotMaps(t) {
		t.Run(m.name, func(t *testing.T) {
			table := newRotTable(t)
			all := m.records(t)
			mark := m.markedEnd(t)
			for i := range all {
				for _, part := range rottenParts {
					m.rotRecord(t, table, &all[i], part.name, part.value, mark, part.rot)
				}
			}
		})
	}
}

// markedEnd is the position of the first record above the durable mark: those behind it may go.
func (m *rotMap) markedEnd(t *testing.T) uint64 {
	if len(m.states) == 1 {
		return ^uint64(0)
	}
	m.disk.Load(crashPath, m.file)
	db, err := rotOpen(m.disk, m.deep, 7, Options{ReadOnly: true})
	require.NoError(t, err)
	mark, _, ok := db.s.P.ReadMark(db.s.Meta().FileSalt)
	require.True(t, ok)
	at := uint64(0)
	for _, g := range db.s.Tail.Segments() {
		if mark >= g.FirstLSN && mark < g.EndLSN() {
			at = g.Base() + mark - g.FirstLSN
		}
	}
	require.NotZero(t, at)
	require.NoError(t, db.Close())
	return at
}

func (m *rotMap) rotRecord(t *testing.T, table *rotTable, r *rotRecord, part string, value bool, mark uint64, rot func(b []byte, header int)) {
	if value && len(r.Value) < 2 {
		return // a value of a byte or none has no two bits in different places to lose
	}
	header := tail.HeaderBytes + len(r.Key)
	if r.Flags&(tail.FlagMark|tail.FlagMoved) != 0 {
		header += 8
	}
	file := bytes.Clone(m.file)
	b := file[r.Position:r.end]
	rot(b[:min(len(b), header+len(r.Value))], header)
	sameSegment := r.Position >= mark && r.Position/pager.PageSize-mark/pager.PageSize < 16
	for _, readOnly := range []bool{true, false} {
		c := &rotTrial{t: t, m: m, what: fmt.Sprintf("%s of the record at %d, %v of key %q", part, r.Position, r.Kind, r.Key), file: file, readOnly: readOnly}
		got := c.run()
		table.count(m.name+": "+part, got)
		switch {
		case !r.tailed && !r.live:
			if got != rotHarmless {
				c.fail("a record that nothing needs: %s", rotNames[got])
			}
		case !r.tailed:
			if got != rotDetected || !c.lostAlone(string(r.Key)) {
				c.fail("%s, lost are %q: one rotten record costs its key alone", rotNames[got], keysOf(c.lost))
			}
		case sameSegment:
			if got != rotPrefix {
				c.fail("a record above the mark: %s", rotNames[got])
			}
		case value && r.Kind == tail.KindPut:
			if r.live && (got != rotDetected || !c.lostAlone(string(r.Key))) || !r.live && got != rotHarmless {
				c.fail("%s, lost are %q: a rotten value of the tail costs its key alone", rotNames[got], keysOf(c.lost))
			}
		case got != rotRefused:
			c.fail("%s: a rotten record below the mark was passed over", rotNames[got])
		}
	}
}

// lostAlone reports whether a key and no other one that is there is lost. One that is not there, with the same bits of the hash in its slot, may
// be answered with the damage: the rotten record might have been its own.
func (c *rotTrial) lostAlone(key string) bool {
	for k := range c.lost {
		if _, there := c.m.states[len(c.m.states)-1][k]; there && k != key {
			return false
		}
	}
	return c.lost[key]
}

// TestRotRecordOfEqualHashes: keys whose slots cannot be told apart by tag do not suffer from each other's rot, neither read nor written.
func TestRotRecordOfEqualHashes(t *testing.T) {
	const n = 5
	disk := simdisk.New(rotCapacity)
	defer disk.Release()
	db, err := rotOpen(disk, false, 1, Options{})
	require.NoError(t, err)
	for i := range n {
		require.NoError(t, db.Put([]byte(deepKey(i)), fmt.Append(nil, i)))
	}
	var at [n]uint64
	for i := range n {
		var found bool
		at[i], found, err = db.s.Index.Lookup(rotHash, []byte(deepKey(i)))
		require.NoError(t, err)
		require.True(t, found)
	}
	require.NoError(t, db.Close())
	whole := disk.Bytes(crashPath)
	for i := range n {
		disk.Load(crashPath, whole)
		disk.FlipBit(crashPath, int64(at[i]*8+1))
		disk.FlipBit(crashPath, int64(at[i]*8+130)) // more than is mended
		db, err := rotOpen(disk, false, 2, Options{})
		require.NoError(t, err)
		for k := range n {
			v, err := db.Get([]byte(deepKey(k)))
			many := db.GetMany([][]byte{[]byte(deepKey(k))}, func(_ int, _ []byte, err error) error { return err })
			put := db.Put([]byte(deepKey(k)), []byte("new"))
			if k == i {
				for _, err := range []error{err, many, put} {
					require.ErrorIs(t, err, ErrCorrupt)
				}
				continue
			}
			require.NoError(t, err, "key %d, rotten is %d", k, i)
			require.Equal(t, fmt.Append(nil, k), v)
			require.NoError(t, many)
			require.NoError(t, put)
		}
		require.NoError(t, db.Close())
	}
}

func keysOf(set map[string]bool) (all []string) {
	for k := range set {
		all = append(all, k)
	}
	return all
}

// TestRotMetas damages both meta pages together.
func TestRotMetas(t *testing.T) {
	zero := make([]byte, pager.SectorSize)
	second := int64(pager.PageSize / pager.SectorSize)
	both := func(name string, bits int, f func(meta []byte, which int)) damage {
		return damage{"both meta pages " + name, func(b []byte) []byte {
			f(b[:pager.SectorSize], 0)
			f(b[second*pager.SectorSize:][:pager.SectorSize], 1)
			return b
		}, bits}
	}
	r := rotRand(9)
	all := []damage{
		both("zeroed", 0, func(b []byte, _ int) { copy(b, zero) }),
		both("trashed", 0, func(b []byte, _ int) { copy(b, trashSector(r)) }),
		both("trashed but for what never moves", 0, func(b []byte, _ int) { copy(b[24:], trashSector(r)) }),
		both("exchanged", 0, func(b []byte, which int) {}),
		{"both meta pages exchanged", func(b []byte) []byte {
			first := bytes.Clone(b[:pager.SectorSize])
			copy(b, b[second*pager.SectorSize:][:pager.SectorSize])
			copy(b[second*pager.SectorSize:], first)
			return b
		}, 0},
		{"one zeroed, a bit of the other flipped", func(b []byte) []byte {
			copy(b, zero)
			b[second*pager.SectorSize+80] ^= 4
			return b
		}, 0},
	}
	for range 60 {
		x, y := r.IntN(pager.SectorSize*8), r.IntN(pager.SectorSize*8)
		all = append(all, both(fmt.Sprintf("bits %d and %d", x, y), 2, func(b []byte, which int) {
			bit := []int{x, y}[which]
			b[bit/8] ^= 1 << (bit % 8)
		}))
	}
	rotTest(t, rotMaps(t), "both metas", func(m *rotMap) rotFamily { return rotFamily{int64(len(all)), func(i int64) damage { return all[i] }} })
}

// TestRotAndPowerCut lets a crash come after rot: what a power cut leaves of a history is damaged by one more flipped bit, and opened. What was
// acknowledged is there, or an error says why not; a recovery that is cut off in turn leads to the same answers.
func TestRotAndPowerCut(t *testing.T) {
	maps := rotMaps(t)
	table := newRotTable(t)
	r := rotRand(11)
	for _, m := range maps {
		if !m.tail {
			continue
		}
		for range max(1, *rotCount/10) {
			bit := r.Int64N(int64(len(m.file)) * 8)
			m.cutWithin(t, table, flipBit(bit))
		}
	}
}

// cutWithin opens a damaged map for writing and cuts the power at some of the events of its recovery: what the cuts leave is tried like the
// damaged file itself.
func (m *rotMap) cutWithin(t *testing.T, table *rotTable, d damage) {
	r := rotRand(12)
	disk := simdisk.New(rotCapacity)
	defer disk.Release()
	disk.Load(crashPath, d.apply(bytes.Clone(m.file)))
	events, tried := 0, 0
	disk.OnEvent = func(e simdisk.Event) {
		disk.Notice()
		if events++; events%5 != 0 || tried >= 8 {
			return
		}
		disk.States(r, simdisk.StateOptions{Sample: 1}, func(img *simdisk.Disk) bool {
			defer img.Release()
			tried++
			c := &rotTrial{t: t, m: m, what: fmt.Sprintf("%s, power cut at event %d of the recovery", d.name, e.Count), file: img.Bytes(crashPath), bits: 1}
			table.count("bit flipped and power cut, "+m.name, c.run())
			return tried%2 == 1
		})
	}
	db, err := rotOpen(disk, m.deep, 7, Options{Sync: SyncAlways})
	disk.OnEvent = nil
	if err == nil {
		require.NoError(t, db.Close())
	}
}
