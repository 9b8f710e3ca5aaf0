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
	{"check: single flipped bits, copies of segments' headers, and nothing else", "mapfile recover --mend FILE", onCheck(onlyMendable)},
	{"check: the log that an open replays is damaged", "mapfile recover --accept-loss FILE", onCheck(logDamaged)},
	{"check: pages of the index are damaged", "mapfile recover --rebuild-index FILE", onCheck(indexDamaged)},
	{"check: the map does not open", "mapfile salvage FILE -o FILE.salvaged", onCheck(func(r *mapfile.CheckReport) bool { return !r.Opens })},
	{"check: records are damaged", "mapfile salvage FILE -o FILE.salvaged", onCheck(damagedIn(recovery.StructureRecord, recovery.StructureTable))},
	{"check: a meta page or images are damaged, and the map opens", "mapfile recover FILE", onCheck(func(*mapfile.CheckReport) bool { return true })},
	{"ErrCorrupt in the log that an open replays", "mapfile recover --accept-loss FILE", asksFor(false, true)},
	{"ErrCorrupt in a page of the index", "mapfile recover --rebuild-index FILE", asksFor(true, false)},
	{"recover: ErrCorrupt in a record, or in log and index", "mapfile recover --rebuild-index --accept-loss FILE", asksFor(true, true)},
	{"ErrCorrupt in what an open begins with, or for all that recover was allowed", "mapfile salvage FILE -o FILE.salvaged", nothingElseHelps},
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
	{"backup --since: ErrHistoryGone, what has changed cannot be told any more", "mapfile backup FILE -o FILE.backup", isError(mapfile.ErrHistoryGone)},
	{"restore: ErrBackup, damaged, cut short, or in a wrong order", "mapfile verify-backup FILE", isError(mapfile.ErrBackup)},
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

// needs says what recover may have to do about damage besides what it was told; known is false where the damage does not tell.
func needs(cmd *cobra.Command, err error) (rebuild, accept, more, known bool) {
	var damage *mapfile.CorruptError
	if !errors.As(err, &damage) {
		return false, false, false, false
	}
	given := func(flag string) bool { return cmd.Name() == "recover" && cmd.Flags().Changed(flag) }
	rebuild, accept = given("rebuild-index"), given("accept-loss")
	had := [2]bool{rebuild, accept}
	switch damage.Structure {
	case "log":
		accept = true
	case "index":
		rebuild = true
	case "record":
		if cmd.Name() != "recover" {
			return false, false, false, false
		}
		rebuild, accept = true, true
	case "meta":
	default:
		return false, false, false, false
	}
	return rebuild, accept, had != [2]bool{rebuild, accept}, true
}

// asksFor is true of damage about which recover with these flags, and no fewer, may do something.
func asksFor(rebuild, accept bool) func(*cobra.Command, error) bool {
	return func(cmd *cobra.Command, err error) bool {
		r, a, more, known := needs(cmd, err)
		return known && more && r == rebuild && a == accept
	}
}

// nothingElseHelps is true of damage about which recover can do nothing.
func nothingElseHelps(cmd *cobra.Command, err error) bool {
	_, _, more, known := needs(cmd, err)
	return known && !more
}

func onlyMendable(r *mapfile.CheckReport) bool {
	return r.Opens && !slices.ContainsFunc(r.Findings, func(f mapfile.Finding) bool { return !f.Flipped && !f.Copy })
}

func logDamaged(r *mapfile.CheckReport) bool {
	return !r.Opens && damagedIn(recovery.StructureLog)(r) && !damagedIn(recovery.StructureDirectory, recovery.StructureBucket)(r)
}

func indexDamaged(r *mapfile.CheckReport) bool {
	return !damagedIn(recovery.StructureLog)(r) && damagedIn(recovery.StructureDirectory, recovery.StructureBucket, recovery.StructureCount, recovery.StructureAccount)(r)
}

// damagedIn is true of damage, more than a flipped bit or a copy, in one of some structures.
func damagedIn(structures ...string) func(*mapfile.CheckReport) bool {
	return func(r *mapfile.CheckReport) bool {
		return slices.ContainsFunc(r.Findings, func(f mapfile.Finding) bool { return !f.Flipped && !f.Copy && slices.Contains(structures, f.Structure) })
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
