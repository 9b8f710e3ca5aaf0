package mapfile

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/simdisk"
)

// faultRun is one run of a script with one fault, and the model of what may be there.
type faultRun struct {
	t      testing.TB
	f      fault
	o      Options
	disk   *simdisk.Disk
	db     *DB
	r      *rand.Rand
	trail  []string
	states []kv // after each commit that may have happened, the last one included
	live   int  // index of the state that readers must see
	floor  int  // index of the oldest state that the next open may find
	acked  int  // index of the oldest state that a power cut may leave
	over   bool // the script cannot go on

	calls   int           // of the script so far
	hit     *simdisk.Call // the first call that failed
	unmaps  bool          // an Unmap has failed, so its mapping stays
	short   bool          // a read has met what looks like the end of the file
	looked  bool          // the images at the fault have been looked at
	quiet   bool          // nothing may be stored or synced
	allowed int           // but for so many events, which are of the failing call itself
	stored  []string      // what was all the same

	// A transaction in progress, and a loop in it.
	snap    *Tx
	next    func() ([]byte, []byte, bool)
	stop    func()
	looping bool // it is not at its end
}

func (r *faultRun) fail(format string, args ...any) {
	r.t.Helper()
	if r.hit != nil {
		args, format = append(args, r.hit), format+"\nfault: %v"
	}
	r.t.Fatalf("%s\nhistory: %s\nrepeat: go test -run 'TestFaultMatrix$' -fault.one='%v' .", fmt.Sprintf(format, args...), strings.Join(r.trail, "; "), &r.f)
}

func (r *faultRun) say(format string, args ...any) {
	r.trail = append(r.trail, fmt.Sprintf(format, args...))
}

// syncEvents says of the calls that sync how many events they make themselves.
var syncEvents = map[string]int{"Sync": 1, "SyncRange": 1, "SyncDir": 1, "WriteSync": 2}

// roomCalls get room, and nothing else: where one fails nothing has changed.
var roomCalls = []string{"Allocate", "Populate", "Map", "Reopen"}

// inject is Disk.Fail.
func (r *faultRun) inject(c simdisk.Call) error {
	r.calls++
	at := r.f.call
	switch {
	case r.calls < at, r.f.how == faultOnce && r.calls > at:
		return nil
	case r.f.how == faultKind && r.hit != nil && r.hit.Name != c.Name:
		return nil
	}
	if r.hit == nil {
		r.hit = &c
		if n, ok := syncEvents[c.Name]; ok && r.trail[len(r.trail)-1] != growAhead {
			r.quiet, r.allowed = true, n
		}
	}
	r.unmaps = r.unmaps || c.Name == "Unmap"
	r.short = r.short || c.Name == "ReadAt" && r.f.err.err == nil
	return r.f.err.of(c)
}

// event is Disk.OnEvent.
func (r *faultRun) event(e simdisk.Event) {
	if n := 0; !debug.On {
		if n = r.disk.Notice(); n > 0 && r.quiet && r.allowed == 0 {
			r.stored = append(r.stored, fmt.Sprintf("%d sectors by stores", n))
		}
	}
	if !r.quiet {
		return
	}
	if r.allowed--; r.allowed < 0 {
		r.allowed = 0
		r.stored = append(r.stored, e.String())
	}
}

// seal says that from here on nothing may be stored.
func (r *faultRun) seal() {
	if !debug.On {
		r.disk.Notice()
	}
	r.quiet, r.allowed = true, 0
}

// unseal checks that nothing was.
func (r *faultRun) unseal() {
	if n := r.disk.Notice(); n > 0 {
		r.stored = append(r.stored, fmt.Sprintf("%d sectors by stores", n))
	}
	if r.quiet && len(r.stored) > 0 {
		r.fail("stored or synced after a sync had failed: %s", strings.Join(r.stored, "; "))
	}
	r.quiet = false
}

// commit makes a change in one call, and looks at what became of it.
func (r *faultRun) commit(name string, durable bool, change func(kv), call func() error) {
	if r.db == nil {
		r.open()
	}
	if r.over {
		return
	}
	r.say("%s", name)
	next := maps.Clone(r.states[r.live])
	change(next)
	r.states = append(r.states[:r.live+1], next)
	err := call()
	failed := r.db.s.P.Failed()
	switch {
	case err == nil && failed != nil && name != growAhead:
		r.fail("%s: nil, but the map has failed: %v", name, failed)
	case failed != nil:
		r.checkError(name, failed)
		if err != nil {
			r.checkError(name, err)
		}
		r.seal()
		r.images()
		r.dead()
		return
	case err != nil:
		r.checkError(name, err)
		r.states = r.states[:r.live+1] // nothing changed
	default:
		r.live++
		if durable {
			r.acked = r.live
		}
	}
	r.quiet, r.stored = false, nil
	r.floor = r.live
	r.read(r.db, "behind "+name)
	r.images()
}

// dead checks a map that has failed, and closes it.
func (r *faultRun) dead() {
	r.probe()
	r.endSnapshot()
	r.say("close")
	if err := r.db.Close(); err != nil {
		r.checkCause("close of a failed map", err)
		if r.f.how == faultOnce {
			r.fail("the Close of a failed map answers %v", err)
		}
	}
	r.unseal()
	r.closed(false)
}

