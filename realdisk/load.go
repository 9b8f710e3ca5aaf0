//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile"
)

// modes are how a load asks for durability. In "lie" it never does, and says all the same that what
// returned is durable: a run that does not notice cannot notice anything.
const (
	modeAlways = "always" // every commit, but for some transactions
	modeNever  = "never"  // Sync now and then
	modeMixed  = "mixed"  // transactions that sync, among commits that do not
	modeLie    = "lie"
)

// load is a process that writes to a map until that fails, or for ever. Its log:
//
//	begin 0 0 0 0      the map is open; steps that it holds
//	durable 3 1 0 2 7  steps that will survive a power cut from a moment on (monotonic clock, ns)
//	end 2 failed: why  writer 2 has stopped: failed, full or other
//	after failed nil   the kind of error of a Get behind that, and of Close
type load struct {
	db       *mapfile.DB
	out      io.Writer
	mode     string
	life     uint64
	returned [writers]atomic.Uint64
}

// loadMain is the process: load PATH MODE LIFE STEPS. It stops after so many steps of each writer; 0 is never.
func loadMain(args []string) error {
	var numbers [2]uint64
	for i := range numbers {
		var err error
		if numbers[i], err = strconv.ParseUint(args[2+i], 10, 64); err != nil {
			return err
		}
	}
	return runLoad(os.Stdout, args[0], args[1], numbers[0], numbers[1])
}

func runLoad(out io.Writer, path, mode string, life, steps uint64) error {
	o := &mapfile.Options{Sync: mapfile.SyncNever}
	if mode == modeAlways {
		o.Sync = mapfile.SyncAlways
	}
	db, err := mapfile.Open(path, o)
	if err != nil {
		_, _ = fmt.Fprintf(out, "end 0 %s\nafter closed nil\n", classify(err)) // the parent reads it, if it is still there
		return nil
	}
	found, err := survey(db, nil, counts{})
	if err != nil {
		return fmt.Errorf("at the begin: %w", err)
	}
	l := &load{db: db, out: out, mode: mode, life: life}
	for w := range found {
		l.returned[w].Store(found[w])
	}
	l.say("begin", found, 0)
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			if err := l.write(w, steps); err != nil {
				_, _ = fmt.Fprintln(out, "end", w, classify(err)) // as above
			}
		})
	}
	wait.Wait()
	_, err = db.Get(totalKey)
	_, _ = fmt.Fprintln(out, "after", word(err), word(db.Close())) // as above
	return nil
}

// say writes a line of the log; one write, so that a kill cuts none in two.
func (l *load) say(what string, c counts, at int64) {
	_, _ = fmt.Fprintln(l.out, what, strings.Trim(fmt.Sprint(c), "[]"), at) // a parent that has gone kills us
}

// monotonic is a clock that all processes share, in ns.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // always there
	return t.Nano()
}

func (l *load) now() (c counts) {
	for w := range c {
		c[w] = l.returned[w].Load()
	}
	return c
}

// word is the kind of an error.
func word(err error) string {
	switch {
	case err == nil:
		return "nil"
	case errors.Is(err, mapfile.ErrFailed):
		return "failed"
	case errors.Is(err, mapfile.ErrFull):
		return "full"
	}
	return "other"
}

func classify(err error) string {
	return word(err) + ": " + strings.ReplaceAll(err.Error(), "\n", "; ")
}

// write takes steps until one fails. A step that found no room has not happened, and is tried again.
func (l *load) write(w int, steps uint64) error {
	until := l.returned[w].Load() + steps
	full := 0
	for n := l.returned[w].Load() + 1; steps == 0 || n <= until; {
		err := l.take(step{w, n})
		switch {
		case err == nil:
			n, full = n+1, 0
		case errors.Is(err, mapfile.ErrFull) && full < 100:
			full++
			time.Sleep(time.Millisecond)
		default:
			return err
		}
	}
	return nil
}

// take takes a step and, now and then, does what else a program may do.
func (l *load) take(s step) error {
	before := l.now()
	durable, err := l.commit(s, before)
	if err != nil {
		return err
	}
	l.returned[s.writer].Store(s.n)
	if durable {
		before[s.writer] = s.n
		l.say("durable", before, monotonic())
	}
	return l.upkeep(s)
}

// commit makes the step's commit, and reports whether it and all before it are durable.
func (l *load) commit(s step, seen counts) (durable bool, err error) {
	put := func(slot int) []byte { return entry{s, slot, l.life, seen}.value() }
	switch {
	case s.deletes():
		return l.mode == modeAlways, l.db.Delete(slotKey(s.writer, s.slot()))
	case !s.groups():
		return l.mode == modeAlways, l.db.Put(slotKey(s.writer, s.slot()), put(s.slot()))
	}
	o := mapfile.TxOptions{Sync: mapfile.SyncNever}
	if l.mode == modeAlways && s.n%3 > 0 || l.mode == modeMixed && s.n%2 == 0 {
		o.Sync = mapfile.SyncAlways
	}
	tx, err := l.db.BeginTx(context.Background(), &o)
	if err != nil {
		return false, err
	}
	defer tx.Rollback() //nolint:errcheck // it says ErrTxDone behind Commit
	if err := countUp(tx); err != nil {
		return false, err
	}
	puts, deleted := s.touches()
	for _, slot := range puts {
		if err := tx.Put(slotKey(s.writer, slot), put(slot)); err != nil {
			return false, err
		}
	}
	if err := tx.Delete(slotKey(s.writer, deleted)); err != nil {
		return false, err
	}
	return o.Sync == mapfile.SyncAlways, tx.Commit()
}

// countUp adds one to the total.
func countUp(tx *mapfile.Tx) error {
	v, err := tx.Get(totalKey)
	if errors.Is(err, mapfile.ErrNotFound) {
		v, err = make([]byte, 8), nil
	}
	if err != nil {
		return err
	}
	return tx.Put(totalKey, binary.LittleEndian.AppendUint64(nil, binary.LittleEndian.Uint64(v)+1))
}

// upkeep syncs, makes checkpoints and compacts, each writer at steps of its own.
func (l *load) upkeep(s step) error {
	turn := func(every uint64) bool { return s.n%every == every/writers*uint64(s.writer) }
	now := l.now()
	var err error
	switch {
	case l.mode == modeLie:
		if !turn(16) {
			return nil
		}
	case turn(1201):
		err = l.db.Compact(context.Background())
	case turn(401):
		err = l.db.Checkpoint()
	case l.mode != modeAlways && turn(64):
		err = l.db.Sync()
	default:
		return nil
	}
	if errors.Is(err, mapfile.ErrFull) {
		return nil // the step itself is done
	}
	if err == nil && !turn(1201) { // a compaction with nothing to do makes nothing durable
		l.say("durable", now, monotonic())
	}
	return err
}
