package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// demoTree is a small source: 300 files of some kilobytes.
func demoTree(t *testing.T) string {
	t.Helper()
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprintf("d%d/f%d", i%7, i)] = strings.Repeat(fmt.Sprint(i, " "), 10*i)
	}
	return newTree(t, files)
}

func callDemo(t *testing.T, a *app) result {
	t.Helper()
	dir := t.TempDir()
	got := callApp(t.Context(), a, strings.NewReader(""), "demo", "--dir", dir, "--source", demoTree(t), "--kills", "6")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "the demo left its maps behind")
	return got
}

func TestDemo(t *testing.T) {
	got := callDemo(t, testApp())
	require.Equal(t, 0, got.code, got.err)
	lines := strings.Split(strings.TrimSuffix(got.out, "\n"), "\n")
	require.Len(t, lines, 5, got.out)
	require.Contains(t, lines[0], "recovery median")
	require.Regexp(t, `^ *imported, sync at end +300 `, lines[1])
	// (The child that brings in what is missing is ended by a kill too, which counts if a Put was in flight.)
	require.Regexp(t, `^ *killed, sync never +[0-9,]+ .* [34]  +[0-9]+ `, lines[2])
	require.Regexp(t, `^ *killed, sync always +[0-9,]+ .* 3  +[0-9]+ `, lines[3])
	require.Equal(t, "demo: ok", lines[4])
}

// Each row spoils the map between the death of a child and the check.
func TestDemoFailsOnAPlantedLoss(t *testing.T) {
	rows := []struct {
		name  string
		spoil func(path string, key []byte) error
		want  string
	}{
		{"deleted", func(path string, key []byte) error {
			return change(path, func(db *mapfile.DB) error { return db.Delete(key) })
		}, "not there, where generation"},
		{"torn", func(path string, key []byte) error {
			return change(path, func(db *mapfile.DB) error { return db.Put(key, []byte("half")) })
		}, "wrong content, 4 bytes"},
		{"added", func(path string, _ []byte) error {
			return change(path, func(db *mapfile.DB) error { return db.Put([]byte("other"), nil) })
		}, "the map counts"},
		{"not a map any more", func(path string, _ []byte) error {
			return os.WriteFile(path, bytes.Repeat([]byte("x"), 1<<16), 0o600)
		}, "the map does not open"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a := testApp()
			kills := 0
			a.afterKill = func(path string) error {
				if kills++; kills < 2 {
					return nil
				}
				key, err := anyKey(path)
				return errors.Join(err, row.spoil(path, key))
			}
			got := callDemo(t, a)
			require.Equal(t, 1, got.code, got.err)
			require.True(t, strings.HasSuffix(got.out, "\ndemo: FAILED\n"), got.out)
			require.Contains(t, got.err, row.want)
			require.Equal(t, 2, kills, "it went on after a loss")
		})
	}
}

// change opens the map, as anyone could, and changes it.
func change(path string, do func(db *mapfile.DB) error) error {
	db, err := mapfile.Open(path, nil)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

// anyKey gives a key that the map holds.
func anyKey(path string) (key []byte, err error) {
	err = change(path, func(db *mapfile.DB) error {
		return db.View(func(tx *mapfile.Tx) error {
			for k := range tx.All() {
				key = bytes.Clone(k)
				return nil
			}
			return errors.New("the map is empty")
		})
	})
	return key, err
}

func TestDemoWithAChildThatFails(t *testing.T) {
	rows := []struct {
		name, script string
		code         int
		out, err     string
	}{
		{"ends by itself", "echo 'no room' >&2; exit 2", 2, "", "exit code 2: no room"},
		{"finds damage", "exit 3", 1, "demo: FAILED\n", "exit code 3"},
		{"ends without a word", "exit 0", 2, "", "the child wrote nothing"},
		{"writes nonsense", "echo frob; exec sleep 60", 2, "", `the child's log: "frob"`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a := testApp()
			a.child = func(...string) (*exec.Cmd, error) { return exec.Command("sh", "-c", row.script), nil }
			got := callDemo(t, a)
			require.Equal(t, row.code, got.code, got.err)
			require.True(t, strings.HasSuffix(got.out, row.out), got.out)
			require.Contains(t, got.err, row.err)
		})
	}
}

func TestAKillAfterTheLastPutDoesNotCount(t *testing.T) {
	for name, row := range map[string]struct {
		log    string
		counts bool
	}{
		"between Puts": {"echo begin 0 0; echo done 0 0", false},
		"in a Put":     {"echo begin 0 0; echo done 0 0; echo begin 0 1", true},
	} {
		t.Run(name, func(t *testing.T) {
			a := testApp()
			a.child = func(...string) (*exec.Cmd, error) { return exec.Command("sh", "-c", row.log+"; exec sleep 60"), nil }
			src := tenFiles(t)
			content, err := src.read(0)
			require.NoError(t, err)
			d := &demo{app: a, cmd: a.root, path: newMap(t, map[string]string{"0": string(content)}), ledger: newLedger(src)}
			d.cmd.SetContext(t.Context())
			counts, err := d.killOnce("never", 100*time.Millisecond, func() bool { return false })
			require.NoError(t, err)
			require.Equal(t, row.counts, counts)
			require.EqualValues(t, 1, d.table.killed[0].puts)
			require.Len(t, d.table.killed[0].opened, 1)
		})
	}
}

func TestInterruptedDemo(t *testing.T) {
	a := testApp()
	ctx, cancel := context.WithCancel(t.Context())
	a.afterKill = func(string) error { cancel(); return nil }
	dir := t.TempDir()
	got := callApp(ctx, a, strings.NewReader(""), "demo", "--dir", dir, "--source", demoTree(t))
	require.Equal(t, 2, got.code)
	require.Empty(t, got.out)
	require.True(t, strings.HasSuffix(got.err, "mapfile: interrupted\n"), got.err)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestGoSource(t *testing.T) {
	dir, err := goSource(t.Context())
	require.NoError(t, err)
	require.FileExists(t, dir+"/fmt/print.go")
}

func TestMountedTreeCallsItselfByItsPath(t *testing.T) {
	a := newApp(nil)
	outer := &cobra.Command{Use: "outer"}
	middle := &cobra.Command{Use: "db"}
	outer.AddCommand(middle)
	middle.AddCommand(a.root)
	cmd, err := a.child("demo-child", "x")
	require.NoError(t, err)
	require.Equal(t, []string{"db", "mapfile", "demo-child", "x"}, cmd.Args[1:])
	find, _, err := outer.Find([]string{"db", "mapfile", "get"})
	require.NoError(t, err)
	require.Equal(t, "outer db mapfile check m", a.next(find, "m", mapfile.ErrCorrupt))
}
