//go:build linux

package mapfile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mapfile-db/mapfile/pager"
)

// The keys of the SIGBUS tests: enough for some thousand pages of index and records.
const busKeys = 3000

// busKey is what is known of one key, whose values are numbered.
type busKey struct {
	acked   atomic.Uint64 // the last value whose Put returned nil
	begun   atomic.Uint64 // the last value whose Put was called
	refused atomic.Uint64 // the last value whose Put changed nothing, it says
}

// busMap is an open map of numbered values, under readers and writers whose pages the disk does not give.
type busMap struct {
	path    string
	o       Options
	r       *rand.Rand // of who takes pages away
	keys    [busKeys]busKey
	db      *DB
	faults  atomic.Int64 // SIGBUS recovered
	cut     atomic.Int64 // of these, told as ErrReplaced
	ops     atomic.Int64
	refused atomic.Int64 // Puts that met a fault before they stored anything
	failed  int          // times that the map failed
	mayFail bool         // stores may meet a fault

	pause sync.RWMutex // held by each operation, and alone by who must not be seen
	wrong atomic.Pointer[error]
	kinds [8]atomic.Int64 // faults by kind of operation
}

func busName(k int) []byte { return fmt.Appendf(nil, "bus %05d", k) }

// busValue is value n of a key: its length varies, and it names both.
func busValue(k int, n uint64) []byte {
	v := make([]byte, 100+(uint64(k)*7919+n*104729)%2500)
	for i := 0; i+16 <= len(v); i += 16 {
		binary.LittleEndian.PutUint64(v[i:], n)
		binary.LittleEndian.PutUint64(v[i+8:], uint64(k))
	}
	return v
}

// busNumber is the number of a value, 0 if it is none of the key's.
func busNumber(k int, v []byte) uint64 {
	if len(v) < 16 {
		return 0
	}
	n := binary.LittleEndian.Uint64(v)
	if string(v) != string(busValue(k, n)) {
		return 0
	}
	return n
}

func (m *busMap) open() error {
	var err error
	m.db, err = open(m.path, m.o.withDefaults(), internals{disk: pager.OS(), geometry: pager.DefaultGeometry(), memory: pager.MemoryLimit, background: true})
	return err
}

// fill puts every key.
func (m *busMap) fill() error {
	for k := range m.keys {
		if err := m.put(k); err != nil {
			return err
		}
	}
	return m.db.Checkpoint()
}

// fault counts a recovered fault, and reports whether err is one.
func (m *busMap) fault(kind int, err error) bool {
	var f *pager.FaultError
	if !errors.As(err, &f) || errors.Is(err, ErrFailed) {
		return false
	}
	m.faults.Add(1)
	m.kinds[kind].Add(1)
	if errors.Is(err, ErrReplaced) {
		m.cut.Add(1)
	}
	if !errors.Is(err, syscall.EIO) {
		m.bad("a fault is not EIO: %w", err)
	}
	return true
}

// bad notes what must not be.
func (m *busMap) bad(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	m.wrong.CompareAndSwap(nil, &err)
}

// put writes the next value of a key, which is the caller's alone.
func (m *busMap) put(k int) error {
	x := &m.keys[k]
	n := max(x.begun.Load(), x.refused.Load()) + 1
	x.begun.Store(n)
	err := m.db.Put(busName(k), busValue(k, n))
	switch {
	case err == nil:
		x.acked.Store(n)
	case m.fault(0, err) || errors.Is(err, ErrFull): // also where another writer has failed the map since
		m.refused.Add(1)
		x.refused.Store(n)
		return nil
	}
	return err // it may have happened
}

// seen checks what a read of a key says that began when its last acknowledged value was before.
func (m *busMap) seen(kind, k int, before uint64, v []byte, err error) {
	x := &m.keys[k]
	switch {
	case err == nil:
		n := busNumber(k, v)
		if n == 0 || n < before || n > x.begun.Load() || n == x.refused.Load() {
			m.bad("key %d: %d bytes, value %d; acknowledged %d, begun %d, refused %d", k, len(v), n, before, x.begun.Load(), x.refused.Load())
		}
	case err == ErrNotFound:
		if before > 0 {
			m.bad("key %d is not found, value %d was acknowledged", k, before)
		}
	case errors.Is(err, ErrFailed) && m.mayFail:
	case !m.fault(kind, err):
		m.bad("key %d: %w", k, err)
	}
}

