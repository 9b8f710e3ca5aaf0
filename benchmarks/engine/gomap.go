package engine

import (
	"bytes"
	"sync"
)

const inMemory = CanGet | CanPut | CanDelete | CanScan | CanLoad

var goMap = Engine{
	Name: "gomap", Durability: Memory, Caps: inMemory, LoadBatch: 1,
	Settings: "map[string][]byte behind a sync.RWMutex, not pre-sized; Put stores a copy",
	Open: func(string, Sizing) (Store, error) {
		return &mapStore{m: map[string][]byte{}}, nil
	},
}

var syncMap = Engine{
	Name: "syncmap", Durability: Memory, Caps: inMemory, LoadBatch: 1,
	Settings: "sync.Map, the key a string, the value a []byte; Put stores a copy",
	Open: func(string, Sizing) (Store, error) {
		return &syncStore{}, nil
	},
}

type mapStore struct {
	mu sync.RWMutex // protects m
	m  map[string][]byte
}

func (s *mapStore) AppendGet(dst, key []byte) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.m[string(key)]
	if !ok {
		return dst, ErrNotFound
	}
	return append(dst, v...), nil
}

func (s *mapStore) GetMany(dst []byte, keys [][]byte) ([]byte, int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found := 0
	for _, key := range keys {
		if v, ok := s.m[string(key)]; ok {
			dst = append(dst, v...)
			found++
		}
	}
	return dst, found, nil
}

func (s *mapStore) Put(key, value []byte) error {
	v := bytes.Clone(value)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[string(key)] = v
	return nil
}

func (s *mapStore) PutBatch(keys, values [][]byte) error { return putLoop(s, keys, values) }

func (s *mapStore) Delete(key []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, string(key))
	return nil
}

func (s *mapStore) Scan(fn func(key, value []byte) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var kb []byte
	for k, v := range s.m {
		kb = append(kb[:0], k...)
		if err := fn(kb, v); err != nil {
			return err
		}
	}
	return nil
}

func (s *mapStore) Close() error { return nil }

type syncStore struct{ m sync.Map }

func (s *syncStore) AppendGet(dst, key []byte) ([]byte, error) {
	v, ok := s.m.Load(string(key))
	if !ok {
		return dst, ErrNotFound
	}
	return append(dst, v.([]byte)...), nil
}

func (s *syncStore) GetMany(dst []byte, keys [][]byte) ([]byte, int, error) {
	return getLoop(s, dst, keys)
}

func (s *syncStore) Put(key, value []byte) error {
	s.m.Store(string(key), bytes.Clone(value))
	return nil
}

func (s *syncStore) PutBatch(keys, values [][]byte) error { return putLoop(s, keys, values) }

func (s *syncStore) Delete(key []byte) error {
	s.m.Delete(string(key))
	return nil
}

func (s *syncStore) Scan(fn func(key, value []byte) error) error {
	var kb []byte
	var err error
	s.m.Range(func(k, v any) bool {
		kb = append(kb[:0], k.(string)...)
		err = fn(kb, v.([]byte))
		return err == nil
	})
	return err
}

func (s *syncStore) Close() error { return nil }
