package mapfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/tail"
)

// The operations of this file read a key and change it in one step, without an explicit transaction: no other writer
// comes between. Each is a commit of its own, durable as Options.Sync says when it returns; one that changes nothing
// waits until what it saw is. Values that they return are copies.
//
// Their errors, beside those that each names: ErrReadOnly, ErrCorrupt when the value that was there is damaged,
// ErrFull (nothing changed), ErrFailed, ErrClosed.

// GetOrPut returns key's value if it is there, and else sets it to value. loaded is true if it was there; actual is a copy of
// what the key has afterwards, and value itself if that was set. Errors: ErrKeyTooLarge, ErrValueTooLarge.
func (db *DB) GetOrPut(key, value []byte) (actual []byte, loaded bool, err error) {
	err = db.change(key, func(old []byte, ok bool) (verdict, error) {
		if loaded = ok; ok {
			actual = append([]byte{}, old...)
			return leave, nil
		}
		actual = value
		return put(value), nil
	})
	if err != nil {
		return nil, false, err
	}
	return actual, loaded, nil
}

// GetAndDelete removes key and returns the value that it had. A missing key is nil, false and writes nothing.
func (db *DB) GetAndDelete(key []byte) (value []byte, loaded bool, err error) {
	if len(key) > MaxKeySize {
		return nil, false, db.writable()
	}
	err = db.change(key, func(old []byte, ok bool) (verdict, error) {
		if value, loaded = nil, ok; ok { // it may be the second call
			value = append([]byte{}, old...)
		}
		return remove, nil
	})
	if err != nil {
		return nil, false, err
	}
	return value, loaded, nil
}

// Swap sets key to value and returns the value that it had before; loaded is false and previous nil if it had none.
// Errors: ErrKeyTooLarge, ErrValueTooLarge.
func (db *DB) Swap(key, value []byte) (previous []byte, loaded bool, err error) {
	err = db.change(key, func(old []byte, ok bool) (verdict, error) {
		if previous, loaded = nil, ok; ok { // it may be the second call
			previous = append([]byte{}, old...)
		}
		return put(value), nil
	})
	if err != nil {
		return nil, false, err
	}
	return previous, loaded, nil
}

// CompareAndSwap sets key to new if its value is old, byte for byte, and reports whether it did. A missing key
// never matches, not even an empty old. Error: ErrValueTooLarge.
func (db *DB) CompareAndSwap(key, old, new []byte) (swapped bool, err error) {
	if len(key) > MaxKeySize {
		return false, db.writable()
	}
	err = db.change(key, func(was []byte, ok bool) (verdict, error) {
		if swapped = ok && bytes.Equal(was, old); swapped {
			return put(new), nil
		}
		return leave, nil
	})
	return swapped && err == nil, err
}

// CompareAndDelete removes key if its value is old, byte for byte, and reports whether it did. A missing key never
// matches, not even an empty old.
func (db *DB) CompareAndDelete(key, old []byte) (deleted bool, err error) {
	if len(key) > MaxKeySize {
		return false, db.writable()
	}
	err = db.change(key, func(was []byte, ok bool) (verdict, error) {
		if deleted = ok && bytes.Equal(was, old); deleted {
			return remove, nil
		}
		return leave, nil
	})
	return deleted && err == nil, err
}

// Modify calls fn with key's value, ok false if it has none, and sets key to what fn returns, or removes it if keep is
// false. fn's error changes nothing and comes back unchanged; a panic changes nothing and goes on.
//
// old is borrowed: read-only (a store to it faults and is the call's error), and valid until fn returns; new may be a part of it. fn holds the writer's
// turn: a write of the DB in it would wait for itself, as in Update. It is called again if room had to be made for what
// it returned. Errors: ErrKeyTooLarge, ErrValueTooLarge.
func (db *DB) Modify(key []byte, fn func(old []byte, ok bool) (new []byte, keep bool, err error)) error {
	return db.change(key, func(old []byte, ok bool) (verdict, error) {
		defer db.holds(true)()
		var v verdict
		err := db.lendTo(old, func(old []byte) error {
			new, keep, err := fn(old, ok)
			if v = remove; keep {
				v = put(new)
				if db.opts.Debug.Poison {
					v = put(bytes.Clone(new)) // it may be a part of what is taken away now
				}
			}
			return err
		})
		return v, err
	})
}

