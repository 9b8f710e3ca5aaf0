package mapfile

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// steadyShare is how much of keys and values a map that is overwritten again and again takes at most, in blocks on disk.
const steadyShare = 2.7

// TestSteadyState: a map that is overwritten again and again keeps its size, at every moment.
func TestSteadyState(t *testing.T) {
	s := newSpaceRun(t, 40_000, &Options{Sync: SyncNever})
	rounds := 10
	if *spaceRounds > 0 {
		rounds = *spaceRounds
	}
	stop, written, begin := watchSpace(s.db), writtenBytes(), time.Now()
	last := begin
	for round := range rounds {
		for range s.keys {
			s.put(s.r.Uint64N(s.keys))
		}
		st := s.db.Stats()
		t.Logf("round %d: %.0f puts/s, %d checkpoints: %s", round, float64(s.keys)/time.Since(last).Seconds(), st.Checkpoints, split(st))
		last = time.Now()
	}
	took, most := time.Since(begin), stop()
	require.NoError(t, s.db.Sync())
	require.Less(t, float64(most.Allocated), steadyShare*float64(s.data())+s.slack(), split(most))
	puts := float64(rounds) * float64(s.keys)
	t.Logf("%.0f puts/s; at most %.2f times the data (%s); %.2f bytes written for each put", puts/took.Seconds(), float64(most.Allocated)/float64(s.data()), split(most),
		float64(writtenBytes()-written)/(puts*(spaceKey+spaceValue)))
}

// TestGivesBack: of a map that loses most of its keys most of the space goes back to the file system, while it is open and in use.
func TestGivesBack(t *testing.T) {
	s := newSpaceRun(t, 200_000, &Options{Sync: SyncNever})
	stop := watchSpace(s.db)
	for i := range s.keys {
		if i%10 > 0 {
			key := spaceKeyOf(i)
			require.NoError(t, s.db.Delete(key[:]))
		}
	}
	most := stop()
	t.Logf("deleted: %s; at most: %s", split(s.db.Stats()), split(most))
	begin, least := time.Now(), most.Allocated/4+int64(s.slack()*3/4)
	for at := uint64(0); s.allocated() >= least; at += 10 { // a light load
		require.Less(t, time.Since(begin), time.Minute, "%s", split(s.db.Stats()))
		i := at % s.keys
		s.put(i)
		for range 10 {
			key := spaceKeyOf(s.r.Uint64N(s.keys/10) * 10)
			_, err := s.db.Get(key[:])
			require.NoError(t, err)
		}
		if at%50_000 == 0 {
			t.Logf("%v: %s, %d tombstones", time.Since(begin).Round(time.Millisecond), split(s.db.Stats()), s.db.Stats().Tombstones)
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("%v until %d MiB are less than %d, of %d: %s", time.Since(begin).Round(time.Millisecond), s.allocated()>>20, least>>20, most.Allocated>>20, split(s.db.Stats()))
}

// TestForeground measures what compaction costs beside it: windows with it and without it, by turns, in which one goroutine puts and another gets. Garbage
// is made between windows, so that there is always something to take back.
func TestForeground(t *testing.T) {
	s, windows, length := newSpaceRun(t, 100_000, &Options{Sync: SyncNever}), 2, 200*time.Millisecond
	more := s.keys // of a small map much has to change
	if *spaceWindows > 0 {
		windows, length, more = *spaceWindows, 2*time.Second, s.keys/10
	}
	var with, without [2][]float64 // rates of Put and Get
	for range s.keys / 2 {
		s.put(s.r.Uint64N(s.keys))
	}
	for range windows {
		s.db.clearing.Add(1) // keeps compaction away
		for range more {
			s.put(s.r.Uint64N(s.keys))
		}
		puts, gets := s.window(length)
		without[0], without[1] = append(without[0], puts), append(without[1], gets)
		s.db.clearing.Add(-1)
		time.Sleep(10 * time.Millisecond)
		before := s.db.counters.compacted.Load()
		puts, gets = s.window(length)
		require.Greater(t, s.db.counters.compacted.Load(), before, "compaction did not run")
		with[0], with[1] = append(with[0], puts), append(with[1], gets)
	}
	for i, name := range []string{"Put", "Get"} {
		ratios := make([]float64, len(with[i]))
		for k := range ratios {
			ratios[k] = with[i][k] / without[i][k]
		}
		slices.Sort(ratios)
		t.Logf("%s beside compaction / without: median %.2f, %.2f to %.2f of %d pairs", name, ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1], len(ratios))
	}
}

// window puts and gets for a while, and answers how often a second.
func (s *spaceRun) window(length time.Duration) (puts, gets float64) {
	var done atomic.Bool
	var group sync.WaitGroup
	count := func(n *float64, call func(r *rand.Rand)) {
		group.Go(func() {
			r, begin, calls := rand.New(rand.NewPCG(*spaceSeed, uint64(len(s.value)))), time.Now(), 0
			for ; !done.Load(); calls++ {
				call(r)
			}
			*n = float64(calls) / time.Since(begin).Seconds()
		})
	}
	count(&puts, func(*rand.Rand) { s.put(s.r.Uint64N(s.keys)) })
	count(&gets, func(r *rand.Rand) {
		key := spaceKeyOf(r.Uint64N(s.keys))
		_, err := s.db.Get(key[:])
		require.NoError(s.t, err)
	})
	time.Sleep(length)
	done.Store(true)
	group.Wait()
	return puts, gets
}
