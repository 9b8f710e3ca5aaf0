package mapfile

// A tombstone counts as alive until no older record of its key can come back: until every segment that began before it has been zeroed, durably. So the
// log is compacted from its begin on, which moves the tombstones, checkpoints make what was compacted go for good, and then all of them can be
// dropped, wherever they lie.
const (
	tombstoneShare = 10 // of what is alive, a tenth: with more tombstones than that it is worth it
	goneAfter      = 3  // checkpoints until a segment that was retired is zeroed, durably
)

// burial is a moment: who has pinned its generation, or a later one, sees all commits up to its sequence.
type burial struct{ sequence, generation uint64 }

// burialNow is the present.
func (db *DB) burialNow() burial {
	db.turn.Lock()
	defer db.turn.Unlock()
	b := burial{sequence: db.s.Published.Load()}
	b.generation = db.s.Generation.Add(1)
	return b
}

// buried reports whether there are so many tombstones that dropping them is worth it.
func (w usage) buried(least uint64) bool {
	return w.tombstones > least && w.tombstones > w.live/tombstoneShare
}

// bury drops the tombstones that there are now, unless a reader is older than that.
func (u *upkeep) bury(least uint64) error {
	db, now := u.db, u.db.burialNow()
	for range 2 {
		if db.pins.oldest() < now.generation || !u.pacer.usage.buried(least) {
			return nil
		}
		db.turn.Lock()
		db.burial = now
		began := db.s.Tail.Sequence
		db.turn.Unlock()
		if err := u.compactAll(began); err != nil || !u.goesOn() {
			return err
		}
		for range goneAfter {
			if err := u.makeCheckpoint(); err != nil {
				return err
			}
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
