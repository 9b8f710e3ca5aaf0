package mapfile

import "github.com/mapfile-db/mapfile/internal/errs"

// Errors of Open.
var (
	// ErrNotMapfile: the file is no mapfile.
	ErrNotMapfile = errs.ErrNotMapfile
	// ErrVersion: the file was written by a version of mapfile that this one does not know.
	ErrVersion = errs.ErrVersion
	// ErrLocked: another process, or another DB of this process, has the file open. The
	// message names the process that last opened it for writing, from a note in the file that is never trusted.
	ErrLocked = errs.ErrLocked
	// ErrUnsupported: this platform, or a network file system without Options.AllowNetwork.
	ErrUnsupported = errs.ErrUnsupported
)

// Errors of one call.
var (
	// ErrNotFound: the key is not there. Get returns it bare.
	ErrNotFound = errs.ErrNotFound
	// ErrKeyTooLarge: the key is longer than MaxKeySize.
	ErrKeyTooLarge = errs.ErrKeyTooLarge
	// ErrValueTooLarge: the value is longer than MaxValueSize.
	ErrValueTooLarge = errs.ErrValueTooLarge
	// ErrReadOnly: a write to a map opened, or in a transaction begun, read-only.
	ErrReadOnly = errs.ErrReadOnly
	// ErrTxDone: the transaction has been committed or rolled back.
	ErrTxDone = errs.ErrTxDone
	// ErrClosed: the map has been closed.
	ErrClosed = errs.ErrClosed
	// ErrFull: there was no room to be had: the disk or Options.MaxSize has none, or the system refused it for another
	// reason. Nothing was changed; reads, Delete, Checkpoint and Close go on. The system's cause
	// (syscall.ENOSPC, ENOMEM, EIO …) is visible to errors.Is.
	ErrFull = errs.ErrFull
	// ErrNotCounter: Add of a key whose value has not exactly 8 bytes.
	ErrNotCounter = errs.ErrNotCounter
	// ErrOverflow: Add would leave the range of int64.
	ErrOverflow = errs.ErrOverflow
	// ErrSelfWait: with Options.Debug.Callers, a write of the DB inside an Update or Modify callback of its own goroutine, which without it
	// would wait for ever. The message names both callers.
	ErrSelfWait = errs.ErrSelfWait
	// ErrTooManyWrites: a transaction took 2,147,483,646 writes, which is the most.
	ErrTooManyWrites = errs.ErrTooManyWrites
	// ErrToken: the bytes are no token of a scan.
	ErrToken = errs.ErrToken
	// ErrHistoryGone: BackupSince cannot tell all that has changed since the sequence: a tombstone that is newer was dropped, or a part of
	// the log was lost, or the map has not come to that sequence, or so many lives ago that it is forgotten. A whole Backup is needed.
	ErrHistoryGone = errs.ErrHistoryGone
	// ErrBackup: what Restore or VerifyBackup reads is no backup, is damaged or cut short, or is an increment that does not go on
	// from what comes before it. The message tells the stream, from 1, and the byte.
	ErrBackup = errs.ErrBackup
	// ErrHashExhausted: more keys than a bucket holds agree in 36 bits of two hashes, one of them keyed: does not happen by chance or attack.
	ErrHashExhausted = errs.ErrHashExhausted
)

// Errors of the file or the disk beneath.
var (
	// ErrCorrupt: damage was found. The error is a *CorruptError. (A page that the disk does not give is an error of the call
	// that needed it, syscall.EIO to errors.Is, and no sentinel.)
	ErrCorrupt = errs.ErrCorrupt
	// ErrFailed: a sync, or a store, failed. What the disk holds is unknown, so every call answers
	// this with the first cause, and nothing is stored any more, until the map is closed and opened again, which
	// recovers. The call that met it may or may not have happened.
	ErrFailed = errs.ErrFailed
	// ErrReplaced: the path names another file now, or none, or the file was cut short beneath the map.
	ErrReplaced = errs.ErrReplaced
)

// CorruptError describes damage: the file, the page, the byte offset or log position where
// known, and what did not hold. errors.Is finds ErrCorrupt.
type CorruptError = errs.CorruptError
