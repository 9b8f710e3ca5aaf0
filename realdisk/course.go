//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The load is writers that each take numbered steps in keys of their own. A step is one commit, and
// follows from the writer and its number alone; so how far each writer came says what the map must hold.
const (
	writers   = 4
	slots     = 1009 // keys of a writer; a prime, so that each is put and deleted in turn
	groupSize = 6    // keys of a transaction
)

// counts are how many steps each writer has done.
type counts [writers]uint64

// covers reports whether no writer of c is behind one of o.
func (c counts) covers(o counts) bool {
	for w := range c {
		if c[w] < o[w] {
			return false
		}
	}
	return true
}

// atLeast is the larger of two counts, writer by writer.
func (c counts) atLeast(o counts) counts {
	for w := range c {
		c[w] = max(c[w], o[w])
	}
	return c
}

// step is step n, from 1, of a writer.
type step struct {
	writer int
	n      uint64
}

// deletes says that the step deletes its slot. Never two in a row.
func (s step) deletes() bool { return s.n%11 == 3 }

// groups says that the step is a transaction. It counts itself in the total, which all writers share.
func (s step) groups() bool { return s.n%7 == 5 && !s.deletes() }

// slot is the slot that the step is about: any slots steps in a row are about all.
func (s step) slot() int { return int(s.n % slots) }

// touches are the slots that the step puts, and the one that it deletes, or -1.
func (s step) touches() (puts []int, deleted int) {
	switch {
	case s.deletes():
		return nil, s.slot()
	case s.groups():
		for i := range groupSize {
			puts = append(puts, (s.slot()+101*i)%slots)
		}
		return puts[:groupSize-1], puts[groupSize-1]
	}
	return []int{s.slot()}, -1
}

// contents are the slots of a writer after n steps: which step put each, 0 for none.
func contents(writer int, n uint64) (held [slots]uint64) {
	from := uint64(1)
	if n > slots {
		from = n - slots + 1
	}
	for ; from <= n; from++ {
		puts, deleted := step{writer, from}.touches()
		for _, slot := range puts {
			held[slot] = from
		}
		if deleted >= 0 {
			held[deleted] = 0
		}
	}
	return held
}

// total is how many of the steps are transactions.
func total(c counts) (sum uint64) {
	for w, n := range c {
		const period = 7 * 11
		for i := uint64(1); i <= period; i++ {
			if (step{w, i}).groups() {
				sum += n / period
				if i <= n%period {
					sum++
				}
			}
		}
	}
	return sum
}

var totalKey = []byte("total")

func slotKey(writer, slot int) []byte { return fmt.Appendf(nil, "writer %d slot %04d", writer, slot) }

// mark begins every value, so that a disk knows one when it is written.
const mark = "realdisk"

// entry is what a value says of itself.
type entry struct {
	step
	slot int
	life uint64 // of the writing process
	seen counts // steps that had returned when this one began: the map may not hold it without them
}

const entryHead = len(mark) + 8*(4+writers)

// value gives an entry a length that varies, up to 20 kB, and content that fills it.
func (e entry) value() []byte {
	size := entryHead + int(e.n*31+uint64(e.slot)*17)%700
	if e.n%61 == 0 {
		size += 20000
	}
	v := make([]byte, size)
	copy(v, mark)
	at := len(mark)
	for _, word := range append([]uint64{uint64(e.writer), e.n, uint64(e.slot), e.life}, e.seen[:]...) {
		binary.LittleEndian.PutUint64(v[at:], word)
		at += 8
	}
	x := uint64(0) // the rest follows from every byte of the head
	for _, b := range v[:at] {
		x = (x ^ uint64(b)) * 1099511628211
	}
	for i := at; i < size; i++ {
		x = x*6364136223846793005 + 1442695040888963407
		v[i] = byte(x >> 56)
	}
	return v
}

var errForeign = errors.New("no value of this load")

// parse reads a value, and checks every byte of it.
func parse(v []byte) (e entry, err error) {
	if len(v) < entryHead || string(v[:len(mark)]) != mark {
		return e, errForeign
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(v[len(mark)+8*i:]) }
	e.writer, e.n, e.slot, e.life = int(word(0)), word(1), int(word(2)), word(3)
	for w := range e.seen {
		e.seen[w] = word(4 + w)
	}
	if string(e.value()) != string(v) {
		return e, errForeign
	}
	return e, nil
}
