package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"sync"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
)

// rails are the bounds that no store can pass on this machine.
var rails = []Engine{memoryRail, diskRail}

var memoryRail = Engine{
	Name: "rail-memory", Durability: Memory, Rail: true, Caps: CanGet | CanLoad, LoadBatch: 1,
	Settings: "a pre-sized table of 8-byte slots and packed records in anonymous memory with huge pages: hash, load the slot, load the record, compare, copy, checksum",
	Open: func(_ string, size Sizing) (Store, error) {
		return newMemoryStore(size)
	},
}

// railHeader precedes each record of the memory rail: checksum 8, key length
// 4, value length 4, as many bytes as a small record header needs.
const railHeader = 16

// memoryStore is a table that is never more than half full, so that nearly
// every look-up reads one cache line of it, and then the record: two dependent
// loads. It is filled once, up to the size it was made for.
type memoryStore struct {
	mu    sync.Mutex // protects used while loading
	slots []byte     // words of a 16-bit tag and the record's offset plus one
	shift uint
	recs  []byte
	used  uint64
	table []uint64 // slots as words
}

func newMemoryStore(size Sizing) (*memoryStore, error) {
	n := uint64(1) << bits.Len64(max(2*size.Keys, 512)-1)
	slots, err := hugeMemory(n * 8)
	if err != nil {
		return nil, err
	}
	one := (railHeader + uint64(size.KeyBytes+size.ValueSize) + 7) &^ 7
	recs, err := hugeMemory(size.Keys * one)
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(slots))
	}
	return &memoryStore{
		slots: slots, recs: recs, shift: uint(64 - bits.Len64(n-1)),
		// The mapping is page-aligned and lives until Close.
		table: unsafe.Slice((*uint64)(unsafe.Pointer(&slots[0])), n),
	}, nil
}

// hugeMemory maps n bytes of zeros, on huge pages where the kernel has them.
func hugeMemory(n uint64) ([]byte, error) {
	const huge = 2 << 20
	n = max((n+huge-1)&^(huge-1), huge)
	m, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, err
	}
	// Advice: a kernel without huge pages refuses it and all still works.
	_ = unix.Madvise(m, unix.MADV_HUGEPAGE)
	return m, nil
}

// find returns the record of key, or where its slot belongs.
func (s *memoryStore) find(key []byte) (slot uint64, rec []byte) {
	h := xxhash.Sum64(key)
	mask := uint64(len(s.table) - 1)
	for i := h >> s.shift; ; i = (i + 1) & mask {
		w := s.table[i]
		if w == 0 {
			return i, nil
		}
		if w>>48 != h&0xffff {
			continue
		}
		r := s.recs[w&(1<<48-1)-1:]
		end := railHeader + binary.LittleEndian.Uint32(r[8:]) + binary.LittleEndian.Uint32(r[12:])
		if r = r[:end]; bytes.Equal(r[railHeader:railHeader+len(key)], key) {
			return i, r
		}
	}
}

var errRailSum = errors.New("engine: memory rail: checksum")

func (s *memoryStore) AppendGet(dst, key []byte) ([]byte, error) {
	_, r := s.find(key)
	if r == nil {
		return dst, ErrNotFound
	}
	dst = append(dst, r[railHeader+len(key):]...)
	if xxhash.Sum64(r[8:]) != binary.LittleEndian.Uint64(r) {
		return dst, errRailSum
	}
	return dst, nil
}

func (s *memoryStore) GetMany(dst []byte, keys [][]byte) ([]byte, int, error) {
	return getLoop(s, dst, keys)
}

var errRailFull = errors.New("engine: memory rail: full")

func (s *memoryStore) Put(key, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := uint64(railHeader + len(key) + len(value))
	if s.used+n > uint64(len(s.recs)) {
		return errRailFull
	}
	r := s.recs[s.used : s.used+n]
	binary.LittleEndian.PutUint32(r[8:], uint32(len(key)))
	binary.LittleEndian.PutUint32(r[12:], uint32(len(value)))
	copy(r[railHeader:], key)
	copy(r[railHeader+len(key):], value)
	binary.LittleEndian.PutUint64(r, xxhash.Sum64(r[8:]))
	i, _ := s.find(key)
	s.table[i] = xxhash.Sum64(key)<<48 | (s.used + 1)
	s.used = (s.used + n + 7) &^ 7
	return nil
}

func (s *memoryStore) PutBatch(keys, values [][]byte) error { return putLoop(s, keys, values) }

func (s *memoryStore) Delete([]byte) error { return errors.ErrUnsupported }

func (s *memoryStore) Scan(func(key, value []byte) error) error { return errors.ErrUnsupported }

func (s *memoryStore) Close() error {
	s.table = nil
	return errors.Join(unix.Munmap(s.slots), unix.Munmap(s.recs))
}
