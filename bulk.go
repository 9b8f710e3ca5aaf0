package mapfile

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// A load looks up so many puts side by side, so that their cache misses overlap, unless their keys and values reach so many bytes.
const (
	mostStaged = 64
	loadBytes  = 1 << 20
)

// abortSize is the length of an ABORT record in the log, in bytes. While a load runs, there is always room for one behind its last
// record: taking it back needs no space that is not there.
var abortSize = tail.Size(0, 0)

// BulkLoad sets many keys as one commit: fn is called once, and calls put for each, which copies key and value; of equal keys the
// last counts. Whatever was in the map and is not put stays. Readers go on and see nothing of it before it is whole; writers wait, and so do
// checkpoints and compaction. It is several times as fast as Put, and neither the number nor the size of what is put is limited by memory: a few MiB, and the largest value.
//
// If fn returns an error, it comes back unchanged and nothing of the load stays; so with a panic or Goexit, which goes on. If ctx is done, put and
// then BulkLoad return its error. An error of put other than ErrKeyTooLarge and ErrValueTooLarge, which leave out that entry alone, ends the load: BulkLoad returns it even
// if fn does not. put is for one goroutine at a time, and answers ErrTxDone when fn has returned.
//
// It is durable as Options.Sync says when it returns. Until the next checkpoint, which follows by itself, an open after a crash replays all of
// it; of one that was cut off by a crash it keeps nothing. A load that failed leaves garbage, which compaction takes away.
//
// Inside fn a write of the DB would wait for this load, that is for itself, as in Update; reads work, and see the map before the load.
// Errors: ErrReadOnly, ErrFull (nothing changed), ErrCorrupt where a key cannot be looked up, ErrFailed, ErrClosed, those of ctx and of fn.
func (db *DB) BulkLoad(ctx context.Context, fn func(put func(key, value []byte) error) error) error {
	if err := db.writable(); err != nil {
		return err
	}
	if err := db.takeTurn(ctx); err != nil {
		return db.waitedFor(err)
	}
	l := &load{db: db, ctx: ctx}
	at, err := l.run(fn)
	if err != nil {
		if errors.Is(err, errs.ErrFull) {
			db.makeSpace(l.bytes, db.attempts.Load()) // for who tries again
		}
		return err
	}
	return db.settle(at, db.opts.Sync == SyncAlways)
}

// load is a BulkLoad in progress. It holds the turn. Its records are appended and their slots set as it goes, all under one sequence, which is
// published at the end: until then readers go from them to the version before. What a crash leaves is a commit that is not whole.
type load struct {
	db    *DB
	ctx   context.Context
	err   error  // what put answers from now on
	bytes uint64 // of its records

	group  [mostStaged]loadPut // not appended yet
	staged [mostStaged]index.Staged
	n      int
	buf    []byte // their keys and values

	batch      *batch        // nil while nothing was appended
	first      *tail.Segment // which its first record lies in, from began on
	began      uint64
	tombstones uint64 // before it
	storing    bool   // a fault now leaves the file in doubt
	early      earlySync
	lines      []uint64 // that warm asks for
}

// loadPut is one put: its key and value are the bytes of the buffer up to keyEnd and end, behind those of the one before.
type loadPut struct {
	hash        uint64
	keyEnd, end int
}

// run calls fn, and commits or takes back. It gives up the turn.
func (l *load) run(fn func(put func(key, value []byte) error) error) (at place, err error) {
	db := l.db
	defer db.turn.Unlock()
	if err := db.ready(); err != nil {
		return at, err
	}
	db.s.Loading.Store(true)
	defer db.s.Loading.Store(false)
	whole := false
	defer func() {
		l.err = errs.ErrTxDone
		l.early.stop()
		if whole {
			return
		}
		if failed := l.undo(); failed != nil {
			err = errors.Join(errs.Hide(err, errs.ErrFull), failed) // that would say that nothing has changed
		}
	}()
	if err := l.call(fn); err != nil && !(sabotage.Is(sabotage.LoadIgnoresError) && l.n > 0) {
		return at, err
	}
	if err := l.finish(); err != nil {
		return at, err
	}
	whole = true
	return db.latest(), nil
}

// call runs fn, in which the turn is the caller's.
func (l *load) call(fn func(put func(key, value []byte) error) error) error {
	defer l.db.holds(true)()
	return fn(l.put)
}

// put is what fn gets.
func (l *load) put(key, value []byte) error {
	if l.err != nil {
		return l.err
	}
	if err := checkSizes(key, value); err != nil {
		return errs.At(l.db.s.P.Path(), "", err)
	}
	if l.n == l.db.loadStage || l.n > 0 && len(l.buf)+len(key)+len(value) > loadBytes {
		if err := l.flush(false); err != nil {
			return err
		}
	}
	l.buf = append(append(l.buf, key...), value...)
	l.group[l.n] = loadPut{xxhash.Sum64(key), len(l.buf) - len(value), len(l.buf)}
	l.n++
	return nil
}

