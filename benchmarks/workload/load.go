package workload

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"
)

// Load stores the keys from 0 to t.Keys-1 in commits of batch and times each commit.
func Load(t *Target, batch int) (Sample, error) { return Tail(t, 0, t.Keys, batch) }

// Tail stores n more keys from key number from on, in commits of batch.
func Tail(t *Target, from, n uint64, batch int) (Sample, error) {
	return fill(t, func(i uint64) uint64 { return from + i }, n, batch, 0)
}

// Churn stores new values of n keys drawn uniformly from the loaded ones, in commits of batch.
func Churn(t *Target, n uint64, batch int, seed uint64) (Sample, error) {
	draw := Uniform(rand.New(rand.NewPCG(seed, 0)), t.Keys)
	return fill(t, func(uint64) uint64 { return draw() }, n, batch, 1)
}

// fill stores n keys, which key names, each with a version of its value that is at least the one given.
func fill(t *Target, key func(i uint64) uint64, n uint64, batch int, version uint64) (Sample, error) {
	s := Sample{Ops: n, Latency: NewHistogram()}
	keys, values := make([][]byte, 0, batch), make([][]byte, 0, batch)
	var kb []byte
	start := time.Now()
	last := start
	for i := range n {
		k := key(i)
		if version > 0 {
			version++
		}
		var err error
		if batch == 1 {
			kb = AppendKey(kb[:0], k)
			err = t.Store.Put(kb, t.Values.At(k, version))
		} else {
			keys, values = append(keys, AppendKey(nil, k)), append(values, t.Values.At(k, version))
			if len(keys) < batch && i+1 < n {
				continue
			}
			err = t.Store.PutBatch(keys, values)
			keys, values = keys[:0], values[:0]
		}
		if err != nil {
			return s, err
		}
		now := time.Now()
		// The longest wait this records is ten minutes: no error.
		_ = s.Latency.RecordValue(int64(now.Sub(last)))
		last = now
	}
	s.Elapsed = time.Since(start)
	return s, nil
}

// Verify reads some of the loaded keys and compares whole values. It is for a
// store that no workload has written to.
func Verify(t *Target, some int) error {
	r := rand.New(rand.NewPCG(7, 7))
	var kb, buf []byte
	for range some {
		i := r.Uint64N(t.Keys)
		kb = AppendKey(kb[:0], i)
		out, err := t.Store.AppendGet(buf[:0], kb)
		if err != nil {
			return fmt.Errorf("workload: key %d of %d: %w", i, t.Keys, err)
		}
		if buf = out; !bytes.Equal(out, t.Values.At(i, 0)) {
			return fmt.Errorf("workload: key %d of %d has a wrong value", i, t.Keys)
		}
	}
	return nil
}

// Scan reads every pair once and counts them.
func Scan(t *Target) (Sample, error) {
	var s Sample
	var buf []byte
	start := time.Now()
	err := t.Store.Scan(func(key, value []byte) error {
		buf = append(append(buf[:0], key...), value...)
		s.Ops++
		return nil
	})
	s.Elapsed = time.Since(start)
	if err == nil && s.Ops < t.Keys {
		err = fmt.Errorf("workload: the scan met %d of %d keys", s.Ops, t.Keys)
	}
	return s, err
}
