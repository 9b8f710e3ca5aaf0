package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/mapfile-db/mapfile"
)

// course is the order in which the demo's child puts the files of the source:
// writer w of n takes the files w, w+n, w+2n and so on, again and again with
// another content each time (a generation). So no two writers touch one key, and
// there is always work. A step counts the Puts of one writer from 0.
type course struct{ files, writers int }

// maxWriters keeps several Puts in flight, so that a kill hits some of them.
const maxWriters = 4

func newCourse(files int) course { return course{files, min(maxWriters, files)} }

// at gives the file and the generation of a writer's step.
func (c course) at(writer, step int) (file, generation int) {
	own := (c.files - writer + c.writers - 1) / c.writers
	return writer + c.writers*(step%own), step / own
}

// suffix is what a generation adds to the content of a file.
func suffix(generation int) []byte {
	if generation == 0 {
		return nil
	}
	return []byte("\ngeneration " + strconv.Itoa(generation) + "\n")
}

// ledger is what the demo knows of the map under attack: what the child
// acknowledged, what it had begun, and what was found after its death.
type ledger struct {
	course
	src   *source
	known []fileState
	next  []int // per writer, the step it takes when it goes on
	began []int // per writer, the step whose Put has begun and not returned, or none

	puts, bytes int64 // acknowledged
}

// fileState says which generations of a file may be found.
type fileState struct{ held, begun int }

const none = -1

func newLedger(src *source) *ledger {
	l := &ledger{course: newCourse(len(src.files)), src: src}
	for range src.files {
		l.known = append(l.known, fileState{none, none})
	}
	for range l.writers {
		l.next, l.began = append(l.next, 0), append(l.began, none)
	}
	return l
}

// The child's log: "begin W S" before writer W's Put of step S, "done W S" after
// it returned nil.
const (
	wordBegin = "begin"
	wordDone  = "done"
)

// note takes in one line of the child's log.
func (l *ledger) note(text string) error {
	var word string
	var writer, step int
	if _, err := fmt.Sscanf(text, "%s %d %d", &word, &writer, &step); err != nil {
		return fmt.Errorf("the child's log: %q: %w", text, err)
	}
	if writer < 0 || writer >= l.writers || step != l.next[writer] {
		return fmt.Errorf("the child's log: %q: not the writer's next step", text)
	}
	file, generation := l.at(writer, step)
	state := &l.known[file]
	switch {
	case word == wordBegin && l.began[writer] == none:
		state.begun, l.began[writer] = generation, step
	case word == wordDone && l.began[writer] == step:
		*state = fileState{generation, none}
		l.began[writer] = none
		l.next[writer]++
		l.puts++
		l.bytes += l.src.files[file].size + int64(len(suffix(generation)))
	default:
		return fmt.Errorf("the child's log: %q: out of order", text)
	}
	return nil
}

// inFlight counts the Puts that had begun and not returned.
func (l *ledger) inFlight() int {
	n := 0
	for _, step := range l.began {
		if step != none {
			n++
		}
	}
	return n
}

// complete says whether every file has been acknowledged or found.
func (l *ledger) complete() bool {
	for _, state := range l.known {
		if state.held == none {
			return false
		}
	}
	return true
}

// check compares every file with the map, byte for byte, and says what is lost:
// what was acknowledged must be there; a Put in flight may have happened whole,
// or not at all. What it finds is from then on held, as if acknowledged, and the
// child does not finish the Puts in flight but repeats them.
func (l *ledger) check(db *mapfile.DB) (losses []string, err error) {
	present := uint64(0)
	for i, file := range l.src.files {
		found, err := l.compare(db, i)
		var lost *lossError
		if errors.As(err, &lost) {
			losses = append(losses, file.name+": "+lost.reason)
		} else if err != nil {
			return nil, err
		}
		if found != none {
			present++
		}
		l.known[i] = fileState{found, none}
	}
	for writer := range l.began {
		l.began[writer] = none
	}
	if n := db.Len(); len(losses) == 0 && n != present {
		losses = append(losses, fmt.Sprintf("the map counts %d keys, %d are there", n, present))
	}
	return losses, nil
}

// lossError says how a file in the map is not as it must be.
type lossError struct{ reason string }

func (e *lossError) Error() string { return e.reason }

// compare finds the generation of file i that the map holds, or none. An error
// that is no lossError says that the source could not be read.
func (l *ledger) compare(db *mapfile.DB, i int) (int, error) {
	state := l.known[i]
	content, err := l.src.read(i)
	if err != nil {
		return none, err
	}
	found := none
	err = db.GetFunc([]byte(l.src.files[i].name), func(value []byte) error {
		for _, generation := range []int{state.held, state.begun} {
			if generation != none && isGeneration(value, content, generation) {
				found = generation
				return nil
			}
		}
		return &lossError{fmt.Sprintf("wrong content, %d bytes, where %s", len(value), state)}
	})
	switch {
	case err == nil:
		return found, nil
	case errors.Is(err, mapfile.ErrNotFound) && state.held == none:
		return none, nil
	case errors.Is(err, mapfile.ErrNotFound):
		return none, &lossError{"not there, where " + state.String()}
	}
	return none, &lossError{unprefixed{err}.Error()}
}

// isGeneration says whether value is that generation of content.
func isGeneration(value, content []byte, generation int) bool {
	rest, ok := bytes.CutPrefix(value, content)
	return ok && bytes.Equal(rest, suffix(generation))
}

func (s fileState) String() string {
	text := "nothing was put"
	if s.held != none {
		text = fmt.Sprintf("generation %d was acknowledged", s.held)
	}
	if s.begun != none {
		text += fmt.Sprintf(" and generation %d in flight", s.begun)
	}
	return text
}