// finish ends the commit. The group is never empty once there was a put, so the record that ends it is at hand.
func (l *load) finish() error {
	if l.err != nil {
		return l.err
	}
	if l.n == 0 {
		return l.ctx.Err()
	}
	if err := l.flush(true); err != nil {
		return err
	}
	l.batch.finish()
	return nil
}

// flush appends the group and sets its slots. An error is what put answers from now on.
func (l *load) flush(last bool) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = l.db.writeFault(r, l.storing)
		}
		l.err = err
	}()
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if err := l.db.s.P.Failed(); err != nil {
		return err
	}
	if err := l.warm(); err != nil {
		return err
	}
	if err := l.admit(); err != nil {
		return err
	}
	return l.store(last)
}

// each visits the puts of the group.
func (l *load) each(visit func(i int, hash uint64, key, value []byte) error) error {
	from := 0
	for i := range l.n {
		p := &l.group[i]
		if err := visit(i, p.hash, l.buf[from:p.keyEnd:p.keyEnd], l.buf[p.keyEnd:p.end:p.end]); err != nil {
			return err
		}
		from = p.end
	}
	return nil
}

// warm asks for the cache lines that the look-ups of the group will meet: of all buckets, then of the records that their slots lead to.
func (l *load) warm() error {
	x := l.db.s.Index
	err := l.each(func(i int, hash uint64, key, _ []byte) error { return x.Stage(&l.staged[i], hash, key) })
	if err != nil {
		return err
	}
	v := l.db.s.P.View()
	l.lines = l.lines[:0]
	for i := range l.n {
		l.lines = x.AppendStaged(l.lines, &l.staged[i])
	}
	v.PrefetchWritable(l.lines, 1)
	l.lines = l.lines[:0]
	for i := range l.n {
		if p, ok := x.First(&l.staged[i]); ok {
			l.lines = append(l.lines, p)
		}
	}
	v.Prefetch(l.lines, recordLines)
	return nil
}

// admit makes room for the group, and for an ABORT behind it.
func (l *load) admit() error {
	var bytes, largest uint64
	_ = l.each(func(_ int, _ uint64, key, value []byte) error {
		size := tail.Size(len(key), uint64(len(value)))
		bytes, largest = bytes+size, max(largest, size)
		return nil
	})
	l.bytes += bytes
	return l.db.admit(l.n, bytes+abortSize, largest+abortSize, recovery.Ordinary)
}

// store appends the records of the group, each with its slot, so that the next one finds it.
func (l *load) store(last bool) error {
	db, s := l.db, l.db.s
	if l.batch == nil {
		l.tombstones = s.Tombstones
		l.batch = db.newBatch(db.opts.Sync == SyncAlways)
	}
	s.Tail.ByStore = true
	defer func() { s.Tail.ByStore = false }()
	err := l.each(func(i int, hash uint64, key, value []byte) error {
		l.storing = false
		previous, found, err := s.Index.LookupStaged(&l.staged[i], key)
		if err != nil {
			return err
		}
		was := slotBefore{previous: previous, found: found}
		if found {
			was.size, was.alive = int64(s.Matched.Size()), s.Matched.Kind != tail.KindDelete
		}
		l.storing = true
		return l.storeOne(key, value, was, last && i == l.n-1)
	})
	l.storing = false
	if err != nil {
		return err
	}
	if root := s.Index.Root; root != s.Root() {
		s.SetRoot(root)
	}
	if sabotage.Is(sabotage.LoadPublishedEarly) {
		db.dur.publish(s.Tail.Sequence, s.Keys)
	}
	if _, segment := s.Tail.Position(); segment != db.lastSegment {
		l.early.sync(db, db.lastSegment)
		db.lastSegment = segment
		db.background.wantGrowth()
	}
	l.n, l.buf = 0, l.buf[:0]
	if cap(l.buf) > 2*loadBytes {
		l.buf = nil
	}
	return nil
}

// storeOne appends one record and makes its slot lead there.
func (l *load) storeOne(key, value []byte, was slotBefore, last bool) error {
	db, b, r := l.db, l.batch, &l.batch.record
	if err := db.s.Tail.Room(tail.Size(len(key), uint64(len(value))) + abortSize); err != nil {
		return errs.At(db.s.P.Path(), "", err)
	}
	*r = tail.Record{Kind: tail.KindPut, Key: key, Value: value, Previous: was.previous, Sequence: db.s.Tail.Sequence}
	if b.appended == 0 {
		l.began, l.first = db.s.Tail.Position()
		r.Flags |= tail.FlagFirst
	}
	if last {
		r.Flags |= tail.FlagLast
	}
	if err := b.append(was.alive); err != nil {
		return db.dur.fail(err)
	}
	if err := b.slot(r.Position, was.found, was.alive, was.size); err != nil {
		return db.dur.fail(err)
	}
	return nil
}
