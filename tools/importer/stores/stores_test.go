package stores

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/akrylysov/pogreb"
	"github.com/dgraph-io/badger/v4"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/tools/cli"
)

// run calls the tool and returns its exit code and what it wrote to its error output.
func run(args ...string) (code int, talk string) {
	var out, errOut bytes.Buffer
	root := cli.New(&cli.Options{Importers: All()})
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errOut)
	code = cli.Main(context.Background(), root)
	return code, errOut.String()
}

// entries are n entries, those with a number in them the same for every store.
func entries(n int) map[string]string {
	m := map[string]string{"\x00\xff": "any bytes \x00", "empty": ""}
	for i := range n {
		m[fmt.Sprint("key ", i)] = fmt.Sprint("value ", i)
	}
	return m
}

func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	db, err := mapfile.Open(path, &mapfile.Options{ReadOnly: true})
	require.NoError(t, err)
	defer db.Close()
	got := map[string]string{}
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for k, v := range tx.All() {
			got[string(k)] = string(v)
		}
		return tx.Err()
	}))
	return got
}

func makeBbolt(t *testing.T, path string, buckets map[string]map[string]string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		for name, all := range buckets {
			b, err := tx.CreateBucket([]byte(name))
			require.NoError(t, err)
			inner, err := b.CreateBucket([]byte("inner"))
			require.NoError(t, err)
			for k, v := range all {
				require.NoError(t, b.Put([]byte(k), []byte(v)))
				require.NoError(t, inner.Put([]byte("inner "+k), []byte(v)))
			}
		}
		return nil
	}))
	require.NoError(t, db.Close())
}

func TestBbolt(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one.db"), filepath.Join(dir, "two.db")
	want := entries(3000)
	makeBbolt(t, one, map[string]map[string]string{"only": want})
	makeBbolt(t, two, map[string]map[string]string{"a": want, "b/c": entries(1)})
	inner := map[string]string{}
	for k, v := range want {
		inner["inner "+k] = v
	}
	before, err := os.ReadFile(one)
	require.NoError(t, err)
	rows := []struct {
		name   string
		source string
		bucket string
		want   map[string]string // nil: refused
		talk   string
	}{
		{"the only bucket", one, "", want, "1 nested buckets were left out"},
		{"a bucket of several", two, "a", want, "imported 3,002 entries"},
		{"a name with a slash", two, "b/c", entries(1), "imported 3 entries"},
		{"a nested bucket", two, "a/inner", inner, "imported 3,002 entries"},
		{"no choice among several", two, "", nil, `choose one with --bucket`},
		{"no such bucket", two, "z", nil, `no bucket "z"`},
		{"no such nested bucket", two, "z/a/b", nil, `no bucket`},
		{"no such file", filepath.Join(dir, "none"), "", nil, "no such file"},
		{"a directory", dir, "", nil, "invalid"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m")
			code, talk := run("import", "--from", "bbolt", "--bucket", row.bucket, row.source, path)
			require.Contains(t, talk, row.talk)
			if row.want == nil {
				require.Equal(t, 2, code)
				require.NoFileExists(t, path)
				return
			}
			require.Zero(t, code, talk)
			require.Equal(t, row.want, contents(t, path))
		})
	}
	after, err := os.ReadFile(one)
	require.NoError(t, err)
	require.Equal(t, before, after, "the source was changed")
}

func TestBadger(t *testing.T) {
	dir, want := t.TempDir(), entries(3000)
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil))
	require.NoError(t, err)
	batch := db.NewWriteBatch()
	require.NoError(t, batch.Set([]byte("deleted"), []byte("x")))
	require.NoError(t, batch.Set([]byte("key 1"), []byte("older")))
	require.NoError(t, batch.Flush())
	batch = db.NewWriteBatch()
	for k, v := range want {
		require.NoError(t, batch.Set([]byte(k), []byte(v)))
	}
	require.NoError(t, batch.Delete([]byte("deleted")))
	require.NoError(t, batch.SetEntry(badger.NewEntry([]byte("expires"), []byte("later")).WithTTL(time.Hour)))
	require.NoError(t, batch.Flush())
	require.NoError(t, db.Close())
	want["expires"] = "later"

	path := filepath.Join(t.TempDir(), "m")
	code, talk := run("import", "--from", "badger", dir, path)
	require.Zero(t, code, talk)
	require.Contains(t, talk, "1 entries would expire there")
	require.Equal(t, want, contents(t, path))

	code, talk = run("import", "--from", "badger", "--bucket", "b", dir, path)
	require.Equal(t, 2, code)
	require.Contains(t, talk, "has no buckets")
}

func TestPogreb(t *testing.T) {
	dir, want := t.TempDir(), entries(3000)
	db, err := pogreb.Open(dir, nil)
	require.NoError(t, err)
	for k, v := range want {
		require.NoError(t, db.Put([]byte(k), []byte(v)))
	}
	require.NoError(t, db.Put([]byte("deleted"), nil))
	require.NoError(t, db.Delete([]byte("deleted")))
	require.NoError(t, db.Close())

	path := filepath.Join(t.TempDir(), "m")
	code, talk := run("import", "--from", "pogreb", dir, path)
	require.Zero(t, code, talk)
	require.Equal(t, want, contents(t, path))

	// Into a map that has keys: counts are compared with the source alone.
	code, talk = run("import", "--from", "pogreb", dir, path)
	require.Zero(t, code, talk)
	require.Equal(t, want, contents(t, path))
}

func TestUnknownKind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m")
	code, talk := run("import", "--from", "leveldb", t.TempDir(), path)
	require.Equal(t, 2, code)
	require.Contains(t, talk, "want one of bbolt, badger, pogreb")
	code, talk = run("import", "--bucket", "b", t.TempDir(), path)
	require.Equal(t, 2, code)
	require.Contains(t, talk, "--bucket goes with --from")
	require.NoFileExists(t, path)
}
