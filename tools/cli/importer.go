package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Importer reads stores of one kind.
type Importer struct {
	Name string // what import --from calls it
	// Entries calls put once for each entry of the store at path, with bytes that put copies, and answers how many
	// entries the store counts itself. bucket is what import --bucket was given, "" if it was not. note
	// tells the user of what a map cannot keep. An error of put, or of ctx, comes back unchanged.
	Entries func(ctx context.Context, path, bucket string, put func(key, value []byte) error, note func(text string)) (count uint64, err error)
}

var errNoImporter = errors.New("this program reads no stores of others: go run github.com/mapfile-db/mapfile/tools/importer@latest import --from KIND does")

// importerNames lists the kinds of stores that import --from reads.
func (a *app) importerNames() string {
	if len(a.from) == 0 {
		return "none in this program; tools/importer reads bbolt, badger and pogreb"
	}
	var names []string
	for _, im := range a.from {
		names = append(names, im.Name)
	}
	return strings.Join(names, ", ")
}

func (a *app) importer(cmd *cobra.Command, name string) (*Importer, error) {
	if name == "" {
		return nil, usageError(cmd, errors.New("--bucket goes with --from"))
	}
	for i := range a.from {
		if a.from[i].Name == name {
			return &a.from[i], nil
		}
	}
	if len(a.from) == 0 {
		return nil, errNoImporter
	}
	return nil, usageError(cmd, fmt.Errorf("--from %q: want one of %s", name, a.importerNames()))
}

// importStore takes the entries of a store of another kind into the map at path, and compares the counts.
func (a *app) importStore(cmd *cobra.Command, from, source, path, bucket string, start time.Time) error {
	im, err := a.importer(cmd, from)
	if err != nil {
		return err
	}
	t, err := a.openTarget(cmd, path)
	if err != nil {
		return err
	}
	if err := t.close(a.importEntries(cmd, im, source, bucket, t)); err != nil {
		return err
	}
	tell(cmd, "imported", "entries", t, start)
	return nil
}

func (a *app) importEntries(cmd *cobra.Command, im *Importer, source, bucket string, t *target) error {
	bar := a.newProgress(cmd, "importing", unitEntries, 0)
	defer bar.finish()
	before, n, count := t.db.Len(), uint64(0), uint64(0)
	err := t.fill(func() (err error) {
		count, err = im.Entries(cmd.Context(), source, bucket, func(key, value []byte) error {
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			n++
			bar.add(1)
			return t.put(append([]byte{}, key...), append([]byte{}, value...))
		}, func(text string) { fmt.Fprintf(cmd.ErrOrStderr(), "mapfile: %s: %s\n", source, text) })
		return err
	})
	if err == nil {
		err = t.commit()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	if n != count {
		return fmt.Errorf("%s: it counts %d entries, and gave %d", source, count, n)
	}
	if now := t.db.Len(); before == 0 && now != count {
		return fmt.Errorf("%s: it has %d entries, and %s has %d keys", source, count, t.path, now)
	}
	return nil
}
