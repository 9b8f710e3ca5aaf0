//go:build linux || darwin || freebsd

package mapfile_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

func init() { childRoles["scan"] = scanPiece }

// scanPiece shows some of what a token leaves, key by key, and then the next token: its path, the token or nothing, how many.
func scanPiece(out io.Writer, args []string) error {
	db, err := mapfile.Open(args[0], &mapfile.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	left := mapfile.Range{}
	if args[1] != "" {
		token, err := hex.DecodeString(args[1])
		if err != nil {
			return err
		}
		if left, err = left.After(token); err != nil {
			return err
		}
	}
	most, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	return db.View(func(tx *mapfile.Tx) error {
		scan, n := tx.Scan(left), 0
		for k, v := range scan.All() {
			fmt.Fprintf(out, "%s=%s\n", k, v)
			if n++; n == most {
				break
			}
		}
		fmt.Fprintf(out, "token %x\n", scan.Token())
		return tx.Err()
	})
}

// TestTokenInAnotherProcess scans a map in pieces, each in a process of its own with nothing but the token of the one before, and puts keys in
// between, so that buckets split.
func TestTokenInAnotherProcess(t *testing.T) {
	path := newPath(t)
	want, others := map[string]string{}, 0
	change := func(f func(db *mapfile.DB)) {
		db := openTest(t, path, &mapfile.Options{Sync: mapfile.SyncNever})
		f(db)
		require.NoError(t, db.Close())
	}
	change(func(db *mapfile.DB) { putRange(t, db, want, 0, 600) })
	got, token := map[string]string{}, ""
	for range 4 {
		c := startChild(t, "scan", path, token, "200")
		for {
			line := c.line()
			if next, ok := strings.CutPrefix(line, "token "); ok {
				token = next
				break
			}
			k, v, ok := strings.Cut(line, "=")
			require.True(t, ok, "the child says %q", line)
			require.NotContains(t, got, k, "shown twice")
			got[k] = v
		}
		require.NoError(t, c.cmd.Wait())
		change(func(db *mapfile.DB) {
			for range 500 {
				require.NoError(t, db.Put(fmt.Appendf(nil, "other %d", others), nil))
				others++
			}
		})
	}
	c := startChild(t, "scan", path, token, "1000000")
	for _, line := range c.rest() {
		if k, v, ok := strings.Cut(line, "="); ok {
			require.NotContains(t, got, k, "shown twice")
			got[k] = v
		}
	}
	maps.DeleteFunc(got, func(k, _ string) bool { return strings.HasPrefix(k, "other ") })
	require.Equal(t, want, got)
}

// TestPartsInGoroutines scans the parts of a range at the same time, in one snapshot, beside a writer: together they show every key once.
func TestPartsInGoroutines(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	want := map[string]string{}
	putRange(t, db, want, 0, 4000)
	tx := beginTx(t, db, &mapfile.TxOptions{ReadOnly: true})
	defer tx.Rollback()
	parts := mapfile.Range{}.Split(5)
	shown := make([]map[string]string, len(parts))
	var scanners sync.WaitGroup
	for i, part := range parts {
		scanners.Go(func() {
			shown[i] = map[string]string{}
			for k, v := range tx.Scan(part).All() {
				shown[i][string(k)] = string(v)
			}
		})
	}
	for i := range 4000 {
		require.NoError(t, db.Put(numbered(2*i), []byte("later")))
	}
	scanners.Wait()
	require.NoError(t, tx.Err())
	got, n := map[string]string{}, 0
	for _, s := range shown {
		n += len(s)
		maps.Copy(got, s)
		require.Greater(t, len(s), 4000/5/2, "the parts are about equal")
	}
	require.Equal(t, len(want), n, "no key is in two parts")
	requireSame(t, want, got, nil)
}

// TestSplit cuts ranges in many ways: the parts of parts show every key once, and the same cut gives the same parts.
func TestSplit(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	want := map[string]string{}
	putRange(t, db, want, 0, 300)
	whole := mapfile.Range{}
	tiny := whole
	for range 7 { // 2^-63 of it, and further
		tiny = tiny.Split(1000)[3]
	}
	rows := []struct {
		name  string
		parts []mapfile.Range
	}{
		{"none counts as one", whole.Split(0)},
		{"below none", whole.Split(math.MinInt)},
		{"two", whole.Split(2)},
		{"many", whole.Split(1000)},
		{"parts of parts", func() (all []mapfile.Range) {
			for _, part := range whole.Split(3) {
				all = append(all, part.Split(4)...)
			}
			return all
		}()},
	}
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for _, row := range rows {
			got, n := map[string]string{}, 0
			for _, part := range row.parts {
				shown := collected(t, tx.Scan(part).All())
				n += len(shown)
				maps.Copy(got, shown)
			}
			require.Equal(t, len(want), n, row.name)
			requireSame(t, want, got, tx.Err())
		}
		for _, part := range tiny.Split(5) {
			require.Empty(t, collected(t, tx.Scan(part).All()), "too small to be cut")
		}
		return tx.Err()
	}))
	require.Equal(t, whole.Split(7), whole.Split(7))
}
