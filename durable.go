package mapfile

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/recovery"
)

// durability is the way from an appended commit to a durable and a published one.
//
// Publication is in the order of the log: published is the highest sequence such that no
// commit at or below it waits for a sync that it demanded, so an unsynced commit behind a
// synced one waits for it: else readers would see what power loss can take back.
type durability struct {
	s        *recovery.State
	fileSalt uint64
	life     atomic.Uint32

	// syncMu is held by who syncs the tail: one at a time. Above mu; never taken with the turn held.
	syncMu   sync.Mutex
	company  company       // protected by syncMu
	appended atomic.Uint64 // LSN behind the last commit appended
	synced   atomic.Uint64 // LSN below which all of the tail is known to be synced

	// waiting is the number of demands not yet met. While it is zero the holder of the turn publishes;
	// while it is not, who met a demand does, with mu held.
	waiting atomic.Int64
	mu      sync.Mutex // protects what follows; below the turn and syncMu
	changed sync.Cond  // published has advanced, or the map has failed
	demands []demand   // in the order of the log
	leading bool       // somebody syncs for all

	lastSeq  uint64 // of the last commit appended while a demand waited, and the keys after it
	lastKeys uint64

	// The published state: keys belongs to published. version is odd while they change.
	version atomic.Uint64
	keys    atomic.Uint64
}

// demand is a commit that must be synced before it is published.
type demand struct {
	sequence   uint64
	end        uint64 // LSN behind it
	keysBefore uint64 // live keys before it
}

func (d *durability) init(s *recovery.State) {
	d.s, d.fileSalt = s, s.Meta().FileSalt
	d.changed.L = &d.mu
	s.P.OnFail = d.wake
	d.appended.Store(s.Tail.LSN)
	d.synced.Store(s.Tail.LSN)
	d.publish(s.Tail.Sequence, s.Keys)
}

// publish lets readers see the commits up to sequence, after which there are so many keys.
func (d *durability) publish(sequence, keys uint64) {
	if d.keys.Load() == keys {
		d.s.Published.Store(sequence)
		return
	}
	d.version.Add(1)
	d.s.Published.Store(sequence)
	d.keys.Store(keys)
	d.version.Add(1)
}

// snapshot is a published sequence and the number of keys at it.
func (d *durability) snapshot() (sequence, keys uint64) {
	for {
		v := d.version.Load()
		sequence, keys = d.s.Published.Load(), d.keys.Load()
		if v&1 == 0 && d.version.Load() == v && d.s.Published.Load() == sequence {
			return sequence, keys
		}
	}
}

// commit says that the turn's holder has appended a commit and set its slots. Its waits
// are for await, without the turn.
func (d *durability) commit(sequence, end, keysBefore, keys uint64, demanded bool) {
	if demanded && sabotage.Is(sabotage.SyncOwnRecords) {
		d.synced.Store(d.appended.Load())
	}
	if (!demanded || sabotage.Is(sabotage.PublishBeforeSync)) && d.waiting.Load() == 0 {
		d.appended.Store(end)
		d.publish(sequence, keys)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.appended.Store(end)
	d.lastSeq, d.lastKeys = sequence, keys
	if demanded {
		d.demands = append(d.demands, demand{sequence, end, keysBefore})
		d.waiting.Store(int64(len(d.demands)))
	} else if len(d.demands) == 0 { // met meanwhile
		d.publish(sequence, keys)
		d.changed.Broadcast()
	}
}

// advance meets demands that are synced and publishes as far as it may. mu is held. Without
// demands it must not publish: the holder of the turn does.
func (d *durability) advance() {
	if len(d.demands) == 0 {
		return
	}
	synced := d.synced.Load()
	for len(d.demands) > 0 && d.demands[0].end <= synced {
		d.demands = d.demands[1:]
	}
	if len(d.demands) > 0 {
		d.publish(d.demands[0].sequence-1, d.demands[0].keysBefore)
	} else {
		d.publish(d.lastSeq, d.lastKeys)
	}
	d.waiting.Store(int64(len(d.demands)))
	d.changed.Broadcast()
}

// await waits until a commit is published.
func (d *durability) await(sequence uint64) error {
	if d.s.Published.Load() >= sequence {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.s.Published.Load() < sequence {
		if err := d.s.P.Failed(); err != nil {
			return err
		}
		d.changed.Wait()
	}
	return nil
}

// settle waits until a commit, or what it saw, is published, and syncs if it must for that.
func (d *durability) settle(at place) error {
	if d.s.Published.Load() < at.sequence {
		if err := d.sync(at.end); err != nil {
			return err
		}
	}
	return d.await(at.sequence)
}

// sync makes the log durable at least up to end. Who finds nobody syncing is the leader and syncs for all
// that have appended by then; the others wait for it.
func (d *durability) sync(end uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if err := d.s.P.Failed(); err != nil {
			return err
		}
		if d.synced.Load() >= end {
			return nil
		}
		if d.leading {
			d.changed.Wait()
			if sabotage.Is(sabotage.FollowerTrustsLeader) {
				return nil
			}
			continue
		}
		if err := d.lead(); err != nil {
			return err
		}
	}
}

// lead syncs without mu, which it takes again before it returns or panics.
func (d *durability) lead() error {
	d.leading = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.leading = false
		d.changed.Broadcast()
	}()
	d.syncMu.Lock()
	defer d.syncMu.Unlock()
	d.company.await(&d.waiting)
	return d.syncAll()
}

// syncAll makes the whole log durable. I5: everything from the last sync on, not only the caller's own
// records. syncMu is held. An error is final.
func (d *durability) syncAll() error {
	if err := d.s.P.Failed(); err != nil {
		return err
	}
	end := d.appended.Load()
	if sabotage.Is(sabotage.MarkBeforeSync) {
		_ = d.s.P.WriteMark(d.fileSalt, end, d.life.Load())
	}
	begin := time.Now()
	if err := d.syncSpans(end); err != nil {
		return d.fail(err)
	}
	d.company.took = time.Since(begin)
	// After the sync and before the acknowledgement: before it would be a race.
	if err := d.s.P.CheckPath(); err != nil {
		return d.fail(err)
	}
	d.advanceTo(end)
	return nil
}

// syncSpans syncs the log from the last sync on, span by span.
func (d *durability) syncSpans(end uint64) error {
	for i, span := range d.s.Tail.Spans(d.synced.Load(), end) {
		if sabotage.Is(sabotage.DropTailSync) || i > 0 && sabotage.Is(sabotage.SyncFirstSpan) {
			continue
		}
		err := d.s.P.SyncRange(span.From, span.To-span.From)
		if err != nil && sabotage.Is(sabotage.RetryTailSync) {
			err = d.s.P.SyncRange(span.From, span.To-span.From)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// advanceTo says that the log is synced up to end. syncMu is held.
func (d *durability) advanceTo(end uint64) {
	if end <= d.synced.Load() {
		return
	}
	d.synced.Store(end)
	// Evidence for recovery, into the cache only. Without it an older mark stands, which is true as well.
	_ = d.s.P.WriteMark(d.fileSalt, end, d.life.Load())
	d.mu.Lock()
	d.company.expected = int64(len(d.demands))
	d.advance()
	d.mu.Unlock()
}

// fail makes the map failed; who waits for a publication that will not come wakes up.
func (d *durability) fail(cause error) error { return d.s.P.Fail(cause) }

func (d *durability) wake() {
	d.mu.Lock()
	d.changed.Broadcast()
	d.mu.Unlock()
}
