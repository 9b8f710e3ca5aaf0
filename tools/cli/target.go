package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// A batch is committed when it has so many entries or so many bytes of keys and
// values: large enough that a commit's own cost vanishes, small enough that what
// is in memory stays small.
const (
	batchEntries = 1000
	batchBytes   = 8 << 20
)

// target is a map that takes in many entries. Commits are not synced one by one:
// close syncs all. For one goroutine.
type target struct {
	db      *mapfile.DB
	path    string
	created bool // the file is of this run's making

	load         func(key, value []byte) error // inside fill, of a map of this run's making
	keys, values [][]byte
	pendingBytes int64

	entries, bytes int64 // committed
}

// openTarget opens the map at path for writing and creates it if there is none.
func (a *app) openTarget(cmd *cobra.Command, path string) (*target, error) {
	_, err := os.Lstat(path)
	absent := errors.Is(err, fs.ErrNotExist)
	o := a.options(cmd)
	o.Sync = mapfile.SyncNever
	db, err := mapfile.Open(path, o)
	if err != nil {
		return nil, err
	}
	// With keys in it, it is a map that someone else made in the meantime.
	return &target{db: db, path: path, created: absent && db.Len() == 0}, nil
}

// fill runs work, which calls put for each entry. A map of this run's making is loaded as one commit: if work
// fails nothing of it is wanted. Another one keeps what was committed.
func (t *target) fill(work func() error) error {
	if !t.created {
		return work()
	}
	return t.db.BulkLoad(context.Background(), func(put func(key, value []byte) error) error {
		t.load = put
		defer func() { t.load = nil }()
		return work()
	})
}

// put takes key and value, which it keeps, and commits when a batch is full.
func (t *target) put(key, value []byte) error {
	if t.load != nil {
		if err := t.load(key, value); err != nil {
			return t.keyError(key, err)
		}
		t.entries++
		t.bytes += int64(len(key) + len(value))
		return nil
	}
	t.keys, t.values = append(t.keys, key), append(t.values, value)
	t.pendingBytes += int64(len(key) + len(value))
	if len(t.keys) < batchEntries && t.pendingBytes < batchBytes {
		return nil
	}
	return t.commit()
}

func (t *target) commit() error {
	err := t.db.Update(func(tx *mapfile.Tx) error {
		for i, key := range t.keys {
			if err := tx.Put(key, t.values[i]); err != nil {
				return t.keyError(key, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.entries += int64(len(t.keys))
	t.bytes += t.pendingBytes
	t.keys, t.values, t.pendingBytes = t.keys[:0], t.values[:0], 0
	return nil
}

// keyError says of an error which entry it met.
func (t *target) keyError(key []byte, err error) error {
	return fmt.Errorf("mapfile: %s: key %s: %w", t.path, shorten(string(key)), unprefixed{err})
}

// close commits what is pending, syncs and closes, unless err says that the work
// was stopped: then a map of this run's making is removed, and of any other the
// error says how far it got.
func (t *target) close(err error) error {
	if err == nil {
		err = t.commit()
	}
	if err == nil || !t.created {
		err = first(err, t.db.Sync())
	}
	err = first(err, t.db.Close())
	switch {
	case err == nil:
		return nil
	case t.created:
		if rerr := os.Remove(t.path); rerr != nil {
			return fmt.Errorf("%w; half-made map left behind: %v", err, rerr)
		}
		return err
	case t.entries > 0:
		return fmt.Errorf("%w; the first %s entries (%s) are in %s", err, formatCount(t.entries), formatBytes(t.bytes), t.path)
	}
	return err
}

// first gives the first error that is not nil.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
