package mapfile

import (
	"iter"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/tail"
)

// All is every key and its value as the transaction sees it when the loop begins, each once, in no
// order that means anything. Key and value lie in a buffer of the iterator's own: they are
// valid until the loop moves on. Writing in the loop is allowed and not shown by it. An error
// ends the loop; Err tells it.
func (tx *Tx) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		if err := tx.usable(); err != nil {
			tx.iterErr.set(err)
			return
		}
		w := walker{tx: tx, writes: tx.set.n}
		for more := true; more; {
			var err error
			if more, err = w.fill(); err != nil {
				tx.iterErr.set(err)
				return
			}
			for _, e := range w.entries {
				if !w.yield(e, yield) {
					return
				}
				if err := tx.usable(); err != nil {
					tx.iterErr.set(err)
					return
				}
			}
		}
		w.yieldWrites(yield)
	}
}

// Err is the first error that ended a loop over All early, nil if there was none.
func (tx *Tx) Err() error { return tx.iterErr.get() }

// fillBytes is about how much one step of an iteration copies out of the mapping.
const fillBytes = 64 << 10

// walker is one loop over All.
type walker struct {
	tx        *Tx
	writes    int // the part of the write set that the loop shows
	next      index.Path
	last      bool // next is behind the last bucket
	positions []uint64
	buf       []byte
	entries   []entry
	touched   uint64
}

// entry is a key and value in the walker's buffer.
type entry struct{ at, key, value int }

// fill copies some entries out of the mapping, under the guard: the loop's body runs outside of it,
// because an iterator cannot recover a panic of the body. more is false when all have been seen.
func (w *walker) fill() (more bool, err error) {
	w.buf, w.entries = w.buf[:0], w.entries[:0]
	if err := w.tx.usable(); err != nil {
		return false, err
	}
	err = w.tx.guarded(func(at snapshot) error {
		for len(w.buf) < fillBytes && (len(w.positions) > 0 || !w.last) {
			if len(w.positions) == 0 {
				if err := w.bucket(&at); err != nil {
					return err
				}
			}
			if err := w.some(&at); err != nil {
				return err
			}
		}
		return nil
	})
	return len(w.positions) > 0 || !w.last, err
}

// bucket takes the positions of the next bucket.
func (w *walker) bucket(at *snapshot) error {
	bucket, after, end, err := at.s.Index.BucketAt(at.root, w.next)
	if err != nil {
		return err
	}
	w.positions = at.s.Index.Positions(w.positions[:0], bucket)
	w.next, w.last = after, end
	return nil
}

// some copies a stage of records, touching all before reading the first.
func (w *walker) some(at *snapshot) error {
	n := min(stage, len(w.positions))
	limit, v := at.s.P.Pages()*pageSize, at.s.P.View()
	for _, p := range w.positions[:n] {
		if p < limit-8 {
			w.touched += v.Load64(p)
		}
	}
	for n > 0 && len(w.buf) < fillBytes {
		n--
		p := w.positions[0]
		w.positions = w.positions[1:]
		if err := w.one(at, p); err != nil {
			return err
		}
	}
	return nil
}

// one copies the entry behind a slot, if the transaction sees it there.
func (w *walker) one(at *snapshot, position uint64) error {
	var r tail.Record
	if err := at.s.Record(position, &r, at.mend); err != nil {
		return err
	}
	if err := at.visible(&r); err != nil {
		if err == errs.ErrNotFound {
			return nil
		}
		return err
	}
	if w.writes > 0 && w.tx.set.asOf(r.Key, w.writes) != nil {
		return nil // shown with the writes
	}
	e := entry{at: len(w.buf), key: len(r.Key), value: len(r.Value)}
	w.buf = append(append(w.buf, r.Key...), r.Value...)
	if !r.ValueHolds(w.buf[e.at+e.key:]) {
		if err := at.whole(&r); err != nil {
			return err
		}
		w.buf = append(w.buf[:e.at+e.key], r.Value...)
	}
	w.entries = append(w.entries, e)
	return nil
}

func (w *walker) yield(e entry, yield func(key, value []byte) bool) bool {
	end := e.at + e.key
	return yield(w.buf[e.at:end:end], w.buf[end:end+e.value:end+e.value])
}

// yieldWrites shows the transaction's own writes.
func (w *walker) yieldWrites(yield func(key, value []byte) bool) {
	set := &w.tx.set
	for i := range w.writes {
		o := set.ops[i]
		if o.deleted || set.asOf(o.key, w.writes) != &set.ops[i] {
			continue
		}
		w.buf = append(append(w.buf[:0], o.key...), o.value...)
		if !w.yield(entry{0, len(o.key), len(o.value)}, yield) {
			return
		}
		if err := w.tx.usable(); err != nil {
			w.tx.iterErr.set(err)
			return
		}
	}
}
