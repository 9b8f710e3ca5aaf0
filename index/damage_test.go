package index

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
)

// damagedIndex is a sealed index with a page of each kind that is to be damaged.
func damagedIndex(t testing.TB, s shape) (x *testIndex, pages []pager.PageNo) {
	x = newIndex(t, s, 256)
	for i := range s.keys {
		x.set(aKey(i))
	}
	for i := 0; i < s.keys; i += 5 {
		x.drop(aKey(i))
	}
	x.seal()
	bucket, _, err := x.Find(x.Root, s.hash(aKey(1)), []byte(aKey(1)), true)
	require.NoError(t, err)
	require.Greater(t, x.Buckets, uint32(1))
	return x, []pager.PageNo{x.Root.Page, pager.PageNo(bucket / pager.PageSize)}
}

var damageShapes = []shape{
	{"production", 50, 82, 9, shapes[4].hash, 400},
	{"one line, two bits", 1, 80, 2, shapes[0].hash, 40},
	{"one line, all hashes equal", 1, 80, 3, constant, 12},
}

// everything calls all that reads the index, for the sake of its errors. It visits no more buckets than there can be.
func (x *testIndex) everything(t testing.TB, key string) (all []error) {
	_, _, err := x.get(x.Root, key)
	all = append(all, err)
	_, _, err = x.Lookup(x.shape.hash(key), []byte(key))
	all = append(all, err)
	err = x.Visit(x.Root, func(pager.PageNo, bool, int, Path) error { return nil })
	all = append(all, err)
	steps := 0
	for at, end := (Path{}), false; !end; steps++ {
		require.Less(t, steps, 100_000, "a walk that does not end")
		bucket, after, last, err := x.BucketAt(x.Root, at)
		if err != nil {
			return append(all, err)
		}
		x.Positions(nil, bucket)
		at, end = after, last
	}
	return append(all, nil)
}

// TestDamagedPage: each byte of a bucket and of a directory that is damaged is found by whoever comes there, and the
// error names the page.
func TestDamagedPage(t *testing.T) {
	for _, s := range damageShapes {
		t.Run(s.name, func(t *testing.T) {
			x, pages := damagedIndex(t, s)
			for _, page := range pages {
				b := x.p.View().WritablePage(page)
				step := 1
				if testing.Short() {
					step = 7
				}
				for i := 0; i < len(b); i += step {
					b[i] ^= 3 << (i % 7) // one bit alone would be mended
					x.forget()
					for _, err := range x.everything(t, aKey(1)) {
						var damage *errs.CorruptError
						if !errors.As(err, &damage) || damage.Page != uint64(page) || !errors.Is(err, errs.ErrCorrupt) {
							require.Failf(t, "not found", "byte %d of page %d: %v", i, page, err)
						}
					}
					b[i] ^= 3 << (i % 7)
				}
			}
			x.forget()
			x.check()
		})
	}
}

// TestFlippedBit: any one flipped bit of a bucket and of a directory is mended by whoever comes there under a pin or the turn, and by
// nobody else.
func TestFlippedBit(t *testing.T) {
	x, pages := damagedIndex(t, damageShapes[0])
	for _, page := range pages {
		b := x.p.View().WritablePage(page)
		was := string(b)
		step := 97
		if testing.Short() {
			step = 997
		}
		for bit := 0; bit < 8*len(b); bit += step {
			b[bit/8] ^= 1 << (bit % 8)
			x.forget()
			if bit%2 == 0 { // who may not mend finds the damage
				_, _, err := x.Find(x.Root, damageShapes[0].hash(aKey(1)), []byte(aKey(1)), false)
				require.ErrorIs(t, err, errs.ErrCorrupt)
			}
			for _, err := range x.everything(t, aKey(1)) {
				require.NoError(t, err, "bit %d of page %d", bit, page)
			}
			require.Equal(t, was, string(b), "bit %d of page %d", bit, page)
		}
	}
	x.check()
}

