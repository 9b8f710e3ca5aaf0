package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
)

// Text writes the tables for a terminal.
func (r *Report) Text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	m := r.Machine
	fmt.Fprintf(w, "%s, %d cores, %d MiB, Linux %s, %s, %s, commit %s, %s\n", m.CPU, m.Cores, m.MemoryMiB, m.Kernel, m.FileSystem, m.Go, r.Commit, r.Started.Format(time.DateTime))
	for _, s := range r.Settings {
		fmt.Fprintf(w, "\n== %s keys of %d bytes, values of %d bytes ==\n", humanize.Comma(int64(s.Keys)), s.KeyBytes, s.ValueSize)
		for _, note := range s.Notes {
			fmt.Fprintln(w, "note:", note)
		}
		for _, name := range s.Workloads() {
			for _, table := range Tables(s.Of(name)) {
				table.text(t)
			}
		}
		footprintText(t, s)
		churnText(t, s)
		goalText(t, s)
	}
	return t.Flush()
}

// Table is what may be compared: one workload, one durability, and the base.
type Table struct {
	Workload string
	Title    string
	Base     *Cell // nil where mapfile was not measured
	Cells    []*Cell
}

// Tables cuts the cells of a workload. Reads stand in one table; workloads
// that write in one for each durability, so that no table mixes regimes. Where
// a table is not mapfile's own, its title says what the ratio refers to.
func Tables(cells []*Cell) []Table {
	base := BaseOf(cells)
	if !writes(cells[0].Workload) {
		return []Table{{cells[0].Workload, cells[0].Title, base, cells}}
	}
	var tables []Table
	for d := engine.Commit; d >= engine.Memory; d-- {
		var some []*Cell
		for _, c := range cells {
			if c.Durability == d {
				some = append(some, c)
			}
		}
		if some == nil {
			continue
		}
		title := fmt.Sprintf("%s [%s]", cells[0].Title, d)
		if base != nil && base.Durability != d {
			title += fmt.Sprintf(" (ratio to %s, which %s)", base.Engine, base.Durability)
		}
		tables = append(tables, Table{cells[0].Workload, title, base, some})
	}
	return tables
}

// writes tells whether durability matters to a workload.
func writes(workload string) bool {
	return !slices.ContainsFunc([]string{"get", "scan", "open-clean"}, func(p string) bool {
		return strings.HasPrefix(workload, p)
	})
}

// slug names the table's file.
func (t Table) slug() string {
	if !writes(t.Workload) {
		return t.Workload
	}
	return t.Workload + "-" + t.Cells[0].Durability.Slug()
}

func (t Table) text(w *tabwriter.Writer) {
	fmt.Fprintf(w, "\n%s\n", t.Title)
	fmt.Fprint(w, "engine\tns/op\tmin\tmax\top/s\tmapfile is\tp50\tp99\tp99.9\tmax\t\t\n")
	for _, c := range t.Cells {
		if c.Err != "" {
			fmt.Fprintf(w, "%s\tFAILED: %s\n", c.Engine, c.Err)
			continue
		}
		median, least, most := c.Spread()
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t", c.Engine, ns(median), ns(least), ns(most), rate(median), t.Ratio(c))
		if l := c.Latency; l != nil {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t", short(l.P50), short(l.P99), short(l.P999), short(l.Max))
		} else {
			fmt.Fprint(w, "\t\t\t\t")
		}
		fmt.Fprintf(w, " %s\t\n", c.note())
	}
	// The writer below the tabwriter is reported on at the last Flush.
	_ = w.Flush()
}

// Ratio says how many times faster than c the base is.
func (t Table) Ratio(c *Cell) string {
	switch {
	case t.Base == nil:
		return ""
	case t.Base == c:
		return "1"
	}
	return fmt.Sprintf("%.2f ×", c.Median()/t.Base.Median())
}

func (c *Cell) note() string {
	parts := []string{}
	if c.Note != "" {
		parts = append(parts, c.Note)
	}
	if b := c.DiskBytesPerOp(); b > 0 {
		parts = append(parts, humanize.IBytes(uint64(b))+" to disk each")
	}
	faults := int64(0)
	for _, r := range c.Rounds {
		faults += r.MajorFaults
	}
	if faults > 0 {
		parts = append(parts, fmt.Sprintf("%d pages read from disk", faults))
	}
	return strings.Join(parts, ", ")
}

func footprintText(w *tabwriter.Writer, s *Setting) {
	if len(s.Footprints) == 0 {
		return
	}
	fmt.Fprint(w, "\nAfter the load\nengine\theap\tanonymous\tmapped\tallocated\t/data\tfile sizes\tto disk\t\n")
	for _, f := range s.Footprints {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.2f\t%s\t%s\t\n", f.Engine, humanize.IBytes(f.Heap), humanize.IBytes(f.Anon),
			humanize.IBytes(f.FileRSS), humanize.IBytes(f.Allocated), f.PerData(), humanize.IBytes(f.Apparent), humanize.IBytes(f.Written))
	}
	_ = w.Flush()
}

func churnText(w *tabwriter.Writer, s *Setting) {
	if len(s.Churns) == 0 {
		return
	}
	fmt.Fprint(w, "\nRoom and writes while all is overwritten at random\nengine\tput\tmost allocated\t/data\tafter Close\t/data\tto disk\t/put\t\n")
	for _, c := range s.Churns {
		if c.Err != "" {
			fmt.Fprintf(w, "%s\tFAILED: %s\n", c.Engine, c.Err)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%s\t%.2f\t%s\t%.2f\t\n", c.Engine, humanize.IBytes(c.Put), humanize.IBytes(c.Most), c.PerData(c.Most),
			humanize.IBytes(c.After), c.PerData(c.After), humanize.IBytes(c.Written), c.Amplification())
	}
	_ = w.Flush()
}

// PerData returns a size divided by keys plus values of the store.
func (c Churn) PerData(n uint64) float64 { return float64(n) / float64(max(c.Data, 1)) }

// Amplification returns bytes written to the device for each byte put.
func (c Churn) Amplification() float64 { return float64(c.Written) / float64(max(c.Put, 1)) }

// PerData returns allocated blocks divided by keys plus values.
func (f Footprint) PerData() float64 { return float64(f.Allocated) / float64(max(f.Data, 1)) }

func goalText(w *tabwriter.Writer, s *Setting) {
	list := s.Goals()
	if len(list) == 0 {
		return
	}
	fmt.Fprint(w, "\nThe goals: how many times faster, and bounds\nmapfile\tis\tmust\taim\t\t\n")
	for _, g := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", g.Text, g.Show(g.Is), g.Want(g.Must), g.Want(g.Aim), g.Verdict)
	}
	_ = w.Flush()
}

// ns writes nanoseconds; from ten milliseconds on, with another unit.
func ns(v float64) string {
	switch {
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	case v >= 1e7:
		return short(int64(v))
	}
	return humanize.Comma(int64(v + 0.5))
}

// rate turns nanoseconds an operation into operations a second.
func rate(ns float64) string {
	if r := 1e9 / ns; r < 100 {
		return fmt.Sprintf("%.1f", r)
	}
	return humanize.Comma(int64(1e9 / ns))
}

// short writes a latency with a unit and three digits.
func short(n int64) string {
	v := float64(n)
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}} {
		if v >= u.size {
			return fmt.Sprintf("%.3g%s", v/u.size, u.name)
		}
	}
	return fmt.Sprintf("%dns", n)
}
