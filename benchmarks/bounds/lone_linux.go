package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

// loneCommits is how many commits of each kind a round takes.
const loneCommits = 500

// loneCommit lets a synced commit of one writer and a bare pwrite and fdatasync of as many bytes take turns, one at a time.
func loneCommit(dir string) ([]*bound, error) {
	db, err := open(dir, mapfile.SyncAlways)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	values := workload.NewValues(100)
	put := func(i uint64) error { return db.Put(workload.AppendKey(nil, i), values.At(i, 0)) }
	if err := errors.Join(put(0), put(1)); err != nil {
		return nil, err
	}
	before := db.Stats().Appended
	if err := put(2); err != nil {
		return nil, err
	}
	bare, err := newBare(dir, int(db.Stats().Appended-before))
	if err != nil {
		return nil, err
	}
	defer bare.f.Close()
	at := uint64(3)
	return each([]*bound{
		{name: "a lone writer's synced commit / pwrite + fdatasync, medians", want: 1.3, atMost: true},
		{name: "the same, pwrite + fdatasync, µs"},
	}, func(int) ([]float64, error) {
		var commits, writes []float64
		for range loneCommits {
			begin := time.Now()
			if err := put(at); err != nil {
				return nil, err
			}
			middle := time.Now()
			if err := bare.commit(); err != nil {
				return nil, err
			}
			at++
			commits = append(commits, float64(middle.Sub(begin).Nanoseconds()))
			writes = append(writes, float64(time.Since(middle).Nanoseconds()))
		}
		slices.Sort(commits)
		slices.Sort(writes)
		return []float64{commits[loneCommits/2] / writes[loneCommits/2], writes[loneCommits/2] / 1000}, nil
	})
}

// bareFile is a log of nothing but bytes, whose blocks were written before.
type bareFile struct {
	f   *os.File
	buf []byte
	at  int64
}

const bareBytes = 16 << 20

func newBare(dir string, size int) (*bareFile, error) {
	f, err := os.Create(filepath.Join(dir, "bare"))
	if err != nil {
		return nil, err
	}
	_, err = f.Write(make([]byte, bareBytes))
	return &bareFile{f: f, buf: slices.Repeat([]byte{'x'}, size)}, errors.Join(err, f.Sync())
}

func (b *bareFile) commit() error {
	if b.at+int64(len(b.buf)) > bareBytes {
		b.at = 0
	}
	if _, err := b.f.WriteAt(b.buf, b.at); err != nil {
		return err
	}
	b.at += int64(len(b.buf))
	return unix.Fdatasync(int(b.f.Fd()))
}
