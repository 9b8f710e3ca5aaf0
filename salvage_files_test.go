package mapfile

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSalvageRefuses(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	db, err := Open(path("good"), nil)
	require.NoError(t, err)
	require.NoError(t, db.Put([]byte("k"), []byte("v")))
	require.NoError(t, os.WriteFile(path("empty"), nil, 0o600))
	require.NoError(t, os.WriteFile(path("text"), []byte(strings.Repeat("no map ", 5000)), 0o600))
	require.NoError(t, os.WriteFile(path("there"), nil, 0o600))
	b, err := os.ReadFile(path("good"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path("killed"), b, 0o600))
	done, cancel := context.WithCancel(t.Context())
	cancel()
	enough := fmt.Errorf("too large")
	rows := []struct {
		name, src, dst string
		ctx            context.Context
		o              *SalvageOptions
		want           error
	}{
		{"a map in use", "good", "new", t.Context(), &SalvageOptions{LockTimeout: -1}, ErrLocked},
		{"no file", "none", "new", t.Context(), nil, fs.ErrNotExist},
		{"an empty file", "empty", "new", t.Context(), nil, ErrNotMapfile},
		{"a text", "text", "new", t.Context(), nil, ErrNotMapfile},
		{"a target that is there", "killed", "there", t.Context(), nil, fs.ErrExist},
		{"itself", "killed", "killed", t.Context(), nil, fs.ErrExist},
		{"a directory that is not there", "killed", "no/new", t.Context(), nil, fs.ErrNotExist},
		{"cancelled", "killed", "new", done, nil, context.Canceled},
		{"a plan that is refused", "killed", "new", t.Context(), &SalvageOptions{Plan: func(SalvagePlan) error { return enough }}, enough},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			before, err := os.ReadDir(dir)
			require.NoError(t, err)
			_, err = Salvage(row.ctx, path(row.src), path(row.dst), row.o)
			require.ErrorIs(t, err, row.want)
			after, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Equal(t, len(before), len(after))
		})
	}
	require.NoError(t, db.Close())
}

// TestSalvageStops: cancelled in any of its steps, or unable to write, it leaves nothing behind.
func TestSalvageStops(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	db, err := Open(src, &Options{Sync: SyncNever})
	require.NoError(t, err)
	for i := range 3000 {
		require.NoError(t, db.Put([]byte(fmt.Sprint(i)), []byte("value")))
	}
	require.NoError(t, db.Close())
	for _, step := range []string{"looking for records", "finding the newest records", "copying"} {
		t.Run(step, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			dst := filepath.Join(t.TempDir(), "new")
			_, err := Salvage(ctx, src, dst, &SalvageOptions{Progress: func(what string, _, _ uint64) {
				if what == step {
					cancel()
				}
			}})
			require.ErrorIs(t, err, context.Canceled)
			left, err := os.ReadDir(filepath.Dir(dst))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

// TestSalvageLeavesTheSource: neither its bytes nor its times change.
func TestSalvageLeavesTheSource(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	db, err := Open(src, &Options{Sync: SyncNever})
	require.NoError(t, err)
	want := kv{}
	for i := range 3000 {
		k, v := fmt.Sprintf("k%d", i%1700), fmt.Sprintf("v%d", i)
		want[k] = v
		require.NoError(t, db.Put([]byte(k), []byte(v)))
	}
	require.NoError(t, db.Close())
	was := time.Now().Add(-time.Hour).Truncate(time.Second)
	require.NoError(t, os.Chtimes(src, was, was))
	require.NoError(t, os.Chmod(src, 0o400))
	before, err := os.ReadFile(src)
	require.NoError(t, err)
	steps := map[string]bool{}
	r, err := Salvage(t.Context(), src, dst, &SalvageOptions{Progress: func(what string, done, total uint64) {
		require.LessOrEqual(t, done, total)
		steps[what] = true
	}})
	require.NoError(t, err)
	require.Len(t, steps, 3)
	require.Equal(t, 2, r.Metas)
	require.NotEmpty(t, r.UUID)
	after, err := os.ReadFile(src)
	require.NoError(t, err)
	require.Equal(t, before, after)
	info, err := os.Stat(src)
	require.NoError(t, err)
	require.Equal(t, was, info.ModTime())
	into, err := Open(dst, &Options{ReadOnly: true})
	require.NoError(t, err)
	got := kv{}
	require.NoError(t, into.View(func(tx *Tx) error {
		maps.Insert(got, func(yield func(string, string) bool) {
			for k, v := range tx.All() {
				if !yield(string(k), string(v)) {
					return
				}
			}
		})
		return tx.Err()
	}))
	require.NoError(t, into.Close())
	require.Equal(t, want, got)
}
