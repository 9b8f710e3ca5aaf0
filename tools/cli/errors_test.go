package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

func TestExitCode(t *testing.T) {
	rows := []struct {
		name string
		err  error
		want int
	}{
		{"good", nil, 0},
		{"no such key", mapfile.ErrNotFound, 1},
		{"difference", lost{"x"}, 1},
		{"lock", mapfile.ErrLocked, 2},
		{"I/O", fs.ErrPermission, 2},
		{"later version", mapfile.ErrVersion, 2},
		{"full", mapfile.ErrFull, 2},
		{"history gone", mapfile.ErrHistoryGone, 1},
		{"no backup", mapfile.ErrBackup, 3},
		{"damage", &mapfile.CorruptError{Path: "m", Reason: "r"}, 3},
		{"no mapfile", mapfile.ErrNotMapfile, 3},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			require.Equal(t, row.want, ExitCode(row.err))
			if row.err != nil {
				require.Equal(t, row.want, ExitCode(&nextError{fmt.Errorf("wrapped: %w", row.err), "ls"}))
			}
		})
	}
}

func TestNextCommand(t *testing.T) {
	damaged := &mapfile.CorruptError{Path: "m", Reason: "r"}
	rows := []struct {
		name, verb, path string
		err              error
		want             string
	}{
		{"damage", "get", "m", damaged, "mapfile check m"},
		{"damage in a path with a space", "dump", "a b", damaged, "mapfile check 'a b'"},
		{"damage in the part of the log to be replayed", "get", "m", &mapfile.CorruptError{Structure: "log"}, "mapfile recover --accept-loss m"},
		{"damage of the index", "recover", "m", &mapfile.CorruptError{Structure: "index"}, "mapfile recover --rebuild-index m"},
		{"damage of a record", "get", "m", &mapfile.CorruptError{Structure: "record"}, "mapfile check m"},
		{"damage of a record in a recovery", "recover", "m", &mapfile.CorruptError{Structure: "record"}, "mapfile recover --rebuild-index --accept-loss m"},
		{"damage of what an open begins with", "recover", "a b", &mapfile.CorruptError{Structure: "meta"}, "mapfile salvage 'a b' -o 'a b.salvaged'"},
		{"failed", "put", "m", mapfile.ErrFailed, "mapfile recover m"},
		{"no mapfile", "info", "m", mapfile.ErrNotMapfile, "mapfile check m"},
		{"no mapfile, says check", "check", "m", mapfile.ErrNotMapfile, "file m"},
		{"version", "get", "m", mapfile.ErrVersion, "mapfile version"},
		{"locked", "get", "m", mapfile.ErrLocked, "mapfile info m"},
		{"replaced", "put", "m", mapfile.ErrReplaced, "ls -li m"},
		{"full", "put", "m", mapfile.ErrFull, "df -h m"},
		{"history gone", "backup", "m", mapfile.ErrHistoryGone, "mapfile backup m -o m.backup"},
		{"check: one bit", "check", "m", found(true, mapfile.Finding{Structure: "records", Flipped: true}), "mapfile recover --mend m"},
		{"check: a copy of a header", "check", "m", found(true, mapfile.Finding{Structure: "segment table", Copy: true}, mapfile.Finding{Structure: "buckets", Flipped: true}), "mapfile recover --mend m"},
		{"check: both copies of a header", "check", "m", found(true, mapfile.Finding{Structure: "segment table"}), "mapfile salvage m -o m.salvaged"},
		{"check: the log", "check", "m", found(false, mapfile.Finding{Structure: "log"}), "mapfile recover --accept-loss m"},
		{"check: log and index", "check", "m", found(false, mapfile.Finding{Structure: "log"}, mapfile.Finding{Structure: "buckets"}), "mapfile salvage m -o m.salvaged"},
		{"check: opens not", "check", "a b", found(false, mapfile.Finding{Structure: "images"}), "mapfile salvage 'a b' -o 'a b.salvaged'"},
		{"check: a bucket that the replay needs", "check", "m", found(false, mapfile.Finding{Structure: "buckets"}), "mapfile recover --rebuild-index m"},
		{"check: a bucket", "check", "m", found(true, mapfile.Finding{Structure: "buckets"}, mapfile.Finding{Structure: "records"}), "mapfile recover --rebuild-index m"},
		{"check: a record", "check", "m", found(true, mapfile.Finding{Structure: "records"}, mapfile.Finding{Structure: "mark page", Flipped: true}), "mapfile salvage m -o m.salvaged"},
		{"check: a meta page", "check", "m", found(true, mapfile.Finding{Structure: "meta page 1"}), "mapfile recover m"},
		{"no such key", "get", "m", mapfile.ErrNotFound, ""},
		{"no file to get from", "get", "m", fs.ErrNotExist, ""},
		{"good", "get", "m", nil, ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a := testApp()
			cmd, _, err := a.root.Find([]string{row.verb})
			require.NoError(t, err)
			require.Equal(t, row.want, a.next(cmd, row.path, row.err))
		})
	}
}

