// Package errs holds the errors that cross package borders: the sentinels that
// package mapfile exports and the type that describes damage. It exists so that
// the lower packages can return them without importing the root.
package errs

import (
	"errors"
	"fmt"
	"strings"
)

// The sentinels, grouped by the moment they occur. Package mapfile documents them.
var (
	// At open.
	ErrNotMapfile  = errors.New("mapfile: not a mapfile")
	ErrVersion     = errors.New("mapfile: written by another version of mapfile")
	ErrLocked      = errors.New("mapfile: in use by another opener")
	ErrUnsupported = errors.New("mapfile: not supported")

	// Of one call.
	ErrNotFound      = errors.New("mapfile: key not found")
	ErrKeyTooLarge   = errors.New("mapfile: key too large")
	ErrValueTooLarge = errors.New("mapfile: value too large")
	ErrReadOnly      = errors.New("mapfile: opened or begun read-only")
	ErrTxDone        = errors.New("mapfile: transaction has ended")
	ErrClosed        = errors.New("mapfile: closed")
	ErrFull          = errors.New("mapfile: no room left")
	ErrNotCounter    = errors.New("mapfile: not a counter")
	ErrOverflow      = errors.New("mapfile: counter overflow")
	ErrSelfWait      = errors.New("mapfile: the call would wait for itself")
	ErrTooManyWrites = errors.New("mapfile: too many writes in one transaction")
	ErrToken         = errors.New("mapfile: not a token of a scan")
	ErrHistoryGone   = errors.New("mapfile: the history behind that sequence is gone")
	ErrBackup        = errors.New("mapfile: not a whole backup")
	ErrHashExhausted = errors.New("mapfile: too many keys with equal hashes")

	// Of the file or the disk beneath.
	ErrCorrupt  = errors.New("mapfile: damaged")
	ErrFailed   = errors.New("mapfile: failed after an I/O error, close and reopen")
	ErrReplaced = errors.New("mapfile: the file was replaced or cut under the map")
)

// CorruptError describes damage found in a file. It is ErrCorrupt.
type CorruptError struct {
	Path   string // the file
	Page   uint64 // page number, in pages of 4,096 bytes from the start of the file
	Offset int64  // byte offset in the file, 0 where only the page is known
	LSN    uint64 // log position, 0 where the damage is not in the part of the tail to be replayed
	Reason string // what did not hold

	// Structure is what is damaged: index, which can be made anew; log, its part to be replayed; record, one
	// outside that part; meta, what an open begins with; "" where that is not known.
	Structure string
}

// Error names file, page and reason.
func (e *CorruptError) Error() string {
	var b strings.Builder
	b.WriteString("mapfile: ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	fmt.Fprintf(&b, "damaged: page %d", e.Page)
	if e.Offset != 0 {
		fmt.Fprintf(&b, ", offset %d", e.Offset)
	}
	if e.LSN != 0 {
		fmt.Fprintf(&b, ", log position %d", e.LSN)
	}
	b.WriteString(": " + e.Reason)
	return b.String()
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// pathError adds the path to an error and keeps it visible to errors.Is.
type pathError struct {
	path, what string
	err        error
}

func (e *pathError) Error() string {
	s := "mapfile: " + e.path + ": "
	if e.what != "" {
		s += e.what + ": "
	}
	return s + strings.TrimPrefix(e.err.Error(), "mapfile: ")
}

func (e *pathError) Unwrap() error { return e.err }

// At says that err happened to the file at path while doing what (which may be
// empty). An error that already names its path comes back as it is; nil stays nil.
func At(path, what string, err error) error {
	var c *CorruptError
	var p *pathError
	if err == nil || errors.As(err, &p) || errors.As(err, &c) && c.Path != "" {
		return err
	}
	return &pathError{path, what, err}
}

// Within says where inside something err happened, behind the project's name; nil stays nil.
func Within(what string, err error) error {
	if err == nil {
		return nil
	}
	return &within{what, err}
}

type within struct {
	what string
	err  error
}

func (e *within) Error() string {
	return "mapfile: " + e.what + ": " + strings.TrimPrefix(e.err.Error(), "mapfile: ")
}

func (e *within) Unwrap() error { return e.err }

// Join makes one error of a sentinel and the cause that the system gave:
// errors.Is finds both.
func Join(sentinel, cause error) error {
	if cause == nil {
		return sentinel
	}
	if errors.Is(cause, sentinel) {
		return cause
	}
	return &joined{sentinel, cause}
}

type joined struct{ sentinel, cause error }

func (e *joined) Error() string {
	return e.sentinel.Error() + ": " + strings.TrimPrefix(e.cause.Error(), "mapfile: ")
}

func (e *joined) Unwrap() []error { return []error{e.sentinel, e.cause} }

// Hide is err without a sentinel in it: errors.Is and errors.As find everything else.
func Hide(err, sentinel error) error {
	if !errors.Is(err, sentinel) {
		return err
	}
	return &hidden{err, sentinel}
}

type hidden struct{ err, sentinel error }

func (e *hidden) Error() string        { return e.err.Error() }
func (e *hidden) Is(target error) bool { return target != e.sentinel && errors.Is(e.err, target) }
func (e *hidden) As(target any) bool   { return errors.As(e.err, target) }
