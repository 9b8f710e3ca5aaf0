package workload

import (
	"errors"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Op does one operation on a store.
type Op func() error

// Sample is what one measurement of one engine found.
type Sample struct {
	Ops     uint64        // operations in the loop that gives the rate
	Elapsed time.Duration // of that loop, wall clock
	// Latency holds single operations in nanoseconds; nil where none were timed.
	Latency *hdrhistogram.Histogram
}

// NewHistogram makes a histogram of nanoseconds up to ten minutes, three digits.
func NewHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(10*time.Minute), 3)
}

// ErrDone ends a measurement early: there is nothing left to do.
var ErrDone = errors.New("workload: done")

// Rate runs ops, one goroutine each, for about the time given, in chunks of
// about a millisecond so that the clock costs nothing.
func Rate(ops []Op, about time.Duration) (Sample, error) {
	return together(ops, func(op Op) (n uint64, err error) {
		start := time.Now()
		for chunk := uint64(1); ; {
			from := time.Now()
			for range chunk {
				if err := op(); err != nil {
					return n, err
				}
				n++
			}
			now := time.Now()
			if now.Sub(start) >= about {
				return n, nil
			}
			if now.Sub(from) < time.Millisecond {
				chunk *= 2
			}
		}
	})
}

// Timed runs ops, one goroutine each, for about the time given, and records
// every operation. The clock's own cost, some 30 to 50 ns, is in each.
func Timed(ops []Op, about time.Duration) (Sample, error) {
	var mu sync.Mutex
	all := NewHistogram()
	s, err := together(ops, func(op Op) (n uint64, err error) {
		h := NewHistogram()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			all.Merge(h)
		}()
		start := time.Now()
		for last := start; last.Sub(start) < about; n++ {
			if err := op(); err != nil {
				return n, err
			}
			now := time.Now()
			// The longest wait this records is ten minutes: no error.
			_ = h.RecordValue(int64(now.Sub(last)))
			last = now
		}
		return n, nil
	})
	s.Latency = all
	return s, err
}

// together runs loop for every op at the same time and adds up.
func together(ops []Op, loop func(Op) (uint64, error)) (Sample, error) {
	var wg sync.WaitGroup
	counts, errs := make([]uint64, len(ops)), make([]error, len(ops))
	start := time.Now()
	for i, op := range ops {
		wg.Go(func() { counts[i], errs[i] = loop(op) })
	}
	wg.Wait()
	s := Sample{Elapsed: time.Since(start)}
	for i := range ops {
		if errs[i] != nil && !errors.Is(errs[i], ErrDone) {
			return s, errs[i]
		}
		s.Ops += counts[i]
	}
	return s, nil
}
