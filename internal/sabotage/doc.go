// Package sabotage tests the tests: it plants one bug at a time in the engine. Only builds
// with the tag mapfile_sabotage contain it. Without the tag Is is the constant false and Yield
// nothing, and the compiler leaves out whatever stands behind them.
//
// With the tag the environment variable MAPFILE_SABOTAGE names the bug of the process, one of All; empty: none.
// Each bug stands at the place in the engine where somebody might make it, behind Is. No test
// without crashes, faults or interleaved goroutines notices it, and at least one other test must:
// docs/planted-bugs.md is the list, with the test that caught each.
//
// The tag also makes the places of readers and writers where another goroutine may come between
// known: a test is called there (SetYield) and runs the other side to its end.
//
// Part of mapfile's implementation, no stable API.
package sabotage

// Environment is the variable that names the bug.
const Environment = "MAPFILE_SABOTAGE"

// Planted describes a bug.
type Planted struct {
	Name   string // the bug's constant
	What   string // what the engine does wrong, in a line
	Breaks string // the rule, invariant, assumption or promise, as PROTOCOL, FORMAT.md or the documentation name it
}

// String is the bug's name.
func (b Bug) String() string { return planted[b].Name }

// All lists the bugs, in the order of their constants.
func All() []Planted { return planted[1:] }

// Point is a place in the engine where another goroutine may come between.
type Point uint8

// The points, each behind the step that it names.
const (
	ReaderHasGeneration Point = iota // Get, Has: before the snapshot is taken
	ReaderHasSequence                // before the root is loaded
	ReaderHasRoot
	ReaderHasBucket // before its slots are looked at
	ReaderHasSlot   // before the record that it leads to is read
	ReaderHasHeader // before the value is copied
	ReaderHasCopy   // before the copy is summed
	CommitAppended  // before the commit waits for its sync, without the turn
	ReclaimFreed    // what was due has been handed over
)
