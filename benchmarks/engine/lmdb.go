//go:build lmdb && cgo

package engine

import (
	"errors"
	"sync"

	"github.com/PowerDNS/lmdb-go/lmdb"
)

// cgoEngines are the stores written in C, with -tags lmdb.
var cgoEngines = []Engine{
	lmdbEngine("lmdb-nosync", Kill, lmdb.NoSync, ""),
	lmdbEngine("lmdb-sync", Commit, 0, "lmdb-nosync"),
}

func lmdbEngine(name string, d Durability, flags uint, shares string) Engine {
	return Engine{
		Name: name, Module: "github.com/PowerDNS/lmdb-go", Durability: d, Shares: shares,
		Caps: full | CanBatch, LoadBatch: 1000,
		Settings: "C library through cgo; one renewed read transaction for each Get; load in commits of 1,000 keys without sync",
		Open: func(dir string, size Sizing) (Store, error) {
			env, err := lmdb.NewEnv()
			if err != nil {
				return nil, err
			}
			s := &lmdbStore{env: env}
			if err := s.open(dir, flags, int64(size.Bytes()*8+1<<30)); err != nil {
				return nil, errors.Join(err, env.Close())
			}
			return s, nil
		},
	}
}

type lmdbStore struct {
	env *lmdb.Env
	dbi lmdb.DBI

	mu   sync.Mutex  // protects idle
	idle []*lmdb.Txn // read transactions that have been reset
}

func (s *lmdbStore) open(dir string, flags uint, mapSize int64) error {
	if err := s.env.SetMapSize(mapSize); err != nil {
		return err
	}
	if err := s.env.Open(dir, flags|lmdb.NoReadahead, 0o600); err != nil {
		return err
	}
	return s.env.View(func(tx *lmdb.Txn) (err error) {
		s.dbi, err = tx.OpenRoot(0)
		return err
	})
}

// begin renews an idle read transaction, which is much cheaper than a new one.
func (s *lmdbStore) begin() (*lmdb.Txn, error) {
	s.mu.Lock()
	if n := len(s.idle); n > 0 {
		tx := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return tx, tx.Renew()
	}
	s.mu.Unlock()
	tx, err := s.env.BeginTxn(nil, lmdb.Readonly)
	if err != nil {
		return nil, err
	}
	tx.RawRead = true // the copy is ours to make
	return tx, nil
}

func (s *lmdbStore) end(tx *lmdb.Txn) {
	tx.Reset()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, tx)
}

func (s *lmdbStore) get(tx *lmdb.Txn, dst, key []byte) ([]byte, error) {
	v, err := tx.Get(s.dbi, key)
	if lmdb.IsNotFound(err) {
		return dst, ErrNotFound
	}
	if err != nil {
		return dst, err
	}
	return append(dst, v...), nil
}

func (s *lmdbStore) AppendGet(dst, key []byte) ([]byte, error) {
	tx, err := s.begin()
	if err != nil {
		return dst, err
	}
	defer s.end(tx)
	return s.get(tx, dst, key)
}

func (s *lmdbStore) GetMany(dst []byte, keys [][]byte) ([]byte, int, error) {
	tx, err := s.begin()
	if err != nil {
		return dst, 0, err
	}
	defer s.end(tx)
	found := 0
	for _, key := range keys {
		out, err := s.get(tx, dst, key)
		switch {
		case err == nil:
			dst = out
			found++
		case !errors.Is(err, ErrNotFound):
			return dst, found, err
		}
	}
	return dst, found, nil
}

func (s *lmdbStore) Put(key, value []byte) error {
	return s.env.Update(func(tx *lmdb.Txn) error { return tx.Put(s.dbi, key, value, 0) })
}

func (s *lmdbStore) PutBatch(keys, values [][]byte) error {
	return s.env.Update(func(tx *lmdb.Txn) error {
		for i, key := range keys {
			if err := tx.Put(s.dbi, key, values[i], 0); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *lmdbStore) Delete(key []byte) error {
	err := s.env.Update(func(tx *lmdb.Txn) error { return tx.Del(s.dbi, key, nil) })
	if lmdb.IsNotFound(err) {
		return nil
	}
	return err
}

func (s *lmdbStore) Scan(fn func(key, value []byte) error) error {
	return s.env.View(func(tx *lmdb.Txn) error {
		tx.RawRead = true
		c, err := tx.OpenCursor(s.dbi)
		if err != nil {
			return err
		}
		defer c.Close()
		for {
			key, value, err := c.Get(nil, nil, lmdb.Next)
			if lmdb.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := fn(key, value); err != nil {
				return err
			}
		}
	})
}

func (s *lmdbStore) Close() error {
	for _, tx := range s.idle {
		tx.Abort()
	}
	return s.env.Close()
}
