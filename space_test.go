package mapfile

import (
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
	begin, least := time.Now(), most.Allocated/4
	if *spaceKeys == 0 {
		least = most.Allocated / 2 // the spare units and the index are much of a small map
	}
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
	t.Logf("%v until %d MiB are less than a quarter of %d: %s", time.Since(begin).Round(time.Millisecond), s.allocated()>>20, most.Allocated>>20, split(s.db.Stats()))
}
