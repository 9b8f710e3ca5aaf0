package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
)

// sweep merges all that Sparse finds, and answers how many changes that took. alsoBetween runs behind each.
func (x *testIndex) sweep(alsoBetween func()) (changes int) {
	x.t.Helper()
	for at, end := (Path{}), false; !end; {
		pages, after, last := x.Sparse(at)
		if at, end = after, last; pages == 0 {
			continue
		}
		before, free := x.page, len(x.free)
		require.NoError(x.t, x.Merge())
		require.LessOrEqual(x.t, int(x.page-before)+free-len(x.free), pages, "more than Sparse said")
		changes++
		if alsoBetween != nil {
			alsoBetween()
		}
	}
	return changes
}

// spread reports whether a hash tells keys apart by its first bits.
func spread(hash func(string) uint64) bool {
	first := map[uint64]bool{}
	for i := range 64 {
		first[hash(aKey(i))>>56] = true
	}
	return len(first) > 32
}

// TestMerge: after deleting nine keys of ten the index is little larger than one that never had more, and after deleting
// all it is as in an empty map, in one epoch or over several.
func TestMerge(t *testing.T) {
	for _, s := range shapes {
		for _, seals := range []bool{false, true} {
			name := s.name + ", one epoch"
			if seals {
				name = s.name + ", sealed between"
			}
			t.Run(name, func(t *testing.T) {
				x := newIndex(t, s, 3*filePages)
				for i := range s.keys {
					x.set(aKey(i))
				}
				full := x.Pages()
				between := func() {
					if seals {
						x.seal()
						x.reuse()
					}
				}
				between()
				for i := range s.keys {
					if i%10 != 0 {
						x.drop(aKey(i))
					}
				}
				between()
				require.Equal(t, full, x.Pages())
				require.NotZero(t, x.sweep(nil))
				x.check()
				require.Zero(t, x.sweep(nil), "one sweep is enough")
				few := newIndex(t, s, 3*filePages)
				for i := 0; i < s.keys; i += 10 {
					few.set(aKey(i))
				}
				t.Logf("%d pages, %d when nine of ten keys were gone, %d without them", full, x.Pages(), few.Pages())
				if x.mergeFill() > 0 && spread(s.hash) { // else long chains of directories stay for the sake of few keys
					require.LessOrEqual(t, x.Pages(), 2*few.Pages())
				}
				for i := 0; i < s.keys; i += 10 {
					x.drop(aKey(i))
				}
				between()
				x.sweep(nil)
				x.check()
				require.EqualValues(t, 1, x.Buckets)
				require.EqualValues(t, 1, x.Directories)
				for i := range s.keys / 2 {
					x.set(aKey(i))
				}
				x.check()
				x.seal()
				x.reopen()
				x.check()
			})
		}
	}
}

// TestMergeModel compares the index with a Go map while it grows and shrinks, merged at any time, with seals between its steps.
func TestMergeModel(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			seed := uint64(len(s.name))
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 2))
			x := newIndex(t, s, 4*filePages)
			there := map[string]bool{}
			n := min(s.keys, 4000)
			for round := range 12 {
				puts := []int{90, 50, 10, 30}[round%4] // in a hundred
				for range n / 2 {
					key := aKey(rng.IntN(n))
					switch {
					case rng.IntN(100) < puts:
						x.set(key)
						there[key] = true
					case there[key]:
						x.drop(key)
						delete(there, key)
					}
					if rng.IntN(n/8+1) == 0 {
						x.seal()
						x.reuse()
					}
				}
				x.sweep(func() {
					if rng.IntN(8) == 0 {
						x.seal()
						x.reuse()
					}
					key := aKey(rng.IntN(n)) // a writer came between
					if rng.IntN(4) == 0 {
						x.set(key)
						there[key] = true
					}
				})
				x.check()
				if rng.IntN(2) == 0 {
					x.seal()
					x.reuse()
					x.reopen()
				}
				require.Len(t, x.keys, len(there))
			}
		})
	}
}

// TestMergeLeavesSealedPages: no page that a seal's root leads to changes, and the root goes on leading to what it led to.
func TestMergeLeavesSealedPages(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			x := newIndex(t, s, 2*filePages)
			n := min(s.keys, 2000)
			for i := range n {
				x.set(aKey(i))
			}
			for i := range n {
				if i%12 != 0 {
					x.drop(aKey(i))
				}
			}
			x.seal()
			root, before := x.Root, map[uint64]string{}
			for page := range x.pages(root) {
				before[uint64(page)] = string(x.p.View().Page(page)[8:])
			}
			x.sweep(nil)
			for page, bytes := range before {
				require.Equal(t, bytes, string(x.p.View().Page(pager.PageNo(page))[8:]))
			}
			for position, key := range x.keys {
				got, found, err := x.get(root, key)
				require.NoError(t, err)
				require.True(t, found)
				require.Equal(t, position, got)
			}
			x.forget()
			require.Len(t, x.pages(root), len(before), "each with its sum")
		})
	}
}

