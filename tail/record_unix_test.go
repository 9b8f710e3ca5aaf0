//go:build linux || darwin || freebsd

package tail

import (
	"math/rand/v2"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// hostile is a record's header of random bytes, with a kind and flags that may be.
func hostile(rng *rand.Rand) []byte {
	b := make([]byte, HeaderBytes+extraBytes)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	b[10], b[11], b[14], b[15] = 1+b[10]%byte(lastKind), b[11]%(knownFlags+1), b[14]%2, 0
	return b
}

// TestRecordHostileLengths parses anything at the very end of a mapped file: behind it lies nothing that could be read.
func TestRecordHostileLengths(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	const pages = 16
	p := newPager(t, pager.OS(), filepath.Join(t.TempDir(), "log"), unitsOfFour, pages)
	rng := rand.New(rand.NewPCG(1, 2))
	limit := uint64(pages * pager.PageSize)
	var r Record
	for range 20_000 {
		position := limit - 8*uint64(1+rng.IntN(64))
		copy(p.View().Writable(position, limit-position), hostile(rng))
		if ParseHeader(p.View(), position, rng.Uint64(), limit, &r) {
			require.LessOrEqual(t, position+r.Size(), limit+7)
		}
		require.LessOrEqual(t, NextRecord(p.View(), position-8, testSalt, limit), limit)
		_, ok := ReadSegment(p.View(), pages-1, limit, testUUID)
		require.False(t, ok)
	}
	for page := range pager.PageNo(pages + 3) {
		ReadSegment(p.View(), page, limit, testUUID)
	}
}
