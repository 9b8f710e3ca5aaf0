package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// checkReport is the verdict on a map.
type checkReport struct {
	Path          string          `json:"path"`
	OK            bool            `json:"ok"`
	ClosedCleanly bool            `json:"closed_cleanly"`
	Keys          uint64          `json:"keys"`
	Tombstones    uint64          `json:"tombstones"`
	Records       uint64          `json:"records"`
	Segments      uint64          `json:"segments"`
	IndexPages    uint64          `json:"index_pages"`
	FreePages     uint64          `json:"free_pages"`
	Recovery      recoveryReport  `json:"recovery"`
	Findings      []findingReport `json:"findings"` // [] where all is well
}

type findingReport struct {
	Structure string `json:"structure"`
	Page      uint64 `json:"page"`
	Offset    int64  `json:"offset"` // of the file
	Reason    string `json:"reason"`
}

func (a *app) checkCmd() *cobra.Command {
	var quick bool
	var maxErrors int
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Verify the whole map and print a verdict; exit code 3 on damage",
		Args:  cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.Flags().BoolVar(&quick, "quick", false, "verify the structure, not every record")
	cmd.Flags().IntVar(&maxErrors, "max-errors", 100, "stop after so many findings; 0: never")
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		bar := a.newProgress(cmd, "checking", unitEntries, 0)
		rep, err := mapfile.Check(cmd.Context(), args[0], &mapfile.CheckOptions{Quick: quick, MaxErrors: maxErrors, Progress: bar.set})
		bar.finish()
		if err != nil {
			return err
		}
		if err := printReport(cmd, *asJSON, newCheckReport(rep)); err != nil {
			return err
		}
		if !rep.OK {
			return fmt.Errorf("mapfile: %s: %w: %d findings", args[0], unprefixed{mapfile.ErrCorrupt}, len(rep.Findings))
		}
		return nil
	})
	return cmd
}

func newCheckReport(c *mapfile.CheckReport) *checkReport {
	r := &checkReport{
		Path: c.Path, OK: c.OK, ClosedCleanly: c.ClosedCleanly,
		Keys: c.Keys, Tombstones: c.Tombstones, Records: c.Records, Segments: c.Segments,
		IndexPages: c.IndexPages, FreePages: c.FreePages,
		Recovery: newRecoveryReport(c.Recovery), Findings: []findingReport{},
	}
	for _, f := range c.Findings {
		r.Findings = append(r.Findings, findingReport{f.Structure, f.Page, f.Offset, f.Reason})
	}
	return r
}

func (r *checkReport) lines() []line {
	lines := []line{
		{"file", r.Path},
		{"closed cleanly", yesNo(r.ClosedCleanly)},
		{"keys", formatCount(r.Keys)},
		{"tombstones", formatCount(r.Tombstones)},
		{"records", formatCount(r.Records)},
		{"segments", formatCount(r.Segments)},
		{"index pages", formatCount(r.IndexPages)},
		{"free pages", formatCount(r.FreePages)},
	}
	lines = append(lines, r.Recovery.lines()...)
	for _, f := range r.Findings {
		lines = append(lines, line{"damaged " + f.Structure, fmt.Sprintf("page %d, offset %d: %s", f.Page, f.Offset, f.Reason)})
	}
	verdict := "ok"
	if !r.OK {
		verdict = "damaged"
	}
	return append(lines, line{"verdict", verdict})
}
