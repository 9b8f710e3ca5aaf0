//go:build linux

package main

import (
	"hash/maphash"
	"math/rand/v2"
)

// point is a moment at which the power may go: the operations [flushed, end) of the log had been written, and not
// flushed; all before are on the medium.
type point struct{ flushed, end int }

// points are the moments of a log at which something is not flushed, in order: at the end of each window between two
// flushes, and in the middle of it.
func (l *diskLog) points() (all []point) {
	flushed := 0
	for i := 0; i <= len(l.ops); i++ {
		if i < len(l.ops) && l.ops[i].data != nil {
			continue
		}
		if middle := (flushed + i) / 2; middle > flushed {
			all = append(all, point{flushed, middle})
		}
		if i > flushed {
			all = append(all, point{flushed, i})
		}
		flushed = i + 1
	}
	if n := len(l.ops); n > 0 && l.ops[n-1].data == nil {
		all = append(all, point{n, n}) // the end, with nothing in flight
	}
	return all
}

// pick takes n points, two at least, evenly out of all, the first and the last among them.
func pick(all []point, n int) []point {
	if len(all) <= n {
		return all
	}
	picked := make([]point, max(n, 2))
	for i := range picked {
		picked[i] = all[i*(len(all)-1)/(len(picked)-1)]
	}
	return picked
}

// outcome is what a crash keeps of the operations in flight, by name. keep depends on its arguments alone.
type outcome struct {
	name string
	keep func(op, sector int) bool
}

// outcomes are what may become of n writes in flight, seven of them: none, all, one alone, all but one, some writes, some sectors, and
// sectors of a few writes.
func outcomes(n int, rng *rand.Rand) []outcome {
	if n == 0 {
		return []outcome{{"all", func(int, int) bool { return true }}}
	}
	one, seed := rng.IntN(n), maphash.MakeSeed()
	coin := func(op, sector int) bool { return maphash.Comparable(seed, [2]int{op, sector})&1 == 0 }
	return []outcome{
		{"none", func(int, int) bool { return false }},
		{"all", func(int, int) bool { return true }},
		{"one write", func(op, _ int) bool { return op == one }},
		{"all but one", func(op, _ int) bool { return op != one }},
		{"some writes", func(op, _ int) bool { return coin(op, -1) }},
		{"some sectors", coin},
		{"one torn", func(op, sector int) bool { return op != one || coin(op, sector) }},
	}
}

// sum tells states apart: it is the sum of what an outcome keeps at a point.
func (l *diskLog) sum(seed maphash.Seed, at point, o outcome) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	maphash.WriteComparable(&h, at.flushed)
	for i, op := range l.ops[at.flushed:at.end] {
		for s := 0; s*sector < len(op.data); s++ {
			if o.keep(i, s) {
				maphash.WriteComparable(&h, [2]int{i, s})
			}
		}
	}
	return h.Sum64()
}
