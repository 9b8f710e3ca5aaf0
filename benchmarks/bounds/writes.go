package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

// bulk fills a new map by Put and by BulkLoad, by turns.
func bulk(dir string) ([]*bound, error) {
	ways := []func(*mapfile.DB) error{
		func(db *mapfile.DB) error { return fill(db, *keys, 100) },
		func(db *mapfile.DB) error {
			return db.BulkLoad(context.Background(), func(put func(key, value []byte) error) error {
				return entries(*keys, 100, put)
			})
		},
	}
	return each([]*bound{
		{name: "BulkLoad into a new map / Put, SyncNever", want: 2},
		{name: "the same, entries/s of BulkLoad"},
	}, func(n int) ([]float64, error) {
		var rates [2]float64
		for i := range ways {
			at := (i + n) % len(ways)
			db, err := open(dir, mapfile.SyncNever)
			if err != nil {
				return nil, err
			}
			begin := time.Now()
			err = ways[at](db)
			rates[at] = float64(*keys) / time.Since(begin).Seconds()
			if db.Len() != *keys {
				err = errors.Join(err, fmt.Errorf("%d entries of %d", db.Len(), *keys))
			}
			if err = errors.Join(err, db.Close(), remove(dir)); err != nil {
				return nil, err
			}
		}
		return []float64{rates[1] / rates[0], rates[1]}, nil
	})
}

// checkpoint puts over the keys of a map of ten million, alone and while a checkpoint is made, by turns.
func checkpoint(dir string) ([]*bound, error) {
	const entries, alone = 10_000_000, 400_000
	db, err := openQuiet(dir)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if err := errors.Join(fill(db, entries, 100), db.Checkpoint()); err != nil {
		return nil, err
	}
	call := put(db, entries)
	all, err := each([]*bound{
		{name: "Put beside a checkpoint of 10 M entries / Put alone, p99.9", want: 5, atMost: true},
		{name: "the same, p99.9 alone, microseconds"},
		{name: "the same, Puts during the checkpoint"},
	}, func(int) ([]float64, error) {
		without, with := workload.NewHistogram(), workload.NewHistogram()
		done := make(chan error, 1)
		for range alone {
			if err := timed(without, call); err != nil {
				return nil, err
			}
		}
		go func() { done <- db.Checkpoint() }()
		for {
			select {
			case err := <-done:
				const quantile = 99.9
				apart := without.ValueAtQuantile(quantile)
				return []float64{float64(with.ValueAtQuantile(quantile)) / float64(apart), float64(apart) / 1e3, float64(with.TotalCount())}, err
			default:
			}
			for range 16 {
				if err := timed(with, call); err != nil {
					return nil, err
				}
			}
		}
	})
	s := db.Stats().Waits.Slowest
	if err == nil {
		all = append(all, &bound{name: fmt.Sprintf("the same, slowest, ms; it waited %v for %s", s.Waited.Round(time.Microsecond), s.For), figures: []float64{s.Took.Seconds() * 1e3}})
	}
	return all, err
}

// timed records how many nanoseconds a call takes.
func timed(h *hdrhistogram.Histogram, call func() error) error {
	begin := time.Now()
	err := call()
	return errors.Join(err, h.RecordValue(int64(time.Since(begin))))
}
