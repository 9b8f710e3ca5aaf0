package engine

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

var diskRail = Engine{
	Name: "rail-disk", Durability: Commit, Rail: true, Caps: CanPut,
	Settings: "one pwrite and one fdatasync of key, value and 24 bytes, into blocks written before; callers that wait share one",
	Open: func(dir string, _ Sizing) (Store, error) {
		return newDiskStore(filepath.Join(dir, "rail"))
	},
}

// diskStore appends to a file whose blocks exist, and starts again at its end.
// Callers that arrive during a sync are written and synced together by the
// next of them.
type diskStore struct {
	f  *os.File
	at int64 // owned by the caller that syncs

	mu   sync.Mutex // protects next
	next *group
	turn sync.Mutex // held while writing and syncing
}

// group is what one sync makes durable.
type group struct {
	buf  []byte
	done chan struct{}
	err  error
}

const (
	diskRailBytes  = 64 << 20
	diskRailHeader = 24
)

func newDiskStore(path string) (*diskStore, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	s := &diskStore{f: f}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < diskRailBytes; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, at); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return s, f.Sync()
}

func (s *diskStore) Put(key, value []byte) error {
	g, leads := s.join(key, value)
	if !leads {
		<-g.done
		return g.err
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	defer close(g.done)
	g.err = s.write(g.buf)
	return g.err
}

// join adds a record to the group that gathers; its first member leads it.
func (s *diskStore) join(key, value []byte) (g *group, leads bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if leads = s.next == nil; leads {
		s.next = &group{done: make(chan struct{})}
	}
	g = s.next
	g.buf = append(g.buf, make([]byte, diskRailHeader)...)
	g.buf = append(append(g.buf, key...), value...)
	return g, leads
}

func (s *diskStore) write(b []byte) error {
	if s.at+int64(len(b)) > diskRailBytes {
		s.at = 0
	}
	if _, err := s.f.WriteAt(b, s.at); err != nil {
		return err
	}
	s.at += int64(len(b))
	return unix.Fdatasync(int(s.f.Fd()))
}

func (s *diskStore) AppendGet(dst, _ []byte) ([]byte, error) { return dst, errors.ErrUnsupported }

func (s *diskStore) GetMany(dst []byte, _ [][]byte) ([]byte, int, error) {
	return dst, 0, errors.ErrUnsupported
}

func (s *diskStore) PutBatch(keys, values [][]byte) error { return putLoop(s, keys, values) }

func (s *diskStore) Delete([]byte) error { return errors.ErrUnsupported }

func (s *diskStore) Scan(func(key, value []byte) error) error { return errors.ErrUnsupported }

func (s *diskStore) Close() error { return s.f.Close() }
