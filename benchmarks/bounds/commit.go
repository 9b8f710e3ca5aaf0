package main

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

// writers is how many commit at once where a sync is shared.
const writers = 16

// groupCommit lets one writer and sixteen commit by turns, each commit synced, for a second each.
func groupCommit(dir string) ([]*bound, error) {
	db, err := open(dir, mapfile.SyncAlways)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var at atomic.Uint64
	values := workload.NewValues(100)
	rate := func(writers int) (float64, error) {
		errs := make([]error, writers)
		from, begin := at.Load(), time.Now()
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				var key []byte
				for errs[w] == nil && time.Since(begin) < time.Second {
					i := at.Add(1)
					key = workload.AppendKey(key[:0], i)
					errs[w] = db.Put(key, values.At(i, 0))
				}
			})
		}
		all.Wait()
		return float64(at.Load()-from) / time.Since(begin).Seconds(), errors.Join(errs...)
	}
	return each([]*bound{
		{name: "synced commits of 16 writers / of one", want: 6},
		{name: "synced commits of one writer, commits/s"},
	}, func(int) ([]float64, error) {
		one, err := rate(1)
		if err != nil {
			return nil, err
		}
		many, err := rate(writers)
		return []float64{many / one, one}, err
	})
}
