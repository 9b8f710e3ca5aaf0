package cli

import (
	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// recoverReport is what recovery did to a map, or would do.
type recoverReport struct {
	Path   string `json:"path"`
	DryRun bool   `json:"dry_run"`
	Keys   uint64 `json:"keys"` // afterwards
	recoveryReport
}

func (a *app) recoverCmd() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "recover FILE",
		Short: "Open a map, which recovers it, and print what was replayed and cut off",
		Long: "Open a map for writing, which brings it back to the state after its last whole\n" +
			"commit, close it, and print what was replayed and cut off. With --dry-run the\n" +
			"same happens in memory and the file stays as it is.",
		Args: cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be replayed and cut off, change nothing")
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) (err error) {
		open := a.openExisting
		if dryRun {
			open = a.openReadOnly
		}
		db, err := open(cmd, args[0])
		if err != nil {
			return err
		}
		r := newRecoverReport(args[0], dryRun, db)
		if err := db.Close(); err != nil {
			return err
		}
		return printReport(cmd, *asJSON, r)
	})
	return cmd
}

func newRecoverReport(path string, dryRun bool, db *mapfile.DB) *recoverReport {
	s := db.Stats()
	return &recoverReport{path, dryRun, s.Keys, newRecoveryReport(s.Recovery)}
}

func (r *recoverReport) lines() []line {
	lines := []line{{"file", r.Path}, {"dry run", yesNo(r.DryRun)}, {"keys", formatCount(r.Keys)}}
	return append(lines, r.recoveryReport.lines()...)
}
