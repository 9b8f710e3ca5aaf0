package mapfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mapfile-db/mapfile/internal/backup"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// BackupInfo is what one stream of a backup says of itself.
type BackupInfo struct {
	UUID                  string // of the map that it is of
	Increment             bool   // it goes on from another stream, and is not whole
	Base                  uint64 // sequence that an increment goes on from
	Sequence              uint64 // that the map was at: where the next increment goes on
	Keys                  uint64 // that the map had then
	Puts, Deletes, Clears uint64 // what the stream holds
	Bytes                 uint64 // of keys and values in it
	Size                  int64  // of the stream, in bytes
}

// Restore makes a map of a backup: r gives the stream of a Backup and, behind it, those of any number of BackupSince, each going on
// from the one before, as if the files were one: the map is what it was at the last of them. The new map is made in a directory of its
// own beside path and has its name when all of r was read and verified and all of the map is durable; after an error nothing is left. What is at path
// already stays (fs.ErrExist). The heap holds a commit of 8 MiB and the largest value.
//
// The new map is a map of its own: it has another UUID, and its sequences begin behind those of the backup, so that its first backup is
// a whole one; BackupSince of a sequence of the backup is ErrHistoryGone.
//
// Errors: ErrBackup (damaged, cut short, in a wrong order, or nothing to be restored), ErrVersion, fs.ErrExist, ErrFull, those of r and ctx, and the system's.
func Restore(ctx context.Context, r io.Reader, path string) error {
	dst, err := filepath.Abs(path)
	if err != nil {
		return errs.At(path, "restore", err)
	}
	if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
		return errs.At(dst, "restore", errors.Join(err, fs.ErrExist))
	}
	return errs.At(dst, "restore", restore(ctx, r, dst))
}

func restore(ctx context.Context, r io.Reader, dst string) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(dst), "."+filepath.Base(dst)+".restore-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	made := filepath.Join(dir, "new")
	db, err := Open(made, &Options{Sync: SyncNever})
	if err != nil {
		return err
	}
	in := &restorer{w: writes{ctx: ctx, db: db}}
	last, err := readBackup(ctx, r, in)
	if err = in.w.end(err); err == nil {
		err = db.endHistory(last)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return nameNew(made, dst)
}

// endHistory lets the sequences of a map that was restored begin behind that of the backup.
func (db *DB) endHistory(sequence uint64) error {
	if err := db.Sync(); err != nil { // all is published
		return err
	}
	return db.guarded(func() error {
		db.turn.Lock()
		defer db.turn.Unlock()
		if max(db.s.Tail.Sequence, sequence) >= tail.MaxSequence {
			return errs.Join(errs.ErrFull, errors.New("sequences are used up"))
		}
		size := tail.Size(0, 0)
		if err := db.admit(1, size, size, recovery.Upkeep); err != nil { // begins the life of a map in which nothing was put
			return err
		}
		db.dur.publish(db.s.EndHistory(sequence), db.s.Keys)
		return nil
	})
}

// A sink takes the entries of a backup.
type sink interface {
	begin(b *backup.Begin, before *backup.Begin) error // before is nil for the first stream
	entry(e *backup.Entry) error
	end(r *backup.Reader) error
}

// readBackup reads and verifies the streams in r, and answers the sequence of the last.
func readBackup(ctx context.Context, r io.Reader, to sink) (sequence uint64, err error) {
	in := backup.NewReader(r)
	var before *backup.Begin
	for n := 1; ; n++ {
		err := in.Next()
		if err == io.EOF {
			return before.Sequence, nil
		}
		begin := in.Begin
		if err == nil && before != nil {
			err = begin.Follows(before)
		}
		if err == nil {
			err = to.begin(&begin, before)
		}
		if err == nil {
			err = readEntries(ctx, in, to)
		}
		if err == nil {
			err = to.end(in)
		}
		if err != nil {
			return 0, errs.Within(fmt.Sprintf("stream %d", n), err)
		}
		before = &begin
	}
}

func readEntries(ctx context.Context, in *backup.Reader, to sink) error {
	for {
		e, err := in.Entry()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = to.entry(&e)
		}
		if err != nil {
			return err
		}
	}
}

// restorer puts the entries into a map.
type restorer struct{ w writes }

func (s *restorer) begin(b, before *backup.Begin) error {
	if before == nil && b.Increment {
		return errs.Join(errs.ErrBackup, fmt.Errorf("it goes on from sequence %d, and the whole backup before it is missing", b.Base))
	}
	return nil
}

func (s *restorer) entry(e *backup.Entry) error {
	if e.Op == backup.OpClear {
		return s.w.db.Clear() // the first of its stream: nothing is pending
	}
	tx, err := s.w.begin()
	if err == nil && e.Op == backup.OpDelete {
		err = tx.Delete(e.Key)
	} else if err == nil {
		err = tx.Put(e.Key, e.Value)
	}
	if err != nil {
		return err
	}
	return s.w.wrote(len(e.Key) + len(e.Value))
}

// end compares what the map has with what the stream says of the map that it is of.
func (s *restorer) end(r *backup.Reader) error {
	if err := s.w.end(nil); err != nil {
		return err
	}
	if n := s.w.db.Len(); n != r.End.Keys {
		return errs.Join(errs.ErrBackup, fmt.Errorf("the map had %d keys, and %d were restored", r.End.Keys, n))
	}
	return nil
}

// VerifyBackup reads the streams of one or more backups behind one another, as Restore does, and makes no map: every frame's sum, that nothing is
// missing, and that each goes on from the one before. The first may be an increment. It tells what each says of itself, also of those before
// an error. Errors: ErrBackup, ErrVersion, those of r and ctx.
func VerifyBackup(ctx context.Context, r io.Reader) ([]BackupInfo, error) {
	v := &verifier{}
	_, err := readBackup(ctx, r, v)
	return v.all, err
}

// verifier notes what streams say of themselves.
type verifier struct{ all []BackupInfo }

func (v *verifier) begin(*backup.Begin, *backup.Begin) error { return nil }
func (v *verifier) entry(*backup.Entry) error                { return nil }

func (v *verifier) end(r *backup.Reader) error {
	b, e := &r.Begin, &r.End
	v.all = append(v.all, BackupInfo{
		UUID: uuidString(b.UUID), Increment: b.Increment, Base: b.Base, Sequence: b.Sequence, Keys: e.Keys,
		Puts: e.Puts, Deletes: e.Deletes, Clears: e.Clears, Bytes: e.Bytes, Size: r.Size,
	})
	return nil
}