// closed takes leave of the map. clean says that Close made all durable.
func (r *faultRun) closed(clean bool) {
	if err := r.db.Close(); err != nil {
		r.fail("second Close: %v", err)
	}
	r.db = nil
	r.released()
	r.floor = r.live
	if clean {
		r.acked = r.live
		return
	}
	r.forget()
}

// forget lets the cache lose what a failed sync did not write. Else it outlives the process.
func (r *faultRun) forget() {
	if r.f.evict {
		r.say("evict")
		r.disk.Evict()
		r.floor = r.acked
	}
}

// released checks that nothing of the disk is held.
func (r *faultRun) released() {
	if descriptions, mappings := r.disk.Held(); descriptions > 0 || mappings > 0 && !r.unmaps {
		r.fail("%d descriptions and %d mappings are left", descriptions, mappings)
	}
}

// open opens the map, again if that fails.
func (r *faultRun) open() {
	r.again("open", func() error {
		db, err := r.openMap(r.disk, r.o)
		if err == nil {
			r.db = db
			r.found(db)
		}
		return err
	})
}

// aloof is a call that opens the map and closes it.
func (r *faultRun) aloof(name string, call func() error) {
	r.again(name, func() error {
		err := call()
		r.released()
		return err
	})
}

// again makes a call that may fail once.
func (r *faultRun) again(name string, call func() error) {
	for range 2 {
		if r.over {
			return
		}
		r.say("%s", name)
		err := call()
		if err != nil {
			r.checkOpenError(name, err)
			r.released()
			r.unseal()
		}
		r.quiet, r.stored = false, nil
		r.images()
		if err == nil {
			return
		}
		r.over = r.f.how != faultOnce
		r.forget()
	}
	if !r.over {
		r.fail("%s fails twice", name)
	}
}

func (r *faultRun) close() {
	if r.db == nil || r.over {
		return
	}
	r.say("close")
	err := r.db.Close()
	failed := r.db.s.P.Failed()
	if err != nil {
		r.checkCause("close", err)
		if room := failed == nil && !errors.Is(err, ErrFull); room && !r.gaveUp() {
			r.fail("close: %v is no documented error", err)
		}
	}
	if failed != nil {
		r.unseal()
	}
	r.quiet, r.stored = false, nil
	r.closed(failed == nil)
	r.images()
}

// gaveUp reports whether the fault was in letting go of the file, which Close tells as it is.
func (r *faultRun) gaveUp() bool {
	return r.hit != nil && (r.f.how == faultAll || slices.Contains([]string{"Unmap", "Close"}, r.hit.Name))
}

// checkError checks the error of a call on an open map.
func (r *faultRun) checkError(name string, err error) {
	r.checkCause(name, err)
	full, failed := errors.Is(err, ErrFull), errors.Is(err, ErrFailed)
	room, sync := slices.Contains(roomCalls, r.hit.Name), syncEvents[r.hit.Name] > 0
	switch {
	case full == failed:
		r.fail("%s: %v is ErrFull: %t, ErrFailed: %t", name, err, full, failed)
	case r.f.how == faultAll:
	case failed && room:
		r.fail("%s: there was no room, and nothing in doubt, but: %v", name, err)
	case full && sync && name != growAhead:
		r.fail("%s: a sync failed, but: %v", name, err)
	}
}

// checkCause checks that the cause is visible.
func (r *faultRun) checkCause(name string, err error) {
	if r.hit == nil {
		r.fail("%s: %v, without a fault", name, err)
	}
	if !r.f.err.causes(err) {
		r.fail("%s: the cause is not visible in %q", name, err)
	}
	if !strings.HasPrefix(err.Error(), "mapfile: ") || !strings.Contains(err.Error(), crashPath) {
		r.fail("%s: the message %q does not name the file", name, err)
	}
}

// checkOpenError checks the error of a call that opens the map: a call that fails is no damage.
func (r *faultRun) checkOpenError(name string, err error) {
	if r.short && errors.Is(err, ErrCorrupt) {
		return // so it is
	}
	r.checkCause(name, err)
	for _, e := range []error{ErrCorrupt, ErrNotMapfile, ErrVersion, ErrLocked, ErrReplaced, ErrUnsupported} {
		if errors.Is(err, e) {
			r.fail("%s: a call failed, but: %v", name, err)
		}
	}
}

// faultError is a way in which calls fail.
type faultError struct {
	name string
	err  error // nil: a short result
}

func (e *faultError) of(c simdisk.Call) error {
	if e.err == nil {
		return &simdisk.Short{N: c.Length / 2}
	}
	return e.err
}

// causes reports whether an error shows that it comes from this one.
func (e *faultError) causes(err error) bool {
	if e.err != nil {
		return errors.Is(err, e.err)
	}
	var short *simdisk.Short
	return errors.As(err, &short) || errors.Is(err, io.ErrShortWrite) || errors.Is(err, io.ErrUnexpectedEOF)
}
