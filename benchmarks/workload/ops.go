package workload

import (
	"errors"
	"math/rand/v2"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
)

// The loops below fail on an answer that is wrong in kind or in length: a rate
// of wrong answers is none.
var (
	errLength = errors.New("workload: a value of the wrong length")
	errFound  = errors.New("workload: found a key that was never stored")
	errMany   = errors.New("workload: GetMany found too few keys")
)

func uniform(t *Target, r *rand.Rand) Draw { return Uniform(r, t.Keys) }

func zipfian(t *Target, r *rand.Rand) Draw { return Scatter(Zipfian(r, t.Keys), t.Keys) }

func missing(t *Target, r *rand.Rand) Draw {
	d := Uniform(r, t.Keys)
	return func() uint64 { return d() + 1<<40 }
}

func fresh(t *Target, _ *rand.Rand) Draw { return func() uint64 { return t.next.Add(1) - 1 } }

// added draws what fresh made, once each, and done after the last.
func added(t *Target, _ *rand.Rand) Draw {
	return func() uint64 {
		if i := t.low.Add(1) - 1; i < t.next.Load() {
			return i
		}
		t.low.Store(t.next.Load())
		return done
	}
}

// done is drawn when there is nothing left.
const done = ^uint64(0)

// latest draws most often what was stored last: first the keys of fresh that
// are still there, then the loaded ones backwards.
func latest(t *Target, r *rand.Rand) Draw {
	d := Zipfian(r, t.Keys)
	return func() uint64 {
		rank, next := d(), t.next.Load()
		if new := next - t.low.Load(); rank >= new {
			return t.Keys - 1 - (rank - new)
		}
		return next - 1 - rank
	}
}

func get(t *Target, _ *rand.Rand, draw Draw) Op {
	var kb, buf []byte
	return func() error {
		kb = AppendKey(kb[:0], draw())
		out, err := t.Store.AppendGet(buf[:0], kb)
		if err != nil {
			return err
		}
		if buf = out; len(out) != t.Values.size {
			return errLength
		}
		return nil
	}
}

func getMissing(t *Target, _ *rand.Rand, draw Draw) Op {
	var kb, buf []byte
	return func() error {
		kb = AppendKey(kb[:0], draw())
		_, err := t.Store.AppendGet(buf[:0], kb)
		if errors.Is(err, engine.ErrNotFound) {
			return nil
		}
		return errors.Join(errFound, err)
	}
}

func getMany(n int) func(*Target, *rand.Rand, Draw) Op {
	return func(t *Target, _ *rand.Rand, draw Draw) Op {
		keys := make([][]byte, n)
		var buf []byte
		return func() error {
			for i := range keys {
				keys[i] = AppendKey(keys[i][:0], draw())
			}
			out, found, err := t.Store.GetMany(buf[:0], keys)
			if err != nil {
				return err
			}
			if buf = out; found != n || len(out) != n*t.Values.size {
				return errMany
			}
			return nil
		}
	}
}

func put(t *Target, _ *rand.Rand, draw Draw) Op {
	var kb []byte
	return func() error {
		i := draw()
		kb = AppendKey(kb[:0], i)
		return t.Store.Put(kb, t.Values.At(i, t.writes.Add(1)))
	}
}

func putFresh(t *Target, r *rand.Rand, _ Draw) Op { return put(t, r, fresh(t, r)) }

func putBatch(n int) func(*Target, *rand.Rand, Draw) Op {
	return func(t *Target, _ *rand.Rand, draw Draw) Op {
		keys, values := make([][]byte, n), make([][]byte, n)
		return func() error {
			for j := range keys {
				i := draw()
				// Fresh memory: some stores keep the slices until the commit is done.
				keys[j], values[j] = AppendKey(nil, i), t.Values.At(i, t.writes.Add(1))
			}
			return t.Store.PutBatch(keys, values)
		}
	}
}

func remove(t *Target, _ *rand.Rand, draw Draw) Op {
	var kb []byte
	return func() error {
		i := draw()
		if i == done {
			return ErrDone
		}
		kb = AppendKey(kb[:0], i)
		return t.Store.Delete(kb)
	}
}

// modify reads a value and stores it changed.
func modify(t *Target, r *rand.Rand, draw Draw) Op {
	var i uint64
	same := func() uint64 { return i }
	read, write := get(t, r, same), put(t, r, same)
	return func() error {
		i = draw()
		if err := read(); err != nil {
			return err
		}
		return write()
	}
}

// mixed reads in reads of 100 operations and otherwise does what write does.
func mixed(reads uint32, write func(*Target, *rand.Rand, Draw) Op) func(*Target, *rand.Rand, Draw) Op {
	return func(t *Target, r *rand.Rand, draw Draw) Op {
		read, change := get(t, r, draw), write(t, r, draw)
		return func() error {
			if r.Uint32N(100) < reads {
				return read()
			}
			return change()
		}
	}
}
