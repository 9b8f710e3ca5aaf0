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
	missedMost   = 63 // syncs without a wait behind one that was in vain, once there were many such
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
	longest := min(c.took/companyShare, companyMost)
	for begin := time.Now(); time.Since(begin) < longest; runtime.Gosched() { // a sleep would take longer than most of them
		if waiting.Load() >= c.expected {
			c.missed = 0
			return
		}
	}
	if waiting.Load()-before >= (c.expected-before)/2 { // worth it
		c.missed = 0
		return
	}
	c.missed = min(2*c.missed+1, missedMost)
	c.rests = c.missed
}
