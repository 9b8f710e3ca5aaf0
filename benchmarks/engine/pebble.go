package engine

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
)

var pebbleEngines = []Engine{
	pebbleEngine("pebble-nosync", Buffered, ""),
	pebbleEngine("pebble-sync", Commit, "pebble-nosync"),
}

func pebbleEngine(name string, d Durability, shares string) Engine {
	return Engine{
		Name: name, Module: "github.com/cockroachdb/pebble/v2", Durability: d, Shares: shares,
		Caps: full | CanBatch, LoadBatch: 1000,
		Settings: "write-ahead log on, compression off, memtables of 64 MiB, bloom filters of 10 bits a key, block cache of twice the data, 64 MiB to 4 GiB",
		Open: func(dir string, size Sizing) (Store, error) {
			db, err := pebble.Open(dir, pebbleOptions(size))
			if err != nil {
				return nil, err
			}
			mode := pebble.NoSync
			if d == Commit {
				mode = pebble.Sync
			}
			return pebbleStore{db, mode}, nil
		},
	}
}

func pebbleOptions(size Sizing) *pebble.Options {
	o := &pebble.Options{
		CacheSize:    int64(min(max(2*size.Bytes(), 64<<20), 4<<30)),
		MemTableSize: 64 << 20,
		Logger:       silent{},
	}
	for i := range o.Levels {
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// silent is pebble's logger; what would end the process still does.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	pebble.DefaultLogger.Fatalf(format, args...)
}

type pebbleStore struct {
	db   *pebble.DB
	mode *pebble.WriteOptions
}

func (s pebbleStore) AppendGet(dst, key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, ErrNotFound
	}
	if err != nil {
		return dst, err
	}
	dst = append(dst, v...)
	return dst, closer.Close()
}

func (s pebbleStore) GetMany(dst []byte, keys [][]byte) ([]byte, int, error) {
	return getLoop(s, dst, keys)
}

func (s pebbleStore) Put(key, value []byte) error { return s.db.Set(key, value, s.mode) }

func (s pebbleStore) PutBatch(keys, values [][]byte) error {
	b := s.db.NewBatch()
	defer b.Close()
	for i, key := range keys {
		if err := b.Set(key, values[i], nil); err != nil {
			return err
		}
	}
	return b.Commit(s.mode)
}

func (s pebbleStore) Delete(key []byte) error { return s.db.Delete(key, s.mode) }

func (s pebbleStore) Scan(fn func(key, value []byte) error) error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		if err := fn(it.Key(), it.Value()); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

func (s pebbleStore) Close() error { return s.db.Close() }
