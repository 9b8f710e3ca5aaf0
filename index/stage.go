package index

import "github.com/mapfile-db/mapfile/pager"

// Staged is a key on its way through a group of look-ups for changes: Stage comes to the buckets of all of them, First to their slots, and
// LookupStaged does what Lookup does. Who asks for cache lines in between, of the buckets (AppendStaged) and of the records that the slots lead to, lets the misses
// of a group overlap. All of it belongs to the holder of the turn.
type Staged struct {
	hash, inUse uint64
	bucket      pager.PageNo
	retired     uint64 // what Index.retired was
	slot, count int    // where First found an empty slot, behind no other with the tag, and how many the bucket had in use then; 0, 0 else
}

// Stage descends to the bucket of a key, with the first hash of which it must be called.
func (x *Index) Stage(st *Staged, hash uint64, key []byte) error {
	bucket, inUse, err := x.Find(x.Root, hash, key, true)
	*st = Staged{hash: hash, inUse: inUse, bucket: pager.PageNo(bucket / pager.PageSize), retired: x.retired}
	return err
}

// AppendStaged is AppendLines for a staged key.
func (x *Index) AppendStaged(lines []uint64, st *Staged) []uint64 {
	return x.AppendLines(lines, uint64(st.bucket)*pager.PageSize, st.inUse)
}

// First is the position in the first slot with the key's tag; ok is false if there is none: the key is new.
func (x *Index) First(st *Staged) (position uint64, ok bool) {
	b, tag, slot := x.bytes(st.bucket), tagOf(st.inUse), int(home(st.inUse, x.lines))*lineSlots
	for range x.slots {
		w := slotWord(b, slot)
		if w == wordEmpty {
			st.slot, st.count = slot, pageCount(b)
			return 0, false
		}
		if w>>positionBits == tag && w != wordDead {
			return w & positionMask << 3, true
		}
		if slot++; slot == x.slots {
			slot = 0
		}
	}
	return 0, false
}

// LookupStaged is Lookup of a key that was staged. While no page was retired since, its bucket is still the one, and while that
// has as many slots in use, the key is as new as it was. The way there is gone again only where the change will need it, for a copy or a split.
func (x *Index) LookupStaged(st *Staged, key []byte) (position uint64, found bool, err error) {
	c, b := &x.cur, x.bytes(st.bucket)
	if st.retired != x.retired || pageEpoch(b) != x.Epoch || pageCount(b) >= x.maxFill {
		return x.Lookup(st.hash, key)
	}
	c.first, c.key, c.hash, c.bucket, c.n = st.hash, key, st.inUse, st.bucket, 0
	if st.count > 0 && st.count == pageCount(b) {
		c.slot, c.found, c.count = st.slot, false, st.count
		return 0, false, nil
	}
	return x.search(func(position uint64, _ int) (bool, error) { return x.Matches(position, key) })
}
