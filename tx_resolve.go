package mapfile

import (
	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/tail"
)

// resolve looks up where an entry's key stood before the transaction.
func (tx *Tx) resolve(o *op) error {
	if o.base != unknown {
		return nil
	}
	return tx.guarded(func(snapshot) error {
		o.hash = xxhash.Sum64(o.key)
		previous, found, err := tx.db.s.Index.Lookup(o.hash, o.key)
		if err == nil {
			o.resolved(&tx.db.s.Matched, previous, found)
		}
		return err
	})
}

// resolved notes what a look-up found: a slot that leads to a position, and the record there.
func (o *op) resolved(r *tail.Record, previous uint64, found bool) {
	o.previous, o.found, o.base = previous, found, isAbsent
	if found {
		o.oldSize = int64(r.Size())
		if r.Kind != tail.KindDelete {
			o.base = isThere
		}
	}
}

// resolveAll looks up all keys of the set, before anything is appended: damage that stands in the way is found while
// nothing has changed, and which deletions count is known. Where there is more than one key they are looked up in groups and steps, as in GetMany.
func (tx *Tx) resolveAll() error {
	ops := tx.set.ops
	switch len(ops) {
	case 0:
		return nil
	case 1:
		return tx.resolve(&ops[0])
	}
	var ring [3]resolving
	groups := (len(ops) + groupKeys - 1) / groupKeys
	for g := range groups + 2 {
		err := tx.guarded(func(snapshot) error {
			if from := g * groupKeys; g < groups {
				if err := ring[g%3].find(tx, from, min(from+groupKeys, len(ops))); err != nil {
					return err
				}
			}
			if g := g - 1; g >= 0 && g < groups {
				ring[g%3].probe(tx)
			}
			if g := g - 2; g >= 0 {
				return ring[g%3].resolve(tx)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// resolving is a group of look-ups on their way. The turn is held.
type resolving struct {
	ops    [groupKeys]*op
	staged [groupKeys]index.Staged
	n      int
	lines  []uint64
}

// find goes to the buckets of those of a transaction's writes that are the newest of their keys.
func (r *resolving) find(tx *Tx, from, to int) error {
	x := tx.db.s.Index
	r.n, r.lines = 0, r.lines[:0]
	for i := from; i < to; i++ {
		o := &tx.set.ops[i]
		if !tx.set.isNewest(i) || o.base != unknown {
			continue
		}
		o.hash = xxhash.Sum64(o.key)
		st := &r.staged[r.n]
		if err := x.Stage(st, o.hash, o.key); err != nil {
			return err
		}
		r.ops[r.n] = o
		r.lines = x.AppendStaged(r.lines, st)
		r.n++
	}
	tx.db.s.P.View().PrefetchWritable(r.lines, 1)
	return nil
}

// probe goes to the first slots that may be the keys'.
func (r *resolving) probe(tx *Tx) {
	r.lines = r.lines[:0]
	for i := range r.n {
		if p, ok := tx.db.s.Index.First(&r.staged[i]); ok {
			r.lines = append(r.lines, p)
		}
	}
	tx.db.s.P.View().Prefetch(r.lines, recordLines)
}

// resolve finishes the look-ups.
func (r *resolving) resolve(tx *Tx) error {
	for i := range r.n {
		o := r.ops[i]
		previous, found, err := tx.db.s.Index.LookupStaged(&r.staged[i], o.key)
		if err != nil {
			return err
		}
		o.resolved(&tx.db.s.Matched, previous, found)
	}
	return nil
}
