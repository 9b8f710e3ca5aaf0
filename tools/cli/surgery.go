package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
)

func (a *app) surgeryCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "surgery",
		Short: "For experts: look at the meta pages field by field, and fall back to the older",
		Long:  "What is here changes a map against the will of its newer state. It works on a copy unless told otherwise.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return usageError(cmd, errNoVerb) },
	}
	meta := &cobra.Command{
		Use:   "meta",
		Short: "The meta pages: show, validate, fallback",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return usageError(cmd, errNoVerb) },
	}
	meta.AddCommand(a.metaShowCmd(), a.metaValidateCmd(), a.metaFallbackCmd())
	cmd.AddCommand(meta)
	return cmd
}

// metaPages is both meta pages, field by field.
type metaPages struct {
	Path  string         `json:"path"`
	Use   int            `json:"use"` // which an open begins from, -1: neither leads to a whole state
	State string         `json:"state"`
	Pages [2]*pageReport `json:"pages"`
}

func (a *app) metaShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show FILE",
		Short:   "Print every field of both meta pages as it stands, and whether the sums are right",
		Long:    "Print every field of both meta pages, by the names of FORMAT.md, as it stands, whatever the sums say.",
		Example: "  mapfile surgery meta show fruit.map",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = a.onRaw(func(cmd *cobra.Command, m *rawMap, args []string) error {
		r := &metaPages{Path: args[0], Use: m.Slot, State: m.stateText()}
		for i := range r.Pages {
			r.Pages[i] = m.decodePage(pager.PageNo(i))
			r.Pages[i].Path = args[0]
		}
		if err := printReport(cmd, *asJSON, r); err != nil {
			return err
		}
		if m.Slot < 0 {
			return damageError(args[0], "meta pages", m.stateText())
		}
		return nil
	})
	return cmd
}

func (r *metaPages) lines() []line {
	lines := []line{{"file", r.Path}, {"an open uses", r.State}}
	for i, p := range r.Pages {
		lines = append(lines, line{fmt.Sprintf("meta page %d", i), "sum " + p.Sum.text()})
		if p.Note != "" {
			lines = append(lines, line{"  note", p.Note})
		}
		for _, f := range p.Fields {
			lines = append(lines, line{"  " + f.Name, f.Value})
		}
	}
	return lines
}

func (a *app) metaValidateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate FILE",
		Short: "Compare each field of both meta pages with the file; exit code 3 if one is wrong",
		Long: "Compare the fields of both meta pages with what they lead to: the root page, the images of free space and\n" +
			"segment table, the segment where replay starts, the numbers of pages and keys. Exit code 3 if a field\n" +
			"does not fit the file.",
		Example: "  mapfile surgery meta validate fruit.map",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = a.onRaw(func(cmd *cobra.Command, m *rawMap, args []string) error {
		r, err := m.validateMetas(cmd)
		if err != nil {
			return err
		}
		r.Path = args[0]
		if err := printReport(cmd, *asJSON, r); err != nil {
			return err
		}
		if r.Wrong > 0 {
			return damageError(args[0], "meta pages", fmt.Sprintf("%d fields do not fit the file", r.Wrong))
		}
		return nil
	})
	return cmd
}

// fallbackReport is what falling back did.
type fallbackReport struct {
	Path    string `json:"path"`   // that was changed
	Source  string `json:"source"` // that was copied, "" in place
	Void    int    `json:"void"`   // the meta page that does not count any more
	Use     int    `json:"use"`    // the one that an open begins from
	Opens   bool   `json:"opens"`
	Refused string `json:"refused,omitempty"`
	Keys    uint64 `json:"keys"` // after recovery
	recoveryReport
}

func (a *app) metaFallbackCmd() *cobra.Command {
	var out string
	var inPlace bool
	cmd := &cobra.Command{
		Use:   "fallback FILE",
		Short: "Make the newer meta page void, in a copy, so that an open begins from the older",
		Long: "Copy the map to --out and make the copy's newer meta page void, so that an open begins from the older one and\n" +
			"replays the log from there, then open the copy in private memory and say whether that works. With --in-place\n" +
			"FILE itself is changed, under the lock of a writer. What it may cost: nothing while the log behind the\n" +
			"older checkpoint is whole; else the open refuses.",
		Example: "  mapfile surgery meta fallback --out fruit.older fruit.map",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.Flags().StringVar(&out, "out", "", "copy the map to this new file and change that")
	cmd.Flags().BoolVar(&inPlace, "in-place", false, "change FILE itself")
	cmd.MarkFlagsMutuallyExclusive("out", "in-place")
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		if out == "" && !inPlace {
			return usageError(cmd, errors.New("neither --out COPY nor --in-place was given"))
		}
		r, err := a.fallBack(cmd, args[0], out)
		if err != nil {
			return err
		}
		if err := printReport(cmd, *asJSON, r); err != nil {
			return err
		}
		if !r.Opens {
			return damageError(r.Path, "fallback", r.Refused)
		}
		return nil
	})
	return cmd
}

