package index

import (
	"fmt"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
)

const testSalt = 0x0ddba11

// shape is a geometry and a first hash: what the tests of this package vary.
type shape struct {
	name    string
	lines   uint8
	percent uint8
	fan     uint8
	hash    func(key string) uint64
	keys    int // so many make a few hundred pages at most
}

func constant(string) uint64       { return 0x0123456789abcdef }
func fewValues(key string) uint64  { return xxhash.Sum64String(key) % 5 << 60 }
func lowBits(key string) uint64    { return xxhash.Sum64String(key) & (1<<25 - 1) } // below those stored
func middleBits(key string) uint64 { return xxhash.Sum64String(key) & (1<<40 - 1<<25) }

var shapes = []shape{
	{"one line, one bit", 1, 80, 1, xxhash.Sum64String, 300},
	{"one line, two bits", 1, 60, 2, xxhash.Sum64String, 300},
	{"one line, three bits", 1, 99, 3, xxhash.Sum64String, 300},
	{"one slot", 1, 1, 2, xxhash.Sum64String, 100},
	{"production", 50, 82, 9, xxhash.Sum64String, 12_000},
	{"one line, all hashes equal", 1, 80, 3, constant, 120},
	{"one line, one bit, all hashes equal", 1, 80, 1, constant, 60},
	{"one line, few hashes", 1, 80, 2, fewValues, 150},
	{"one line, hashes equal as far as they are stored", 1, 80, 3, lowBits, 120},
	{"one line, hashes that differ late", 1, 80, 2, middleBits, 150},
	{"production, all hashes equal", 50, 82, 9, constant, 2000},
}

// testIndex is an index over a simulated file whose records are a Go map.
type testIndex struct {
	*Index
	t        testing.TB
	shape    shape
	keys     map[uint64]string // by the position of their record
	position uint64            // of the next record
	page     pager.PageNo      // the next that was never used
	free     []pager.PageNo    // pages to be reused
	retired  []retired
	seals    []pager.Ref // the root at each seal
}

// retired is a page that no path leads to and how many seals there had been.
type retired struct {
	page  pager.PageNo
	seals int
}

const firstEpoch = 3

func (s shape) geometry() pager.Geometry {
	return pager.Geometry{BucketLines: s.lines, FillPercent: s.percent, FanoutBits: s.fan, UnitPages: 512, SmallPages: 4}
}

