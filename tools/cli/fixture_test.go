package cli

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// fixtureGeometry makes a few records split buckets and directories and change segments.
var fixtureGeometry = pager.Geometry{
	BucketLines: 1, FillPercent: 80, FanoutBits: 2, UnitPages: 16, SmallPages: 1,
	GrowPages: 1, MaxGrowPages: 16, ReserveBytes: 1 << 20, CheckpointBytes: 1 << 40, MaxCheckpoint: 1 << 40,
}

// fixture is a map whose bytes are the same in every run: salts are not random.
type fixture struct {
	*recovery.State
	t    testing.TB
	path string
}

// newFixture makes a map of two checkpoints, with overwritten and deleted keys. killed leaves a tail behind them, with a
// commit of several records; else the map is closed.
func newFixture(t testing.TB, killed bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fixture.map")
	s, err := recovery.Open(recovery.Options{
		OpenOptions: pager.OpenOptions{Disk: pager.OS(), Path: path, Mode: 0o600, LockTimeout: -1, Geometry: fixtureGeometry},
		Random:      rand.New(rand.NewPCG(1, 2)).Uint64,
	})
	require.NoError(t, err)
	f := &fixture{s, t, path}
	for i := range 40 {
		f.commit(fmt.Sprintf("key %d=value %d of the first round", i, i))
	}
	f.checkpoint(false)
	for i := range 20 {
		f.commit(fmt.Sprintf("key %d=value %d of the second round", 2*i, i))
	}
	f.commit("key 7=")
	f.checkpoint(!killed)
	if killed {
		f.commit("key 1=behind the checkpoint", "key 2=in one commit", "key 3=")
		f.commit("another key=put behind the checkpoint")
	} else {
		f.checkpoint(true)
	}
	require.NoError(t, s.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	copy(b[2*4096+2048:], "pid 4711\x00\x00\x00\x00\x00\x00\x00\x00")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// commit writes keys, each as key=value, or key= to delete it, in one commit.
func (f *fixture) commit(changes ...string) {
	f.t.Helper()
	require.NoError(f.t, f.Admit(len(changes), 4096, 1024, recovery.Ordinary))
	require.NoError(f.t, f.BeginLife())
	f.Tail.Sequence++
	for i, change := range changes {
		key, value, _ := strings.Cut(change, "=")
		previous, found, err := f.Index.Lookup(xxhash.Sum64String(key), []byte(key))
		require.NoError(f.t, err)
		r := &tail.Record{Kind: tail.KindPut, Key: []byte(key), Value: []byte(value), Previous: previous, Sequence: f.Tail.Sequence}
		if value == "" {
			r.Kind = tail.KindDelete
			f.Keys--
			f.Tombstones++
		} else if !found {
			r.Flags |= tail.FlagNew
			f.Keys++
		}
		if i == 0 {
			r.Flags |= tail.FlagFirst
		}
		if i == len(changes)-1 {
			r.Flags |= tail.FlagLast
		}
		require.NoError(f.t, f.Tail.Append(r))
		require.NoError(f.t, f.Index.Set(r.Position))
		f.Tail.AddLive(r.Position, int64(r.Size()))
		if found {
			f.Tail.AddLive(previous, -int64(r.Size()))
		}
	}
	require.NoError(f.t, f.Tail.Flush())
	f.SetRoot(f.Index.Root)
	f.Published.Store(f.Tail.Sequence)
}

func (f *fixture) checkpoint(clean bool) {
	f.t.Helper()
	require.NoError(f.t, f.MaySeal())
	c := f.Seal()
	if clean {
		c.MarkClean()
	}
	require.NoError(f.t, c.Store())
	require.NoError(f.t, c.Sync())
	life, _ := f.Life()
	require.NoError(f.t, f.P.WriteMark(f.Meta().FileSalt, c.LSN(), life))
	require.NoError(f.t, c.WriteMeta())
	c.Finish()
	require.NoError(f.t, c.Release(f.Older()))
}

// changed gives a copy of a file with its bytes changed.
func changed(t testing.TB, path string, change func(b []byte)) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	change(b)
	out := filepath.Join(t.TempDir(), "fixture.map")
	require.NoError(t, os.WriteFile(out, b, 0o600))
	return out
}

var volatileTime = regexp.MustCompile(`(recovery time +|"duration_ns": )[0-9.]+(ns|µs|ms|s)?`)

// goldenExact compares text, with path replaced and nothing else but times, with the file of that name.
func goldenExact(t *testing.T, name, path, text string) {
	t.Helper()
	text = volatileTime.ReplaceAllString(strings.ReplaceAll(text, path, "FILE"), "${1}TIME")
	file := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), text)
}
