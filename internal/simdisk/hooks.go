package simdisk

import (
	"errors"
	"fmt"
	"io/fs"
)

// EventKind says what is about to change.
type EventKind int

// The kinds of events.
const (
	EventStore  EventKind = iota // bytes: a version of each sector that differs
	EventSync                    // sectors and a length, or directory entries, become durable
	EventLength                  // the length of a file, with zeros or without
	EventName                    // what a name names
)

var eventNames = [...]string{"store", "sync", "length", "name"}

// String returns the kind in a word.
func (k EventKind) String() string { return eventNames[k] }

// Event is a change that is about to be recorded. A store through the mapping is
// in memory already, but in no crash image made now.
type Event struct {
	Kind   EventKind
	Path   string
	Offset int64 // bytes; for the EventLength of a truncation the new length
	Length int64 // bytes, 0 where there is no range
	Count  int   // events of this disk so far, from 1
}

// String describes the event for the report of a failure.
func (e Event) String() string {
	return fmt.Sprintf("event %d: %v %s [%d, %d)", e.Count, e.Kind, e.Path, e.Offset, e.Offset+e.Length)
}

// Call is one call of the seam.
type Call struct {
	// Name is the method: of pager.Disk Open, CreateTemp, Link, SyncDir, Stat, Network,
	// Resolve; of pager.File ReadAt, WriteAt, WriteSync, Sync, Allocate, Truncate, Punch,
	// FileStat, Reopen, Lock, Map, Close; of pager.Mapping Populate, Amend, SyncRange, Unmap.
	Name   string
	Path   string
	Number int   // calls of this disk so far, from 1
	Offset int64 // bytes, 0 where there is none
	Length int64 // bytes, 0 where there is none
}

// String describes the call for the report of a failure.
func (c Call) String() string {
	return fmt.Sprintf("call %d: %s %s [%d, %d)", c.Number, c.Name, c.Path, c.Offset, c.Offset+c.Length)
}

// Short is an answer of Disk.Fail: the first N bytes of the call are done, then it
// fails with Err. A read without Err ends in io.ErrUnexpectedEOF, any other call
// in io.ErrShortWrite. Of a sync the first N bytes of its range become durable.
type Short struct {
	N   int64
	Err error
}

// Error describes the short result.
func (s *Short) Error() string { return fmt.Sprintf("short result after %d bytes", s.N) }

// Unwrap returns the cause.
func (s *Short) Unwrap() error { return s.Err }

// partOf returns how many of count bytes a failing call does, and its cause.
func partOf(err error, count int64, short error) (int64, error) {
	var s *Short
	if !errors.As(err, &s) {
		return 0, err
	}
	if s.Err != nil {
		short = s.Err
	}
	return min(s.N, count), short
}

// ask counts a call and asks whether it fails.
func (d *Disk) ask(name, path string, off, count int64) error {
	d.mu.Lock()
	d.calls++
	c := Call{name, path, d.calls, off, count}
	d.mu.Unlock()
	if d.Fail == nil {
		return nil
	}
	return d.Fail(c)
}

// announce tells that something is about to change.
func (d *Disk) announce(kind EventKind, path string, off, count int64) {
	d.mu.Lock()
	d.events++
	e := Event{kind, path, off, count, d.events}
	d.mu.Unlock()
	if d.OnEvent != nil {
		d.OnEvent(e)
	}
}

// lies asks whether a sync does nothing.
func (d *Disk) lies() bool { return d.Lie != nil && d.Lie() }

// pathError names call and path, as the system's errors do.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
