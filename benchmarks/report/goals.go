package report

import (
	"errors"
	"fmt"
	"slices"
)

// Goal is a ratio the project set itself: how much faster mapfile is to be.
type Goal struct {
	Text     string
	Workload string
	Engine   string
	// Rival names the workload of the rival where it is another one, such as
	// its commits of 1,000 keys beside our single Puts.
	Rival string
	Must  float64 // at least; 0 where only the aim is set
	Aim   float64
	// Floor is what a regression falls below, with much slack for small maps and busy machines; 0 for none.
	Floor float64
}

// goals holds for 16-byte keys and 100-byte values, from one million keys on.
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
	{Text: "GetMany of 64 against Go's map", Workload: "getmany-64", Engine: "gomap", Must: 2.5, Aim: 4.5, Floor: 0.8},
	{Text: "GetMany of 256 against Go's map", Workload: "getmany-256", Engine: "gomap", Must: 2.5, Aim: 4.5},
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
}

// Reached is a goal with what was measured.
type Reached struct {
	Goal
	Ours, Theirs float64 // nanoseconds, medians
	best         float64 // the ratio of the fastest rounds
}

// Ratio returns how many times faster mapfile was.
func (r Reached) Ratio() float64 { return r.Theirs / r.Ours }

// Verdict says in a word how the figure stands to the goal.
func (r Reached) Verdict() string {
	switch ratio := r.Ratio(); {
	case r.Must > 0 && ratio < r.Must:
		return "MISSED"
	case ratio >= r.Aim:
		return "reached"
	case ratio*1.2 >= r.Aim:
		return "within 1.2 of the aim"
	case r.Must > 0:
		return "reached, below the aim"
	}
	return "below the aim"
}

// Goals returns the goals for which this setting has both figures.
func (s *Setting) Goals() []Reached {
	var list []Reached
	for _, g := range goals {
		ours := BaseOf(s.Of(g.Workload))
		rival := g.Rival
		if rival == "" {
			rival = g.Workload
		}
		theirs := s.Find(rival, g.Engine)
		if ours != nil && theirs != nil {
			list = append(list, Reached{g, ours.Median(), theirs.Median(), theirs.Least() / ours.Least()})
		}
	}
	return list
}

// Regressions compares the fastest rounds with the floors, which a busy machine does not reach but a slower map does. Floors without figures are
// told as well: what was not measured was not checked.
func (r *Report) Regressions() error {
	var below []error
	for _, s := range r.Settings {
		reached := s.Goals()
		for _, g := range goals {
			if g.Floor == 0 {
				continue
			}
			i := slices.IndexFunc(reached, func(r Reached) bool { return r.Goal == g })
			switch {
			case i < 0:
				below = append(below, fmt.Errorf("%d keys: %s: not measured", s.Keys, g.Text))
			case reached[i].best < g.Floor:
				below = append(below, fmt.Errorf("%d keys: %s: %.2f times, the floor is %.2g", s.Keys, g.Text, reached[i].best, g.Floor))
			}
		}
	}
	return errors.Join(below...)
}
