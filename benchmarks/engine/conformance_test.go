package engine

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

const some = 3000

func testKey(i int) []byte { return fmt.Appendf(nil, "key-%012d", i) }

func testValue(i, version int) []byte { return bytes.Repeat([]byte{byte(i), byte(version)}, 50) }

// TestEngines asks the same of every engine, as far as it can do it.
func TestEngines(t *testing.T) {
	for _, e := range All() {
		t.Run(e.Name, func(t *testing.T) {
			n := some
			if e.Durability == Commit {
				n = 20 // each of them waits for the disk
			}
			dir, size := t.TempDir(), Sizing{Keys: uint64(2 * n), KeyBytes: 16, ValueSize: 100}
			s, err := e.Open(dir, size)
			require.NoError(t, err)
			conform(t, e, s, n)
			require.NoError(t, s.Close())
			if !e.Can(CanReopen) {
				return
			}
			s, err = e.Open(dir, size)
			require.NoError(t, err)
			after(t, s, n)
			require.NoError(t, s.Close())
		})
	}
}

// conform stores n keys singly and n in batches, replaces every third and
// deletes every fifth.
func conform(t *testing.T, e Engine, s Store, n int) {
	keys, values := make([][]byte, n), make([][]byte, n)
	for i := range n {
		require.NoError(t, s.Put(testKey(i), testValue(i, 0)))
		keys[i], values[i] = testKey(n+i), testValue(n+i, 0)
	}
	require.NoError(t, s.PutBatch(keys, values))
	if e.Rail {
		if e.Can(CanGet) {
			reads(t, s, n, 0)
		}
		return
	}
	reads(t, s, n, 0)
	for i := 0; i < n; i += 3 {
		require.NoError(t, s.Put(testKey(i), testValue(i, 1)))
	}
	for i := 0; i < n; i += 5 {
		require.NoError(t, s.Delete(testKey(i)))
	}
	require.NoError(t, s.Delete([]byte("never stored")))
	after(t, s, n)
}

// reads checks hits and misses when all 2n keys have one version.
func reads(t *testing.T, s Store, n, version int) {
	prefix := []byte("before")
	for i := range 2 * n {
		v, err := s.AppendGet(nil, testKey(i))
		require.NoError(t, err)
		require.Equal(t, testValue(i, version), v)
	}
	v, err := s.AppendGet(prefix, []byte("never stored"))
	require.ErrorIs(t, err, ErrNotFound)
	require.Equal(t, "before", string(v))
	keys := [][]byte{testKey(1), []byte("never stored"), testKey(2*n - 1), testKey(1)}
	v, found, err := s.GetMany(prefix, keys)
	require.NoError(t, err)
	require.Equal(t, 3, found)
	want := bytes.Join([][]byte{prefix, testValue(1, version), testValue(2*n-1, version), testValue(1, version)}, nil)
	require.Equal(t, want, v)
}

// after checks what conform leaves, by Get and by Scan.
func after(t *testing.T, s Store, n int) {
	want := map[string]string{}
	for i := range 2 * n {
		version := 0
		if i < n && i%3 == 0 {
			version = 1
		}
		if i < n && i%5 == 0 {
			_, err := s.AppendGet(nil, testKey(i))
			require.ErrorIs(t, err, ErrNotFound)
			continue
		}
		want[string(testKey(i))] = string(testValue(i, version))
		v, err := s.AppendGet(nil, testKey(i))
		require.NoError(t, err)
		require.Equal(t, testValue(i, version), v)
	}
	got := map[string]string{}
	require.NoError(t, s.Scan(func(key, value []byte) error {
		got[string(key)] = string(value)
		return nil
	}))
	require.Equal(t, want, got)
	stop := fmt.Errorf("stop")
	require.ErrorIs(t, s.Scan(func([]byte, []byte) error { return stop }), stop)
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range All() {
		require.False(t, seen[e.Name], e.Name)
		seen[e.Name] = true
		got, err := ByName(e.Name)
		require.NoError(t, err)
		require.Equal(t, e.Settings, got.Settings)
		if e.Shares != "" {
			base, err := ByName(e.Shares)
			require.NoError(t, err)
			require.True(t, base.Can(CanLoad|CanReopen))
		}
	}
	_, err := ByName("abacus")
	require.Error(t, err)
}
