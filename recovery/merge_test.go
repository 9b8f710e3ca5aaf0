package recovery

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/tail"
)

// merge goes once through the index, as far as there is room, and answers how many pages it gave up.
func (m *testMap) merge() uint64 {
	m.t.Helper()
	before := m.Index.Pages()
	for g := m.BeginMerge(); ; {
		pages, done := g.Look()
		if done {
			break
		}
		if pages == 0 {
			continue
		}
		if err := m.AdmitPages(pages); err != nil {
			require.ErrorIs(m.t, err, errs.ErrFull)
			break
		}
		require.NoError(m.t, g.Merge())
	}
	return before - m.Index.Pages()
}

// TestMergeLeavesRoomForReplay: on a full disk a map opens again after a crash, though replay copies each of the buckets that the life that
// died had joined before it wrote to them.
func TestMergeLeavesRoomForReplay(t *testing.T) {
	merged, full := uint64(0), 0
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 8))
		m := newMap(t, 1000+int64(rng.IntN(200)))
		n := 1200 + rng.IntN(400)
		for i := range n {
			if m.write(aKey(i), "x") != nil {
				n = i
			}
		}
		m.checkpoint(false)
		for i := range n {
			if i%8 == 0 || m.want[aKey(i)] == "" {
				continue
			}
			if m.write(aKey(i), "") == nil {
				m.again(tail.KindDrop, aKey(i))
			}
			if i%200 == 0 {
				m.checkpoint(false)
			}
		}
		for len(m.Tail.Segments()) > 8 {
			m.empty()
			if len(m.Tail.Segments())%10 == 0 {
				m.checkpoint(false)
			}
		}
		for range 4 { // nothing is left that the meta pages keep for each other
			m.checkpoint(false)
		}
		merged += m.merge()
		m.check()
		for i := 0; ; i++ {
			key := aKey(i * 8 % (n / 8 * 8))
			if err := m.write(key, "y"); err != nil {
				require.ErrorIs(t, err, errs.ErrFull)
				full++
				break
			}
		}
		left, owed := m.Free.FreePages(), m.State.merged.total-m.State.merged.older
		require.GreaterOrEqual(t, left, owed, "seed %d: room for what replay may copy more", seed)
		s, err := Open(options(m.copied()))
		require.False(t, errors.Is(err, errs.ErrFull), "seed %d, %d pages free, %d owed", seed, left, owed)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		m.kill()
		m.check()
	}
	require.Greater(t, merged, uint64(200))
	require.Equal(t, 2, full)
}
