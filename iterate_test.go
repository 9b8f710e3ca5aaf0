package mapfile

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSortWords compares with slices.Sort: words of a bucket share bits at the top, more where keys were chosen, and end in the number of a slot.
func TestSortWords(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var spare []uint64
	for shared := range 56 {
		for _, n := range []int{0, 1, 2, 40, 509} {
			words := make([]uint64, n)
			prefix := r.Uint64()
			for i := range words {
				words[i] = (prefix&^(^uint64(0)>>shared)|r.Uint64()>>shared)&^(1<<9-1) | uint64(i)
			}
			r.Shuffle(n, func(i, j int) { words[i], words[j] = words[j], words[i] })
			want := slices.Sorted(slices.Values(words))
			var got []uint64
			got, spare = sortWords(words, spare)
			require.True(t, slices.Equal(want, got), "%d words that share %d bits", n, shared)
		}
	}
}
