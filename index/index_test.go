package index

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// filePages is enough for each of the shapes.
const filePages = 2500

// TestModel compares the index with a Go map over puts, drops, seals, reuse of pages and reopening.
func TestModel(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(len(s.name)), 1))
			x := newIndex(t, s, filePages)
			there := map[string]bool{}
			for i := range 3 * s.keys {
				key := aKey(rng.IntN(s.keys))
				switch {
				case rng.IntN(4) == 0 && there[key]:
					x.drop(key)
					delete(there, key)
				default:
					x.set(key)
					there[key] = true
				}
				if rng.IntN(s.keys/6+1) == 0 {
					x.seal()
					x.reuse()
					if rng.IntN(2) == 0 {
						x.reopen()
					}
				}
				if i%(s.keys/2) == 0 {
					x.check()
				}
			}
			require.Len(t, x.keys, len(there))
			x.check()
			for i := range s.keys {
				key := aKey(i)
				_, found, err := x.Lookup(s.hash(key), []byte(key))
				require.NoError(t, err)
				require.Equal(t, there[key], found)
				_, found, err = x.get(x.Root, key)
				require.NoError(t, err)
				require.Equal(t, there[key], found)
			}
		})
	}
}

// TestLookupPosition: replay finds a slot by hash bits and position, reads no record, and finds nothing else.
func TestLookupPosition(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			x := newIndex(t, s, filePages)
			for i := range min(s.keys, 1000) {
				x.set(aKey(i))
			}
			x.Matches = nil
			for position, key := range x.keys {
				find := func(previous uint64) bool {
					found, err := x.LookupPosition(s.hash(key), []byte(key), previous)
					require.NoError(t, err)
					return found
				}
				require.True(t, find(position))
				require.False(t, find(position+1<<30))
				require.False(t, find(0))
			}
		})
	}
}

func TestSecondHash(t *testing.T) {
	x := newIndex(t, shapes[0], 16)
	sum := sha256.Sum256(append(append([]byte(nil), x.HashKey[:]...), "key"...))
	require.Equal(t, binary.BigEndian.Uint64(sum[:]), x.SecondHash([]byte("key")))
}

// TestEqualHashesReachTheSecond: behind the bits of the first hash, and not before, the second is in use.
func TestEqualHashesReachTheSecond(t *testing.T) {
	s := shape{"", 1, 80, 3, constant, 0}
	x := newIndex(t, s, filePages)
	for i := 0; i < x.maxFill; i++ {
		x.set(aKey(i))
	}
	_, hash, err := x.Find(x.Root, constant(""), []byte(aKey(0)), true)
	require.NoError(t, err)
	require.Equal(t, constant(""), hash)
	for i := range 50 {
		x.set(aKey(i))
	}
	for i := range 50 {
		_, hash, err = x.Find(x.Root, constant(""), []byte(aKey(i)), true)
		require.NoError(t, err)
		require.Equal(t, x.SecondHash([]byte(aKey(i))), hash)
	}
	_, hash, err = x.Find(x.Root, ^constant(""), []byte(aKey(0)), true)
	require.NoError(t, err)
	require.Equal(t, ^constant(""), hash, "another first hash has buckets of its own")
}

// TestHome: probing begins at a line that the bits kept in a slot give, all of which are used.
func TestHome(t *testing.T) {
	for _, lines := range []uint64{1, 3, 50} {
		counts := make([]int, lines)
		for i := range 1000 * lines {
			hash := xxhash.Sum64(binary.LittleEndian.AppendUint64(nil, i))
			line := home(hash, lines)
			require.Equal(t, line, home(storedBits(topOf(hash), tagOf(hash)<<positionBits|99), lines))
			counts[line]++
		}
		for _, n := range counts {
			require.InDelta(t, 1000, n, 200)
		}
	}
}

// TestCopyOnWrite: once an epoch is sealed no page that its root leads to changes, but for the sum, and
// the root goes on leading to what it led to.
func TestCopyOnWrite(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			x := newIndex(t, s, 2*filePages)
			n := min(s.keys, 2000) / 2
			for i := range n {
				x.set(aKey(i))
			}
			epoch := x.Epoch
			sealed := x.Seal(epoch + 1)
			root := x.Root
			before := map[pager.PageNo]uint64{}
			for page := range x.pages(root) {
				before[page] = xxhash.Sum64(x.p.View().Page(page)[8:])
			}
			change := func(from, to int) {
				for i := from; i < to; i++ {
					x.set(aKey(i))
				}
				for i := from; i < to; i += 3 {
					x.drop(aKey(i))
				}
			}
			change(0, n/2)
			x.StoreSums(sealed, epoch) // beside the writers
			change(n/2, 2*n)
			for page, sum := range before {
				require.Equal(t, sum, xxhash.Sum64(x.p.View().Page(page)[8:]), "page %d", page)
			}
			x.forget()
			require.Len(t, x.pages(root), len(before), "each with its sum")
		})
	}
}

