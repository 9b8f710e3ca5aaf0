package mapfile

import (
	"iter"

	"github.com/mapfile-db/mapfile/tail"
)

// All is every key and its value as the transaction sees it when the loop begins, each once, in no order that means
// anything: the file is read from its begin to its end. Key and value lie in a buffer of the iterator's own: they are
// valid until the loop moves on. Writing in the loop is allowed and not shown by it. An error ends the loop; Err tells it.
func (tx *Tx) All() iter.Seq2[[]byte, []byte] { return tx.whole(true, true) }

// Keys is All without the values, which are not read.
func (tx *Tx) Keys() iter.Seq[[]byte] {
	return func(yield func(key []byte) bool) {
		tx.whole(true, false)(func(key, _ []byte) bool { return yield(key) })
	}
}

// Values is All without the keys.
func (tx *Tx) Values() iter.Seq[[]byte] {
	return func(yield func(value []byte) bool) {
		tx.whole(false, true)(func(_, value []byte) bool { return yield(value) })
	}
}

// Err is the first error that ended a loop over the transaction early, nil if there was none.
func (tx *Tx) Err() error { return tx.iterErr.get() }

func (tx *Tx) whole(keys, values bool) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		w := walker{tx: tx, writes: tx.set.n, keys: keys, values: values}
		if w.walk(&logOrder{}, yield) {
			w.yieldWrites(yield)
		}
	}
}

// fillBytes is about how much one step of an iteration copies out of the mapping.
const fillBytes = 64 << 10

// source is an order in which the entries of a transaction are visited.
type source interface {
	// fill takes some of the next entries, under the fault guard; more is false when there are no others.
	fill(at *snapshot, w *walker) (more bool, err error)
}

// walker is one loop over entries.
type walker struct {
	tx           *Tx
	writes       int // the part of the write set that the loop shows
	keys, values bool
	buf          []byte
	entries      []entry
}

// entry is a key and value in the walker's buffer, or a key that was deleted.
type entry struct {
	at, key, value int
	deleted        bool
}

// walk shows what a source gives. It answers false if the loop ended early.
func (w *walker) walk(from source, yield func(key, value []byte) bool) bool {
	tx := w.tx
	for more := true; more; {
		err := tx.usable()
		if err == nil {
			w.buf, w.entries = w.buf[:0], w.entries[:0]
			err = tx.guarded(func(at snapshot) error {
				var err error
				more, err = from.fill(&at, w)
				return err
			})
		}
		if err != nil {
			tx.iterErr.set(err)
			return false
		}
		for _, e := range w.entries {
			if !w.yield(e, yield) {
				return false
			}
			if err := tx.usable(); err != nil {
				tx.iterErr.set(err)
				return false
			}
		}
	}
	return true
}

// full reports whether a fill has copied enough.
func (w *walker) full() bool { return len(w.buf) >= fillBytes }

// own reports whether the transaction itself has written a key before the loop began.
func (w *walker) own(key []byte) bool { return w.writes > 0 && w.tx.set.asOf(key, w.writes) != nil }

// take copies the entry of a record.
func (w *walker) take(at *snapshot, r *tail.Record) error {
	e := entry{at: len(w.buf), deleted: r.Kind == tail.KindDelete}
	if w.keys {
		w.buf = append(w.buf, r.Key...)
		e.key = len(r.Key)
	}
	if w.values {
		w.buf = append(w.buf, r.Value...)
		e.value = len(r.Value)
		if !r.ValueHolds(w.buf[e.at+e.key:]) {
			if err := at.whole(r); err != nil {
				return err
			}
			w.buf = append(w.buf[:e.at+e.key], r.Value...)
		}
	}
	w.entries = append(w.entries, e)
	return nil
}

// takeOwn copies the transaction's own write.
func (w *walker) takeOwn(o *op) {
	e := entry{at: len(w.buf), key: len(o.key), value: len(o.value)}
	w.buf = append(append(w.buf, o.key...), o.value...)
	w.entries = append(w.entries, e)
}

func (w *walker) yield(e entry, yield func(key, value []byte) bool) bool {
	end := e.at + e.key
	key, value := w.buf[e.at:end:end], w.buf[end:end+e.value:end+e.value]
	if db := w.tx.db; db.opts.Debug.Poison {
		return w.yieldLent(db, key, value, yield)
	}
	return yield(key, value)
}

// yieldLent shows copies whose memory is taken away when the loop moves on.
func (w *walker) yieldLent(db *DB, key, value []byte, yield func(key, value []byte) bool) (more bool) {
	err := db.lendTo(key, func(key []byte) error {
		return db.lendTo(value, func(value []byte) error {
			more = yield(key, value)
			return nil
		})
	})
	if err != nil {
		w.tx.iterErr.set(err)
	}
	return more && err == nil
}

// yieldWrites shows the transaction's own writes.
func (w *walker) yieldWrites(yield func(key, value []byte) bool) {
	set := &w.tx.set
	for i := range w.writes {
		o := set.ops[i]
		if o.deleted || set.asOf(o.key, w.writes) != &set.ops[i] {
			continue
		}
		w.buf, w.entries = w.buf[:0], w.entries[:0]
		w.takeOwn(&o)
		if !w.yield(w.entries[0], yield) {
			return
		}
		if err := w.tx.usable(); err != nil {
			w.tx.iterErr.set(err)
			return
		}
	}
}
