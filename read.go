package mapfile

import (
	"bytes"
	"cmp"
	"errors"
	"runtime/debug"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// optimisticTries is how often a read without a pin is tried before it pins.
const optimisticTries = 3

// pageSize is the size of a file page in bytes.
const pageSize = pager.PageSize

// stage is how many look-ups scans and compaction run side by side, so that their cache misses overlap.
const stage = 32

// everything is a sequence above all: a writer's transaction sees what is appended.
const everything = tail.MaxSequence

// Get returns a copy of key's value, empty but not nil for an empty value. A missing key is
// nil and ErrNotFound.
func (db *DB) Get(key []byte) ([]byte, error) {
	value, err := db.AppendGet(nil, key)
	if err == nil && value == nil {
		value = []byte{}
	}
	return value, err
}

// AppendGet appends key's value to dst and returns the result. Given room it allocates nothing.
// On an error, ErrNotFound included, it returns dst as it was.
func (db *DB) AppendGet(dst, key []byte) ([]byte, error) {
	if len(key) > MaxKeySize {
		return dst, cmp.Or(db.ready(), errs.ErrNotFound)
	}
	hash := xxhash.Sum64(key)
	for range optimisticTries {
		g := db.s.Generation.Load() // before ready: Close raises it behind closed
		if err := db.ready(); err != nil {
			return dst, err
		}
		sabotage.Yield(sabotage.ReaderHasGeneration)
		out, err := db.tryGet(dst, hash, key, g)
		if !db.still(g) {
			continue // something was reused meanwhile, perhaps what was read: nothing of it is believed
		}
		if errors.Is(err, errs.ErrCorrupt) {
			break // under a pin it may be mended
		}
		return out, err
	}
	err := db.pinned(func(at snapshot) error {
		var err error
		dst, err = at.appendGet(dst, hash, key)
		return err
	})
	return dst, err
}

// still reports, behind all loads of a read, whether the generation is the one it began in: nothing that it read
// was reused meanwhile.
func (db *DB) still(g uint64) bool {
	if sabotage.Is(sabotage.ValidateEarly) {
		return true // what a load before the read would have found
	}
	fence()
	return db.s.Generation.Load() == g
}

// Has reports whether key is there.
func (db *DB) Has(key []byte) (bool, error) {
	if len(key) > MaxKeySize {
		return false, db.ready()
	}
	hash := xxhash.Sum64(key)
	found := func(err error) (bool, error) {
		if err == errs.ErrNotFound {
			return false, nil
		}
		return err == nil, err
	}
	for range optimisticTries {
		g := db.s.Generation.Load() // before ready: Close raises it behind closed
		if err := db.ready(); err != nil {
			return false, err
		}
		err := db.tryHas(hash, key, g)
		if !db.still(g) {
			continue
		}
		if errors.Is(err, errs.ErrCorrupt) {
			break // under a pin it may be mended
		}
		return found(err)
	}
	return found(db.pinned(func(at snapshot) error {
		var r tail.Record
		return at.find(hash, key, &r)
	}))
}

// GetFunc calls fn with key's value, borrowed: it is read-only (a store to it faults and is the call's error), and valid until
// fn returns. fn's error comes back unchanged. Inside fn every call but Close works. A missing
// key is ErrNotFound, and fn is not called.
func (db *DB) GetFunc(key []byte, fn func(value []byte) error) error {
	return db.pinned(func(at snapshot) error { return at.lend(key, db.lender(fn)) })
}

// snapshot is a place from which to read: a root and a sequence. It is good for
// as long as its pin, or the caller's turn, holds; else what it reads must be validated.
type snapshot struct {
	s        *recovery.State
	root     pager.Ref
	sequence uint64
	mend     bool // it is good: flipped bits may be taken back
}

// now is the present as readers see it.
func (db *DB) now() (at snapshot) {
	at.enter(db.s)
	return at
}

// enter makes an empty snapshot the present. It is filled in place and not copied: a copy would wait for the stores, see index.Index.Next. The order of the loads is part of the protocol.
func (at *snapshot) enter(s *recovery.State) {
	at.s, at.sequence = s, s.Published.Load()
	sabotage.Yield(sabotage.ReaderHasSequence)
	at.root = s.RootAt(at.sequence)
	sabotage.Yield(sabotage.ReaderHasRoot)
}

// tryGet is a read without a pin, begun in generation g.
func (db *DB) tryGet(dst []byte, hash uint64, key []byte, g uint64) (out []byte, err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			out, err = dst, db.readFault(r, g)
		}
	}()
	var at snapshot
	at.enter(db.s)
	if sabotage.Is(sabotage.SequenceIgnored) {
		at.sequence = everything
	}
	return at.appendGet(dst, hash, key)
}

// tryHas is tryGet for Has.
func (db *DB) tryHas(hash uint64, key []byte, g uint64) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = db.readFault(r, g)
		}
	}()
	var r tail.Record
	var at snapshot
	at.enter(db.s)
	return at.find(hash, key, &r)
}

// readFault is the error of a panic in a read without a pin. Such a read runs none of the
// caller's code; if the generation has changed the mapping itself may be gone, and any
// fault means only that.
func (db *DB) readFault(r any, g uint64) error {
	if pager.IsFault(r) && db.s.Generation.Load() != g {
		return errs.ErrClosed
	}
	return db.damage(db.s.P.Fault(r))
}

// damage makes a read fault what the caller sees of it: ErrReplaced where the file was cut or taken away.
func (db *DB) damage(fault error) error {
	if db.s.P.CheckPath() != nil {
		fault = errs.Join(errs.ErrReplaced, fault)
	}
	return errs.At(db.s.P.Path(), "read", fault)
}

