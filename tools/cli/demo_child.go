package cli

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// syncModes are the modes that the demo's child writes in, by their names.
var syncModes = map[string]mapfile.SyncMode{"never": mapfile.SyncNever, "always": mapfile.SyncAlways}

// demoChildCmd is the process that demo kills: it puts files for ever and writes
// to stdout which Put begins and which has returned.
func (a *app) demoChildCmd() *cobra.Command {
	var mode string
	var files int
	var next []int
	cmd := &cobra.Command{
		Use:    "demo-child DIR FILE",
		Short:  "Put the files below DIR for ever; demo kills this process",
		Args:   cobra.ExactArgs(2),
		Hidden: true,
	}
	cmd.RunE = a.onFile(1, func(cmd *cobra.Command, args []string) (err error) {
		src, err := listSource(cmd.Context(), args[0], nil)
		if err != nil {
			return err
		}
		c := newCourse(len(src.files))
		sync, known := syncModes[mode]
		if !known || len(src.files) != files || len(next) != c.writers {
			return usageError(cmd, fmt.Errorf("%d files and %d writers do not fit --sync %s --files %d --next %v",
				len(src.files), c.writers, mode, files, next))
		}
		o := a.options(cmd)
		o.Sync = sync
		db, err := mapfile.Open(args[1], o)
		if err != nil {
			return err
		}
		defer closeInto(&err, db)
		return putForever(cmd.Context(), db, src, next, cmd.OutOrStdout())
	})
	cmd.Flags().StringVar(&mode, "sync", "never", "sync mode: never or always")
	cmd.Flags().IntVar(&files, "files", 0, "how many files there must be")
	cmd.Flags().IntSliceVar(&next, "next", nil, "each writer's first step")
	return cmd
}

// putForever runs the writers of the course, each from its step in next, until one of them fails or ctx is done.
func putForever(ctx context.Context, db *mapfile.DB, src *source, next []int, log io.Writer) error {
	return forEver(ctx, next, func(_ context.Context, writer, step int) error { return putStep(db, src, writer, step, log) })
}

// forEver calls do with each writer's steps, from that in next on, in a goroutine for each writer, until one fails or ctx
// is done.
func forEver(ctx context.Context, next []int, do func(ctx context.Context, writer, step int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var writers sync.WaitGroup
	for writer, step := range next {
		writers.Go(func() {
			for ; ctx.Err() == nil; step++ {
				if err := do(ctx, writer, step); err != nil {
					cancel(err)
				}
			}
		})
	}
	writers.Wait()
	return context.Cause(ctx)
}

// putStep puts one file. Each line of the log is one write, shorter than what a pipe takes whole, so that a kill cuts none
// in two and the writers' lines do not mix.
func putStep(db *mapfile.DB, src *source, writer, step int, log io.Writer) error {
	file, generation := newCourse(len(src.files)).at(writer, step)
	content, err := src.read(file)
	if err != nil {
		return err
	}
	content = append(content, suffix(generation)...)
	if _, err := fmt.Fprintln(log, wordBegin, writer, step); err != nil {
		return err
	}
	if err := db.Put([]byte(src.files[file].name), content); err != nil {
		return err
	}
	_, err = fmt.Fprintln(log, wordDone, writer, step)
	return err
}
