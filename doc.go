// Package mapfile is an on-disk map from byte strings to byte strings: one
// memory-mapped file, found by hash, that survives any crash.
//
// Open a map with [Open]. A [DB] is for any number of goroutines and is opened once
// per process. Get, Put and Delete are single operations; View, Update and BeginTx run
// several as one transaction that sees one moment.
//
// # What survives
//
// In every sync mode a killed process loses nothing that returned. Power loss leaves
// the state after some prefix of the commits, whole ones only, and never older than the
// last commit made with SyncAlways or the last Sync that returned nil.
//
// # What is lent
//
// Get copies. Only the callbacks of GetFunc, GetMany and Modify are lent bytes of the
// mapping: read-only and valid until the callback returns. A store to them faults, which
// ends the callback and is the call's error: of a page that the disk does not give, for
// the two faults look the same.
//
// # Backups
//
// [DB.Backup] writes one moment of a map in use as a stream, [DB.BackupSince] what has changed since, and [Restore] makes a map of both.
// A copy of the file that was made while the map was in use opens to the state after some commit, or answers ErrCorrupt.
//
// # Errors
//
// What a caller can act on is a sentinel of this package, found by errors.Is; damage is
// a *CorruptError, which is ErrCorrupt. Messages name the file.
//
// Beside the errors that its comment names, each call answers ErrClosed behind Close, ErrFailed with the first cause
// in a map that has failed, ErrCorrupt where it meets damage, and where the disk does not give a page an error that is
// syscall.EIO; each write ErrReadOnly in a map that was opened read-only.
//
// # Lengths
//
// Keys, values, sizes and offsets are counted in bytes. What a call returns is the caller's own unless its comment
// says that it is lent.
package mapfile
