package engine

import (
	"errors"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

var badgerEngines = []Engine{
	badgerEngine("badger-nosync", Kill, ""),
	badgerEngine("badger-sync", Commit, "badger-nosync"),
}

func badgerEngine(name string, d Durability, shares string) Engine {
	return Engine{
		Name: name, Module: "github.com/dgraph-io/badger/v4", Durability: d, Shares: shares,
		Caps: full | CanBatch, LoadBatch: 1000,
		Settings: "defaults, compression and metrics off, no block cache (tables are mapped), no conflict detection; load and batches by WriteBatch, synced batches by Update",
		Open: func(dir string, _ Sizing) (Store, error) {
			db, err := badger.Open(badger.DefaultOptions(dir).
				WithSyncWrites(d == Commit).
				WithCompression(options.None).
				WithBlockCacheSize(0).
				WithDetectConflicts(false).
				WithMetricsEnabled(false).
				WithLogger(nil))
			if err != nil {
				return nil, err
			}
			return badgerStore{db, d == Commit}, nil
		},
	}
}

type badgerStore struct {
	db     *badger.DB
	atomic bool // a batch is one transaction, not a WriteBatch
}

func (s badgerStore) AppendGet(dst, key []byte) (out []byte, err error) {
	out = dst
	err = s.db.View(func(tx *badger.Txn) error {
		out, err = badgerGet(tx, dst, key)
		return err
	})
	return out, err
}

func badgerGet(tx *badger.Txn, dst, key []byte) ([]byte, error) {
	item, err := tx.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return dst, ErrNotFound
	}
	if err != nil {
		return dst, err
	}
	err = item.Value(func(v []byte) error {
		dst = append(dst, v...)
		return nil
	})
	return dst, err
}

func (s badgerStore) GetMany(dst []byte, keys [][]byte) ([]byte, int, error) {
	found := 0
	err := s.db.View(func(tx *badger.Txn) error {
		for _, key := range keys {
			out, err := badgerGet(tx, dst, key)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			dst = out
			found++
		}
		return nil
	})
	return dst, found, err
}

// Put copies nothing: badger keeps the slices until the transaction is
// committed, which Update has done when it returns.
func (s badgerStore) Put(key, value []byte) error {
	return s.db.Update(func(tx *badger.Txn) error { return tx.Set(key, value) })
}

func (s badgerStore) PutBatch(keys, values [][]byte) error {
	if s.atomic {
		return s.db.Update(func(tx *badger.Txn) error {
			for i, key := range keys {
				if err := tx.Set(key, values[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	b := s.db.NewWriteBatch()
	defer b.Cancel()
	for i, key := range keys {
		if err := b.Set(key, values[i]); err != nil {
			return err
		}
	}
	return b.Flush()
}

func (s badgerStore) Delete(key []byte) error {
	return s.db.Update(func(tx *badger.Txn) error { return tx.Delete(key) })
}

func (s badgerStore) Scan(fn func(key, value []byte) error) error {
	return s.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			err := item.Value(func(v []byte) error { return fn(item.Key(), v) })
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (s badgerStore) Close() error { return s.db.Close() }
