package cli

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// A report is what a verb found out: printed as JSON by its field tags, or as
// lines of name and value.
type report interface{ lines() []line }

type line struct {
	name  string
	value any
}

// addJSONFlag adds --json to the verb of a report.
func addJSONFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print the report as JSON")
}

// printReport writes r to the output of cmd.
func printReport(cmd *cobra.Command, asJSON bool, r report) error {
	if asJSON {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, l := range r.lines() {
		fmt.Fprintf(w, "%s\t%v\n", l.name, l.value)
	}
	return w.Flush()
}

// recoveryReport is what opening a map replayed and cut off.
type recoveryReport struct {
	Recovered      bool   `json:"recovered"`
	Records        uint64 `json:"records"`
	Bytes          uint64 `json:"bytes"`
	CutBytes       uint64 `json:"cut_bytes"`
	Damaged        uint64 `json:"damaged"`             // records replayed whose value is damaged
	FromCheckpoint uint64 `json:"from_checkpoint"`     // number of the meta page it began with
	FellBack       string `json:"fell_back,omitempty"` // why the newer meta page was not used
	DurationNS     int64  `json:"duration_ns"`
}

func newRecoveryReport(s mapfile.RecoveryStats) recoveryReport {
	return recoveryReport{s.Recovered, s.Records, s.Bytes, s.CutBytes, s.Damaged, s.FromCheckpoint, s.FellBack, s.Duration.Nanoseconds()}
}

func (r recoveryReport) lines() []line {
	if !r.Recovered && r.CutBytes == 0 && r.FellBack == "" {
		return []line{{"recovery", "none needed"}}
	}
	lines := []line{
		{"recovery from meta", r.FromCheckpoint},
		{"records replayed", formatCount(r.Records)},
		{"bytes replayed", formatCount(r.Bytes)},
		{"bytes cut off", formatCount(r.CutBytes)},
		{"recovery time", formatDuration(time.Duration(r.DurationNS))},
	}
	if r.Damaged > 0 {
		lines = append(lines, line{"damaged values", formatCount(r.Damaged)})
	}
	if r.FellBack != "" {
		lines = append(lines, line{"newer meta not used", r.FellBack})
	}
	return lines
}
