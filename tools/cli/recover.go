package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// recoverReport is what recovery did to a map, or would do.
type recoverReport struct {
	Path       string `json:"path"`
	DryRun     bool   `json:"dry_run"`
	Keys       uint64 `json:"keys"`       // afterwards
	Tombstones uint64 `json:"tombstones"` // afterwards
	Rebuilt    bool   `json:"rebuilt"`    // the index was made anew
	Mended     uint64 `json:"mended"`     // flipped bits
	Copies     uint64 `json:"copies"`     // of segments' headers, written anew
	recoveryReport
	lossesReport
}

func (a *app) recoverCmd() *cobra.Command {
	var o mapfile.RecoverOptions
	var reportFile string
	cmd := &cobra.Command{
		Use:   "recover FILE",
		Short: "Open a map, which recovers it, and print what was replayed and cut off",
		Long: "Open a map for writing, which brings it back to the state after its last whole\n" +
			"commit, close it, and print what was replayed and cut off.\n\n" +
			"--rebuild-index makes the index anew from the log, in free space beside the old\n" +
			"one, which is not looked at. --accept-loss goes past records that cannot be read\n" +
			"where opening is refused without it: their keys may show an older version, or be\n" +
			"gone; what is lost is printed. --mend reads the whole map, so that every single\n" +
			"flipped bit is taken back. --dry-run does it in memory: the file stays as it is.\n" +
			"Copy the map before you accept a loss.",
		Args: cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would be done, change nothing")
	cmd.Flags().BoolVar(&o.RebuildIndex, "rebuild-index", false, "make the index anew from the log")
	cmd.Flags().BoolVar(&o.AcceptLoss, "accept-loss", false, "go past what cannot be read in the log")
	cmd.Flags().BoolVar(&o.Mend, "mend", false, "read all that there is, and take flipped bits back")
	addReportFlag(cmd, &reportFile)
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		if st, err := os.Stat(args[0]); err != nil {
			return fmt.Errorf("mapfile: %w", err)
		} else if st.Mode().IsRegular() && st.Size() == 0 {
			return fmt.Errorf("mapfile: %s: empty file: %w", args[0], mapfile.ErrNotMapfile)
		}
		losses, err := newLossFile(reportFile, *asJSON)
		if err != nil {
			return err
		}
		general := a.options(cmd)
		o.LockTimeout, o.AllowNetwork, o.Logger = general.LockTimeout, general.AllowNetwork, general.Logger
		bar := a.newProgress(cmd, "reading", unitBytes, 0)
		o.Progress, o.Lost = bar.set, losses.add
		r, err := mapfile.Recover(cmd.Context(), args[0], &o)
		bar.finish()
		if err := first(err, losses.close()); err != nil {
			return err
		}
		return printReport(cmd, *asJSON, newRecoverReport(args[0], r))
	})
	return cmd
}

func newRecoverReport(path string, r *mapfile.RecoverReport) *recoverReport {
	return &recoverReport{path, r.DryRun, r.Keys, r.Tombstones, r.Rebuilt, r.Mended, r.Copies, newRecoveryReport(r.Recovery), newLossesReport(r.Lost)}
}

func (r *recoverReport) lines() []line {
	lines := []line{{"file", r.Path}, {"dry run", yesNo(r.DryRun)}, {"keys", formatCount(r.Keys)}, {"tombstones", formatCount(r.Tombstones)}}
	if r.Rebuilt {
		lines = append(lines, line{"index", "made anew"})
	}
	if r.Mended > 0 {
		lines = append(lines, line{"flipped bits mended", formatCount(r.Mended)})
	}
	if r.Copies > 0 {
		lines = append(lines, line{"copies of headers written", formatCount(r.Copies)})
	}
	return append(append(lines, r.recoveryReport.lines()...), r.lossesReport.lines()...)
}
