package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

// entryBytes are the bytes of a key and its value in the measurements of space.
const entryBytes = workload.KeyBytes + 100

// overwrite puts new values of n keys drawn at random from the first of them.
func overwrite(db *mapfile.DB, keys, n uint64) error {
	values, draw := workload.NewValues(100), workload.Uniform(rand.New(rand.NewPCG(rand.Uint64(), 0)), keys)
	var key []byte
	for version := range n {
		i := draw()
		key = workload.AppendKey(key[:0], i)
		if err := db.Put(key, values.At(i, version)); err != nil {
			return err
		}
	}
	return nil
}

// steady overwrites two million entries ten times over at random, and looks every 50 ms how many blocks the file has.
func steady(dir string) ([]*bound, error) {
	const keys = 2_000_000
	return each([]*bound{
		{name: "2 M entries overwritten ten times: most blocks / keys plus values", want: 2.7, atMost: true},
		{name: "the same, Puts/s"},
	}, func(int) ([]float64, error) {
		db, err := open(dir, mapfile.SyncNever)
		if err != nil {
			return nil, err
		}
		err = fill(db, keys, 100)
		stop, most := make(chan struct{}), make(chan int64)
		go func() {
			greatest := int64(0)
			for {
				greatest = max(greatest, db.Stats().Allocated)
				select {
				case <-stop:
					most <- greatest
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		}()
		begin := time.Now()
		err = errors.Join(err, overwrite(db, keys, 10*keys))
		took := time.Since(begin)
		close(stop)
		greatest := <-most
		if err = errors.Join(err, db.Close(), remove(dir)); err != nil {
			return nil, err
		}
		return []float64{float64(greatest) / (keys * entryBytes), 10 * keys / took.Seconds()}, nil
	})
}

// shrink deletes nine tenths of five million entries, and goes on using the map lightly until its file has given back three quarters.
func shrink(dir string) ([]*bound, error) {
	const keys, patience = 5_000_000, 2 * time.Minute
	return each([]*bound{
		{name: "90 % of 5 M entries deleted: seconds until a quarter of the blocks is left", want: 60, atMost: true},
		{name: "the same, blocks left after 60 s / blocks before"},
	}, func(int) ([]float64, error) {
		db, err := open(dir, mapfile.SyncNever)
		if err != nil {
			return nil, err
		}
		err = fill(db, keys, 100)
		before := db.Stats().Allocated
		var key []byte
		for i := uint64(0); i < keys && err == nil; i++ {
			if i%10 != 0 {
				key = workload.AppendKey(key[:0], i)
				err = db.Delete(key)
			}
		}
		under, left := patience.Seconds(), 1.0
		begin := time.Now()
		for passed := time.Duration(0); err == nil && passed < patience && (under == patience.Seconds() || passed < time.Minute); passed = time.Since(begin) {
			err = lightly(db, keys)
			share := float64(db.Stats().Allocated) / float64(before)
			if share < 0.25 && under == patience.Seconds() {
				under = time.Since(begin).Seconds()
			}
			if passed < time.Minute {
				left = share
			}
		}
		return []float64{under, left}, errors.Join(err, db.Close(), remove(dir))
	})
}

// lightly uses a map for a tenth of a second.
func lightly(db *mapfile.DB, keys uint64) error {
	var buf []byte
	for range 100 {
		key := workload.AppendKey(nil, rand.Uint64N(keys/10)*10)
		value, err := db.AppendGet(buf[:0], key)
		if err == nil {
			err = db.Put(key, value)
		}
		if err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// beside measures Get and Put alone, and while Compact runs, by turns. There is no compaction but that.
func beside(dir string) ([]*bound, error) {
	const keys = 2_000_000
	db, err := openQuiet(dir)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if err := fill(db, keys, 100); err != nil {
		return nil, err
	}
	return each([]*bound{
		{name: "Get beside a compaction / Get alone", want: 0.7},
		{name: "Put beside a compaction / Put alone", want: 0.7},
		{name: "the same, seconds of compaction"},
	}, func(int) ([]float64, error) {
		gets, puts := gauge{call: get(db, keys)}, gauge{call: put(db, keys)}
		if err := errors.Join(overwrite(db, keys, keys/3), gets.alone(), puts.alone()); err != nil {
			return nil, err
		}
		begin := time.Now()
		err := errors.Join(compactWhile(db, gets.run), overwrite(db, keys, keys/3), compactWhile(db, puts.run))
		return []float64{gets.ratio(), puts.ratio(), time.Since(begin).Seconds()}, err
	})
}

// gauge counts calls alone and beside something.
type gauge struct {
	call            func() error
	apart, together float64 // calls a second
}

// alone calls for a second.
func (g *gauge) alone() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	rate, err := g.rate(ctx)
	g.apart = rate
	return err
}

// run calls until ctx is done.
func (g *gauge) run(ctx context.Context) error {
	rate, err := g.rate(ctx)
	g.together = rate
	return err
}

func (g *gauge) rate(ctx context.Context) (float64, error) {
	begin, n := time.Now(), 0
	for ; ctx.Err() == nil; n += 64 {
		for range 64 {
			if err := g.call(); err != nil {
				return 0, err
			}
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

func (g *gauge) ratio() float64 { return g.together / g.apart }

// compactWhile runs f for as long as a compaction takes, three seconds at most.
func compactWhile(db *mapfile.DB, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var err error
	var running sync.WaitGroup
	running.Go(func() {
		defer cancel()
		if err = db.Compact(ctx); errors.Is(err, context.DeadlineExceeded) {
			err = nil
		}
	})
	failed := f(ctx)
	cancel()
	running.Wait()
	return errors.Join(failed, err)
}

func get(db *mapfile.DB, keys uint64) func() error {
	draw := workload.Uniform(rand.New(rand.NewPCG(1, 1)), keys)
	var key, buf []byte
	return func() (err error) {
		key = workload.AppendKey(key[:0], draw())
		if buf, err = db.AppendGet(buf[:0], key); err == nil && len(buf) != 100 {
			err = fmt.Errorf("a value of %d bytes", len(buf))
		}
		return err
	}
}

func put(db *mapfile.DB, keys uint64) func() error {
	draw, values := workload.Uniform(rand.New(rand.NewPCG(2, 2)), keys), workload.NewValues(100)
	var key []byte
	version := uint64(0)
	return func() error {
		i := draw()
		key = workload.AppendKey(key[:0], i)
		version++
		return db.Put(key, values.At(i, version))
	}
}
