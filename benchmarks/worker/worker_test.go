package worker

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

var size = engine.Sizing{Keys: 1000, KeyBytes: workload.KeyBytes, ValueSize: 100}

func start(t *testing.T, name, dir string, find *uint64) (*Process, Result) {
	e, err := engine.ByName(name)
	require.NoError(t, err)
	p, err := Start()
	require.NoError(t, err)
	res, err := p.Open(e, dir, size, find)
	require.NoError(t, err)
	return p, res
}

// TestKill writes in one process, kills it and finds all in the next.
func TestKill(t *testing.T) {
	for _, name := range []string{"mapfile-never", "bbolt-nosync", "badger-nosync", "pogreb-nosync"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p, _ := start(t, name, dir, nil)
			res, err := p.Load(0)
			require.NoError(t, err)
			require.EqualValues(t, 1000, res.Ops)
			_, err = p.Tail(5000, 100)
			require.NoError(t, err)
			require.NoError(t, p.Kill())

			last, never := uint64(5099), uint64(5100)
			p, res = start(t, name, dir, &last)
			require.False(t, res.Lost)
			if name == "mapfile-never" {
				require.EqualValues(t, 1100, res.Replayed)
			}
			res, err = p.Scan()
			require.NoError(t, err)
			require.EqualValues(t, 1100, res.Ops)
			_, err = p.Close()
			require.NoError(t, err)
			p, res = start(t, name, dir, &never)
			require.True(t, res.Lost, "a key that is not there must be told")
			_, err = p.Close()
			require.NoError(t, err)
		})
	}
}

// TestErrors: what fails in the worker is an error here.
func TestErrors(t *testing.T) {
	p, _ := start(t, "gomap", t.TempDir(), nil)
	_, err := p.Run("get-hit", time.Millisecond, 1, 0)
	require.ErrorContains(t, err, "not found", "nothing was loaded")
	_, err = p.Run("dance", time.Millisecond, 1, 0)
	require.ErrorContains(t, err, "dance")
	u, err := p.Usage()
	require.NoError(t, err)
	require.NotZero(t, u.Heap)
	require.NoError(t, p.Kill())
	_, err = p.Scan()
	require.Error(t, err, "the process is gone")

	p, err = Start()
	require.NoError(t, err)
	_, err = p.Scan()
	require.ErrorContains(t, err, "nothing is open")
	require.NoError(t, p.Kill())
}
