package engine

import (
	"errors"
	"io"
	"log"
	"time"

	"github.com/akrylysov/pogreb"
)

var pogrebEngines = []Engine{
	pogrebEngine("pogreb-nosync", Kill, 0, ""),
	pogrebEngine("pogreb-sync", Commit, -1, "pogreb-nosync"),
}

func pogrebEngine(name string, d Durability, every time.Duration, shares string) Engine {
	return Engine{
		Name: name, Module: "github.com/akrylysov/pogreb", Durability: d, Shares: shares,
		Caps: full, LoadBatch: 1,
		Settings: "no background compaction; files mapped (its default); Get returns the copy that pogreb makes",
		Open: func(dir string, _ Sizing) (Store, error) {
			pogreb.SetLogger(log.New(io.Discard, "", 0))
			db, err := pogreb.Open(dir, &pogreb.Options{BackgroundSyncInterval: every})
			if err != nil {
				return nil, err
			}
			return pogrebStore{db}, nil
		},
	}
}

type pogrebStore struct{ db *pogreb.DB }

// AppendGet hands out pogreb's own copy: a second one would count against it.
func (s pogrebStore) AppendGet(dst, key []byte) ([]byte, error) {
	v, err := s.db.Get(key)
	if err == nil && v == nil {
		return dst, ErrNotFound
	}
	return v, err
}

func (s pogrebStore) GetMany(dst []byte, keys [][]byte) ([]byte, int, error) {
	found := 0
	for _, key := range keys {
		v, err := s.AppendGet(nil, key)
		switch {
		case err == nil:
			dst = append(dst, v...)
			found++
		case !errors.Is(err, ErrNotFound):
			return dst, found, err
		}
	}
	return dst, found, nil
}

func (s pogrebStore) Put(key, value []byte) error { return s.db.Put(key, value) }

func (s pogrebStore) PutBatch(keys, values [][]byte) error { return putLoop(s, keys, values) }

func (s pogrebStore) Delete(key []byte) error { return s.db.Delete(key) }

func (s pogrebStore) Scan(fn func(key, value []byte) error) error {
	it := s.db.Items()
	for {
		key, value, err := it.Next()
		if errors.Is(err, pogreb.ErrIterationDone) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
}

func (s pogrebStore) Close() error { return s.db.Close() }