// TestMergeLeavesDamageAlone: a page that does not hold is joined with nothing and stays where it is; what is beside it is merged.
func TestMergeLeavesDamageAlone(t *testing.T) {
	for _, s := range damageShapes {
		s.keys *= 10
		t.Run(s.name, func(t *testing.T) {
			x := newIndex(t, s, filePages)
			for i := range s.keys {
				x.set(aKey(i))
			}
			for i := range s.keys {
				if i%8 != 0 {
					x.drop(aKey(i))
				}
			}
			x.seal()
			before := x.Pages()
			rng := rand.New(rand.NewPCG(5, 6))
			var damaged []pager.PageNo
			for page, directory := range x.pages(x.Root) {
				if !directory && rng.IntN(10) == 0 {
					damaged = append(damaged, page)
				}
			}
			require.NotEmpty(t, damaged)
			spoil := func() {
				for _, page := range damaged {
					x.p.View().WritablePage(page)[100] ^= 0x28
				}
			}
			spoil()
			x.forget()
			require.NotZero(t, x.sweep(nil))
			require.Less(t, x.Pages(), before)
			spoil() // as it was
			there := x.pages(x.Root)
			for _, page := range damaged {
				require.NotContains(t, x.retired, retired{page, len(x.seals)})
				require.Contains(t, there, page)
			}
			x.check()
			x.sweep(nil)
			x.check()
		})
	}
}

// TestMergeBehindAnUnreadableRecord: a bucket of the second hash whose keys cannot all be read keeps its place.
func TestMergeBehindAnUnreadableRecord(t *testing.T) {
	s := shapes[5]
	x := newIndex(t, s, filePages)
	for i := range 40 {
		x.set(aKey(i))
	}
	for i := 2; i < 40; i++ {
		x.drop(aKey(i))
	}
	keyAt := x.KeyAt
	x.KeyAt = func(position uint64) ([]byte, error) {
		key, err := keyAt(position)
		if string(key) == aKey(1) {
			return nil, errs.ErrCorrupt
		}
		return key, err
	}
	x.sweep(nil)
	_, hash, err := x.Find(x.Root, constant(""), []byte(aKey(1)), true)
	require.NoError(t, err)
	require.Equal(t, x.SecondHash([]byte(aKey(1))), hash)
	x.KeyAt = keyAt
	x.sweep(nil)
	_, hash, err = x.Find(x.Root, constant(""), []byte(aKey(1)), true)
	require.NoError(t, err)
	require.Equal(t, constant(""), hash, "back above the second hash")
	require.EqualValues(t, 2, x.Pages())
	x.check()
}

// TestMergeDoesNotThrash: a bucket that was joined takes many keys before it splits, and one that was split loses many before it is
// joined, so that deleting and setting the same keys again and again copies next to nothing, wherever the number of keys stands.
func TestMergeDoesNotThrash(t *testing.T) {
	x := newIndex(t, shapes[4], filePages)
	most := 0
	for n := 0; n < 3000; n += 50 {
		for i := range 50 {
			x.set(aKey(n + i))
		}
		x.sweep(nil)
		changes := 0
		for range 10 {
			for i := range 20 {
				x.drop(aKey(n + i))
			}
			changes += x.sweep(nil)
			for i := range 20 {
				x.set(aKey(n + i))
			}
			x.seal() // dead slots go with the copies
			x.reuse()
		}
		most = max(most, changes)
	}
	t.Logf("at most %d changes in ten rounds", most)
	require.LessOrEqual(t, most, 2)
	x.check()
}

// BenchmarkMergeShare shows what decides how full a joined bucket may be: pages after nine of ten keys are gone, of those of an index
// that never had more, and page copies of merges and splits for each key that a map of one size sets or drops.
func BenchmarkMergeShare(b *testing.B) {
	for _, share := range []int{50, 60, 70, 75, 80, 90, 99} {
		b.Run(fmt.Sprintf("%d%%", share), func(b *testing.B) {
			left, fresh, built, ops := 0.0, 0.0, 0.0, 0.0
			for range b.N {
				for _, n := range []int{20_000, 24_000, 28_000, 33_000, 39_000} {
					x, few := newIndex(b, shapes[4], filePages), newIndex(b, shapes[4], filePages)
					x.mergeShare = share
					for i := range n {
						x.set(aKey(i))
					}
					for i := range n {
						if i%10 != 0 {
							x.drop(aKey(i))
						} else {
							few.set(aKey(i))
						}
					}
					x.sweep(nil)
					left, fresh = left+float64(x.Pages()), fresh+float64(few.Pages())
					x.seal()
					x.reuse()
					c, o := x.churn(n / 10)
					built, ops = built+c, ops+o
				}
			}
			b.ReportMetric(left/fresh, "pages/fresh")
			b.ReportMetric(1000*built/ops, "copies/1000ops")
		})
	}
}

// churn replaces all of about n keys four times, one by one, with a sweep whenever a tenth was replaced, all in one epoch, and counts the pages
// that merges and splits built.
func (x *testIndex) churn(n int) (built, ops float64) {
	rng := rand.New(rand.NewPCG(1, 2))
	var there []string
	for _, key := range x.keys {
		there = append(there, key)
	}
	slices.Sort(there)
	for i := range there {
		x.set(there[i]) // in pages of this epoch
	}
	before := len(x.built)
	for i := range 4 * n {
		at := rng.IntN(len(there))
		x.drop(there[at])
		there[at] = fmt.Sprint("churn ", i)
		x.set(there[at])
		if i%(n/10) == 0 {
			x.sweep(nil)
			x.free = append(x.free, x.takeRetired()...)
		}
	}
	return float64(len(x.built) - before), float64(8 * n)
}

// takeRetired takes what was retired, in an epoch in which nobody else needs it.
func (x *testIndex) takeRetired() (pages []pager.PageNo) {
	for _, r := range x.retired {
		x.p.SetVerified(r.page, 0)
		pages = append(pages, r.page)
	}
	x.retired = nil
	return pages
}
