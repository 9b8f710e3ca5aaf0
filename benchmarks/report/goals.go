package report

import (
	"cmp"
	"errors"
	"fmt"
)

// Goal is what the project set itself: how much faster mapfile is to be, or a bound of its own.
type Goal struct {
	Text     string
	Figure   Figure
	Workload string `json:",omitempty"`
	Engine   string `json:",omitempty"` // the rival; empty where mapfile is compared with itself
	// Rival names the workload of the rival where it is another one, such as
	// its commits of 1,000 keys beside our single Puts.
	Rival string  `json:",omitempty"`
	Must  float64 `json:",omitempty"` // 0 where only the aim is set
	Aim   float64 `json:",omitempty"`
	// Floor is the ratio that a regression falls below, with much slack for small maps and busy machines; 0 for none.
	Floor float64 `json:",omitempty"`
}

// goals holds for 16-byte keys and 100-byte values: ratios and blocks from one million keys on, times and heap up to 50 million.
// Against a rail the ratio is below one: the rail cannot be passed.
var goals = []Goal{
	{Text: "Get hit against Go's map", Workload: "get-hit", Engine: "gomap", Must: 1, Aim: 1.7, Floor: 0.5},
	{Text: "Get hit against pogreb", Workload: "get-hit", Engine: "pogreb-nosync", Must: 1.4, Aim: 2.2},
	{Text: "Get hit against bbolt", Workload: "get-hit", Engine: "bbolt-nosync", Must: 3.5, Aim: 5.5, Floor: 1.8},
	{Text: "Get hit against badger", Workload: "get-hit", Engine: "badger-nosync", Must: 8, Aim: 18},
	{Text: "Get hit against pebble", Workload: "get-hit", Engine: "pebble-nosync", Aim: 18},
	{Text: "Get hit against the memory rail", Workload: "get-hit", Engine: "rail-memory", Aim: 1 / 1.5},
	{Text: "Get miss against Go's map", Workload: "get-miss", Engine: "gomap", Aim: 1.4},
	{Text: "Get miss against pogreb", Workload: "get-miss", Engine: "pogreb-nosync", Must: 2.5, Aim: 4},
	{Text: "Get miss against bbolt", Workload: "get-miss", Engine: "bbolt-nosync", Aim: 13, Floor: 3.5},
	{Text: "GetMany of 64 against Get of Go's map", Workload: "getmany-64", Engine: "gomap", Rival: "get-hit", Must: 2.5, Aim: 4.5},
	{Text: "GetMany of 256 against Get of Go's map", Workload: "getmany-256", Engine: "gomap", Rival: "get-hit", Must: 2.5, Aim: 4.5},
	{Text: "GetMany of 64 against a loop over Go's map under one lock", Workload: "getmany-64", Engine: "gomap", Must: 2.5, Aim: 4.5, Floor: 0.8},
	{Text: "GetMany of 256 against a loop over Go's map under one lock", Workload: "getmany-256", Engine: "gomap", Must: 2.5, Aim: 4.5},
	{Text: "Put over against Go's map", Workload: "put-over", Engine: "gomap", Aim: 1.4},
	{Text: "Put new against Go's map", Workload: "put-new", Engine: "gomap", Aim: 1.4},
	{Text: "Put over against pogreb", Workload: "put-over", Engine: "pogreb-nosync", Must: 3, Aim: 6},
	{Text: "Put new against pogreb", Workload: "put-new", Engine: "pogreb-nosync", Must: 3, Aim: 6},
	{Text: "Put over against bbolt in commits of 1,000", Workload: "put-over", Engine: "bbolt-nosync", Rival: "put-over-1000", Must: 10, Floor: 2.5},
	{Text: "Put over against badger in batches of 1,000", Workload: "put-over", Engine: "badger-nosync", Rival: "put-over-1000", Aim: 2},
	{Text: "Put over against pebble in batches of 1,000", Workload: "put-over", Engine: "pebble-nosync", Rival: "put-over-1000", Aim: 2},
	{Text: "Put with sync, 1 writer, against the disk rail", Workload: "commit-1", Engine: "rail-disk", Aim: 1 / 1.3},
	{Text: "Put with sync, 1 writer, against bbolt", Workload: "commit-1", Engine: "bbolt-sync", Aim: 1.5},
	{Text: "Put with sync, 16 writers, against bbolt's Update", Workload: "commit-16", Engine: "bbolt-sync", Aim: 6},
	{Text: "Put with sync, 16 writers, against bbolt's Batch", Workload: "commit-16", Engine: "bbolt-batch", Aim: 6},
	{Text: "Put with sync, 16 writers, against badger", Workload: "commit-16", Engine: "badger-sync", Aim: 1},
	{Text: "Put with sync, 16 writers, against pebble", Workload: "commit-16", Engine: "pebble-sync", Aim: 1},
	{Text: "Open after SIGKILL against pogreb", Workload: "open-kill", Engine: "pogreb-nosync", Aim: 100},
	{Text: "Get hit, 2 goroutines against one", Workload: "get-hit-2g", Rival: "get-hit", Aim: 1.9},
	{Text: "Put over, 2 goroutines against one", Workload: "put-over-2g", Rival: "put-over", Aim: 1.3},
	{Text: "Open after a clean Close, and the first Get", Figure: Time, Workload: "open-clean", Aim: 50e6},
	{Text: "Replay after SIGKILL", Figure: Replay, Workload: "open-kill", Aim: 1.5e6},
	{Text: "Heap after the load", Figure: Heap, Aim: 32 << 20},
	{Text: "Blocks after the load and Close, of keys plus values", Figure: Blocks, Aim: 1.45},
}

