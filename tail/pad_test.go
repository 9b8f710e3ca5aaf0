package tail

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// TestPaddedLog: no block of a padded log holds bytes of two commits, or of a commit and a header that was
// there before; the log reads as any other.
func TestPaddedLog(t *testing.T) {
	for _, byWrite := range []bool{false, true} {
		for seed := range uint64(60) {
			t.Run(fmt.Sprintf("by write %t, seed %d", byWrite, seed), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 4))
				l := newLogWith(t, simPager(t, unitsOfFour, 400), func(tl *Tail) { tl.Padded, tl.ByWrite = true, byWrite })
				owner := map[uint64]int{} // by block: the commit that stored to it
				own := func(from, to uint64, who int) {
					for block := from / pager.PageSize; block*pager.PageSize < to; block++ {
						was, known := owner[block]
						require.True(t, !known || was == who, "commit %d stores to block %d of commit %d", who, block, was)
						owner[block] = who
					}
				}
				own(l.cur.Base(), l.pos, 0)
				var records uint64
				for commit := 1; commit <= 12; commit++ {
					var all []*Record
					for range 1 + rng.IntN(4) {
						all = append(all, aPut(rng.IntN([]int{40, 3000, 9000}[rng.IntN(3)])))
					}
					from, before := l.LSN, len(l.used)
					l.commit(all...)
					records += uint64(len(all))
					for i := before - 1; i < len(l.used); i++ {
						s := l.used[i]
						own(max(s.Base(), s.Base()+from-min(from, s.FirstLSN)), s.Base()+s.Used, commit)
					}
				}
				w := l.walk(0)
				require.Equal(t, records, w.Records)
				require.Equal(t, l.LSN, w.Refused)
			})
		}
	}
}
