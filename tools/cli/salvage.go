package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// salvageReport is what was got out of a damaged file.
type salvageReport struct {
	Path      string `json:"path"`
	New       string `json:"new"`
	UUID      string `json:"uuid"`
	Opens     bool   `json:"opens"`
	Refused   string `json:"refused,omitempty"` // why it does not open
	Metas     int    `json:"metas"`             // meta pages that hold
	Segments  uint64 `json:"segments"`
	Foreign   uint64 `json:"foreign_segments"` // of another map
	Records   uint64 `json:"records"`
	Orphans   uint64 `json:"orphans"`  // records that a recovery had cut off
	Keys      uint64 `json:"keys"`     // written
	Older     uint64 `json:"older"`    // of these, versions that are, or may be, out of date
	Unjudged  uint64 `json:"unjudged"` // of the keys, those of which no index told whether a newer version is lost
	NewBytes  int64  `json:"new_bytes_at_most"`
	WorkBytes int64  `json:"work_bytes_at_most"`
	lossesReport
}

func (a *app) salvageCmd() *cobra.Command {
	var o mapfile.SalvageOptions
	var into, reportFile string
	cmd := &cobra.Command{
		Use:   "salvage SRC -o NEW",
		Short: "Copy what can be read of a map that nothing opens into a new map",
		Long: "Read SRC as raw bytes, with both meta pages and the whole index gone if need be,\n" +
			"and copy the newest version of each key whose checksums hold into the new map NEW.\n" +
			"A key whose newest version is damaged is listed; --older writes the older one that\n" +
			"was found. Where SRC opens its index tells which version is the newest, and NEW holds\n" +
			"what get would answer, and nothing else. Where it does not open, below a damaged page\n" +
			"of the index, and behind the end that an open gives the log, the log alone tells: if\n" +
			"not even the key of a damaged record can be read, the version before it is written,\n" +
			"or a key that was deleted. The report counts the keys that no index judged. SRC is\n" +
			"never changed. NEW has its name when it is whole; meanwhile there is a directory\n" +
			"beside it.",
		Args: cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.Flags().StringVarP(&into, "out", "o", "", "the new map, which must not exist")
	cmd.Flags().BoolVar(&o.Older, "older", false, "also write what is, or may be, out of date")
	addReportFlag(cmd, &reportFile)
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		if into == "" {
			return usageError(cmd, errNoOutput)
		}
		losses, err := newLossFile(reportFile, *asJSON)
		if err != nil {
			return err
		}
		general := a.options(cmd)
		o.LockTimeout, o.AllowNetwork, o.Lost = general.LockTimeout, general.AllowNetwork, losses.add
		o.Plan = func(p mapfile.SalvagePlan) error {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s records in %s segments; %s may need up to %s, and meanwhile %s beside it\n",
				formatCount(p.Records), formatCount(p.Segments), into, formatBytes(p.NewBytes), formatBytes(p.WorkBytes))
			return nil
		}
		bars := &bars{a: a, cmd: cmd}
		o.Progress = bars.set
		r, err := mapfile.Salvage(cmd.Context(), args[0], into, &o)
		bars.finish()
		if err := first(err, losses.close()); err != nil {
			return err
		}
		return printReport(cmd, *asJSON, newSalvageReport(args[0], into, r))
	})
	return cmd
}

// bars are the bars of work that has several steps, one after the other.
type bars struct {
	a    *app
	cmd  *cobra.Command
	what string
	bar  *progress
}

func (b *bars) set(what string, done, total uint64) {
	if b.bar == nil || what != b.what {
		b.finish()
		b.what, b.bar = what, b.a.newProgress(b.cmd, what, unitBytes, int64(total))
	}
	b.bar.set(done, total)
}

func (b *bars) finish() {
	if b.bar != nil {
		b.bar.finish()
	}
}

func newSalvageReport(path, into string, r *mapfile.SalvageReport) *salvageReport {
	return &salvageReport{
		Path: path, New: into, UUID: r.UUID, Metas: r.Metas, Segments: r.Segments, Foreign: r.Foreign, Records: r.Records, Orphans: r.Orphans,
		Keys: r.Keys, Older: r.Older, Opens: r.Opens, Refused: r.Refused, Unjudged: r.Unjudged, NewBytes: r.NewBytes, WorkBytes: r.WorkBytes, lossesReport: newLossesReport(r.Lost),
	}
}

func (r *salvageReport) lines() []line {
	lines := []line{
		{"file", r.Path},
		{"new map", r.New},
		{"uuid", r.UUID},
		{"meta pages that hold", r.Metas},
		{"segments", formatCount(r.Segments)},
		{"records", formatCount(r.Records)},
		{"keys written", formatCount(r.Keys)},
	}
	if !r.Opens {
		lines = slices.Insert(lines, 3, line{"opens", "no: " + r.Refused})
	}
	for _, l := range []struct {
		name string
		n    uint64
	}{{"segments of another map", r.Foreign}, {"records cut off before", r.Orphans}, {"perhaps out of date", r.Older}, {"judged by no index", r.Unjudged}} {
		if l.n > 0 {
			lines = append(lines, line{l.name, formatCount(l.n)})
		}
	}
	return append(lines, r.lossesReport.lines()...)
}
