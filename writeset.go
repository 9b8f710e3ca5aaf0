package mapfile

import (
	"errors"
	"math"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// maxSet is the largest number of writes in one transaction.
const maxSet = math.MaxInt32 - 1

// txState says whether a transaction has ended.
type txState struct{ ended atomic.Bool }

func (s *txState) done() bool   { return s.ended.Load() }
func (s *txState) finish() bool { return s.ended.CompareAndSwap(false, true) }

// firstError keeps the first error that it is told.
type firstError struct {
	mu  sync.Mutex
	err error
}

func (e *firstError) set(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = err
	}
}

func (e *firstError) get() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// writeSet holds the writes of a transaction until its commit: a list in order, and
// per key its newest entry, from which the older ones can be reached (an iteration shows the
// set as it was when it began).
type writeSet struct {
	ops    []op
	newest map[string]int32
	n      int    // len(ops)
	bytes  uint64 // of the records, at most
}

// op is one write.
type op struct {
	key, value []byte
	before     int32 // the same key's entry before this one, -1 for none
	deleted    bool
	base       base

	// Known once base is.
	hash     uint64 // first hash of the key
	previous uint64 // where the key's slot leads
	oldSize  int64  // size of the record there
	found    bool   // there is a slot
}

// base says whether a key was there before the transaction.
type base uint8

const (
	unknown base = iota
	isThere
	isAbsent
)

// add notes a write.
func (w *writeSet) add(key, value []byte, deleted bool) {
	if w.newest == nil {
		w.newest = map[string]int32{}
	}
	both := make([]byte, len(key)+len(value))
	copy(both, key)
	copy(both[len(key):], value)
	before := int32(-1)
	var o op
	if i, ok := w.newest[string(key)]; ok {
		before, o = i, w.ops[i]
	}
	o.key, o.value, o.before, o.deleted = both[:len(key):len(key)], both[len(key):], before, deleted
	w.ops = append(w.ops, o)
	w.newest[string(key)] = int32(len(w.ops) - 1)
	w.n = len(w.ops)
	w.bytes += tail.Size(len(key), uint64(len(value)))
}

// lookup finds the newest write of a key, nil if there is none.
func (w *writeSet) lookup(key []byte) *op { return w.asOf(key, w.n) }

// asOf finds the newest of the first n writes that is key's.
func (w *writeSet) asOf(key []byte, n int) *op {
	i, ok := w.newest[string(key)]
	if !ok {
		return nil
	}
	for int(i) >= n {
		if i = w.ops[i].before; i < 0 {
			return nil
		}
	}
	return &w.ops[i]
}

// count is the number of records that a commit of the set appends.
func (w *writeSet) count() int {
	n := 0
	for i := range w.ops {
		if w.counts(i) {
			n++
		}
	}
	return n
}

// isNewest reports whether entry i is the newest of its key.
func (w *writeSet) isNewest(i int) bool { return w.newest[string(w.ops[i].key)] == int32(i) }

// counts reports whether a commit appends entry i: the newest of its key, and not the deletion of
// one that was not there. Deletions must have been resolved.
func (w *writeSet) counts(i int) bool {
	o := &w.ops[i]
	return (!o.deleted || o.base == isThere) && w.isNewest(i)
}

// appendSet appends the newest write of each key as one commit and sets the slots. The turn is
// held by the transaction.
func (db *DB) appendSet(w *writeSet, n int, demanded bool) (at place, err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = db.writeFault(r, true)
		}
	}()
	c := setCommit{db: db, set: w, left: n}
	var bytes, largest uint64
	urgency := recovery.Urgent
	for i := range w.ops {
		if w.counts(i) {
			size := tail.Size(len(w.ops[i].key), uint64(len(w.ops[i].value)))
			bytes, largest = bytes+size, max(largest, size)
			if !w.ops[i].deleted {
				urgency = recovery.Ordinary
			}
		}
	}
	if err := db.admit(n, bytes, largest, urgency); err != nil {
		return at, err
	}
	c.batch = db.newBatch(demanded)
	for i := range w.ops {
		if !w.counts(i) {
			continue
		}
		if err := c.append(&w.ops[i]); err != nil {
			return at, c.batch.abandon(err)
		}
		if len(c.group) == stage {
			if err := c.flush(); err != nil {
				return at, err
			}
		}
	}
	if err := c.flush(); err != nil {
		return at, err
	}
	c.batch.finish()
	return db.latest(), nil
}

// setCommit appends a write set.
type setCommit struct {
	db    *DB
	set   *writeSet
	batch *batch
	group []setRecord // appended, their slots not set: the bytes may not be in the file yet
	left  int         // records still to append
	first bool        // the first has been appended
}

// setRecord is a record between its append and its slot.
type setRecord struct {
	op     *op
	record tail.Record
}

// append appends the record of an entry.
func (c *setCommit) append(o *op) error {
	r := &c.batch.record
	*r = tail.Record{Kind: tail.KindPut, Key: o.key, Value: o.value, Previous: o.previous, Sequence: c.db.s.Tail.Sequence}
	if o.deleted {
		r.Kind = tail.KindDelete
	}
	if !c.first {
		r.Flags |= tail.FlagFirst
		c.first = true
	}
	if c.left--; c.left == 0 {
		r.Flags |= tail.FlagLast
	}
	if err := c.batch.append(o.base == isThere); err != nil {
		return err
	}
	c.group = append(c.group, setRecord{o, *r})
	return nil
}

// flush sets the slots of a group, when its bytes are in the file.
func (c *setCommit) flush() error {
	s := c.db.s
	if err := c.batch.flush(); err != nil {
		return c.db.dur.fail(err)
	}
	if sabotage.Is(sabotage.PublishBeforeSlots) && !c.batch.demanded {
		c.db.dur.publish(s.Tail.Sequence, s.Keys)
	}
	for i := range c.group {
		o := c.group[i].op
		found, err := s.Index.LookupPosition(o.hash, o.key, o.previous)
		if err == nil && found != o.found {
			err = errors.New("a slot changed under the writer's turn")
		}
		if err != nil {
			return c.db.dur.fail(err)
		}
		c.batch.record = c.group[i].record
		if err := c.batch.slot(c.batch.record.Position, o.found, o.base == isThere, o.oldSize); err != nil {
			return c.db.dur.fail(err)
		}
	}
	c.group = c.group[:0]
	return nil
}