// fallBack falls back in a copy, or in place if out is "", and tries to open the result.
func (a *app) fallBack(cmd *cobra.Command, path, out string) (*fallbackReport, error) {
	r := &fallbackReport{Path: path}
	if out != "" {
		r.Path, r.Source = out, path
		if err := a.copyMap(cmd, path, out); err != nil {
			return nil, err
		}
	}
	if err := a.voidNewer(cmd, r); err != nil {
		if out != "" {
			_ = os.Remove(out) // half a copy is of no use
		}
		return nil, err
	}
	db, err := a.openReadOnly(cmd, r.Path)
	if err != nil {
		r.Refused = unprefixed{err}.Error()
		return r, nil
	}
	s := db.Stats()
	r.Opens, r.Keys, r.recoveryReport = true, s.Keys, newRecoveryReport(s.Recovery)
	return r, db.Close()
}

// voidNewer makes the newer meta page void, under the lock of a writer.
func (a *app) voidNewer(cmd *cobra.Command, r *fallbackReport) error {
	if _, err := os.Stat(r.Path); err != nil { // an open for writing would create it
		return err
	}
	f, err := pager.Open(pager.OpenOptions{
		Disk: pager.OS(), Path: r.Path, LockTimeout: a.options(cmd).LockTimeout, AllowNetwork: a.allowNetwork, Geometry: pager.DefaultGeometry(),
		NewFile: func(pager.Geometry) []byte { return nil },
	})
	if err != nil {
		return err
	}
	r.Void, r.Use, err = recovery.FallBack(f)
	if err != nil {
		err = damageError(r.Path, "fallback", err.Error())
	}
	return first(err, f.File.Close())
}

// copyMap copies a map that nobody writes to into a new file. Zeros are left out: they become holes.
func (a *app) copyMap(cmd *cobra.Command, from, to string) (err error) {
	o := a.options(cmd)
	raw, err := recovery.OpenRaw(pager.OpenOptions{Disk: pager.OS(), Path: from, ReadOnly: true, LockTimeout: o.LockTimeout, AllowNetwork: a.allowNetwork, Geometry: pager.DefaultGeometry()})
	if err != nil {
		return err
	}
	defer func() { err = first(err, raw.Close()) }()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, raw.Info.Mode.Perm())
	if err != nil {
		return fmt.Errorf("mapfile: %w", err)
	}
	bar := a.newProgress(cmd, "copying", unitBytes, int64(raw.Size))
	err = copyData(cmd, raw.File, f, int64(raw.Size), bar)
	bar.finish()
	err = first(err, f.Truncate(int64(raw.Size)), f.Sync(), f.Close())
	if err != nil {
		_ = os.Remove(to) // half a copy is of no use
	}
	return err
}

// copyData copies size bytes but for blocks of zeros.
func copyData(cmd *cobra.Command, from pager.File, to io.WriterAt, size int64, bar *progress) error {
	b := make([]byte, 1<<16)
	for at := int64(0); at < size; at += int64(len(b)) {
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		n, err := from.ReadAt(b[:min(int64(len(b)), size-at)], at)
		if err != nil && n == 0 {
			return err
		}
		if !allZero(b[:n]) {
			if _, err := to.WriteAt(b[:n], at); err != nil {
				return err
			}
		}
		bar.add(int64(n))
	}
	return nil
}

func (r *fallbackReport) lines() []line {
	lines := []line{{"file", r.Path}}
	if r.Source != "" {
		lines = append(lines, line{"copy of", r.Source})
	}
	lines = append(lines, line{"made void", fmt.Sprintf("meta page %d", r.Void)}, line{"used now", fmt.Sprintf("meta page %d", r.Use)})
	if !r.Opens {
		return append(lines, line{"opens", "no: " + r.Refused})
	}
	lines = append(lines, line{"opens", "yes"}, line{"keys", formatCount(r.Keys)})
	return append(lines, r.recoveryReport.lines()...)
}

// damageError says that something in a file does not hold.
func damageError(path, what, reason string) error {
	return fmt.Errorf("mapfile: %s: %w: %s: %s", path, unprefixed{mapfile.ErrCorrupt}, what, reason)
}
