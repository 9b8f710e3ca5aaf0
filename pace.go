package mapfile

import (
	"math"
	"time"

	"github.com/mapfile-db/mapfile/tail"
)

// pacer keeps compaction at its rate, and writers behind it.
type pacer struct {
	u      *upkeep
	soft   float64
	excess float64 // how far above soft the share of garbage is: 1 is where writers wait
	usage  usage   // at the last look
	done   uint64  // bytes that compaction looked at since
	looked time.Time
	every  time.Duration // between two looks: a file of many segments takes long to look at
	next   time.Time     // when the rate allows the next step
	err    error
}

const (
	waitBelow  = 0.03 // below the share that is kept writers wait: they go on during a checkpoint
	beginBelow = 0.05 // below that compaction begins
	stopAt     = 0.75 // of the share where it begins: compaction ends
	// Behind the share where they wait writers may append a third of what compaction looks at, of which half or more is garbage then: they never stop.
	writersShare = 3
	paceEvery    = 10 * time.Millisecond
	paceSeldom   = 100 * time.Millisecond // garbage grows by megabytes meanwhile
	paceShare    = 100                    // times as long as looking holds the turn it does not look again, if that is not more than paceSeldom
	paceSleep    = 2 * time.Millisecond   // a shorter sleep takes longer than it should
	quickly      = 8                      // times the rate in addition, where writers begin to wait
	brakeStep    = 100 * time.Microsecond
	brakeMost    = 100 * time.Millisecond
)

func (p *pacer) begin(u *upkeep, soft float64) {
	*p = pacer{u: u, soft: soft, next: p.next}
	p.judge()
}

// over reports whether there is still too much garbage.
func (p *pacer) over() bool { return p.excess*beginBelow > (stopAt-1)*p.soft }

// judge looks how much garbage there is, and says how far writers may go.
func (p *pacer) judge() {
	db := p.u.db
	p.looked = time.Now()
	if p.err = p.u.reclaim(); p.err != nil {
		return
	}
	db.turn.Lock()
	begin := time.Now()
	w, end := db.usage(), db.s.Tail.LSN
	due := end-db.s.LastSeal() > db.checkpointBound()
	defer func() { p.done = 0 }()
	p.usage, p.every = w, min(max(paceEvery, paceShare*time.Since(begin)), paceSeldom)
	db.turn.Unlock()
	hard := p.soft + beginBelow
	p.excess = (w.share() - p.soft) / beginBelow
	room := (hard*float64(w.held()) - float64(w.garbage+w.pending)) / (1 - hard)
	if due || p.excess > 0 && w.pending > w.held()/pendingLoad {
		db.allowed.Store(end + uint64(max(room, float64(db.checkpointBound()/8))))
		p.err = p.u.makeCheckpoint()
		return
	}
	if p.excess > 0 {
		db.allowed.Store(end + uint64(max(room/4, float64(p.done)/writersShare, tail.SegmentHeader)))
	} else {
		db.allowed.Store(math.MaxUint64)
	}
}

// pace sleeps as long as the rate asks for, and lets others have checkpointMu now and then.
func (p *pacer) pace(looked uint64) {
	p.u.db.counters.compacted.Add(looked)
	p.done += looked
	if time.Since(p.looked) > p.every {
		p.u.db.checkpointMu.Unlock()
		p.u.db.checkpointMu.Lock()
		p.judge()
	}
	if p.excess < 1 {
		p.rest(looked)
	}
}

// rest sleeps for so many bytes, without checkpointMu.
func (p *pacer) rest(bytes uint64) {
	buried := float64(p.usage.tombstones)*tombstoneShare/float64(max(p.usage.live, 1)) - 1 // 0 where they begin to be too many
	rate := float64(p.u.db.opts.Compaction.Rate) * (1 + quickly*min(max(p.excess, buried/quickly, 0), 1))
	now := time.Now()
	if p.next.Before(now.Add(-paceEvery)) {
		p.next = now.Add(-paceEvery)
	}
	p.next = p.next.Add(time.Duration(float64(bytes) / rate * float64(time.Second)))
	if ahead := p.next.Sub(now); ahead > paceSleep {
		p.u.db.checkpointMu.Unlock()
		defer p.u.db.checkpointMu.Lock()
		select {
		case <-time.After(ahead):
		case <-p.u.ctx.Done():
		}
	}
}

// lockUpkeep takes checkpointMu for a caller. Upkeep waits meanwhile, and cannot let commits go on that wait for it: none do.
func (db *DB) lockUpkeep() {
	db.checkpointMu.Lock()
	db.allowed.Store(math.MaxUint64)
}

// brake holds a commit up that ends behind where compaction lets writers go, without any lock: garbage must not outgrow it. It ends by itself, so
// that nobody depends on compaction.
func (db *DB) brake(end uint64) {
	begin := time.Now()
	for end > db.allowed.Load() && time.Since(begin) < brakeMost && db.ready() == nil {
		time.Sleep(brakeStep)
	}
	waited := time.Since(begin)
	db.work.keep(waited, func() *SlowestWrite { return &SlowestWrite{waited, waited, forPace} })
}
