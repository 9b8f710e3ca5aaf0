package mapfile

import (
	"runtime"
	"sync/atomic"
	"time"
)

// company lets the leader of a group commit wait a little for those who will soon want the same sync: whoever committed with the last one, and
// those who came while it ran and have waited since. Without it writers that do nothing but commit fall into two halves, each of which
// comes too late for the sync of the other. One writer alone expects nobody.
type company struct {
	expected int64         // demands that the last sync met, and that it found waiting when it ended
	took     time.Duration // the last sync
	missed   int           // waits in a row that were in vain
	rests    int           // so many syncs begin without waiting
}

const (
	companyShare = 2 // of the time of a sync: the longest wait
	companyMost  = 500 * time.Microsecond
	companyLate  = 2 * companyMost // a wait that ends so late gave way to goroutines that compute: it costs far more than a sync
	missedMost   = 63              // syncs without a wait behind one that was in vain, once there were many such
	lateMost     = 1023            // the same behind one that ended late
)

// await waits until as many demands wait as are expected.
func (c *company) await(waiting *atomic.Int64) {
	if c.rests > 0 {
		c.rests--
		return
	}
	before := waiting.Load()
	if before >= c.expected {
		return
	}
	begin, waited, longest := time.Now(), time.Duration(0), min(c.took/companyShare, companyMost)
	for waiting.Load() < c.expected && waited < longest {
		runtime.Gosched() // a sleep would take longer than most of them
		waited = time.Since(begin)
	}
	c.learn(waiting.Load()-before, c.expected-before, waited)
}

// learn judges a wait by how many came of those that were missing, with fewer than half it was in vain, and by how long it took.
func (c *company) learn(came, missing int64, waited time.Duration) {
	switch {
	case waited > companyLate:
		c.missed = min(8*c.missed+7, lateMost)
	case 2*came < missing:
		c.missed = min(2*c.missed+1, missedMost)
	default:
		c.missed = 0
	}
	c.rests = c.missed
}