// found is what check answers of damage.
func found(opens bool, findings ...mapfile.Finding) error {
	return &checkError{"m", &mapfile.CheckReport{Opens: opens, Findings: findings}}
}

func TestDamageAndStrangersExitWithThree(t *testing.T) {
	rows := []struct {
		name, path, next string
		verbs            []string
	}{
		{"no mapfile", notMapfile(t), "; run: ", []string{"info", "stats", "check", "recover", "keys", "dump", "get", "put", "delete", "load"}},
		{"damaged", damagedMap(t), "; run: ", []string{"stats", "check", "dump"}},
	}
	rest := map[string][]string{"get": {"k"}, "put": {"k", "v"}, "delete": {"k"}}
	for _, row := range rows {
		for _, verb := range row.verbs {
			t.Run(row.name+" "+verb, func(t *testing.T) {
				got := call(t, append([]string{verb, row.path}, rest[verb]...)...)
				require.Equal(t, 3, got.code, got.err)
				require.Contains(t, got.err, row.next)
				require.FileExists(t, row.path)
			})
		}
	}
}

func TestUsageErrors(t *testing.T) {
	rows := []struct {
		name string
		args []string
		want string
	}{
		{"no verb", nil, "mapfile: no verb given; run: mapfile --help\n"},
		{"no such verb", []string{"frob"}, "mapfile: unknown command \"frob\" for \"mapfile\"; run: mapfile --help\n"},
		{"too few arguments", []string{"get", "m"}, "mapfile: accepts 2 arg(s), received 1; run: mapfile get --help\n"},
		{"no such flag", []string{"info", "--frob", "m"}, "mapfile: unknown flag: --frob; run: mapfile info --help\n"},
		{"no kills", []string{"demo", "--kills", "0"}, "mapfile: --kills must be at least 1; run: mapfile demo --help\n"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			require.Equal(t, result{2, "", row.want}, call(t, row.args...))
		})
	}
}

func TestMissingFileExitsWithTwo(t *testing.T) {
	for _, verb := range []string{"info", "stats", "check", "recover", "keys", "dump"} {
		t.Run(verb, func(t *testing.T) {
			path := t.TempDir() + "/none"
			got := call(t, verb, path)
			require.Equal(t, 2, got.code)
			require.Contains(t, got.err, "no such file")
			require.NoFileExists(t, path)
		})
	}
}

func TestLockedMapExitsWithTwo(t *testing.T) {
	path := newMap(t, map[string]string{"k": "v"})
	db, err := mapfile.Open(path, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	got := call(t, "get", "--lock-timeout", "0s", path, "k")
	require.Equal(t, 2, got.code)
	require.Contains(t, got.err, unprefixed{mapfile.ErrLocked}.Error())
}

func TestQuote(t *testing.T) {
	for path, want := range map[string]string{
		"/a/b-c_d.mapfile": "/a/b-c_d.mapfile",
		"":                 "''",
		"-x":               "'-x'",
		"it's":             `'it'\''s'`,
		"a$b":              "'a$b'",
	} {
		require.Equal(t, want, quote(path))
	}
}

func TestMessageBeginsWithTheName(t *testing.T) {
	require.Equal(t, "mapfile: x", message(errors.New("x")))
	require.Equal(t, "mapfile: x", message(errors.New("mapfile: x")))
}
