package engine

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/mapfile-db/mapfile"
)

var (
	mapfileNever    = mapfileEngine("mapfile-never", mapfile.SyncNever, Kill, "")
	mapfileInterval = mapfileEngine("mapfile-interval", mapfile.SyncInterval, Timed, "")
	mapfileAlways   = mapfileEngine("mapfile-always", mapfile.SyncAlways, Commit, "mapfile-never")
)

func mapfileEngine(name string, mode mapfile.SyncMode, d Durability, shares string) Engine {
	return Engine{
		Name: name, Durability: d, Shares: shares, Caps: full | CanBatch | CanUpkeep, LoadBatch: 1,
		Settings: "defaults; every Get verifies the record's checksum; load by single Puts",
		Open: func(dir string, _ Sizing) (Store, error) {
			db, err := mapfile.Open(filepath.Join(dir, "data.map"), &mapfile.Options{Sync: mode})
			if err != nil {
				return nil, err
			}
			return mapfileStore{db}, nil
		},
	}
}

type mapfileStore struct{ db *mapfile.DB }

func (s mapfileStore) AppendGet(dst, key []byte) ([]byte, error) {
	out, err := s.db.AppendGet(dst, key)
	if err == mapfile.ErrNotFound {
		return dst, ErrNotFound
	}
	return out, err
}

func (s mapfileStore) GetMany(dst []byte, keys [][]byte) ([]byte, int, error) {
	found := 0
	err := s.db.GetMany(keys, func(_ int, value []byte, err error) error {
		switch {
		case err == nil:
			dst = append(dst, value...)
			found++
		case !errors.Is(err, mapfile.ErrNotFound):
			return err
		}
		return nil
	})
	return dst, found, err
}

func (s mapfileStore) Put(key, value []byte) error { return s.db.Put(key, value) }

func (s mapfileStore) PutBatch(keys, values [][]byte) error {
	return s.db.Update(func(tx *mapfile.Tx) error {
		for i, key := range keys {
			if err := tx.Put(key, values[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s mapfileStore) Delete(key []byte) error { return s.db.Delete(key) }

func (s mapfileStore) Scan(fn func(key, value []byte) error) error {
	return s.db.View(func(tx *mapfile.Tx) error {
		for key, value := range tx.All() {
			if err := fn(key, value); err != nil {
				return err
			}
		}
		return tx.Err()
	})
}

func (s mapfileStore) Checkpoint() error { return s.db.Checkpoint() }

func (s mapfileStore) Compact() error { return s.db.Compact(context.Background()) }

func (s mapfileStore) Replayed() uint64 { return s.db.Stats().Recovery.Records }

func (s mapfileStore) Close() error { return s.db.Close() }