// Reached is a goal with what was measured.
type Reached struct {
	Goal
	Is      float64 // in the figure's unit
	Verdict string  // in a word or two
}

// Goals returns the goals for which this setting has the figures.
func (s *Setting) Goals() []Reached {
	var list []Reached
	for _, g := range goals {
		if is := figures[g.Figure].of(g, s); is > 0 {
			list = append(list, Reached{g, is, g.verdict(is)})
		}
	}
	return list
}

// cells returns the two that a ratio compares; nil where one was not measured.
func (g Goal) cells(s *Setting) (ours, theirs *Cell) {
	rival := cmp.Or(g.Rival, g.Workload)
	if ours = BaseOf(s.Of(g.Workload)); g.Engine == "" {
		return ours, BaseOf(s.Of(rival))
	}
	return ours, s.Find(rival, g.Engine)
}

// share says how much of what is wanted was reached: all of it from 1 on.
func (g Goal) share(is, wanted float64) float64 {
	if figures[g.Figure].atMost {
		return wanted / is
	}
	return is / wanted
}

func (g Goal) verdict(is float64) string {
	switch {
	case g.Must > 0 && g.share(is, g.Must) < 1:
		return "MISSED"
	case g.Aim == 0 || g.share(is, g.Aim) >= 1:
		return "reached"
	case g.share(is, g.Aim)*1.2 >= 1:
		return "within 1.2 of the aim"
	case g.Must > 0:
		return "reached, short of the aim"
	}
	return "short of the aim"
}

// Show writes a figure with its unit.
func (g Goal) Show(is float64) string { return figures[g.Figure].show(is) }

// Want writes what is wanted, Must or Aim; nothing where it is 0.
func (g Goal) Want(v float64) string {
	switch {
	case v == 0:
		return ""
	case figures[g.Figure].atMost:
		return "≤ " + g.Show(v)
	}
	return g.Show(v)
}

// Regressions compares the fastest rounds with the floors, which a busy machine does not reach but a slower map does. Floors without figures are
// told as well: what was not measured was not checked.
func (r *Report) Regressions() error {
	var below []error
	for _, s := range r.Settings {
		for _, g := range goals {
			if g.Floor == 0 {
				continue
			}
			ours, theirs := g.cells(s)
			if ours == nil || theirs == nil {
				below = append(below, fmt.Errorf("%d keys: %s: not measured", s.Keys, g.Text))
			} else if best := theirs.Least() / ours.Least(); best < g.Floor {
				below = append(below, fmt.Errorf("%d keys: %s: %.2f times, the floor is %.2g", s.Keys, g.Text, best, g.Floor))
			}
		}
	}
	return errors.Join(below...)
}