// TestCopyLeavesDeadSlotsOut: in its epoch a bucket keeps the slots that died; its copy does not.
func TestCopyLeavesDeadSlotsOut(t *testing.T) {
	x := newIndex(t, shapes[4], 64)
	for i := range 100 {
		x.set(aKey(i))
	}
	for i := range 40 {
		x.drop(aKey(i))
	}
	numbers := func() []int {
		bucket, _, err := x.Find(x.Root, 0, nil, true)
		require.NoError(t, err)
		b := x.p.View().Bytes(bucket, pager.PageSize)
		return []int{pageCount(b), pageDead(b)}
	}
	require.Equal(t, []int{100, 40}, numbers())
	x.seal()
	require.Equal(t, []int{100, 40}, numbers())
	x.set(aKey(70)) // a slot that was found is found again where the copy has it
	require.Equal(t, []int{60, 0}, numbers())
	x.check()
	x.seal()
	x.set(aKey(1000)) // a new one in a copy without dead slots
	x.drop(aKey(50))
	require.Equal(t, []int{61, 1}, numbers())
	x.seal()
	x.drop(aKey(51)) // the drop itself makes the copy
	require.Equal(t, []int{60, 1}, numbers())
	x.check()
}

// TestDeadSlotsMakeRoom: a bucket full of dead slots of an earlier epoch does not split.
func TestDeadSlotsMakeRoom(t *testing.T) {
	x := newIndex(t, shapes[4], 64)
	for i := range x.maxFill {
		x.set(aKey(i))
	}
	for i := range x.maxFill / 2 {
		x.drop(aKey(i))
	}
	x.seal()
	for i := range x.maxFill / 2 {
		x.set(aKey(10_000 + i))
	}
	require.EqualValues(t, 1, x.Buckets)
	x.check()
	x.set("one more")
	require.EqualValues(t, 2, x.Buckets)
	x.check()
}

// TestIterationBesideSplits: BucketAt visits each slot that is there all the time once, while splits go on
// between its steps.
func TestIterationBesideSplits(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			x := newIndex(t, s, 2*filePages)
			first := min(s.keys/3, 2000)
			for i := range first {
				x.set(aKey(i))
			}
			there := map[uint64]bool{}
			for position := range x.keys {
				there[position] = true
			}
			seen, next, steps := map[uint64]int{}, first, 0
			for at, end := (Path{}), false; !end; steps++ {
				bucket, after, last, err := x.BucketAt(x.Root, at)
				require.NoError(t, err)
				for _, position := range x.Positions(nil, bucket) {
					seen[position]++
				}
				at, end = after, last
				for range 1 + first/20 {
					if next < s.keys {
						x.set(aKey(next))
						next++
					}
				}
				if steps%5 == 0 {
					x.seal()
				}
			}
			for position, n := range seen {
				require.Equal(t, 1, n, "position %d", position)
				delete(there, position)
			}
			require.Empty(t, there)
		})
	}
}

// TestEvacuate: nothing is left in the chosen pages, whichever they are, and nothing else changes.
func TestEvacuate(t *testing.T) {
	choices := map[string]func(page pager.PageNo) bool{
		"all":       func(pager.PageNo) bool { return true },
		"odd pages": func(page pager.PageNo) bool { return page%2 == 1 },
		"few pages": func(page pager.PageNo) bool { return page%7 == 0 },
	}
	for _, s := range shapes {
		for name, chosen := range choices {
			t.Run(s.name+", "+name, func(t *testing.T) {
				x := newIndex(t, s, 2*filePages)
				for i := range min(s.keys, 3000) {
					x.set(aKey(i))
				}
				for i := 0; i < min(s.keys, 3000); i += 4 {
					x.drop(aKey(i))
				}
				x.seal()
				x.set("one in this epoch")
				limit := x.page
				sparse := func(page pager.PageNo) bool { return page < limit && chosen(page) }
				for at, end := (Path{}), false; !end; {
					var err error
					at, end, err = x.Evacuate(at, sparse)
					require.NoError(t, err)
				}
				for page := range x.pages(x.Root) {
					require.False(t, sparse(page), "page %d", page)
				}
				x.check()
				x.seal()
				x.reopen()
				x.check()
			})
		}
	}
}

// TestErrorsOfAlloc: an index that finds no page says so, and what is sealed is still whole.
func TestErrorsOfAlloc(t *testing.T) {
	x := newIndex(t, shapes[0], 12)
	var err error
	for i := 0; err == nil; i++ {
		_, _, lookupErr := x.Lookup(shapes[0].hash(aKey(i)), []byte(aKey(i)))
		require.NoError(t, lookupErr)
		if err = x.Set(x.position + 8); err == nil {
			x.position += 8
			x.keys[x.position] = aKey(i)
		}
	}
	require.ErrorContains(t, err, "no room")
	x.forget()
	require.Len(t, x.pages(pager.Ref{Page: pager.FirstPage, Epoch: firstEpoch}), 2)
}
