package mapfile

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mapfile-db/mapfile/internal/backup"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/recovery"
)

// Backup writes all that the map holds at one moment to w, as a stream that Restore reads, and returns the sequence of that moment, for
// BackupSince. It holds no lock: readers and writers go on, while what the moment needs of the file is kept, as by any snapshot. All that
// it writes was made durable before, so that no crash takes it out of the map again.
//
// A stream that is not whole, because of an error or a crash, is no backup, and Restore says so. The heap holds 320 KiB and the largest
// value. Errors: those of w and ctx, ErrCorrupt where a value cannot be read (Salvage copies the others), ErrFailed, ErrClosed.
func (db *DB) Backup(ctx context.Context, w io.Writer) (sequence uint64, err error) {
	return db.backup(ctx, w, nil)
}

// BackupSince is Backup of what has changed since the sequence that a backup of this map returned: of each key that was written since its
// value or its deletion, in the time that it takes to read the log since then. Restore takes such increments, each behind the one
// that it goes on from.
//
// Where not all of that can be told any more it answers ErrHistoryGone and has written nothing, or the begin of a stream that is not whole: compaction
// has dropped a newer deletion for good, which it does when no older version of the key is left to be hidden; a part of the log was lost
// (RecoverOptions.AcceptLoss); the map has not come to the sequence, or was restored from the backup; or it is 2,048 lives ago.
// A whole Backup is needed then. The sequence of another map, or of a copy that has parted from this one, cannot be told from one of this map: then
// Restore refuses the increment. The other errors are those of Backup.
func (db *DB) BackupSince(ctx context.Context, w io.Writer, seq uint64) (sequence uint64, err error) {
	return db.backup(ctx, w, &seq)
}

// backup writes a stream; base is nil for a whole one.
func (db *DB) backup(ctx context.Context, w io.Writer, base *uint64) (uint64, error) {
	if err := db.ready(); err != nil {
		return 0, err
	}
	tx, err := db.BeginTx(ctx, &TxOptions{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	defer tx.end()
	b := &backer{ctx: ctx, tx: tx, walker: walker{tx: tx, keys: true, values: true}}
	err = errors.Join(ctx.Err(), db.settleBackup(tx))
	if err == nil {
		err = b.write(w, base)
	}
	if err != nil {
		return 0, errs.At(db.s.P.Path(), "backup", err)
	}
	return tx.at.sequence, nil
}

// settleBackup makes durable what a backup will show. What recovery cannot cut off is what the sequence stands for.
func (db *DB) settleBackup(tx *Tx) error {
	return db.guarded(func() error {
		if sabotage.Is(sabotage.BackupUnsynced) {
			return nil
		}
		if !db.opts.ReadOnly {
			return db.dur.sync(tx.logEnd)
		}
		if db.s.Report.Records == 0 {
			return nil
		}
		return db.s.P.SyncReadOnly() // a process that was killed left it in the cache
	})
}

// backer is one backup being written.
type backer struct {
	ctx    context.Context
	tx     *Tx
	walker walker
	out    *backup.Writer
}

// write writes the stream.
func (b *backer) write(w io.Writer, base *uint64) (err error) {
	s, sequence := b.tx.db.s, b.tx.at.sequence
	order := &logOrder{}
	begin := backup.Begin{UUID: s.Tail.UUID, Sequence: sequence, Identity: s.Identity(sequence)}
	var since recovery.Since
	if base != nil {
		if since, err = b.since(*base); err != nil {
			return err
		}
		begin.Increment, begin.Base, begin.BaseIdentity = true, *base, since.Base
		if !since.Whole {
			order.changes, order.since = true, *base
		}
	}
	if b.out, err = backup.NewWriter(w, &begin); err != nil {
		return err
	}
	if since.Whole {
		err = b.out.Entry(backup.OpClear, nil, nil)
	}
	if err == nil {
		err = b.entries(order)
	}
	if err == nil && base != nil {
		_, err = b.since(*base) // a tombstone may have gone between the begin of the snapshot and its pin being seen
	}
	if err != nil {
		return err
	}
	return b.out.End(b.tx.keys)
}

// since tells what has to be written behind a base.
func (b *backer) since(base uint64) (recovery.Since, error) {
	since, ok := b.tx.db.s.Since(base, b.tx.at.sequence)
	if !ok {
		return since, errs.Join(errs.ErrHistoryGone, fmt.Errorf("sequence %d; the map is at %d", base, b.tx.at.sequence))
	}
	return since, nil
}

// entries writes what an order gives, outside of the fault guard: w is the caller's.
func (b *backer) entries(from source) error {
	w := &b.walker
	for more := true; more; {
		err := errors.Join(b.ctx.Err(), b.tx.usable())
		if err == nil {
			w.buf, w.entries = w.buf[:0], w.entries[:0]
			err = b.tx.guarded(func(at snapshot) error {
				var err error
				more, err = from.fill(&at, w)
				return err
			})
		}
		for i := 0; err == nil && i < len(w.entries); i++ {
			err = b.entry(&w.entries[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *backer) entry(e *entry) error {
	op, end := backup.OpPut, e.at+e.key
	if e.deleted {
		op = backup.OpDelete
	}
	return b.out.Entry(op, b.walker.buf[e.at:end], b.walker.buf[end:end+e.value])
}
