package cli

import (
	"os"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) importCmd() *cobra.Command {
	var from, bucket string
	cmd := &cobra.Command{
		Use:   "import SOURCE FILE",
		Short: "Take every file below a directory, or every entry of another store, into a map that may be new",
		Long: "Take every regular file below the directory SOURCE into the map FILE, which is created\n" +
			"if there is none: the key is the path from SOURCE, with slashes, the value the content.\n" +
			"With --from take every entry of a store of another kind instead. Stopped half-way, a map\n" +
			"that it created is removed; another keeps what was committed, and the message says how far\n" +
			"that is.",
		Args: cobra.ExactArgs(2),
	}
	cmd.RunE = a.onFile(1, func(cmd *cobra.Command, args []string) error {
		start := time.Now()
		if from != "" || bucket != "" {
			return a.importStore(cmd, from, args[0], args[1], bucket, start)
		}
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
	cmd.Flags().StringVar(&from, "from", "", "`kind` of the store SOURCE: "+a.importerNames())
	cmd.Flags().StringVar(&bucket, "bucket", "", "of a store with buckets, the one to import; nested ones by their path, with slashes")
	return cmd
}

// importInto takes the files of src into the map at path and closes it.
func (a *app) importInto(cmd *cobra.Command, src *source, path string) (*target, error) {
	t, err := a.openTarget(cmd, path)
	if err != nil {
		return nil, err
	}
	return t, t.close(t.fill(func() error { return a.importFiles(cmd, src, t) }))
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
