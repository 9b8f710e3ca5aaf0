package cli

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// demoTable is what the demo shows at its end.
type demoTable struct {
	imported demoRow
	killed   []demoRow // one for each sync mode, in the order of their first use
}

// demoRow is one line of it.
type demoRow struct {
	mode        string
	puts, bytes int64 // acknowledged
	wrote       time.Duration
	kills       int // with Puts in flight
	inFlight    int
	opened      []time.Duration // each reopening after a kill
	size        int64           // of the file at the last of them, in bytes
}

// add takes in one child's life and what followed it.
func (t *demoTable) add(mode string, lived childLife, opened time.Duration, size int64) {
	i := slices.IndexFunc(t.killed, func(r demoRow) bool { return r.mode == mode })
	if i < 0 {
		i = len(t.killed)
		t.killed = append(t.killed, demoRow{mode: mode})
	}
	r := &t.killed[i]
	r.puts += lived.puts
	r.bytes += lived.bytes
	r.wrote += lived.wrote
	r.inFlight += lived.inFlight
	if lived.inFlight > 0 {
		r.kills++
	}
	r.opened = append(r.opened, opened)
	r.size = size
}

// print writes the table, with names to the left and numbers to the right.
func (t *demoTable) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, cells ...any) {
		fmt.Fprintf(w, "%-21s\t", name) // of one width, and so to the left
		for _, c := range cells {
			fmt.Fprintf(w, "%v\t", c)
		}
		fmt.Fprintln(w)
	}
	row("map", "files put", "bytes", "rate", "times killed", "puts in flight", "recovery median", "recovery max", "file size")
	r := t.imported
	row("imported, sync at end", formatCount(r.puts), formatBytes(r.bytes), formatRate(r.bytes, r.wrote), "-", "-", "-", "-", formatBytes(r.size))
	for _, r := range t.killed {
		slices.Sort(r.opened)
		median, longest := r.opened[len(r.opened)/2], r.opened[len(r.opened)-1]
		row("killed, sync "+r.mode, formatCount(r.puts), formatBytes(r.bytes), formatRate(r.bytes, r.wrote), r.kills, r.inFlight,
			formatDuration(median), formatDuration(longest), formatBytes(r.size))
	}
	return w.Flush()
}
