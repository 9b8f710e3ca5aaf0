package pager

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
)

// TestFlippedSum finds a flipped bit in bytes of any length, and none where there is none or are two.
func TestFlippedSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, 7, 8, 31, 32, 33, 63, 64, 95, 100, 4088} {
		whole := make([]byte, n)
		for i := range whole {
			whole[i] = byte(r.Uint32())
		}
		want := xxhash.Sum64(whole)
		for bit := 0; bit < n*8; bit += 1 + n/50 {
			b := bytes.Clone(whole)
			b[bit/8] ^= 1 << (bit % 8)
			got, ok := FlippedSum(b, want)
			require.True(t, ok, "bit %d of %d bytes", bit, n)
			require.Equal(t, bit, got)
			require.Equal(t, whole, b)
		}
		if n > 1 {
			b := bytes.Clone(whole)
			b[0] ^= 1
			b[n-1] ^= 0x80
			damaged := bytes.Clone(b)
			_, ok := FlippedSum(b, want)
			require.False(t, ok, "two bits of %d bytes", n)
			require.Equal(t, damaged, b)
		}
	}
}

func BenchmarkFlippedSum(b *testing.B) {
	page := make([]byte, PageSize-8)
	page[0] = 1 // of two bits: all are tried
	want := xxhash.Sum64(make([]byte, PageSize-8))
	page[1] = 1
	b.Run("lanes", func(b *testing.B) {
		for b.Loop() {
			FlippedSum(page, want)
		}
	})
	b.Run("each bit", func(b *testing.B) {
		for b.Loop() {
			FlippedBit(page, func() bool { return xxhash.Sum64(page) == want })
		}
	})
}
