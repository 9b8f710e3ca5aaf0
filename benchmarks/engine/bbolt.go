package engine

import (
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

var bboltEngines = []Engine{
	bboltEngine("bbolt-nosync", Kill, true, false),
	bboltEngine("bbolt-sync", Commit, false, false),
	bboltEngine("bbolt-batch", Commit, false, true),
}

func bboltEngine(name string, d Durability, noSync, group bool) Engine {
	e := Engine{
		Name: name, Module: "go.etcd.io/bbolt", Durability: d, Caps: full | CanBatch, LoadBatch: 1000,
		Settings: "freelist kept as a hash map; one bucket; load in commits of 1,000 keys without sync",
	}
	if !noSync {
		e.Shares = "bbolt-nosync"
		e.Settings = "freelist kept as a hash map; one bucket; DB.Update"
	}
	if group {
		e.Settings = "as bbolt-sync, DB.Batch: concurrent callers share a commit"
	}
	e.Open = func(dir string, _ Sizing) (Store, error) {
		db, err := bolt.Open(filepath.Join(dir, "data.bolt"), 0o600, &bolt.Options{
			NoSync: noSync, NoGrowSync: noSync, FreelistType: bolt.FreelistMapType,
		})
		if err != nil {
			return nil, err
		}
		if err := bboltCreate(db); err != nil {
			return nil, err
		}
		s := bboltStore{db: db, write: db.Update}
		if group {
			s.write = db.Batch
		}
		return s, nil
	}
	return e
}

var bboltBucket = []byte("data")

// bboltCreate makes the bucket of a new file; opening an old one writes nothing.
func bboltCreate(db *bolt.DB) error {
	there := false
	err := db.View(func(tx *bolt.Tx) error {
		there = tx.Bucket(bboltBucket) != nil
		return nil
	})
	if err != nil || there {
		return err
	}
	return db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket(bboltBucket)
		return err
	})
}

type bboltStore struct {
	db    *bolt.DB
	write func(func(*bolt.Tx) error) error
}

func (s bboltStore) AppendGet(dst, key []byte) (out []byte, err error) {
	out = dst
	err = s.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(bboltBucket).Get(key)
		if v == nil {
			return ErrNotFound
		}
		out = append(dst, v...)
		return nil
	})
	return out, err
}

func (s bboltStore) GetMany(dst []byte, keys [][]byte) ([]byte, int, error) {
	found := 0
	err := s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bboltBucket)
		for _, key := range keys {
			if v := b.Get(key); v != nil {
				dst = append(dst, v...)
				found++
			}
		}
		return nil
	})
	return dst, found, err
}

func (s bboltStore) Put(key, value []byte) error {
	return s.write(func(tx *bolt.Tx) error { return tx.Bucket(bboltBucket).Put(key, value) })
}

func (s bboltStore) PutBatch(keys, values [][]byte) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bboltBucket)
		for i, key := range keys {
			if err := b.Put(key, values[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s bboltStore) Delete(key []byte) error {
	return s.write(func(tx *bolt.Tx) error { return tx.Bucket(bboltBucket).Delete(key) })
}

func (s bboltStore) Scan(fn func(key, value []byte) error) error {
	return s.db.View(func(tx *bolt.Tx) error { return tx.Bucket(bboltBucket).ForEach(fn) })
}

func (s bboltStore) Close() error { return s.db.Close() }
