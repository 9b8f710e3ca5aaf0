package workload

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
)

func TestKeys(t *testing.T) {
	seen := map[string]bool{}
	firsts := map[byte]int{}
	for i := range uint64(10_000) {
		k := AppendKey(nil, i)
		require.Len(t, k, KeyBytes)
		require.False(t, seen[string(k)])
		seen[string(k)] = true
		firsts[k[0]]++
	}
	require.Len(t, firsts, 256, "keys are spread over all first bytes")
}

func TestValues(t *testing.T) {
	v := NewValues(100)
	require.Len(t, v.At(3, 0), 100)
	require.Equal(t, v.At(3, 0), NewValues(100).At(3, 0), "the same in every process")
	require.NotEqual(t, v.At(3, 0), v.At(3, 1))
	require.NotEqual(t, v.At(3, 0), v.At(4, 0))
}

// TestZipfian compares the most frequent rank with its share of the sum.
func TestZipfian(t *testing.T) {
	const n, draws = 1000, 200_000
	count := make([]int, n)
	d := Zipfian(rand.New(rand.NewPCG(1, 2)), n)
	for range draws {
		count[d()]++
	}
	require.InDelta(t, 1/zeta(n), float64(count[0])/draws, 0.01)
	require.Greater(t, count[0], count[9])
	require.Greater(t, count[9], count[999])
	scattered := Scatter(d, n)
	for range draws {
		require.Less(t, scattered(), uint64(n))
	}
}

func TestZetaTail(t *testing.T) {
	exact := zeta(1_000_000)
	require.InDelta(t, exact+1/1_000_001.0, zeta(1_000_001), 1e-6)
}

func open(t *testing.T, name string, keys uint64) *Target {
	e, err := engine.ByName(name)
	require.NoError(t, err)
	s, err := e.Open(t.TempDir(), engine.Sizing{Keys: keys, KeyBytes: KeyBytes, ValueSize: 100})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return NewTarget(s, NewValues(100), keys)
}

// TestRun runs every workload on a map in memory, those that need more on a mapfile.
func TestRun(t *testing.T) {
	target, keeper := open(t, "gomap", 5000), open(t, "mapfile-never", 5000)
	_, err := Load(keeper, 1)
	require.NoError(t, err)
	s, err := Load(target, 1)
	require.NoError(t, err)
	require.EqualValues(t, 5000, s.Ops)
	require.EqualValues(t, 5000, s.Latency.TotalCount())
	require.NoError(t, Verify(target, 100))
	for _, w := range All() {
		t.Run(w.Name, func(t *testing.T) {
			target := target
			if w.Needs&engine.CanUpkeep != 0 {
				target = keeper
			}
			s, err := Run(w, target, 3*time.Millisecond, 1)
			require.NoError(t, err)
			require.NotZero(t, s.Ops)
			require.Equal(t, w.Latency, s.Latency != nil)
			require.Zero(t, s.Ops%uint64(max(w.Per, 1)))
			got, err := ByName(w.Name)
			require.NoError(t, err)
			require.Equal(t, w.Title, got.Title)
		})
	}
	s, err = Scan(target)
	require.NoError(t, err)
	require.GreaterOrEqual(t, s.Ops, target.Keys)
	_, err = ByName("dance")
	require.Error(t, err)
}

// TestWrongAnswers: a rate of wrong answers is an error.
func TestWrongAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		workload string
		want     error
	}{
		"a hit that misses":     {"get-hit", engine.ErrNotFound},
		"a batch that misses":   {"getmany-16", errMany},
		"a value of other size": {"get-zipf", errLength},
		"a miss that hits":      {"get-miss", errFound},
	} {
		t.Run(name, func(t *testing.T) {
			target := open(t, "gomap", 1)
			if c.want == errLength {
				require.NoError(t, target.Store.Put(AppendKey(nil, 0), []byte("short")))
			}
			if c.want == errFound {
				require.NoError(t, target.Store.Put(AppendKey(nil, 1<<40), []byte("there")))
			}
			w, err := ByName(c.workload)
			require.NoError(t, err)
			_, err = Run(w, target, time.Millisecond, 1)
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestVerifyAndScanFindLoss(t *testing.T) {
	target := open(t, "gomap", 100)
	_, err := Load(target, 1)
	require.NoError(t, err)
	require.NoError(t, target.Store.Put(AppendKey(nil, 5), target.Values.At(5, 9)))
	require.ErrorContains(t, Verify(target, 5000), "wrong value")
	require.NoError(t, target.Store.Delete(AppendKey(nil, 5)))
	require.ErrorIs(t, Verify(target, 5000), engine.ErrNotFound)
	_, err = Scan(target)
	require.ErrorContains(t, err, "99 of 100")
}

// TestDeleteEnds: the workload ends when what was added is gone.
func TestDeleteEnds(t *testing.T) {
	target := open(t, "gomap", 10)
	fresh, err := ByName("put-new")
	require.NoError(t, err)
	s, err := Run(fresh, target, time.Millisecond, 1)
	require.NoError(t, err)
	added := target.next.Load() - 10 // some of them before the part that counts
	require.GreaterOrEqual(t, added, s.Ops+uint64(s.Latency.TotalCount()))
	remove, err := ByName("delete")
	require.NoError(t, err)
	gone, err := Run(remove, target, time.Hour, 1)
	require.NoError(t, err)
	require.Equal(t, added, gone.Ops)
}

func TestLatest(t *testing.T) {
	target := open(t, "gomap", 100)
	target.next.Store(130)
	target.low.Store(120) // 100 to 119 are deleted
	d := latest(target, rand.New(rand.NewPCG(1, 1)))
	var drawn []uint64
	for range 10_000 {
		drawn = append(drawn, d())
	}
	slices.Sort(drawn)
	require.EqualValues(t, 129, drawn[len(drawn)-1])
	for _, i := range drawn {
		require.True(t, i < 100 || i >= 120, i)
	}
}
