package mapfile

import (
	"bytes"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/tail"
)

// groupKeys is how many look-ups GetMany brings forward together: so many that their cache misses overlap, and so few that there is something
// to do with the groups before and behind while they are under way.
const groupKeys = 32

// How many cache lines are asked for in advance: of a bucket, from the one on at which the probe begins, and of a record.
const (
	bucketLines = 2
	recordLines = 3
)

// GetMany calls fn once for each key, in order, with its index, and its value as GetFunc lends it or an
// error: ErrNotFound for a missing key, ErrCorrupt for a damaged one. It sees one moment. An error that fn
// returns stops it and comes back unchanged. The keys, and their bytes, must stay as they are until it returns: they are looked up ahead of the calls.
func (db *DB) GetMany(keys [][]byte, fn func(i int, value []byte, err error) error) error {
	if lent := fn; db.opts.Debug.Poison {
		fn = func(i int, value []byte, err error) error {
			return db.lendTo(value, func(value []byte) error { return lent(i, value, err) })
		}
	}
	return db.pinned(func(at snapshot) error { return at.getMany(keys, fn) })
}

// getMany looks keys up in groups, each in three steps: to the buckets, to the slots, to the records. Each step ends with asking for the cache
// lines that the next one needs, and while these come, other groups do theirs: when a group is delivered, the next has been probed, and the one behind
// that found (after Chen, Ailamaki, Gibbons, Mowry: Improving hash join performance through prefetching, 2007).
func (at *snapshot) getMany(keys [][]byte, fn func(i int, value []byte, err error) error) error {
	var ring [3]lookups
	groups := (len(keys) + groupKeys - 1) / groupKeys
	part := func(g int) [][]byte { return keys[g*groupKeys : min((g+1)*groupKeys, len(keys))] }
	for g := range groups + 2 {
		if g < groups {
			ring[g%3].find(at, part(g))
		}
		if g := g - 1; g >= 0 && g < groups {
			ring[g%3].probe(at, len(part(g)))
		}
		if g := g - 2; g >= 0 {
			if err := ring[g%3].deliver(at, part(g), g*groupKeys, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookups is a group of look-ups on their way.
type lookups struct {
	bucket, hash [groupKeys]uint64
	home         [groupKeys]uint64 // byte offset of the bucket's line at which the probe begins, 0 where the key was not found
	first        [groupKeys]uint64 // position in the first slot with the tag, 0 where there is none
	failed       [groupKeys]error
}

// find goes to the buckets.
func (l *lookups) find(at *snapshot, keys [][]byte) {
	x := at.s.Index
	for i, key := range keys {
		l.home[i] = 0
		if len(key) > MaxKeySize {
			l.failed[i] = errs.ErrNotFound
			continue
		}
		if l.bucket[i], l.hash[i], l.failed[i] = x.Find(at.root, xxhash.Sum64(key), key, at.mend); l.failed[i] == nil {
			l.home[i] = x.HomeLine(l.bucket[i], l.hash[i])
		}
	}
	at.s.P.View().Prefetch(l.home[:len(keys)], bucketLines)
}

// probe goes to the first slots that may be the keys'.
func (l *lookups) probe(at *snapshot, n int) {
	x := at.s.Index
	for i := range n {
		l.first[i] = 0
		if l.failed[i] != nil {
			continue
		}
		if l.first[i], _ = x.Next(l.bucket[i], l.hash[i], 0); l.first[i] == 0 {
			l.failed[i] = errs.ErrNotFound
		}
		sabotage.Yield(sabotage.ReaderHasSlot)
	}
	if sabotage.Is(sabotage.SlotBeforeSequence) {
		at.sequence = at.s.Published.Load()
	}
	at.s.P.View().Prefetch(l.first[:n], recordLines)
}

// deliver finishes the look-ups and calls fn. from is the index of the first.
func (l *lookups) deliver(at *snapshot, keys [][]byte, from int, fn func(i int, value []byte, err error) error) error {
	for i, key := range keys {
		var r tail.Record
		err := l.failed[i]
		if err == nil {
			err = at.recordOf(&r, key, l.first[i], l.bucket[i], l.hash[i])
		}
		if err != nil {
			err = fn(from+i, nil, err)
		} else {
			err = fn(from+i, r.Value[:len(r.Value):len(r.Value)], nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// recordOf reads the record of a key whose first slot with the tag leads to position.
func (at *snapshot) recordOf(r *tail.Record, key []byte, position, bucket, hash uint64) error {
	err := at.s.Record(position, r, at.mend)
	if err == nil && bytes.Equal(r.Key, key) {
		err = at.visible(r)
	} else { // another key with the same tag
		err = at.probe(bucket, hash, key, r)
	}
	if err == nil {
		err = at.whole(r)
	}
	return err
}
