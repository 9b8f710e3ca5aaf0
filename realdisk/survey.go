//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mapfile-db/mapfile"
)

// life is one process of a load: it wrote every step above base, until the next life began.
type life struct {
	Number uint64
	Base   counts
}

// lifeOf is the life that wrote a step.
func lifeOf(lives []life, s step) uint64 {
	for i := len(lives) - 1; i >= 0; i-- {
		if lives[i].Base[s.writer] < s.n {
			return lives[i].Number
		}
	}
	return 0
}

// survey reads the whole map, and finds how many steps of each writer it holds. It is an error if that is less
// than need; if a commit is there in part, or without one that had returned before it began; and if a value
// is of another life than lives says (nil: any).
func survey(db *mapfile.DB, lives []life, need counts) (found counts, err error) {
	var held [writers][slots]uint64
	var newest, seen counts
	sum := uint64(0)
	err = db.View(func(tx *mapfile.Tx) error {
		n := uint64(0)
		for key, value := range tx.All() {
			n++
			if string(key) == string(totalKey) && len(value) == 8 {
				sum = binary.LittleEndian.Uint64(value)
				continue
			}
			e, err := parse(value)
			if err == nil && (e.writer >= writers || e.slot >= slots || string(key) != string(slotKey(e.writer, e.slot))) {
				err = errForeign
			}
			if err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
			if wrote := lifeOf(lives, e.step); lives != nil && e.life != wrote {
				return fmt.Errorf("key %q: step %d by life %d, of life %d", key, e.n, e.life, wrote)
			}
			held[e.writer][e.slot] = e.n
			newest[e.writer] = max(newest[e.writer], e.n)
			seen = seen.atLeast(e.seen)
		}
		if tx.Len() != n && tx.Err() == nil {
			return fmt.Errorf("%d keys of %d", n, tx.Len())
		}
		return tx.Err()
	})
	if err != nil {
		return found, err
	}
	for w := range found {
		if found[w], err = steps(w, newest[w], &held[w]); err != nil {
			return found, err
		}
	}
	return found, judgeCounts(found, seen, need, sum)
}

// steps is how many steps of a writer led to what its slots hold. The newest value tells, but for a deletion behind it.
func steps(writer int, newest uint64, held *[slots]uint64) (uint64, error) {
	if next := (step{writer, newest + 1}); next.deletes() && contents(writer, newest+1) == *held {
		return newest + 1, nil
	}
	want := contents(writer, newest)
	if want == *held {
		return newest, nil
	}
	for slot := range want {
		if want[slot] != held[slot] {
			return 0, fmt.Errorf("writer %d is at step %d, and slot %d holds step %d where it must hold %d", writer, newest, slot, held[slot], want[slot])
		}
	}
	return 0, errors.New("unreachable")
}

// judgeCounts compares how far the writers came with what is known.
func judgeCounts(found, seen, need counts, sum uint64) error {
	switch {
	case !found.covers(need):
		return fmt.Errorf("lost: steps %v were durable, %v are there", need, found)
	case !found.covers(seen):
		return fmt.Errorf("a hole: a commit is there that began when steps %v had returned, and of those %v are there", seen, found)
	case sum != total(found):
		return fmt.Errorf("torn: %d transactions were counted where steps %v have %d", sum, found, total(found))
	}
	return nil
}