// read looks at a random key in a random way.
func (m *busMap) read(r *rand.Rand) {
	k := r.IntN(busKeys)
	before, name := m.keys[k].acked.Load(), busName(k)
	var v []byte
	var err error
	copied := func(b []byte) error {
		v = append([]byte(nil), b...) // the read of the caller's own may fault too
		return nil
	}
	kind := 1 + r.IntN(6)
	switch kind {
	case 1:
		v, err = m.db.Get(name)
	case 2:
		v, err = m.db.AppendGet([]byte("before"), name)
		if err == nil {
			v = v[len("before"):]
		}
	case 3:
		err = m.db.GetFunc(name, copied)
	case 4:
		err = m.db.View(func(tx *Tx) error { return tx.GetFunc(name, copied) })
	case 5:
		m.readMany(r)
		return
	case 6:
		if r.IntN(60) == 0 {
			m.readAll()
			return
		}
		found := false
		if found, err = m.db.Has(name); err == nil && !found {
			err = ErrNotFound
		}
		if err == nil {
			return
		}
	}
	m.seen(kind, k, before, v, err)
}

// readMany looks at some keys in one call.
func (m *busMap) readMany(r *rand.Rand) {
	var ks [40]int
	var names [][]byte
	var before [40]uint64
	for i := range ks {
		ks[i] = r.IntN(busKeys)
		before[i] = m.keys[ks[i]].acked.Load()
		names = append(names, busName(ks[i]))
	}
	err := m.db.GetMany(names, func(i int, v []byte, err error) error {
		m.seen(5, ks[i], before[i], append([]byte(nil), v...), err)
		return nil
	})
	if err != nil && !m.fault(5, err) && !(m.mayFail && errors.Is(err, ErrFailed)) {
		m.bad("GetMany: %w", err)
	}
}

// readAll loops over the map.
func (m *busMap) readAll() {
	var before [busKeys]uint64
	for k := range m.keys {
		before[k] = m.keys[k].acked.Load()
	}
	err := m.db.View(func(tx *Tx) error {
		shown := 0
		for name, v := range tx.All() {
			var k int
			if _, err := fmt.Sscanf(string(name), "bus %05d", &k); err != nil {
				return err
			}
			m.seen(7, k, before[k], v, nil)
			shown++
		}
		if tx.Err() == nil && shown != busKeys {
			m.bad("a loop without an error shows %d keys", shown)
		}
		return tx.Err()
	})
	if err != nil && !m.fault(7, err) && !(m.mayFail && errors.Is(err, ErrFailed)) {
		m.bad("All: %w", err)
	}
}

// storm runs four goroutines, so many of them writers, while disturb takes pages away and gives them back. Writers end
// when the map fails. It answers when all have ended.
func (m *busMap) storm(writers int, disturb func() error) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	hung := time.AfterFunc(60*time.Second, func() {
		debug.SetTraceback("all")
		panic("an operation under SIGBUS hangs")
	})
	defer hung.Stop()
	var all sync.WaitGroup
	for g := range 4 {
		r := rand.New(rand.NewPCG(m.r.Uint64(), uint64(g)))
		all.Go(func() {
			for ctx.Err() == nil && m.wrong.Load() == nil {
				m.pause.RLock()
				m.ops.Add(1)
				var err error
				if g < writers {
					if err = m.put(r.IntN(busKeys/writers)*writers + g); err != nil && (!m.mayFail || !errors.Is(err, ErrFailed)) {
						m.bad("Put: %w", err)
					}
				} else {
					m.read(r)
				}
				m.pause.RUnlock()
				if err != nil {
					return
				}
			}
		})
	}
	err := disturb()
	stop()
	all.Wait()
	if wrong := m.wrong.Load(); wrong != nil {
		return *wrong
	}
	return err
}

// still runs f while nothing is stored: no operation runs, and no upkeep, which goes on when the caller says so.
func (m *busMap) still(f func() error) (upkeep func(), err error) {
	m.pause.Lock() // first: an operation may want what upkeep has
	defer m.pause.Unlock()
	m.db.checkpointMu.Lock()
	m.db.turn.Lock()
	defer m.db.turn.Unlock()
	return m.db.checkpointMu.Unlock, f()
}

// reopen closes the map, opens it again and checks that each key has its last acknowledged value, or one
// that may have been written after.
func (m *busMap) reopen() error {
	if m.db.s.P.Failed() != nil {
		m.faults.Add(1) // the one that failed it
		m.failed++
	}
	begin := time.Now()
	if err := m.db.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if d := time.Since(begin); d > 20*time.Second {
		return fmt.Errorf("Close took %v", d)
	}
	if err := m.open(); err != nil {
		return fmt.Errorf("reopen: %w", err)
	}
	for k := range m.keys {
		x := &m.keys[k]
		v, err := m.db.Get(busName(k))
		m.seen(0, k, x.acked.Load(), v, err)
		n := busNumber(k, v)
		x.acked.Store(n)
		x.begun.Store(n)
	}
	if wrong := m.wrong.Load(); wrong != nil {
		return fmt.Errorf("reopened: %w", *wrong)
	}
	m.db.turn.Lock()
	defer m.db.turn.Unlock()
	return m.db.s.Account()
}
