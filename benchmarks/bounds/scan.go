package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mapfile-db/mapfile"
)

// scans reads a map in the page cache: in the order of the file, by one range, and by two at once.
func scans(dir string) ([]*bound, error) {
	db, err := open(dir, mapfile.SyncNever)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if err := errors.Join(fill(db, *keys, 100), db.Checkpoint()); err != nil {
		return nil, err
	}
	return each([]*bound{
		{name: "scan, one goroutine (All), entries/s", want: 5e6},
		{name: "scan, two goroutines (Range.Split), entries/s", want: 9e6},
		{name: "scan, two goroutines (Range.Split) / one (All)", want: 1.8},
		{name: "scan, two goroutines (Range.Split) / one (whole Range)"},
	}, func(n int) ([]float64, error) {
		ways := []func(tx *mapfile.Tx) (uint64, error){whole(116), parts(1), parts(2)}
		rates := make([]float64, len(ways))
		for i := range ways {
			at := (i + n) % len(ways)
			begin, seen := time.Now(), uint64(0)
			err := db.View(func(tx *mapfile.Tx) (err error) {
				seen, err = ways[at](tx)
				return err
			})
			if err == nil && seen != *keys {
				err = fmt.Errorf("a scan shows %d entries of %d", seen, *keys)
			}
			if err != nil {
				return nil, err
			}
			rates[at] = float64(seen) / time.Since(begin).Seconds()
		}
		return []float64{rates[0], rates[2], rates[2] / rates[0], rates[2] / rates[1]}, nil
	})
}

// whole counts the entries of All whose key and value are as long as they must be, together.
func whole(length int) func(tx *mapfile.Tx) (uint64, error) {
	return func(tx *mapfile.Tx) (n uint64, err error) {
		for k, v := range tx.All() {
			if len(k)+len(v) == length {
				n++
			}
		}
		return n, tx.Err()
	}
}

// parts counts the entries of so many ranges, each in a goroutine.
func parts(n int) func(tx *mapfile.Tx) (uint64, error) {
	return func(tx *mapfile.Tx) (uint64, error) {
		seen := make([]struct {
			n uint64
			_ [56]byte // a cache line each
		}, n)
		var all sync.WaitGroup
		for i, part := range (mapfile.Range{}).Split(n) {
			all.Go(func() {
				own := uint64(0)
				for k, v := range tx.Scan(part).All() {
					if len(k)+len(v) == 116 {
						own++
					}
				}
				seen[i].n = own
			})
		}
		all.Wait()
		sum := uint64(0)
		for i := range seen {
			sum += seen[i].n
		}
		return sum, tx.Err()
	}
}

// adds counts with a thousand counters, unsynced, for a second a round.
func adds(dir string) ([]*bound, error) {
	db, err := open(dir, mapfile.SyncNever)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	counters := make([][]byte, 1000)
	for i := range counters {
		counters[i] = fmt.Appendf(nil, "counter %08d", i)
	}
	at := uint64(0)
	return each([]*bound{{name: "Add over 1,000 counters, unsynced, one goroutine, calls/s", want: 1.5e6}}, func(int) ([]float64, error) {
		n, begin := 0, time.Now()
		for time.Since(begin) < time.Second {
			for range 1000 {
				at = at*6364136223846793005 + 1442695040888963407
				if _, err := db.Add(counters[at>>32%1000], 1); err != nil {
					return nil, err
				}
			}
			n += 1000
		}
		return []float64{float64(n) / time.Since(begin).Seconds()}, nil
	})
}
