package cli

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/mapfile-db/mapfile"
)

// noStep is the step that changed a key last before any has.
const noStep = -1

// writerLedger is what is known of one writer's keys.
type writerLedger struct {
	last  []int32 // by key: the step that changed it last, or noStep
	next  int     // step
	began bool    // next has begun and was not acknowledged
}

// crashLedger is what the map must hold: every acknowledged step, and of each writer the one in flight, or not.
type crashLedger struct {
	crashPlan
	writerOf []writerLedger
	commits  int64 // acknowledged
}

func newCrashLedger(p crashPlan) *crashLedger {
	l := &crashLedger{crashPlan: p}
	for range p.writers {
		w := writerLedger{last: make([]int32, p.keys)}
		for i := range w.last {
			w.last[i] = noStep
		}
		l.writerOf = append(l.writerOf, w)
	}
	return l
}

// note takes in one line of the child's log.
func (l *crashLedger) note(text string) error {
	var word string
	var writer, step int
	if _, err := fmt.Sscanf(text, "%s %d %d", &word, &writer, &step); err != nil {
		return fmt.Errorf("the child's log: %q: %w", text, err)
	}
	if writer < 0 || writer >= l.writers || step != l.writerOf[writer].next {
		return fmt.Errorf("the child's log: %q: not the writer's next step", text)
	}
	w := &l.writerOf[writer]
	switch {
	case word == wordBegin && !w.began:
		w.began = true
	case word == wordDone && w.began:
		l.happened(writer)
		l.commits++
	default:
		return fmt.Errorf("the child's log: %q: out of order", text)
	}
	return nil
}

// happened notes that a writer's step in flight is in the map.
func (l *crashLedger) happened(writer int) {
	w := &l.writerOf[writer]
	for _, c := range l.at(writer, w.next).keys {
		w.last[c.key] = int32(w.next)
	}
	w.next++
	w.began = false
}

// inFlight counts the steps that had begun and were not acknowledged.
func (l *crashLedger) inFlight() (n int) {
	for _, w := range l.writerOf {
		if w.began {
			n++
		}
	}
	return n
}

// want is the value that a key must have by the step that changed it last, nil if it is not there.
func (l *crashLedger) want(writer, key, step int) []byte {
	if step == noStep {
		return nil
	}
	for _, c := range l.at(writer, step).keys {
		if c.key == key && c.delete {
			return nil
		}
	}
	return l.value(writer, key, step)
}

// check compares every key with the map. A step in flight must have happened wholly or not at all; what is found counts as
// acknowledged from then on.
func (l *crashLedger) check(db *mapfile.DB) (losses []string, err error) {
	live := uint64(0)
	for writer := range l.writerOf {
		if l.writerOf[writer].began {
			text, err := l.settle(db, writer)
			if err != nil {
				return nil, err
			}
			if text != "" {
				losses = append(losses, text)
			}
		}
		for key, step := range l.writerOf[writer].last {
			want := l.want(writer, key, int(step))
			if want != nil {
				live++
			}
			got, err := find(db, l.key(writer, key))
			if err != nil {
				return nil, err
			}
			if !same(got, want) {
				losses = append(losses, fmt.Sprintf("%s: %s, where step %d was acknowledged (%s)", l.key(writer, key), describe(got), step, describe(want)))
			}
		}
	}
	if n := db.Len(); len(losses) == 0 && n != live {
		losses = append(losses, fmt.Sprintf("the map counts %d keys, %d are there", n, live))
	}
	return losses, nil
}

// settle finds out whether the step in flight of a writer happened. It answers a loss if a part of it did.
func (l *crashLedger) settle(db *mapfile.DB, writer int) (loss string, err error) {
	w := &l.writerOf[writer]
	step, before, after := w.next, 0, 0
	op := l.at(writer, step)
	for _, c := range op.keys {
		got, err := find(db, l.key(writer, c.key))
		if err != nil {
			return "", err
		}
		old, new := l.want(writer, c.key, int(w.last[c.key])), l.want(writer, c.key, step)
		if same(got, old) {
			before++
		}
		if same(got, new) {
			after++
		}
	}
	switch {
	case after == len(op.keys):
		l.happened(writer)
	case before == len(op.keys):
		w.began = false
	default:
		w.began = false
		return fmt.Sprintf("writer %d, step %d: of %d changes of one commit %d happened", writer, step, len(op.keys), after), nil
	}
	return "", nil
}

// same says whether a value is the wanted one; nil is no value, which an empty one is not.
func same(got, want []byte) bool { return (got == nil) == (want == nil) && bytes.Equal(got, want) }

func describe(value []byte) string {
	if value == nil {
		return "not there"
	}
	if len(value) < 24 {
		return fmt.Sprintf("%d bytes", len(value))
	}
	return fmt.Sprintf("%d bytes of writer %d, key %d, step %d", len(value), binary.LittleEndian.Uint64(value), binary.LittleEndian.Uint64(value[8:]), binary.LittleEndian.Uint64(value[16:]))
}
