// Package stores reads the stores of others for import --from.
//
// Part of mapfile's implementation, no stable API.
package stores

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/akrylysov/pogreb"
	"github.com/dgraph-io/badger/v4"
	"go.etcd.io/bbolt"

	"github.com/mapfile-db/mapfile/tools/cli"
)

// All is every kind of store that can be read.
func All() []cli.Importer {
	return []cli.Importer{
		{Name: "bbolt", Entries: fromBbolt},
		{Name: "badger", Entries: fromBadger},
		{Name: "pogreb", Entries: fromPogreb},
	}
}

// there answers the error of a path where there is nothing: the stores would create it.
func there(path string, directory bool) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.IsDir() != directory {
		return &fs.PathError{Op: "open", Path: path, Err: fs.ErrInvalid}
	}
	return nil
}

// noBucket refuses --bucket for stores without buckets.
func noBucket(bucket string) error {
	if bucket != "" {
		return errors.New("a store of this kind has no buckets")
	}
	return nil
}

// fromBbolt reads one bucket of a bbolt file, opened read-only.
func fromBbolt(_ context.Context, path, bucket string, put func(key, value []byte) error, note func(string)) (count uint64, err error) {
	if err := there(path, false); err != nil {
		return 0, err
	}
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: 1e9})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		b, err := bboltBucket(tx, bucket)
		if err != nil {
			return err
		}
		nested := 0
		if err := b.ForEach(func(k, v []byte) error {
			if v == nil {
				nested++
				return nil
			}
			count++
			return put(k, v)
		}); err != nil {
			return err
		}
		if nested > 0 {
			note(fmt.Sprintf("%d nested buckets were left out: import each with --bucket", nested))
		}
		return bboltCount(b, count, nested)
	})
	return count, err
}

// bboltCount compares the entries seen with bbolt's own count, which takes in what is nested, and buckets.
func bboltCount(b *bbolt.Bucket, seen uint64, nested int) error {
	if counted := b.Stats().KeyN; nested == 0 && uint64(counted) != seen {
		return fmt.Errorf("bbolt counts %d keys, and gave %d", counted, seen)
	}
	return nil
}

// bboltBucket finds the bucket of a path with slashes, or the only one.
func bboltBucket(tx *bbolt.Tx, path string) (*bbolt.Bucket, error) {
	if path == "" {
		var names []string
		_ = tx.ForEach(func(name []byte, _ *bbolt.Bucket) error { // the callback has no error
			names = append(names, string(name))
			return nil
		})
		if len(names) != 1 {
			return nil, fmt.Errorf("it has %d buckets %q: choose one with --bucket", len(names), names)
		}
		return tx.Bucket([]byte(names[0])), nil
	}
	if b := tx.Bucket([]byte(path)); b != nil {
		return b, nil // the name itself has slashes, or none
	}
	parts := strings.Split(path, "/")
	b := tx.Bucket([]byte(parts[0]))
	for _, name := range parts[1:] {
		if b == nil {
			break
		}
		b = b.Bucket([]byte(name))
	}
	if b == nil {
		return nil, fmt.Errorf("it has no bucket %q", path)
	}
	return b, nil
}

// fromBadger reads the newest versions of a badger directory, opened read-only.
func fromBadger(ctx context.Context, path, bucket string, put func(key, value []byte) error, note func(string)) (count uint64, err error) {
	if err := errors.Join(noBucket(bucket), there(path, true)); err != nil {
		return 0, err
	}
	db, err := badger.Open(badger.DefaultOptions(path).WithReadOnly(true).WithLogger(nil).WithMetricsEnabled(false))
	if err != nil {
		return 0, fmt.Errorf("%w (a badger directory that was not closed must be opened once by its own program)", err)
	}
	defer db.Close()
	expiring := 0
	err = db.View(func(tx *badger.Txn) error {
		if count, err = badgerKeys(ctx, tx); err != nil {
			return err
		}
		it := tx.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			if item.ExpiresAt() > 0 {
				expiring++
			}
			if err := item.Value(func(v []byte) error { return put(item.Key(), v) }); err != nil {
				return err
			}
		}
		return nil
	})
	if expiring > 0 {
		note(fmt.Sprintf("%d entries would expire there: in the map they stay", expiring))
	}
	return count, err
}

// badgerKeys counts the keys without their values.
func badgerKeys(ctx context.Context, tx *badger.Txn) (n uint64, err error) {
	it := tx.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return n, ctx.Err()
		}
	}
	return n, nil
}

// fromPogreb reads a pogreb directory. pogreb has no read-only open: it takes its lock there, and recovers if it must.
func fromPogreb(_ context.Context, path, bucket string, put func(key, value []byte) error, _ func(string)) (count uint64, err error) {
	if err := errors.Join(noBucket(bucket), there(path, true)); err != nil {
		return 0, err
	}
	db, err := pogreb.Open(path, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for it := db.Items(); ; {
		k, v, err := it.Next()
		if errors.Is(err, pogreb.ErrIterationDone) {
			return uint64(db.Count()), nil
		}
		if err != nil {
			return 0, err
		}
		if err := put(k, v); err != nil {
			return 0, err
		}
	}
}
