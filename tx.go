package mapfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/tail"
)

// Tx is a transaction. A read-only one sees the moment it began, at no cost to writers, and is for any
// number of goroutines. A read-write one holds the writer's turn from its begin to its end: it
// sees the newest state and its own writes, belongs to one goroutine at a time, and other writers
// wait for it. Every Tx must end with Commit or Rollback.
type Tx struct {
	db         *DB
	readOnly   bool
	sync       SyncMode
	managed    bool // inside View or Update: the caller may not end it
	ctx        context.Context
	state      txState
	pin        *pinCell // of a read-only one
	generation uint64   // that it has pinned
	at         snapshot // of a read-only one; a read-write one reads the present
	keys       uint64   // at the begin
	set        writeSet
	logEnd     uint64 // LSN below which everything was appended, at least what it sees
	began      place  // where the log stood when a read-write one began
	iterErr    firstError
	release    func() // says that the turn is not the caller's any more
}

// View runs fn in a read-only transaction, which ends when fn returns. fn's error comes back unchanged; a
// panic goes on after the end. Inside fn every call but Close works.
func (db *DB) View(fn func(tx *Tx) error) error {
	tx, err := db.BeginTx(context.Background(), &TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	tx.managed = true
	defer tx.end()
	return fn(tx)
}

// Update runs fn in a read-write transaction and commits it if fn returns nil. fn's error rolls back and comes back
// unchanged; a panic or Goexit rolls back and goes on. Inside fn use the Tx: a Put, Delete, Update
// or read-write BeginTx of the DB would wait for this transaction, that is for itself.
func (db *DB) Update(fn func(tx *Tx) error) error {
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	tx.managed = true
	defer tx.end()
	tx.release = db.holds(true)
	if err := fn(tx); err != nil {
		return err
	}
	tx.managed = false
	return tx.Commit()
}

// BeginTx begins a transaction; opts may be nil: read-write, durable as the map's commits. ctx bounds the wait
// for the writer's turn, and if it is done before Commit, Commit rolls back and returns its error, as in database/sql.
func (db *DB) BeginTx(ctx context.Context, opts *TxOptions) (*Tx, error) {
	var o TxOptions
	if opts != nil {
		o = *opts
	}
	if o.Sync == SyncDefault {
		o.Sync = db.opts.Sync
	}
	tx := &Tx{db: db, readOnly: o.ReadOnly, sync: o.Sync, ctx: ctx}
	if o.ReadOnly {
		if err := db.beginRead(tx); err != nil {
			return nil, err
		}
		return tx, nil
	}
	if err := db.writable(); err != nil {
		return nil, err
	}
	if err := db.takeTurn(ctx); err != nil {
		return nil, db.waitedFor(err)
	}
	if err := db.ready(); err != nil {
		db.turn.Unlock()
		return nil, err
	}
	tx.logEnd = db.s.Tail.LSN
	tx.began, tx.keys, tx.release = db.latest(), db.s.Keys, db.holds(false)
	return tx, nil
}

// beginRead pins, and then fixes the moment: in this order.
func (db *DB) beginRead(tx *Tx) error {
	if sabotage.Is(sabotage.ViewPinsLate) {
		return db.beginReadLate(tx)
	}
	tx.pin = db.pins.acquire(&db.s.Generation)
	tx.generation = tx.pin.generation.Load()
	if err := db.ready(); err != nil {
		tx.pin.release()
		return err
	}
	sequence, keys := db.dur.snapshot()
	tx.pin.note(sequence, db.opts.Debug.Callers)
	tx.at = db.now()
	tx.at.sequence, tx.keys, tx.at.mend = sequence, keys, true
	tx.logEnd = db.dur.appended.Load() // behind the sequence: all of what that covers lies before it
	return nil
}

// takeTurn waits for the turn until ctx is done.
func (db *DB) takeTurn(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if db.turn.TryLock() {
		return nil
	}
	if ctx.Done() == nil {
		db.turn.Lock()
		return nil
	}
	got := make(chan struct{})
	abandoned := make(chan struct{})
	go func() {
		db.turn.Lock()
		select {
		case got <- struct{}{}: // the turn is the caller's now
		case <-abandoned:
			db.turn.Unlock()
		}
	}()
	select {
	case <-got:
		return nil
	case <-ctx.Done():
		close(abandoned)
		return ctx.Err()
	}
}

// end gives up what a transaction holds. A second end does nothing.
func (tx *Tx) end() {
	if !tx.state.finish() {
		return
	}
	if tx.readOnly {
		tx.pin.release() // no more: other goroutines may be reading
		return
	}
	tx.release()
	tx.db.turn.Unlock()
	tx.set = writeSet{}
}

// Rollback ends the transaction without its writes. Behind Commit, or a second time, it is ErrTxDone:
// safe to defer.
func (tx *Tx) Rollback() error {
	if tx.managed {
		return errs.At(tx.db.s.P.Path(), "", errors.New("Rollback inside View or Update: return an error instead"))
	}
	if tx.state.done() {
		return errs.ErrTxDone
	}
	tx.end()
	return nil
}

// Commit makes the transaction's writes visible in one step and, as its SyncMode says, durable, and
// ends it. After an error nothing of it is visible. A transaction that wrote nothing returns when what
// it saw is published and, with SyncAlways, durable. Errors: ErrTxDone, ErrFull (nothing changed), ErrFailed, the context's.
func (tx *Tx) Commit() error {
	if tx.managed {
		return errs.At(tx.db.s.P.Path(), "", errors.New("Commit inside View or Update: return nil instead"))
	}
	if tx.state.done() {
		return errs.ErrTxDone
	}
	defer tx.end()
	if err := tx.ctx.Err(); err != nil {
		return err
	}
	if err := tx.db.s.P.Failed(); err != nil {
		return err // somebody else's sync failed since the begin: nothing may be stored any more
	}
	if tx.readOnly {
		return nil
	}
	db, demanded := tx.db, tx.sync == SyncAlways
	if sabotage.Is(sabotage.TxSyncIgnored) {
		demanded = db.opts.Sync == SyncAlways
	}
	if err := tx.resolveAll(); err != nil {
		return err
	}
	at := tx.began
	if n := tx.set.count(); n > 0 {
		var err error
		if at, err = db.appendSet(&tx.set, n, demanded); err != nil {
			bytes := tx.set.bytes
			tx.end()
			if errors.Is(err, errs.ErrFull) {
				db.makeSpace(bytes, db.attempts.Load()) // for who tries again
			}
			return err
		}
	}
	tx.end() // the next writer builds on these slots
	if tx.sync == SyncInterval && db.opts.Sync != SyncInterval {
		db.background.wantSync()
	}
	if at == tx.began && sabotage.Is(sabotage.EmptyCommitUnsynced) {
		return nil
	}
	return db.settle(at, demanded)
}

// usable answers why the transaction cannot be used.
func (tx *Tx) usable() error {
	if tx.state.done() {
		return errs.ErrTxDone
	}
	return tx.db.s.P.Failed()
}

// now is where the transaction reads.
func (tx *Tx) now() snapshot {
	if tx.readOnly {
		at := tx.at
		at.root = tx.db.s.RootAt(at.sequence)
		return at
	}
	at := tx.db.now()
	at.root, at.sequence, at.mend = tx.db.s.Index.Root, everything, true
	return at
}

// Get returns a copy of key's value as the transaction sees it. A missing key is nil and ErrNotFound.
func (tx *Tx) Get(key []byte) ([]byte, error) {
	var out []byte
	err := tx.GetFunc(key, func(value []byte) error {
		out = append([]byte{}, value...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// GetFunc calls fn with key's value as the transaction sees it, borrowed and read-only until fn returns.
// fn's error comes back unchanged. A missing key is ErrNotFound.
func (tx *Tx) GetFunc(key []byte, fn func(value []byte) error) error {
	if err := tx.usable(); err != nil {
		return err
	}
	if op := tx.set.lookup(key); op != nil {
		if op.deleted {
			return errs.ErrNotFound
		}
		return tx.db.lendTo(bytes.Clone(op.value), fn) // the set itself is not lent: the caller could write to it
	}
	if !tx.readOnly {
		pin := tx.db.pins.acquire(&tx.db.s.Generation) // fn may end the transaction, and the turn protects nothing then
		defer pin.release()
	}
	return tx.guarded(func(at snapshot) error { return at.lend(key, tx.db.lender(fn)) })
}

// Has reports whether key is there.
func (tx *Tx) Has(key []byte) (bool, error) {
	if err := tx.usable(); err != nil {
		return false, err
	}
	if op := tx.set.lookup(key); op != nil {
		return !op.deleted, nil
	}
	if len(key) > MaxKeySize {
		return false, nil
	}
	var r tail.Record
	err := tx.guarded(func(at snapshot) error { return at.find(xxhash.Sum64(key), key, &r) })
	if err == errs.ErrNotFound {
		return false, nil
	}
	return err == nil, err
}

// guarded runs a read of the transaction under the fault guard.
func (tx *Tx) guarded(f func(at snapshot) error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = tx.db.damage(tx.db.s.P.Fault(r))
		}
	}()
	if tx.readOnly {
		// A pin of its own: another goroutine may end the transaction meanwhile.
		pin := tx.db.pins.acquireBehind(tx.pin, tx.generation)
		defer pin.release()
		if tx.state.done() {
			return errs.ErrTxDone
		}
	}
	return f(tx.now())
}

// Put sets key to value in this transaction; both are copied.
// Errors: ErrReadOnly, ErrTxDone, ErrKeyTooLarge, ErrValueTooLarge.
func (tx *Tx) Put(key, value []byte) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if err := checkSizes(key, value); err != nil {
		return errs.At(tx.db.s.P.Path(), "", err)
	}
	return tx.write(key, value, false)
}

// Delete removes key in this transaction. A missing key is nil.
func (tx *Tx) Delete(key []byte) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if len(key) > MaxKeySize {
		return nil
	}
	return tx.write(key, nil, true)
}

func (tx *Tx) writable() error {
	if err := tx.usable(); err != nil {
		return err
	}
	if tx.readOnly {
		return errs.At(tx.db.s.P.Path(), "write", errs.ErrReadOnly)
	}
	return nil
}

// write notes a write.
func (tx *Tx) write(key, value []byte, deleted bool) error {
	if tx.set.n >= maxSet {
		return errs.At(tx.db.s.P.Path(), "", errs.Join(errs.ErrTooManyWrites, fmt.Errorf("%d is the most", maxSet)))
	}
	tx.set.add(key, value, deleted)
	return nil
}

// Len is the number of keys as the transaction sees it. In a read-write one it looks up the keys written since the last call.
// After an error, which Err tells, it is the number at the begin.
func (tx *Tx) Len() uint64 {
	if tx.set.n == 0 || tx.state.done() {
		return tx.keys
	}
	n := tx.keys
	for _, i := range tx.set.newest {
		o := &tx.set.ops[i]
		if err := tx.resolve(o); err != nil {
			tx.iterErr.set(err)
			return tx.keys
		}
		switch {
		case o.deleted && o.base == isThere:
			n--
		case !o.deleted && o.base == isAbsent:
			n++
		}
	}
	return n
}
