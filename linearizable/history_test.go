//go:build linux || darwin || freebsd

package linearizable

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/mapfile-db/mapfile"
)

var (
	histories = flag.Int("histories", 150, "how many histories to record and check; 10000 is the whole")
	seed      = flag.Uint64("seed", 0, "seed of the first history; 0: the time")
)

const (
	goroutines = 4
	operations = 40 // in all, of a history
	keys       = 8
)

// kind is a call of the map.
type kind int

const (
	get kind = iota
	put
	remove
	compareAndSwap
	add
	update // of two keys: reads the first, sets both to what it read and a number
	view   // of all keys
	clearAll
	getOrPut
	getAndDelete
	swap
	compareAndDelete
	modify // sets what is odd and there to its half, adds to what is even, deletes 0
	kinds
)

// call is the input of an operation, outcome what it answered.
type call struct {
	kind       kind
	key, other int
	value, old int64
}

type outcome struct {
	value int64 // -1: not there
	ok    bool
	all   state
}

// state is the model: a value for each key, -1 where there is none.
type state [keys]int64

func empty() (s state) {
	for i := range s {
		s[i] = -1
	}
	return s
}

// apply is a call on the model.
func (s state) apply(c call) (outcome, state) {
	was := s[c.key]
	switch c.kind {
	case get:
		return outcome{value: was}, s
	case put:
		s[c.key] = c.value
	case remove:
		s[c.key] = -1
	case compareAndSwap:
		if was == c.old && was >= 0 {
			s[c.key] = c.value
			return outcome{ok: true}, s
		}
	case add:
		s[c.key] = max(was, 0) + c.value
		return outcome{value: s[c.key]}, s
	case update:
		s[c.key], s[c.other] = max(was, 0)+c.value, max(was, 0)+c.value
		return outcome{value: was}, s
	case view:
		return outcome{all: s}, s
	case clearAll:
		return outcome{}, empty()
	case getOrPut:
		if was < 0 {
			s[c.key] = c.value
		}
		return outcome{value: s[c.key], ok: was >= 0}, s
	case getAndDelete:
		s[c.key] = -1
		return outcome{value: was, ok: was >= 0}, s
	case swap:
		s[c.key] = c.value
		return outcome{value: was, ok: was >= 0}, s
	case compareAndDelete:
		if was == c.old && was >= 0 {
			s[c.key] = -1
			return outcome{ok: true}, s
		}
	case modify:
		s[c.key] = modified(was, c.value)
		return outcome{value: was}, s
	}
	return outcome{}, s
}

// modified is what modify makes of a value; -1: nothing.
func modified(was, by int64) int64 {
	switch {
	case was == 0:
		return -1
	case was > 0 && was%2 == 1:
		return was / 2
	}
	return max(was, 0) + by
}