// pinned runs f under a pin and the fault guard. A fault while f, or the caller's code in it, reads the
// mapping comes back as the error; any other panic passes through as it was.
func (db *DB) pinned(f func(at snapshot) error) error { return db.pinnedAs(true, f) }

// pinnedAs is pinned, which Stats takes for a reader, or not.
func (db *DB) pinnedAs(reader bool, f func(at snapshot) error) (err error) {
	if sabotage.Is(sabotage.PinAfterSequence) {
		return db.pinnedLate(f)
	}
	pin := db.pins.acquire(&db.s.Generation)
	defer pin.release()
	if err := db.ready(); err != nil { // behind the pin: Close waits for it from here on
		return err
	}
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = db.damage(db.s.P.Fault(r))
		}
	}()
	at := db.now()
	at.mend = true
	if reader {
		pin.note(at.sequence, db.opts.Debug.Callers)
	}
	return f(at)
}

// find reads the newest record of key that the snapshot sees, as far as its header. Errors:
// ErrNotFound, bare; damage.
func (at *snapshot) find(hash uint64, key []byte, r *tail.Record) error {
	x := at.s.Index
	bucket, inUse, err := x.Find(at.root, hash, key, at.mend)
	if err != nil {
		return err
	}
	sabotage.Yield(sabotage.ReaderHasBucket)
	return at.probe(bucket, inUse, key, r)
}

// probe looks a key up in its bucket. hash is the one in use there.
//
// A record that does not hold may be another key's with the same tag: it costs a key only if no other slot has it.
func (at *snapshot) probe(bucket, hash uint64, key []byte, r *tail.Record) error {
	missing := errs.ErrNotFound
	for seen := 0; ; {
		var position uint64
		if position, seen = at.s.Index.Next(bucket, hash, seen); position == 0 {
			return missing
		}
		sabotage.Yield(sabotage.ReaderHasSlot)
		if err := at.s.Record(position, r, at.mend); err != nil {
			missing = err
			continue
		}
		if !bytes.Equal(r.Key, key) && !sabotage.Is(sabotage.KeyUncompared) {
			continue // another key with the same tag
		}
		return at.visible(r)
	}
}

// visible goes from a key's newest record back to the one that the snapshot sees.
func (at *snapshot) visible(r *tail.Record) error {
	var way wayBack
	for r.Visible() > at.sequence {
		ok, err := at.back(r, &way)
		if err != nil {
			return err
		}
		if !ok {
			return errs.ErrNotFound
		}
	}
	if r.Kind != tail.KindPut {
		return errs.ErrNotFound
	}
	return nil
}

// wayBack finds out that the steps from version to version go in a circle, within one commit (Brent, An improved Monte Carlo
// factorization algorithm, 1980): a load puts a key as often as it likes, and else each version is of an older commit.
type wayBack struct{ steps, mark uint64 }

func (w *wayBack) returns(position uint64) bool {
	if position == w.mark {
		return true
	}
	if w.steps++; w.steps&(w.steps-1) == 0 {
		w.mark = position
	}
	return false
}

// back goes from a record to the version before it; false if there is none.
func (at *snapshot) back(r *tail.Record, way *wayBack) (bool, error) {
	own := r.Sequence
	if r.Previous == 0 {
		return false, nil
	}
	if err := at.s.Record(r.Previous, r, at.mend); err != nil {
		return false, err
	}
	if r.Sequence > own || way.returns(r.Position) { // no loops, whatever the file says
		return false, at.corrupt(r, "the previous version of a record is not older")
	}
	return true, nil
}

func (at *snapshot) corrupt(r *tail.Record, reason string) error {
	return &errs.CorruptError{Path: at.s.P.Path(), Page: r.Position / pager.PageSize, Offset: int64(r.Position), Reason: reason}
}

const valueDamaged = "the sum of the record does not hold: its value is damaged"

// appendGet copies first and sums the copy: the only order that is right while a writer may reuse the page.
func (at *snapshot) appendGet(dst []byte, hash uint64, key []byte) ([]byte, error) {
	var r tail.Record
	if err := at.find(hash, key, &r); err != nil {
		return dst, err
	}
	sabotage.Yield(sabotage.ReaderHasHeader)
	if sabotage.Is(sabotage.SumOfOriginal) {
		return at.sumFirst(dst, &r)
	}
	out := append(dst, r.Value...)
	sabotage.Yield(sabotage.ReaderHasCopy)
	if r.ValueHolds(out[len(dst):]) {
		return out, nil
	}
	if err := at.whole(&r); err != nil {
		return dst, err
	}
	return append(dst, r.Value...), nil
}

// whole makes sure that the value of a record holds, without a flipped bit if it must.
func (at *snapshot) whole(r *tail.Record) error {
	if r.ValueHolds(r.Value) {
		return nil
	}
	if at.mend && at.s.MendRecord(r.Position) && at.s.Record(r.Position, r, false) == nil && r.ValueHolds(r.Value) {
		return nil
	}
	return at.corrupt(r, valueDamaged)
}

// lend calls fn with key's value in the read-only mapping.
func (at *snapshot) lend(key []byte, fn func(value []byte) error) error {
	if len(key) > MaxKeySize {
		return errs.ErrNotFound
	}
	var r tail.Record
	if err := at.find(xxhash.Sum64(key), key, &r); err != nil {
		return err
	}
	if err := at.whole(&r); err != nil {
		return err
	}
	return fn(r.Value[:len(r.Value):len(r.Value)])
}
