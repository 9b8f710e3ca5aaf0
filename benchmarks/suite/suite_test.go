package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
	"github.com/mapfile-db/mapfile/benchmarks/report"
	"github.com/mapfile-db/mapfile/benchmarks/worker"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

func TestMain(m *testing.M) {
	worker.Main() // the test starts itself as worker
	os.Exit(m.Run())
}

// TestQuick runs the whole quick form on few keys, so that it does not rot.
func TestQuick(t *testing.T) {
	out := t.TempDir()
	cfg, err := parse([]string{"-quick", "-keys", "2000", "-for", "2ms", "-rounds", "1", "-tails", "200", "-settle", "1ns", "-out", out}, io.Discard)
	require.NoError(t, err)
	var text strings.Builder
	require.NoError(t, execute(t.Context(), cfg, &text))

	var rep report.Report
	b, err := os.ReadFile(filepath.Join(out, "results.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &rep))
	require.Len(t, rep.Settings, 1)
	complete(t, rep.Settings[0])
	for _, e := range rep.Engines {
		require.True(t, e.Module == "" || strings.HasPrefix(e.Version, "v"), "%s has no version", e.Name)
	}

	require.Contains(t, text.String(), "Get hit, uniform")
	page, err := os.ReadFile(filepath.Join(out, "index.html"))
	require.NoError(t, err)
	require.Contains(t, string(page), "<svg")
	require.NotRegexp(t, `(src|href)\s*=|url\(|@import`, string(page), "the page must need no network")
	stat, err := os.ReadFile(filepath.Join(out, "benchstat.txt"))
	require.NoError(t, err)
	require.Regexp(t, `(?m)^BenchmarkGetHit/engine=mapfile-never/keys=2000/value=100 \d+ [\d.]+ ns/op$`, string(stat))
	require.FileExists(t, filepath.Join(out, "put-over-kill-2000-100.svg"))
	left, err := filepath.Glob(filepath.Join(out, "data-*"))
	require.NoError(t, err)
	require.Empty(t, left, "the run's files are still there")
}

// TestChurn overwrites everything in some stores that have files, and puts beside the upkeep of ours.
func TestChurn(t *testing.T) {
	out := t.TempDir()
	cfg, err := parse([]string{"-workloads", "churn,put-over-checkpoint,put-over-compact", "-engines", "mapfile-never,bbolt-nosync,pogreb", "-keys", "2000", "-churn", "3", "-for", "20ms", "-rounds", "1", "-settle", "1ns", "-out", out}, io.Discard)
	require.NoError(t, err)
	var text strings.Builder
	require.NoError(t, execute(t.Context(), cfg, &text))
	var rep report.Report
	b, err := os.ReadFile(filepath.Join(out, "results.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &rep))
	s := rep.Settings[0]
	require.Len(t, s.Churns, 3)
	for i, name := range []string{"mapfile-never", "bbolt-nosync", "pogreb-nosync"} {
		c := s.Find(churnName, name)
		require.NotNil(t, c, name)
		require.EqualValues(t, 6000, c.Rounds[0].Ops, name)
		require.Equal(t, name, s.Churns[i].Engine)
		require.Greater(t, s.Churns[i].Most, s.Churns[i].Data, name)
		require.Greater(t, s.Churns[i].After, s.Churns[i].Data, name)
	}
	for _, name := range []string{"put-over-checkpoint", "put-over-compact"} {
		c := s.Find(name, "mapfile-never")
		require.NotNil(t, c, name)
		require.Positive(t, c.Latency.P999, name)
	}
	require.Contains(t, text.String(), "Room and writes while all is overwritten at random")
	page, err := os.ReadFile(filepath.Join(out, "index.html"))
	require.NoError(t, err)
	require.Contains(t, string(page), "written / put")
}

// complete checks that every engine was measured in all it can do.
func complete(t *testing.T, s *report.Setting) {
	for _, e := range engine.All() {
		for _, w := range workload.All() {
			if w.Quick && w.For(e) {
				require.NotNil(t, s.Find(w.Name, e.Name), "%s on %s", w.Name, e.Name)
			}
		}
		if e.Shares == "" && e.Can(engine.CanLoad) {
			require.NotNil(t, s.Find(loadName, e.Name), e.Name)
		}
		if e.Shares == "" && e.Can(engine.CanReopen) {
			require.NotNil(t, s.Find(openClean, e.Name), e.Name)
			kill := s.Find(openKill, e.Name)
			require.NotNil(t, kill, e.Name)
			if strings.HasPrefix(e.Name, "mapfile") {
				require.EqualValues(t, 200, kill.Rounds[0].Replayed, "%s tells what it replayed", e.Name)
			}
			require.True(t, e.Durability < engine.Kill || kill.Note == "", "%s: %s", e.Name, kill.Note)
		}
	}
	require.NotEmpty(t, s.Footprints)
	require.Subset(t, goalsOf(s), []string{"Get hit against Go's map", "Open after a clean Close, and the first Get", "Heap after the load", "Blocks after the load and Close, of keys plus values"})
}

func goalsOf(s *report.Setting) (texts []string) {
	for _, g := range s.Goals() {
		texts = append(texts, g.Text)
	}
	return texts
}

// TestGoals measures what mapfile is to reach beside itself, without rivals.
func TestGoals(t *testing.T) {
	cfg, err := parse([]string{"-workloads", "get-hit,get-hit-2g,put-over,put-over-2g", "-engines", "mapfile-never", "-keys", "2000", "-for", "5ms", "-rounds", "1", "-loads", "1", "-settle", "1ns", "-out", t.TempDir()}, io.Discard)
	require.NoError(t, err)
	r, err := newRun(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, r.all())
	s := r.report.Settings[0]
	require.Subset(t, goalsOf(s), []string{"Get hit, 2 goroutines against one", "Put over, 2 goroutines against one"})
	require.NotContains(t, goalsOf(s), "Open after a clean Close, and the first Get", "was not asked for")
}

// TestTails: who asks for open-kill by name gets it with every tail, and no open-clean.
func TestTails(t *testing.T) {
	cfg, err := parse([]string{"-workloads", "open-kill", "-engines", "mapfile-never", "-keys", "2000", "-tails", "0,2000", "-rounds", "1", "-loads", "1", "-settle", "1ns", "-out", t.TempDir()}, io.Discard)
	require.NoError(t, err)
	r, err := newRun(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, r.all())
	s := r.report.Settings[0]
	require.Equal(t, []string{loadName, openKill + "-0", openKill}, s.Workloads())
	require.Zero(t, s.Cells[1].Rounds[0].Replayed)
	require.EqualValues(t, 2000, s.Cells[2].Rounds[0].Replayed)
}

func TestFlags(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no number":        {[]string{"-keys", "many"}, "invalid syntax"},
		"too few keys":     {[]string{"-keys", "10"}, "at least 1000"},
		"negative rounds":  {[]string{"-rounds", "-1"}, "positive"},
		"no size":          {[]string{"-most", "much"}, "much"},
		"stray argument":   {[]string{"quick"}, `what is "quick"`},
		"unknown engine":   {[]string{"-quick", "-engines", "abacus"}, "names none"},
		"unknown workload": {[]string{"-quick", "-workloads", "dance"}, "names none"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := parse(append(c.args, "-out", t.TempDir()), io.Discard)
			if err == nil {
				_, err = newRun(t.Context(), cfg)
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestRoom(t *testing.T) {
	require.NoError(t, checkRoom(t.TempDir(), 1))
	require.ErrorContains(t, checkRoom(t.TempDir(), 1<<60), "free")
}

func TestPick(t *testing.T) {
	picked, err := pickEngines("bbolt-sync,gomap")
	require.NoError(t, err)
	names := []string{}
	for _, e := range picked {
		names = append(names, e.Name)
	}
	require.Equal(t, []string{"bbolt-nosync", "bbolt-sync", "gomap"}, names, "who loads the files comes along")
}

// TestWanted: a name that exists asks for itself alone.
func TestWanted(t *testing.T) {
	for name, c := range map[string]struct {
		list, name string
		want       bool
	}{
		"empty list":       {"", "scan", true},
		"same":             {"scan,get-hit", "get-hit", true},
		"exists, so alone": {"get-hit", "get-hit-2g", false},
		"beginning":        {"get", "get-hit-2g", true},
		"half a word":      {"get-h", "get-hit", false},
		"not asked for":    {"load,put", "scan", false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, config{workloads: c.list}.wants(c.name))
		})
	}
}

// TestSizes: -most takes keys away where values are large, and what comes out the same is measured once.
func TestSizes(t *testing.T) {
	cfg, err := parse([]string{"-keys", "1000,50000,1000000", "-value", "8,1000,1048576", "-most", "100MB"}, io.Discard)
	require.NoError(t, err)
	var got [][2]int
	for _, s := range cfg.sizes() {
		got = append(got, [2]int{int(s.Keys), s.ValueSize})
	}
	require.Equal(t, [][2]int{{1000, 8}, {1000, 1000}, {1000, 1 << 20}, {50000, 8}, {50000, 1000}, {1000000, 8}, {98425, 1000}}, got)
}

// TestGroups: where not everything fits, mapfile meets each rival alone.
func TestGroups(t *testing.T) {
	all, err := pickEngines("mapfile-never,bbolt-nosync,gomap")
	require.NoError(t, err)
	require.Len(t, groups(all, engine.Sizing{Keys: 1000, KeyBytes: 16, ValueSize: 100}), 1)
	sets := groups(all, engine.Sizing{Keys: 1 << 40, KeyBytes: 16, ValueSize: 100})
	require.Len(t, sets, 2)
	for _, set := range sets {
		require.Len(t, set, 2)
		require.Equal(t, "mapfile-never", set[0].Name)
	}
}

// TestTailsOf: without -tails the tails go up to what mapfile lets the log grow to before it makes a checkpoint.
func TestTailsOf(t *testing.T) {
	full, err := parse(nil, io.Discard)
	require.NoError(t, err)
	require.Equal(t, []uint64{0, 44_273, 442_732}, full.tailsOf(1_000_000, 100), "64 MiB, in records of 144 bytes")
	require.Equal(t, []uint64{0, 98_958, 989_583}, full.tailsOf(10_000_000, 100), "15 bytes a key")
	require.Equal(t, uint64(1<<30*19/20/144), full.tailsOf(1_000_000_000, 100)[2], "a GiB at most")
	named, err := parse([]string{"-tails", "7"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, []uint64{7}, named.tailsOf(10_000_000, 100))
}
