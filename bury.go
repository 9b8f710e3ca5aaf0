package mapfile

import "github.com/mapfile-db/mapfile/tail"

// Tombstones go in the order of the log (tombstones.go): it is compacted from its begin on, and each segment drops those that lie in it.
const (
	tombstoneShare = 10 // of what is alive, a tenth: with more tombstones than that it is worth it
	goneAfter      = 4  // checkpoints until a segment that was retired is zeroed, durably: two until it is free, two behind that
)

// buried reports whether there are so many tombstones that dropping them is worth it.
func (w usage) buried(least uint64) bool {
	return w.tombstones > least && w.tombstones > w.live/tombstoneShare
}

// bury drops the tombstones that there are now, unless readers are older than too many of them.
func (u *upkeep) bury(least uint64) error {
	db := u.db
	for range 2 {
		db.beginTombstones(false)
		db.turn.Lock()
		enough, began := db.forgotten()*tombstoneBytes > least, db.s.Tail.Sequence
		db.turn.Unlock()
		if !enough || !u.pacer.usage.buried(least) {
			return nil
		}
		if err := u.compactAll(began); err != nil || !u.goesOn() {
			return err
		}
		if err := u.gone(); err != nil {
			return err
		}
		u.pacer.judge()
	}
	return u.pacer.err
}

// compactAll compacts the segments that began up to a sequence, in the order of the log.
func (u *upkeep) compactAll(began uint64) error {
	skip := map[uint64]bool{}
	for at := uint64(0); u.goesOn(); {
		g, ok := u.db.first(at, began)
		if !ok {
			break
		}
		if err := u.compactOne(&g, skip); err != nil {
			return err
		}
		at = g.FirstLSN
	}
	return u.pacer.err
}

// gone makes the checkpoints until what was retired is gone, durably, as far as readers let it.
func (u *upkeep) gone() error {
	for range goneAfter {
		if u.db.s.OldestLeaving() == tail.MaxSequence {
			break
		}
		if err := u.makeCheckpoint(); err != nil {
			return err
		}
	}
	return nil
}