// TestForgedPage: a page of any content whose sum holds makes nothing panic, hang or read outside the file, writers included.
func TestForgedPage(t *testing.T) {
	forge := []func(was byte) byte{
		func(byte) byte { return 0xff },
		func(was byte) byte { return was + 1 },
		func(byte) byte { return 0 },
	}
	for _, s := range damageShapes {
		t.Run(s.name, func(t *testing.T) {
			x, pages := damagedIndex(t, s)
			root, epoch, buckets, directories, next := x.Root, x.Epoch, x.Buckets, x.Directories, x.page
			for _, page := range pages {
				b := x.p.View().WritablePage(page)
				whole := append([]byte(nil), b...)
				for i := 8; i < len(b); i++ {
					if i >= 200 && i%7 != 0 {
						continue // the header, and some of the slots
					}
					for _, to := range forge {
						b[i] = to(whole[i])
						binary.LittleEndian.PutUint64(b, Sum(b, testSalt, page, pageEpoch(b)))
						x.forget()
						x.everything(t, aKey(1))
						for _, key := range []string{aKey(1), aKey(2), "new"} {
							if _, _, err := x.Lookup(s.hash(key), []byte(key)); err == nil {
								_ = x.Set(1 << 30) // what comes of it is no matter
							}
						}
						x.forget()
						copy(b, whole)
						x.attach(x.p, root, epoch, buckets, directories)
						x.page, x.free, x.retired = next, nil, nil
					}
				}
			}
			x.check()
		})
	}
}

// TestWrongPageInPlace: a whole page that stands where another belongs is refused.
func TestWrongPageInPlace(t *testing.T) {
	x, _ := damagedIndex(t, damageShapes[0])
	rows := []struct {
		name string
		root func() pager.Ref
	}{
		{"another epoch", func() pager.Ref { return pager.Ref{Page: x.Root.Page, Epoch: x.Root.Epoch + 1} }},
		{"an epoch with the same low bits", func() pager.Ref { return pager.Ref{Page: x.Root.Page, Epoch: x.Root.Epoch + 1<<16} }},
		{"outside the file", func() pager.Ref { return pager.Ref{Page: pager.PageNo(x.p.Pages()), Epoch: 1} }},
		{"a fixed page", func() pager.Ref { return pager.Ref{Page: 1, Epoch: 1} }},
		{"a bucket", func() pager.Ref {
			bucket, _, err := x.Find(x.Root, 0, nil, true)
			require.NoError(t, err)
			page := pager.PageNo(bucket / pager.PageSize)
			return pager.Ref{Page: page, Epoch: pageEpoch(x.p.View().Page(page))}
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			root := row.root()
			x.forget()
			_, _, err := x.Find(root, 0, nil, true)
			require.ErrorIs(t, err, errs.ErrCorrupt)
		})
	}
}

// TestSlotWithoutPosition: a damaged slot that says position 0 does not end the chain, as an empty one does: behind it other keys with the same tag lie.
func TestSlotWithoutPosition(t *testing.T) {
	x := newIndex(t, shape{"one line, all hashes equal", 1, 80, 3, constant, 12}, 64)
	x.set(aKey(0))
	x.set(aKey(1))
	_, found, err := x.Lookup(x.shape.hash(aKey(0)), []byte(aKey(0)))
	require.NoError(t, err)
	require.True(t, found)
	require.NoError(t, x.Set(0))
	bucket, hash, err := x.Find(x.Root, x.shape.hash(aKey(1)), []byte(aKey(1)), true)
	require.NoError(t, err)
	position, seen := x.Next(bucket, hash, 0)
	require.EqualValues(t, 8, position, "a place at which no record lies")
	position, seen = x.Next(bucket, hash, seen)
	require.Equal(t, aKey(1), x.keys[position])
	position, _ = x.Next(bucket, hash, seen)
	require.Zero(t, position)
}
