package report

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
)

// Figure is what a goal is about.
type Figure int

// The figures of mapfile that goals speak of.
const (
	Ratio  Figure = iota // how many times faster than a rival, or than itself in another workload
	Time                 // nanoseconds an operation of the workload
	Heap                 // bytes of Go's heap after the load
	Blocks               // bytes allocated after the load and Close, for each byte of keys and values
	Replay               // records a second that an open after SIGKILL replays
)

// figures says how each is written, which way is better, and how it follows from a setting; 0 where it was not measured.
var figures = [...]struct {
	name   string
	atMost bool
	show   func(float64) string
	of     func(Goal, *Setting) float64
}{
	Ratio:  {"ratio", false, times, ratio},
	Time:   {"nanoseconds", true, func(v float64) string { return short(int64(v)) }, elapsed},
	Heap:   {"bytes of heap", true, func(v float64) string { return humanize.IBytes(uint64(v)) }, heap},
	Blocks: {"blocks / data", true, times, blocks},
	Replay: {"records a second", false, func(v float64) string { return humanize.Comma(int64(v)) + "/s" }, replay},
}

// MarshalText names the figure in results.json.
func (f Figure) MarshalText() ([]byte, error) { return []byte(figures[f].name), nil }

func times(v float64) string { return fmt.Sprintf("%.2f ×", v) }

func ratio(g Goal, s *Setting) float64 {
	ours, theirs := g.cells(s)
	if ours == nil || theirs == nil {
		return 0
	}
	return theirs.Median() / ours.Median()
}

func elapsed(g Goal, s *Setting) float64 {
	if c := BaseOf(s.Of(g.Workload)); c != nil {
		return c.Median()
	}
	return 0
}

func heap(_ Goal, s *Setting) float64 { return float64(s.ours().Heap) }

func blocks(_ Goal, s *Setting) float64 { return s.ours().PerData() }

// ours returns what the mapfile that the others are compared with takes; zeros where it was not loaded.
func (s *Setting) ours() Footprint {
	for _, f := range s.Footprints {
		if isBase(f.Engine) {
			return f
		}
	}
	return Footprint{}
}

// replay compares the open that replayed most records with the one that replayed fewest: what both do beside is not counted. A checkpoint may have
// come while a tail was written, so the engine tells how many records there were, and the longest tail need not be the most.
func replay(g Goal, s *Setting) float64 {
	var most, fewest *Cell
	for _, c := range s.Cells {
		if !c.measured() || !c.Base || c.Workload != "open-clean" && !strings.HasPrefix(c.Workload, g.Workload) {
			continue
		}
		if most == nil || c.replayed() > most.replayed() {
			most = c
		}
		if fewest == nil || c.replayed() <= fewest.replayed() { // of equals the later, which is the nearer in time
			fewest = c
		}
	}
	if most == nil || most.Median() <= fewest.Median() {
		return 0
	}
	return (most.replayed() - fewest.replayed()) / (most.Median() - fewest.Median()) * 1e9
}