// Add adds delta to the counter at key and returns the sum. A counter is a value of exactly 8 bytes, a little-endian two's
// complement number; a missing key counts as 0. Errors, which change nothing: ErrNotCounter for a value of another length,
// ErrOverflow for a sum outside of int64, ErrKeyTooLarge.
func (db *DB) Add(key []byte, delta int64) (sum int64, err error) {
	err = db.change(key, func(old []byte, ok bool) (verdict, error) {
		was := int64(0)
		if ok && len(old) != 8 {
			return leave, errs.At(db.s.P.Path(), "add", errs.Join(errs.ErrNotCounter, fmt.Errorf("the value has %d bytes, not 8", len(old))))
		}
		if ok {
			was = int64(binary.LittleEndian.Uint64(old))
		}
		if sum = was + delta; (sum > was) != (delta > 0) && delta != 0 {
			return leave, errs.At(db.s.P.Path(), "add", errs.Join(errs.ErrOverflow, fmt.Errorf("%d and %d", was, delta)))
		}
		// The turn is held, and with it this array.
		binary.LittleEndian.PutUint64(db.counter[:], uint64(sum))
		return put(db.counter[:]), nil
	})
	if err != nil {
		return 0, err
	}
	return sum, nil
}

// verdict is what becomes of a key.
type verdict struct {
	kind  tail.Kind // 0: nothing
	value []byte
}

var (
	leave  = verdict{}
	remove = verdict{kind: tail.KindDelete}
)

func put(value []byte) verdict { return verdict{tail.KindPut, value} }

// decision looks at the value that a key has and says what becomes of it. It runs under the turn, before a byte is stored.
type decision func(old []byte, ok bool) (verdict, error)

// change is a commit of what decide says of key, or none, settled.
func (db *DB) change(key []byte, decide decision) error {
	if err := checkSizes(key, nil); err != nil {
		return errs.At(db.s.P.Path(), "", err)
	}
	if err := db.writable(); err != nil {
		return err
	}
	hash := xxhash.Sum64(key)
	attempts := db.attempts.Load()
	at, size, err := db.changeOne(hash, key, decide)
	if errors.Is(err, errs.ErrFull) && size > 0 && db.makeSpace(size, attempts) {
		at, _, err = db.changeOne(hash, key, decide)
	}
	if err != nil {
		return err
	}
	return db.settle(at, db.opts.Sync == SyncAlways)
}

// changeOne is the part of change under the turn. size is that of the record for which there was no room.
func (db *DB) changeOne(hash uint64, key []byte, decide decision) (at place, size uint64, err error) {
	db.takeTurnFor(hash, key, &watched{})
	defer db.turn.Unlock()
	decided := false
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			if decided {
				err = db.writeFault(r, true)
			} else if err = db.damage(db.s.P.Fault(r)); errors.Is(err, errs.ErrReplaced) { // a panic of the caller's own goes on
				err = db.dur.fail(err)
			}
		}
	}()
	if err := db.ready(); err != nil {
		return at, 0, err
	}
	v, was, err := db.decide(hash, key, decide)
	if err != nil || v.kind == 0 {
		return db.latest(), 0, err
	}
	decided = true
	at, err = db.append(v.kind, key, v.value, was)
	return at, tail.Size(len(key), uint64(len(v.value))), err
}

// decide looks a key up, leaving the index's cursor there, and asks what becomes of it.
func (db *DB) decide(hash uint64, key []byte, decide decision) (v verdict, was slotBefore, err error) {
	m := &db.s.Matched
	if was.previous, was.found, err = db.s.Index.Lookup(hash, key); err != nil {
		return v, was, err
	}
	var value []byte
	if was.found {
		was.size, was.alive = int64(m.Size()), m.Kind != tail.KindDelete
	}
	if was.alive {
		at := snapshot{s: db.s, mend: true}
		if err := at.whole(m); err != nil {
			return v, was, err
		}
		value = m.Value[:len(m.Value):len(m.Value)]
	}
	if v, err = decide(value, was.alive); err != nil {
		return v, was, err
	}
	if v.kind == tail.KindDelete && !was.alive {
		return leave, was, nil
	}
	if err := checkSizes(key, v.value); err != nil {
		return v, was, errs.At(db.s.P.Path(), "", err)
	}
	return v, was, nil
}
