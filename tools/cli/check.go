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
	Opens         bool            `json:"opens"`
	Refused       string          `json:"refused,omitempty"` // why it does not open
	ClosedCleanly bool            `json:"closed_cleanly"`
	Verdicts      []verdictReport `json:"verdicts"`
	Keys          uint64          `json:"keys"`
	Tombstones    uint64          `json:"tombstones"`
	Records       uint64          `json:"records"`
	Segments      uint64          `json:"segments"`
	IndexPages    uint64          `json:"index_pages"`
	FreePages     uint64          `json:"free_pages"`
	Recovery      recoveryReport  `json:"recovery"`
	Findings      []findingReport `json:"findings"` // [] where all is well
	Stopped       bool            `json:"stopped"`  // there may be more
}

type verdictReport struct {
	Structure string `json:"structure"`
	Judgement string `json:"judgement"` // ok, damaged, not judged
	Judged    uint64 `json:"judged"`
	Unjudged  uint64 `json:"unjudged"`
	Note      string `json:"note,omitempty"`
}

type findingReport struct {
	Structure string `json:"structure"`
	Page      uint64 `json:"page"`
	Offset    int64  `json:"offset"` // of the file
	Reason    string `json:"reason"`
	Flipped   bool   `json:"flipped"` // one bit, which an open for writing takes back
	Copy      bool   `json:"copy"`    // one of two copies of a segment's header, which recover writes anew
}

// checkError is the damage that a check found.
type checkError struct {
	path   string
	report *mapfile.CheckReport
}

func (e *checkError) Error() string {
	if n := len(e.report.Findings); n > 0 {
		more := ""
		if e.report.Stopped {
			more = " and perhaps more"
		}
		return fmt.Sprintf("mapfile: %s: damaged: %d findings%s", e.path, n, more)
	}
	return fmt.Sprintf("mapfile: %s: damaged: %s", e.path, e.report.Refused)
}

func (e *checkError) Unwrap() error { return mapfile.ErrCorrupt }

func (a *app) checkCmd() *cobra.Command {
	var quick bool
	var maxErrors int
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Verify the map and print a verdict on each of its structures; exit code 3 on damage",
		Long: "Verify the map as an open would recover it, in private memory, and print a verdict on each\n" +
			"of its structures and the counts. The file is not changed. A map that was not closed is no damaged\n" +
			"map. Behind a damaged page the check goes on, and says how much it could not reach. Where no\n" +
			"meta page opens the map, its records are judged by the segments' own headers.\n\n" +
			"The last line is the verdict: ok, with exit code 0, or damaged, with exit code 3; the message on\n" +
			"stderr then ends with the command to run next.",
		Example: "  mapfile check fruit.map\n  mapfile check --quick --json fruit.map",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.Flags().BoolVar(&quick, "quick", false, "read the meta pages, the free space and the log that an open replays, not the index and every record")
	cmd.Flags().IntVar(&maxErrors, "max-errors", 100, "stop after so many findings; 0: never")
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		if maxErrors < 0 {
			return usageError(cmd, fmt.Errorf("--max-errors must not be negative"))
		}
		if maxErrors == 0 {
			maxErrors = -1 // the library's word for never
		}
		bar := a.newProgress(cmd, "checking", unitBytes, 0)
		rep, err := mapfile.Check(cmd.Context(), args[0], &mapfile.CheckOptions{Quick: quick, MaxErrors: maxErrors, Progress: bar.set, LockTimeout: a.options(cmd).LockTimeout})
		bar.finish()
		if err != nil {
			return err
		}
		if err := printReport(cmd, *asJSON, newCheckReport(rep)); err != nil {
			return err
		}
		if !rep.OK {
			return &checkError{args[0], rep}
		}
		return nil
	})
	return cmd
}

func newCheckReport(c *mapfile.CheckReport) *checkReport {
	r := &checkReport{
		Path: c.Path, OK: c.OK, Opens: c.Opens, Refused: c.Refused, ClosedCleanly: c.ClosedCleanly,
		Keys: c.Keys, Tombstones: c.Tombstones, Records: c.Records, Segments: c.Segments,
		IndexPages: c.IndexPages, FreePages: c.FreePages,
		Recovery: newRecoveryReport(c.Recovery), Findings: []findingReport{}, Stopped: c.Stopped,
	}
	for _, f := range c.Findings {
		r.Findings = append(r.Findings, findingReport(f))
	}
	for _, v := range c.Verdicts {
		r.Verdicts = append(r.Verdicts, verdictReport(v))
	}
	return r
}

func (r *checkReport) lines() []line {
	lines := []line{{"file", r.Path}}
	if r.Opens {
		lines = append(lines, line{"closed cleanly", yesNo(r.ClosedCleanly)})
	} else {
		lines = append(lines, line{"opens", "no: " + r.Refused})
	}
	lines = append(lines,
		line{"keys", formatCount(r.Keys)},
		line{"tombstones", formatCount(r.Tombstones)},
		line{"records", formatCount(r.Records)},
		line{"segments", formatCount(r.Segments)},
		line{"index pages", formatCount(r.IndexPages)},
		line{"free pages", formatCount(r.FreePages)},
	)
	if r.Opens {
		lines = append(lines, r.Recovery.lines()...)
	}
	for _, v := range r.Verdicts {
		lines = append(lines, line{v.Structure, v.text()})
	}
	for _, f := range r.Findings {
		lines = append(lines, line{"damage in " + f.Structure, f.text()})
	}
	if r.Stopped {
		lines = append(lines, line{"stopped", "after as many findings as were asked for"})
	}
	verdict := "ok"
	if !r.OK {
		verdict = "damaged"
	}
	return append(lines, line{"verdict", verdict})
}

func (v verdictReport) text() string {
	text := v.Judgement
	if v.Judgement != "not judged" {
		text += ", " + formatCount(v.Judged) + " judged"
	}
	if v.Unjudged > 0 {
		text += ", " + formatCount(v.Unjudged) + " not judged"
	}
	if v.Note != "" {
		text += ": " + v.Note
	}
	return text
}

func (f findingReport) text() string {
	if f.Offset == 0 {
		return fmt.Sprintf("page %d: %s", f.Page, f.Reason)
	}
	return fmt.Sprintf("page %d, offset %d: %s", f.Page, f.Offset, f.Reason)
}
