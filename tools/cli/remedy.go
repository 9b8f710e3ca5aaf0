package cli

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/recovery"
)

// remedy is a thing that can go wrong and the command to run next. docs/after-a-crash.md has a row for each, which a test
// compares.
type remedy struct {
	name string // as the document says it
	next string // the command, with mapfile and FILE in place of the program's name and the map's
	when func(cmd *cobra.Command, err error) bool
}

// remedies are asked in this order; the first that fits counts.
var remedies = []remedy{
	{"check: single flipped bits, and nothing else", "mapfile recover FILE", onCheck(onlyFlipped)},
	{"check: the log that an open replays is damaged", "mapfile recover --accept-loss FILE", onCheck(logDamaged)},
	{"check: the map does not open", "mapfile salvage FILE -o FILE.salvaged", onCheck(func(r *mapfile.CheckReport) bool { return !r.Opens })},
	{"check: pages of the index are damaged", "mapfile recover --rebuild-index FILE", onCheck(damagedIn(recovery.StructureDirectory, recovery.StructureBucket, recovery.StructureCount, recovery.StructureAccount))},
	{"check: records are damaged", "mapfile salvage FILE -o FILE.salvaged", onCheck(damagedIn(recovery.StructureRecord, recovery.StructureTable))},
	{"check: a meta page, images or the mark page are damaged, and the map opens", "mapfile recover FILE", onCheck(func(*mapfile.CheckReport) bool { return true })},
	{"recover --rebuild-index meets damage in the log", "mapfile recover --rebuild-index --accept-loss FILE", onRecover("rebuild-index", "accept-loss")},
	{"recover --accept-loss meets damage", "mapfile salvage FILE -o FILE.salvaged", onRecover("accept-loss", "")},
	{"ErrCorrupt: damage, at open or in a read", "mapfile check FILE", isError(mapfile.ErrCorrupt)},
	{"ErrFailed: a sync or a store failed", "mapfile recover FILE", isError(mapfile.ErrFailed)},
	{"check: ErrNotMapfile, not a trace of a map", "file FILE", func(cmd *cobra.Command, err error) bool {
		return errors.Is(err, mapfile.ErrNotMapfile) && (cmd.Name() == "check" || cmd.Name() == "salvage")
	}},
	{"ErrNotMapfile: neither meta page is one of a map", "mapfile check FILE", isError(mapfile.ErrNotMapfile)},
	{"ErrVersion: written by another version of mapfile", "mapfile version", isError(mapfile.ErrVersion)},
	{"ErrLocked: in use by another opener", "mapfile info FILE", isError(mapfile.ErrLocked)},
	{"ErrReplaced: the file was replaced or cut under the map", "ls -li FILE", isError(mapfile.ErrReplaced)},
	{"ErrFull: no room left", "df -h FILE", isError(mapfile.ErrFull)},
	{"stats: the counts differ from the walk", "mapfile check FILE", func(cmd *cobra.Command, err error) bool {
		return errors.Is(err, errDiffers) && cmd.Name() == "stats"
	}},
	{"put: no such file", "mapfile put --create FILE KEY VALUE", func(cmd *cobra.Command, err error) bool {
		return errors.Is(err, fs.ErrNotExist) && cmd.Name() == "put" && !cmd.Flags().Changed("create")
	}},
}

func isError(target error) func(*cobra.Command, error) bool {
	return func(_ *cobra.Command, err error) bool { return errors.Is(err, target) }
}

// onCheck is true of damage that check found and that is of a kind.
func onCheck(kind func(*mapfile.CheckReport) bool) func(*cobra.Command, error) bool {
	return func(_ *cobra.Command, err error) bool {
		var e *checkError
		return errors.As(err, &e) && kind(e.report)
	}
}

// onRecover is true of damage that recover met with a flag and without another.
func onRecover(with, without string) func(*cobra.Command, error) bool {
	return func(cmd *cobra.Command, err error) bool {
		return errors.Is(err, mapfile.ErrCorrupt) && cmd.Name() == "recover" && cmd.Flags().Changed(with) && (without == "" || !cmd.Flags().Changed(without))
	}
}

func onlyFlipped(r *mapfile.CheckReport) bool {
	return r.Opens && !slices.ContainsFunc(r.Findings, func(f mapfile.Finding) bool { return !f.Flipped })
}

func logDamaged(r *mapfile.CheckReport) bool {
	return !r.Opens && damagedIn(recovery.StructureLog)(r) && !damagedIn(recovery.StructureDirectory, recovery.StructureBucket)(r)
}

// damagedIn is true of damage, more than a flipped bit, in one of some structures.
func damagedIn(structures ...string) func(*mapfile.CheckReport) bool {
	return func(r *mapfile.CheckReport) bool {
		return slices.ContainsFunc(r.Findings, func(f mapfile.Finding) bool { return !f.Flipped && slices.Contains(structures, f.Structure) })
	}
}

// next is the command to run after err happened to the map at path, or "".
func (a *app) next(cmd *cobra.Command, path string, err error) string {
	if err == nil {
		return ""
	}
	for _, r := range remedies {
		if r.when(cmd, err) {
			return a.command(r.next, path)
		}
	}
	return ""
}

// command puts the names of program and map into a remedy's command.
func (a *app) command(next, path string) string {
	words := strings.Fields(next)
	for i, w := range words {
		switch {
		case i == 0 && w == "mapfile":
			words[i] = a.root.CommandPath()
		case strings.HasPrefix(w, "FILE"):
			words[i] = quote(path + strings.TrimPrefix(w, "FILE"))
		}
	}
	return strings.Join(words, " ")
}