// newIndex makes an empty index in a file of so many pages.
func newIndex(t testing.TB, s shape, pages uint64) *testIndex {
	t.Helper()
	g := s.geometry()
	g.ReserveBytes = int64(pages) * pager.PageSize
	const root, bucket = pager.FirstPage, pager.FirstPage + 1
	o := pager.OpenOptions{
		Disk: simdisk.New(g.ReserveBytes), Path: "/index", MaxBytes: 1 << 30, Geometry: g,
		NewFile: func(pager.Geometry) []byte {
			b := make([]byte, pages*pager.PageSize)
			BuildEmpty(b[root*pager.PageSize:], g, root, bucket, firstEpoch, testSalt)
			return b
		},
	}
	f, err := pager.Open(o)
	require.NoError(t, err)
	p, err := pager.New(o, f, pages, false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	x := &testIndex{t: t, shape: s, keys: map[uint64]string{}, position: 1 << 20, page: bucket + 1}
	x.attach(p, pager.Ref{Page: root, Epoch: firstEpoch}, firstEpoch+1, 1, 1)
	return x
}

// attach makes an Index of what lies in the file.
func (x *testIndex) attach(p *pager.Pager, root pager.Ref, epoch, buckets, directories uint32) {
	x.Index = New(p, testSalt, [16]byte{'s', 'e', 'c', 'r', 'e', 't'})
	x.Root, x.Epoch, x.Buckets, x.Directories = root, epoch, buckets, directories
	x.Alloc, x.Retire = x.alloc, x.retireTest
	x.Matches = func(position uint64, key []byte) (bool, error) {
		k, err := x.KeyAt(position)
		return string(k) == string(key), err
	}
	x.FirstHash = func(key []byte) uint64 { return x.shape.hash(string(key)) }
	x.KeyAt = func(position uint64) ([]byte, error) {
		key, ok := x.keys[position]
		if !ok {
			return nil, &errs.CorruptError{Page: position / pager.PageSize, Reason: "no record lies there"}
		}
		return []byte(key), nil
	}
}

func (x *testIndex) alloc() (pager.PageNo, error) {
	if n := len(x.free); n > 0 {
		page := x.free[n-1]
		x.free = x.free[:n-1]
		return page, nil
	}
	if uint64(x.page) >= x.p.Pages() {
		return 0, errs.ErrFull
	}
	x.page++
	return x.page - 1, nil
}

func (x *testIndex) retireTest(page pager.PageNo, _ uint32) {
	x.retired = append(x.retired, retired{page, len(x.seals)})
}

// seal ends the epoch and stores the sums.
func (x *testIndex) seal() {
	epoch := x.Epoch
	x.StoreSums(x.Seal(epoch+1), epoch)
	x.seals = append(x.seals, x.Root)
}

// reuse frees the pages that the last two seals do not need.
func (x *testIndex) reuse() {
	keep := x.retired[:0]
	for _, r := range x.retired {
		if r.seals+1 >= len(x.seals) {
			keep = append(keep, r)
			continue
		}
		x.p.SetVerified(r.page, 0)
		x.free = append(x.free, r.page)
	}
	x.retired = keep
}

// forget makes the pager trust no page, as if the file had just been opened.
func (x *testIndex) forget() {
	for page := range x.page {
		x.p.SetVerified(page, 0)
	}
}

// reopen goes on as after a clean close. A seal must have come before.
func (x *testIndex) reopen() {
	x.forget()
	x.attach(x.p, x.Root, x.Epoch+16, x.Buckets, x.Directories)
}

// set makes a new record of key and its slot lead there.
func (x *testIndex) set(key string) {
	x.t.Helper()
	old, found, err := x.Lookup(x.shape.hash(key), []byte(key))
	require.NoError(x.t, err)
	x.position += 8
	require.NoError(x.t, x.Set(x.position))
	if found {
		delete(x.keys, old)
	}
	x.keys[x.position] = key
}

// drop removes key's slot.
func (x *testIndex) drop(key string) {
	x.t.Helper()
	old, found, err := x.Lookup(x.shape.hash(key), []byte(key))
	require.NoError(x.t, err)
	require.True(x.t, found)
	require.NoError(x.t, x.Drop())
	delete(x.keys, old)
}

// get finds key as a reader does.
func (x *testIndex) get(root pager.Ref, key string) (uint64, bool, error) {
	bucket, hash, err := x.Find(root, x.shape.hash(key), []byte(key), true)
	if err != nil {
		return 0, false, err
	}
	for seen := 0; ; {
		var position uint64
		position, seen = x.Next(bucket, hash, seen)
		if position == 0 || x.keys[position] == key {
			return position, position != 0, nil
		}
	}
}

// check compares all of the index with the map.
func (x *testIndex) check() {
	t := x.t
	t.Helper()
	for position, key := range x.keys {
		got, found, err := x.get(x.Root, key)
		require.NoError(t, err)
		require.True(t, found, "key %s", key)
		require.Equal(t, position, got)
	}
	seen := map[uint64]int{}
	for at, end := (Path{}), false; !end; {
		bucket, after, last, err := x.BucketAt(x.Root, at)
		require.NoError(t, err)
		for _, position := range x.Positions(nil, bucket) {
			seen[position]++
		}
		at, end = after, last
	}
	require.Len(t, seen, len(x.keys))
	for position := range x.keys {
		require.Equal(t, 1, seen[position])
	}
	pages := x.pages(x.Root)
	buckets := 0
	for _, directory := range pages {
		if !directory {
			buckets++
		}
	}
	require.EqualValues(t, x.Buckets, buckets)
	require.Equal(t, x.Pages(), uint64(len(pages)))
}

// pages are those that a root leads to, and whether they are directories. None comes twice.
func (x *testIndex) pages(root pager.Ref) map[pager.PageNo]bool {
	x.t.Helper()
	all := map[pager.PageNo]bool{}
	require.NoError(x.t, x.Visit(root, func(page pager.PageNo, directory bool, _ int, _ Path) error {
		require.NotContains(x.t, all, page)
		all[page] = directory
		return nil
	}))
	return all
}

func aKey(i int) string { return fmt.Sprintf("key %d", i) }
