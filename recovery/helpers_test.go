package recovery

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

const testPath = "/a.map"

// testGeometry makes a few records split buckets, change segments and grow the file.
var testGeometry = pager.Geometry{
	BucketLines: 1, FillPercent: 80, FanoutBits: 2, UnitPages: 8, SmallPages: 1,
	GrowPages: 1, MaxGrowPages: 8, ReserveBytes: 1 << 20, CheckpointBytes: 1 << 40, MaxCheckpoint: 1 << 40,
}

// testMap is an open state with what the map must hold.
type testMap struct {
	*State
	t    testing.TB
	disk *simdisk.Disk
	want map[string]string // "" marks a tombstone
}

func options(disk *simdisk.Disk) Options {
	salt := rand.New(rand.NewPCG(1, uint64(disk.Calls())))
	return Options{
		OpenOptions: pager.OpenOptions{Disk: disk, Path: testPath, Mode: 0o600, LockTimeout: -1, MaxBytes: uint64(disk.Capacity()), Geometry: testGeometry},
		Random:      salt.Uint64,
	}
}

// newMap creates a map on a disk of so many pages.
func newMap(t testing.TB, pages int64) *testMap {
	t.Helper()
	m := &testMap{t: t, disk: simdisk.New(pages * pager.PageSize), want: map[string]string{}}
	m.open()
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

// copied is a disk with the file as a killed process leaves it.
func (m *testMap) copied() *simdisk.Disk {
	d := simdisk.New(m.disk.Capacity())
	d.Load(testPath, m.disk.Bytes(testPath))
	return d
}

func (m *testMap) open() {
	m.t.Helper()
	s, err := Open(options(m.disk))
	require.NoError(m.t, err)
	m.State = s
}

// kill ends the process, and opens the map in another one.
func (m *testMap) kill() {
	m.t.Helper()
	require.NoError(m.t, m.Close())
	m.open()
}

// commit appends a record as a commit of its own, without a slot.
func (m *testMap) commit(r *tail.Record, urgency Urgency) error {
	size := tail.Size(len(r.Key), uint64(len(r.Value)))
	if err := m.Admit(1, size, size, urgency); err != nil {
		return err
	}
	if err := m.BeginLife(); err != nil {
		return err
	}
	m.Tail.Sequence++
	r.Sequence = m.Tail.Sequence
	r.Flags |= tail.FlagFirst | tail.FlagLast
	require.NoError(m.t, m.Tail.Append(r))
	require.NoError(m.t, m.Tail.Flush())
	return nil
}

func (m *testMap) publish() {
	m.SetRoot(m.Index.Root)
	m.Published.Store(m.Tail.Sequence)
}

// write puts key, or deletes it if value is "".
func (m *testMap) write(key, value string) error {
	m.t.Helper()
	previous, found, err := m.Index.Lookup(xxhash.Sum64String(key), []byte(key))
	require.NoError(m.t, err)
	alive := found && m.Matched.Kind != tail.KindDelete
	r := &tail.Record{Kind: tail.KindPut, Key: []byte(key), Value: []byte(value), Previous: previous}
	urgency := Ordinary
	switch {
	case value == "":
		require.True(m.t, alive, "nothing to delete")
		r.Kind, urgency = tail.KindDelete, Urgent
	case !alive:
		r.Flags = tail.FlagNew
	}
	if err := m.commit(r, urgency); err != nil {
		return err
	}
	require.NoError(m.t, m.Index.Set(r.Position))
	m.count(r, found)
	m.publish()
	m.want[key] = value
	return nil
}

func (m *testMap) put(key, value string) {
	m.t.Helper()
	require.NoError(m.t, m.write(key, value))
}

// again appends a record about the slot of a key: a DROP of its tombstone, or a moved copy.
func (m *testMap) again(kind tail.Kind, key string) {
	m.t.Helper()
	previous, found, err := m.Index.Lookup(xxhash.Sum64String(key), []byte(key))
	require.NoError(m.t, err)
	require.True(m.t, found)
	old := m.Matched
	r := &tail.Record{Kind: kind, Key: []byte(key), Previous: previous}
	if kind != tail.KindDrop {
		r.Kind, r.Value, r.Flags, r.Extra = old.Kind, append([]byte(nil), old.Value...), tail.FlagMoved, old.Visible()
	}
	require.NoError(m.t, m.commit(r, Upkeep))
	if kind == tail.KindDrop {
		require.NoError(m.t, m.Index.Drop())
		m.Tombstones--
		delete(m.want, key)
	} else {
		require.NoError(m.t, m.Index.Set(r.Position))
	}
	m.publish()
}

// empty moves all that lives in the oldest segment and retires it.
func (m *testMap) empty() {
	m.t.Helper()
	_, current := m.Tail.Position()
	var oldest *tail.Segment
	for _, g := range m.Tail.Segments() {
		if g != current && (oldest == nil || g.FirstLSN < oldest.FirstLSN) {
			oldest = g
		}
	}
	require.NotNil(m.t, oldest)
	for key := range m.want {
		position, found, err := m.Index.Lookup(xxhash.Sum64String(key), []byte(key))
		require.NoError(m.t, err)
		require.True(m.t, found)
		if position >= oldest.Base() && position < oldest.End() {
			m.again(tail.KindPut, key)
		}
	}
	var value [16]byte
	binary.LittleEndian.PutUint64(value[:], uint64(oldest.Start))
	binary.LittleEndian.PutUint64(value[8:], oldest.Salt)
	require.NoError(m.t, m.commit(&tail.Record{Kind: tail.KindRetire, Value: value[:]}, Upkeep))
	m.RetireSegment(oldest, true)
	m.publish()
}

// checkpoint makes a whole checkpoint.
func (m *testMap) checkpoint(clean bool) {
	m.t.Helper()
	require.NoError(m.t, m.MaySeal())
	c := m.Seal()
	if clean {
		c.MarkClean()
	}
	require.NoError(m.t, c.Store())
	require.NoError(m.t, c.Sync())
	require.NoError(m.t, m.P.WriteMark(m.Meta().FileSalt, c.LSN(), m.life))
	require.NoError(m.t, c.WriteMeta())
	c.Finish()
	require.NoError(m.t, c.Release(m.Older()))
}

// fill puts n keys from the i-th on.
func (m *testMap) fill(i, n int) {
	m.t.Helper()
	for ; n > 0; i, n = i+1, n-1 {
		m.put(aKey(i), fmt.Sprintf("value %d of %d", i, m.Tail.LSN))
	}
}

func aKey(i int) string { return fmt.Sprintf("key %d", i) }

// check compares the state with what it must hold, and its accounts.
func (m *testMap) check() {
	m.t.Helper()
	got := map[string]string{}
	for at, end := (index.Path{}), false; !end; {
		bucket, after, last, err := m.Index.BucketAt(m.Root(), at)
		require.NoError(m.t, err)
		for _, position := range m.Index.Positions(nil, bucket) {
			var r tail.Record
			require.NoError(m.t, m.Record(position, &r, true))
			require.True(m.t, r.ValueHolds(r.Value))
			require.NotContains(m.t, got, string(r.Key))
			got[string(r.Key)] = string(r.Value)
		}
		at, end = after, last
	}
	require.Equal(m.t, m.want, got)
	dead := uint64(0)
	for _, value := range got {
		if value == "" {
			dead++
		}
	}
	require.Equal(m.t, dead, m.Tombstones)
	require.Equal(m.t, uint64(len(got))-dead, m.Keys)
	require.Equal(m.t, m.Tail.Sequence, m.Published.Load())
	if !m.P.ReadOnly() {
		require.NoError(m.t, m.Account())
	}
}

// damage spoils one byte of the file, in two bits: one alone would be mended. What was stored and not synced is on the disk before.
func (m *testMap) damage(at uint64) {
	m.disk.Load(testPath, m.disk.Bytes(testPath))
	damage(m.disk, at)
}

func damage(disk *simdisk.Disk, at uint64) {
	disk.FlipBit(testPath, int64(8*at+3))
	disk.FlipBit(testPath, int64(8*at+5))
}
