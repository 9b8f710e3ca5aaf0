package cli

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

const modulePath = "github.com/mapfile-db/mapfile"

type versionReport struct {
	Program  string `json:"program"` // version of the module that holds the program
	Mapfile  string `json:"mapfile"` // version of the library
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of the program, the library and Go",
		Args:  cobra.NoArgs,
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		info, _ := debug.ReadBuildInfo()
		return printReport(cmd, *asJSON, newVersionReport(info))
	}
	return cmd
}

// newVersionReport reads the versions from what the linker noted, which is nil
// in a program built without modules.
func newVersionReport(info *debug.BuildInfo) *versionReport {
	r := &versionReport{"unknown", "unknown", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	if info == nil {
		return r
	}
	r.Program = info.Main.Version
	for _, dep := range info.Deps {
		if dep.Path == modulePath {
			r.Mapfile = dep.Version
		}
	}
	return r
}

func (r *versionReport) lines() []line {
	return []line{{"program", r.Program}, {"mapfile", r.Mapfile}, {"go", r.Go}, {"platform", r.Platform}}
}
