package mapfile

import (
	"bytes"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
)

// DebugOptions find mistakes of the program that uses the map. Each costs time in every call: they are for tests.
type DebugOptions struct {
	// Callers notes who began each transaction. Stats then names the caller of the oldest reader and of the transaction that
	// holds the writer's turn, an error of BeginTx names whom it waited for, and a write of the DB inside
	// an Update or Modify callback of its own goroutine is ErrSelfWait instead of waiting for ever.
	Callers bool
	// Poison lends copies in place of the mapping's bytes and takes the copy's memory away when the loan ends: a read
	// of it from then on is a fault that ends the process. A store to what All lends faults, too, which
	// without Poison is the iterator's own copy.
	Poison bool
}

// holder is who holds the writer's turn, and lets the caller's code run meanwhile.
type holder struct {
	goroutine uint64 // that is in a callback which holds it; 0 for BeginTx, whose transaction may go from hand to hand
	caller    string
	since     time.Time
}

func (h *holder) String() string {
	return fmt.Sprintf("%s, which has had the writer's turn for %v", h.caller, time.Since(h.since).Round(time.Millisecond))
}

// holds notes that the turn, which was taken, is the caller's for now, and in a callback of this goroutine if inside is set. The
// returned function takes that back; it must run before the turn is given up.
func (db *DB) holds(inside bool) (end func()) {
	if !db.opts.Debug.Callers {
		return func() {}
	}
	h := &holder{caller: callerName(), since: time.Now()}
	if inside {
		h.goroutine = goroutine()
	}
	db.holder.Store(h)
	return func() { db.holder.Store(nil) }
}

// waitsForItself is the error of a call that takes the turn, in a callback that holds it. nil without Debug.Callers.
func (db *DB) waitsForItself() error {
	if !db.opts.Debug.Callers {
		return nil
	}
	h := db.holder.Load()
	if h == nil || h.goroutine == 0 || h.goroutine != goroutine() {
		return nil
	}
	return errs.At(db.s.P.Path(), "", errs.Join(errs.ErrSelfWait, fmt.Errorf("%s called inside the callback begun by %v", callerName(), h)))
}

// waitedFor adds to an error of waiting for the turn who has it, if that is known.
func (db *DB) waitedFor(err error) error {
	if h := db.holder.Load(); h != nil {
		err = fmt.Errorf("behind %v: %w", h, err)
	}
	return errs.At(db.s.P.Path(), "wait for the writer's turn", err)
}

// goroutine is the number of the running goroutine. Go offers it in the first line of a stack alone: "goroutine 7 [running]:".
func goroutine() uint64 {
	var buf [40]byte
	_, rest, _ := bytes.Cut(buf[:runtime.Stack(buf[:], false)], []byte(" "))
	digits, _, _ := bytes.Cut(rest, []byte(" "))
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0 // no goroutine has it: nothing is found out
	}
	return n
}

// callerName is the place outside of this package that the running call came from, as file:line (function).
func callerName() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		inside := filepath.Dir(f.File) == ownDirectory && !strings.HasSuffix(f.File, "_test.go")
		if !inside || !more {
			return fmt.Sprintf("%s:%d (%s)", f.File, f.Line, f.Function)
		}
	}
}

// ownDirectory is where this package was compiled. The names of functions do not tell: an inlined one bears its caller's.
var ownDirectory = func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}()

// lendTo calls fn with bytes that it may use until it returns.
func (db *DB) lendTo(value []byte, fn func(value []byte) error) error {
	if !db.opts.Debug.Poison || value == nil {
		return fn(value)
	}
	lent, end, err := pager.Lend(value)
	if err != nil {
		return errs.At(db.s.P.Path(), "lend a copy", err)
	}
	defer end()
	return fn(lent)
}

// lender is fn, called with what lendTo lends.
func (db *DB) lender(fn func(value []byte) error) func(value []byte) error {
	if !db.opts.Debug.Poison {
		return fn
	}
	return func(value []byte) error { return db.lendTo(value, fn) }
}
