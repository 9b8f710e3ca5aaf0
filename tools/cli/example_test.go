package cli_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile/tools/cli"
)

// A program with commands of its own mounts the tree among them.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "a.mapfile")

	for _, args := range [][]string{
		{"mapfile", "put", "--create", path, "greeting", "hello"},
		{"mapfile", "get", path, "greeting"},
	} {
		app := &cobra.Command{Use: "app", SilenceErrors: true}
		app.AddCommand(cli.New(nil))
		app.SetArgs(args)
		app.SetOut(os.Stdout)
		if err := app.Execute(); err != nil {
			fmt.Println(cli.ExitCode(err), err)
		}
	}
	// Output: hello
}
