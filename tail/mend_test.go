package tail

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// TestMendFlips flips every bit of records, one at a time: all come back, but those in keys and values that are too long.
func TestMendFlips(t *testing.T) {
	for _, body := range []struct {
		name       string
		flags      uint8
		key, value string
		mended     bool // a bit of the key and the value too
	}{
		{"empty", 0, "", "", true},
		{"usual", FlagFirst | FlagLast | FlagNew, "a key of the log", strings.Repeat("value", 20), true},
		{"with extra word", FlagFirst | FlagMark, "key", "value", true},
		{"long key", 0, strings.Repeat("k", 700), "v", true},
		{"longest value that is mended", 0, "k", strings.Repeat("v", MaxMendValue), true},
		{"longer value", 0, "k", strings.Repeat("v", MaxMendValue+1), false},
		{"longest key that is mended", 0, strings.Repeat("k", MaxMendKey), "v", true},
		{"longest key", 0, strings.Repeat("k", MaxKey), "v", false},
	} {
		t.Run(body.name, func(t *testing.T) {
			p := simPager(t, unitsOfFour, 32)
			r := Record{Position: 2 * pager.PageSize, Kind: KindPut, Flags: body.flags, Sequence: 7, Previous: 4096, Extra: 3, Key: []byte(body.key), Value: []byte(body.value)}
			store(p, &r, testSalt)
			limit := p.Pages() * pager.PageSize
			end := r.valueAt() + uint64(len(body.value))
			step := uint64(1)
			if end > 300 {
				step = max(end/10, (end*8)/300) | 1 // every bit of a long one takes too long
			}
			for bit := uint64(0); bit < end*8; bit += step {
				at, mask := r.Position+bit/8, byte(1)<<(bit%8)
				p.View().Writable(at, 1)[0] ^= mask
				again := Mend(p, r.Position, testSalt, limit)
				inKey := bit/8 >= HeaderBytes+extraBytes && bit/8 < r.valueAt() && len(body.key) > MaxMendKey
				inValue := bit/8 >= r.valueAt() && len(body.value) > MaxMendValue
				if want := body.mended || !inKey && !inValue; again != want {
					t.Fatalf("bit %d: mended %v, want %v", bit, again, want)
				} else if !want {
					p.ForgetRot()
					p.View().Writable(at, 1)[0] ^= mask
				}
				require.True(t, holds(p, r.Position, testSalt), "bit %d", bit)
			}
			flips, count := p.Mended()
			require.NotEmpty(t, flips)
			require.GreaterOrEqual(t, count, uint64(len(flips)))
		})
	}
}

// TestMendNothingElse leaves alone what is damaged in more than one bit, and gives up on it until it is told to try again.
func TestMendNothingElse(t *testing.T) {
	p := simPager(t, unitsOfFour, 16)
	limit := p.Pages() * pager.PageSize
	for _, at := range []uint64{0, 5, 9, 13, 17, 23, 30, 40} {
		t.Run(fmt.Sprint("byte ", at), func(t *testing.T) {
			r := Record{Position: 3 * pager.PageSize, Kind: KindPut, Key: []byte("key"), Value: []byte("some value here"), Sequence: 1}
			b := p.View().Writable(r.Position, r.Size())
			put(b, &r, testSalt)
			b[at] ^= 0x42
			was := string(b)
			p.ForgetRot()
			require.False(t, Mend(p, r.Position, testSalt, limit))
			require.Equal(t, was, string(b))
			b[at] ^= 0x40 // one flipped bit is left
			require.False(t, Mend(p, r.Position, testSalt, limit), "it was given up")
			p.ForgetRot()
			require.True(t, Mend(p, r.Position, testSalt, limit))
		})
	}
}
