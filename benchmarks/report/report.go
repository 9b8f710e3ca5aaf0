// Package report holds what a run of the suite found and writes it down: as
// tables, JSON, text for benchstat, a page with charts, and SVG files.
package report

import (
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
)

// Report is one run of the suite.
type Report struct {
	Started  time.Time
	Took     time.Duration
	Command  string
	Commit   string // of the repository; "-dirty" where it differs from the working tree
	Machine  Machine
	Engines  []Engine
	Settings []*Setting
}

// Engine describes one row of the tables.
type Engine struct {
	Name       string
	Module     string `json:",omitempty"`
	Version    string `json:",omitempty"`
	Durability string
	Settings   string
}

// Setting is everything measured with one number of keys and one value size.
type Setting struct {
	Keys      uint64
	KeyBytes  int
	ValueSize int
	// Notes say what a reader of the figures must know, such as engines that
	// were measured in pairs because they do not fit memory together.
	Notes      []string `json:",omitempty"`
	Cells      []*Cell
	Footprints []Footprint
	Churns     []Churn `json:",omitempty"`
}

// Cell is one workload on one engine.
type Cell struct {
	Workload   string
	Title      string
	Engine     string
	Durability engine.Durability
	Rail       bool `json:",omitempty"`
	Base       bool `json:",omitempty"` // others are compared with this one
	Rounds     []Round
	Latency    *Latency `json:",omitempty"`
	Note       string   `json:",omitempty"`
	Err        string   `json:",omitempty"`
	histogram  *hdrhistogram.Histogram
}

// Round is one measurement.
type Round struct {
	Ops         uint64
	Elapsed     time.Duration
	Replayed    uint64 `json:",omitempty"` // records of the log, by an open; of engines that tell
	MajorFaults int64  `json:",omitempty"` // pages this process read from disk
	DiskBytes   uint64 `json:",omitempty"` // written to the device meanwhile, by anybody
}

// NS returns nanoseconds an operation.
func (r Round) NS() float64 {
	return float64(r.Elapsed.Nanoseconds()) / float64(max(r.Ops, 1))
}

// Latency holds percentiles in nanoseconds over all rounds.
type Latency struct {
	P50, P99, P999, Max int64
}

// Footprint is what an engine takes, in bytes.
type Footprint struct {
	Engine    string
	Data      uint64 // keys plus values
	Heap      uint64 // Go's heap after loading and a collection
	Anon      uint64 // resident after loading, not backed by a file
	FileRSS   uint64 // resident after loading, pages of mapped files
	Allocated uint64 // blocks on disk after loading and Close
	Apparent  uint64 // file sizes after loading and Close
	Written   uint64 // to the device by loading, Close and a sync, by anybody
}

// Churn is what an engine takes while every key is overwritten some times, in random order. Sizes are bytes.
type Churn struct {
	Engine  string
	Data    uint64 // keys plus values of the store
	Put     uint64 // keys plus values put over it
	Most    uint64 // blocks on disk, the most at any look
	After   uint64 // blocks on disk after Close
	Written uint64 // to the device from the first Put to a sync behind Close, by anybody
	Err     string `json:",omitempty"`
}

// Cell finds or makes the cell of a workload and an engine.
func (s *Setting) Cell(workload, title string, e engine.Engine) *Cell {
	for _, c := range s.Cells {
		if c.Workload == workload && c.Engine == e.Name {
			return c
		}
	}
	c := &Cell{
		Workload: workload, Title: title, Engine: e.Name, Durability: e.Durability, Rail: e.Rail,
		Base: isBase(e.Name),
	}
	s.Cells = append(s.Cells, c)
	return c
}

// isBase tells whether others are compared with the engine of this name.
func isBase(name string) bool { return name == "mapfile-never" || name == "mapfile-always" }

// measured tells whether the cell has figures.
func (c *Cell) measured() bool { return len(c.Rounds) > 0 && c.Err == "" }

// Find returns a cell that has figures, or nil.
func (s *Setting) Find(workload, engine string) *Cell {
	for _, c := range s.Cells {
		if c.Workload == workload && c.Engine == engine && c.measured() {
			return c
		}
	}
	return nil
}

// Workloads returns the names of the workloads in the order measured.
func (s *Setting) Workloads() []string {
	var names []string
	for _, c := range s.Cells {
		if !slices.Contains(names, c.Workload) {
			names = append(names, c.Workload)
		}
	}
	return names
}

// Of returns the cells of one workload, in the order measured.
func (s *Setting) Of(workload string) []*Cell {
	var cells []*Cell
	for _, c := range s.Cells {
		if c.Workload == workload {
			cells = append(cells, c)
		}
	}
	return cells
}

// Add records a round; latency is an encoded histogram or empty.
func (c *Cell) Add(r Round, latency []byte) error {
	c.Rounds = append(c.Rounds, r)
	if len(latency) == 0 {
		return nil
	}
	h, err := hdrhistogram.Decode(latency)
	if err != nil {
		return err
	}
	if c.histogram == nil {
		c.histogram = h
	} else {
		c.histogram.Merge(h)
	}
	h = c.histogram
	c.Latency = &Latency{h.ValueAtQuantile(50), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9), h.Max()}
	return nil
}

// each returns a figure of all rounds, sorted.
func (c *Cell) each(figure func(Round) float64) []float64 {
	list := make([]float64, len(c.Rounds))
	for i, r := range c.Rounds {
		list[i] = figure(r)
	}
	slices.Sort(list)
	return list
}

// median returns the middle of a sorted list, 0 of an empty one.
func median(sorted []float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// replayed returns the median of records replayed.
func (c *Cell) replayed() float64 {
	return median(c.each(func(r Round) float64 { return float64(r.Replayed) }))
}

// Spread returns median, least and greatest nanoseconds an operation; zeros
// where nothing was measured.
func (c *Cell) Spread() (middle, least, most float64) {
	if len(c.Rounds) == 0 {
		return 0, 0, 0
	}
	ns := c.each(Round.NS)
	return median(ns), ns[0], ns[len(ns)-1]
}

// Median returns the median of nanoseconds an operation.
func (c *Cell) Median() float64 {
	m, _, _ := c.Spread()
	return m
}

// BaseOf returns the mapfile cell that the others of a workload are compared
// with, or nil.
func BaseOf(cells []*Cell) *Cell {
	for _, c := range cells {
		if c.Base && c.measured() {
			return c
		}
	}
	return nil
}

// DiskBytesPerOp returns bytes written to the device an operation.
func (c *Cell) DiskBytesPerOp() float64 {
	var bytes, ops uint64
	for _, r := range c.Rounds {
		bytes += r.DiskBytes
		ops += r.Ops
	}
	return float64(bytes) / float64(max(ops, 1))
}

// Least returns the fewest nanoseconds an operation of any round.
func (c *Cell) Least() float64 {
	_, least, _ := c.Spread()
	return least
}

// Most returns the most nanoseconds an operation of any round.
func (c *Cell) Most() float64 {
	_, _, most := c.Spread()
	return most
}