var model = porcupine.Model{
	Init: func() any { return empty() },
	Step: func(s, in, out any) (bool, any) {
		want, next := s.(state).apply(in.(call))
		return want == out.(outcome), next
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

func key(i int) []byte       { return fmt.Appendf(nil, "key %d", i) }
func counter(n int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }
func number(b []byte) int64  { return int64(binary.LittleEndian.Uint64(b)) }
func missing(err error) bool { return errors.Is(err, mapfile.ErrNotFound) }
func orMissing(b []byte, err error) (int64, error) {
	if missing(err) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	return number(b), nil
}

// run is a call of the map.
func run(db *mapfile.DB, c call) (out outcome, err error) {
	switch c.kind {
	case get:
		out.value, err = orMissing(db.Get(key(c.key)))
	case put:
		err = db.Put(key(c.key), counter(c.value))
	case remove:
		err = db.Delete(key(c.key))
	case compareAndSwap:
		out.ok, err = db.CompareAndSwap(key(c.key), counter(c.old), counter(c.value))
	case add:
		out.value, err = db.Add(key(c.key), c.value)
	case update:
		err = db.Update(func(tx *mapfile.Tx) error {
			if out.value, err = orMissing(tx.Get(key(c.key))); err != nil {
				return err
			}
			sum := counter(max(out.value, 0) + c.value)
			return errors.Join(tx.Put(key(c.key), sum), tx.Put(key(c.other), sum))
		})
	case view:
		out.all, err = look(db)
	case clearAll:
		err = db.Clear()
	default:
		return runAtomic(db, c)
	}
	return out, err
}

// runAtomic is an operation that answers with the value before it, or with what it made.
func runAtomic(db *mapfile.DB, c call) (out outcome, err error) {
	var v []byte
	switch c.kind {
	case getOrPut:
		v, out.ok, err = db.GetOrPut(key(c.key), counter(c.value))
	case getAndDelete:
		v, out.ok, err = db.GetAndDelete(key(c.key))
	case swap:
		v, out.ok, err = db.Swap(key(c.key), counter(c.value))
	case compareAndDelete:
		out.ok, err = db.CompareAndDelete(key(c.key), counter(c.old))
		return out, err
	case modify:
		err = db.Modify(key(c.key), func(old []byte, ok bool) ([]byte, bool, error) {
			if v = nil; ok {
				v = slices.Clone(old)
			}
			n := modified(orNone(v), c.value)
			return counter(n), n >= 0, nil
		})
	}
	out.value = orNone(v)
	return out, err
}

// orNone is a counter's value, -1 if there is none.
func orNone(v []byte) int64 {
	if v == nil {
		return -1
	}
	return number(v)
}

// look reads all keys in one snapshot, by look-ups and by an iteration, which must agree.
func look(db *mapfile.DB) (all state, err error) {
	all = empty()
	err = db.View(func(tx *mapfile.Tx) error {
		seen := map[string]int64{}
		for k, v := range tx.All() {
			if len(v) == 8 {
				seen[string(k)] = number(v)
			}
		}
		byKey := map[string]int64{}
		for i := range keys {
			n, err := orMissing(tx.Get(key(i)))
			if err != nil {
				return err
			}
			if all[i] = n; n >= 0 {
				byKey[string(key(i))] = n
			}
		}
		if !maps.Equal(seen, byKey) {
			return fmt.Errorf("a snapshot shows %v by iteration and %v by look-ups", seen, byKey)
		}
		return tx.Err()
	})
	return all, err
}

// record runs a history. Call number i of each goroutine begins with step i of the upkeep, and runs beside it: every history has calls
// beside splits, checkpoints and compaction.
func record(t *testing.T, db *mapfile.DB, n uint64) []porcupine.Operation {
	var mu sync.Mutex
	var history []porcupine.Operation
	var all sync.WaitGroup
	begin := time.Now()
	const steps = operations / goroutines
	var begun [steps]chan struct{}
	for i := range begun {
		begun[i] = make(chan struct{})
	}
	for id := range goroutines {
		r := rand.New(rand.NewPCG(n, uint64(id)))
		all.Go(func() {
			for i := range steps {
				c := call{kind(r.IntN(int(kinds))), r.IntN(keys), 0, int64(r.IntN(4)), int64(r.IntN(4))}
				if c.kind == clearAll && r.IntN(4) > 0 {
					c.kind = view
				}
				c.other = (c.key + 1 + r.IntN(keys-1)) % keys
				<-begun[i]
				from := time.Since(begin)
				out, err := run(db, c)
				to := time.Since(begin)
				if err != nil {
					t.Errorf("%+v: %v", c, err)
					return
				}
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: id, Input: c, Call: int64(from), Output: out, Return: int64(to)})
				mu.Unlock()
			}
		})
	}
	all.Go(func() {
		for i := range begun {
			close(begun[i])
			if err := upkeep(db, i); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	return history
}

// upkeep is a step of what goes on beside the calls: in most of them buckets fill up until they split, in some a checkpoint is
// made, in some the map is compacted.
func upkeep(db *mapfile.DB, step int) error {
	switch step % 5 {
	case 2:
		return db.Checkpoint()
	case 4:
		return db.Compact(context.Background())
	}
	return db.Update(func(tx *mapfile.Tx) error {
		for i := range 300 {
			if err := tx.Put(fmt.Appendf(nil, "filler %d", 300*step+i), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestHistories records histories and looks for an order of their calls, one at a time, that answers the same.
func TestHistories(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	for _, mode := range []mapfile.SyncMode{mapfile.SyncAlways, mapfile.SyncNever} {
		t.Run(mode.String(), func(t *testing.T) {
			db, err := mapfile.Open(filepath.Join(t.TempDir(), "a.map"), &mapfile.Options{Sync: mode})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}()
			beside := uint64(0)
			for n := range uint64(*histories) / 2 {
				if err := db.Clear(); err != nil {
					t.Fatal(err)
				}
				before := db.Stats()
				history := record(t, db, first+n)
				if t.Failed() {
					t.FailNow()
				}
				if after := db.Stats(); after.Checkpoints > before.Checkpoints && after.IndexPages > before.IndexPages {
					beside++
				}
				if verdict := porcupine.CheckOperationsTimeout(model, history, 10*time.Second); verdict != porcupine.Ok {
					t.Fatalf("no order of the calls answers the same (%v); history %d of go test ./linearizable -seed %d\n%+v", verdict, n, first, history)
				}
			}
			t.Logf("of %d histories %d had more checkpoints and a larger index behind them", *histories/2, beside)
			if beside == 0 && *histories >= 100 { // a Clear in one takes its splits back
				t.Error("no history ran beside splits and checkpoints")
			}
		})
	}
}

// TestModelFindsMistakes gives the checker histories that are wrong.
func TestModelFindsMistakes(t *testing.T) {
	s := empty()
	s[1] = 5
	for name, wrong := range map[string][]porcupine.Operation{
		"a value that nobody put": {{ClientId: 0, Input: call{kind: get}, Call: 0, Output: outcome{value: 3}, Return: 1}},
		"a lost put": {
			{ClientId: 0, Input: call{kind: put, value: 1}, Call: 0, Output: outcome{}, Return: 1},
			{ClientId: 1, Input: call{kind: get}, Call: 2, Output: outcome{value: -1}, Return: 3},
		},
		"half a transaction": {
			{ClientId: 0, Input: call{kind: update, key: 0, other: 1, value: 5}, Call: 0, Output: outcome{value: -1}, Return: 9},
			{ClientId: 1, Input: call{kind: view}, Call: 1, Output: outcome{all: s}, Return: 2},
		},
	} {
		if porcupine.CheckOperations(model, wrong) {
			t.Errorf("%s went through", name)
		}
	}
}
