package cli

import (
	"os"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) importCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import DIR FILE",
		Short: "Take every file below a directory into a map that may be new",
		Long: "Take every regular file below DIR into the map FILE, which is created if there is\n" +
			"none: the key is the path from DIR, with slashes, the value the content. Stopped\n" +
			"half-way, a map that it created is removed; another keeps what was committed, and\n" +
			"the message says how far that is.",
		Args: cobra.ExactArgs(2),
	}
	cmd.RunE = a.onFile(1, func(cmd *cobra.Command, args []string) error {
		start := time.Now()
		self, _ := os.Stat(args[1]) // nil: there is no map yet
		src, err := listSource(cmd.Context(), args[0], self)
		if err != nil {
			return err
		}
		t, err := a.importInto(cmd, src, args[1])
		if err != nil {
			return err
		}
		tell(cmd, "imported", "files", t, start)
		return nil
	})
	return cmd
}

// importInto takes the files of src into the map at path and closes it.
func (a *app) importInto(cmd *cobra.Command, src *source, path string) (*target, error) {
	t, err := a.openTarget(cmd, path)
	if err != nil {
		return nil, err
	}
	return t, t.close(a.importFiles(cmd, src, t))
}

func (a *app) importFiles(cmd *cobra.Command, src *source, t *target) error {
	bar := a.newProgress(cmd, "importing", unitBytes, src.bytes)
	defer bar.finish()
	for i, file := range src.files {
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		content, err := src.read(i)
		if err != nil {
			return err
		}
		if err := t.put([]byte(file.name), content); err != nil {
			return err
		}
		bar.add(file.size)
	}
	return nil
}
