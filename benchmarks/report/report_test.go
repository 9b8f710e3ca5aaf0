package report

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

func cell(t *testing.T, s *Setting, workload, name string, ns ...int) *Cell {
	e, err := engine.ByName(name)
	require.NoError(t, err)
	c := s.Cell(workload, workload, e)
	for _, n := range ns {
		require.NoError(t, c.Add(Round{Ops: 10, Elapsed: time.Duration(10 * n)}, nil))
	}
	return c
}

func TestSpread(t *testing.T) {
	for name, c := range map[string]struct {
		rounds              []int
		median, least, most float64
	}{
		"none": {nil, 0, 0, 0},
		"one":  {[]int{7}, 7, 7, 7},
		"odd":  {[]int{9, 1, 5}, 5, 1, 9},
		"even": {[]int{4, 1, 9, 6}, 5, 1, 9},
	} {
		t.Run(name, func(t *testing.T) {
			median, least, most := cell(t, &Setting{}, "get-hit", "gomap", c.rounds...).Spread()
			require.Equal(t, []float64{c.median, c.least, c.most}, []float64{median, least, most})
		})
	}
}

func TestLatencyMerges(t *testing.T) {
	c := cell(t, &Setting{}, "get-hit", "gomap")
	for _, v := range []int64{100, 300} {
		h := hdrhistogram.New(1, 1000, 3)
		require.NoError(t, h.RecordValues(v, 50))
		b, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		require.NoError(t, err)
		require.NoError(t, c.Add(Round{Ops: 1}, b))
	}
	require.Equal(t, Latency{100, 300, 300, 300}, *c.Latency)
	require.Error(t, c.Add(Round{}, []byte("no histogram")))
}

// TestRegimes: no table of writes mixes two durabilities.
func TestRegimes(t *testing.T) {
	s := &Setting{}
	for _, e := range engine.All() {
		cell(t, s, "put-over", e.Name, 100)
		cell(t, s, "get-hit", e.Name, 100)
	}
	tables := Tables(s.Of("put-over"))
	require.Len(t, tables, 5)
	rows := 0
	for _, table := range tables {
		for _, c := range table.Cells {
			require.Equal(t, table.Cells[0].Durability, c.Durability)
			rows++
		}
		require.Contains(t, table.Title, table.Cells[0].Durability.String())
		if table.Cells[0].Durability != table.Base.Durability {
			require.Contains(t, table.Title, "ratio to mapfile-never")
		}
	}
	require.Equal(t, len(engine.All()), rows)
	require.Len(t, Tables(s.Of("get-hit")), 1)
}

func TestGoals(t *testing.T) {
	s := &Setting{}
	cell(t, s, "get-hit", "mapfile-never", 100)
	cell(t, s, "get-hit", "gomap", 90)          // must 1: missed
	cell(t, s, "get-hit", "pogreb-nosync", 230) // aim 2.2
	cell(t, s, "get-hit", "bbolt-nosync", 480)  // must 3.5, aim 5.5, within 1.2 of it
	cell(t, s, "get-hit", "badger-nosync", 900) // must 8, aim 18
	cell(t, s, "get-hit", "pebble-nosync", 200) // aim 18
	cell(t, s, "put-over", "mapfile-never", 50)
	cell(t, s, "put-over-1000", "bbolt-nosync", 1000) // our single Puts beside their batches
	verdicts := map[string]string{}
	for _, g := range s.Goals() {
		verdicts[g.Workload+" "+g.Engine] = g.Verdict
	}
	require.Equal(t, map[string]string{
		"get-hit gomap":         "MISSED",
		"get-hit pogreb-nosync": "reached",
		"get-hit bbolt-nosync":  "within 1.2 of the aim",
		"get-hit badger-nosync": "reached, short of the aim",
		"get-hit pebble-nosync": "short of the aim",
		"put-over bbolt-nosync": "reached",
	}, verdicts)
}

// opened adds a round of an open that took ms and replayed records.
func opened(t *testing.T, s *Setting, workload string, ms int, records uint64) *Cell {
	c := cell(t, s, workload, "mapfile-never")
	require.NoError(t, c.Add(Round{Ops: 1, Elapsed: time.Duration(ms) * time.Millisecond, Replayed: records}, nil))
	return c
}

func took(f Footprint) func(*testing.T, *Setting) {
	return func(_ *testing.T, s *Setting) { s.Footprints = []Footprint{{Engine: "gomap", Heap: 1 << 40}, f} }
}

// TestGoalsOfItsOwn: what mapfile is to reach beside itself, and bounds.
func TestGoalsOfItsOwn(t *testing.T) {
	pair := func(ours string, ns int, theirs string, than int) func(*testing.T, *Setting) {
		return func(t *testing.T, s *Setting) {
			cell(t, s, ours, "mapfile-never", ns)
			cell(t, s, theirs, "mapfile-never", than)
			cell(t, s, theirs, "gomap", 1) // is not asked
		}
	}
	const notMeasured = ""
	for name, c := range map[string]struct {
		goal     string
		measured func(*testing.T, *Setting)
		want     string
	}{
		"two readers, reached":  {"Get hit, 2 goroutines against one", pair("get-hit-2g", 100, "get-hit", 190), "1.90 × of 1.90 ×: reached"},
		"two readers, close":    {"Get hit, 2 goroutines against one", pair("get-hit-2g", 100, "get-hit", 180), "1.80 × of 1.90 ×: within 1.2 of the aim"},
		"two readers, missed":   {"Get hit, 2 goroutines against one", pair("get-hit-2g", 100, "get-hit", 110), "1.10 × of 1.90 ×: short of the aim"},
		"two readers, one lost": {"Get hit, 2 goroutines against one", pair("get-hit-2g", 100, "get-miss", 190), notMeasured},
		"two writers, reached":  {"Put over, 2 goroutines against one", pair("put-over-2g", 100, "put-over", 131), "1.31 × of 1.30 ×: reached"},
		"two writers, missed":   {"Put over, 2 goroutines against one", pair("put-over-2g", 100, "put-over", 90), "0.90 × of 1.30 ×: short of the aim"},
		"two writers, failed": {"Put over, 2 goroutines against one", func(t *testing.T, s *Setting) {
			pair("put-over-2g", 100, "put-over", 131)(t, s)
			s.Find("put-over-2g", "mapfile-never").Err = "broke"
		}, notMeasured},

		"open, reached":      {"Open after a clean Close, and the first Get", func(t *testing.T, s *Setting) { opened(t, s, "open-clean", 50, 0) }, "50ms of ≤ 50ms: reached"},
		"open, missed":       {"Open after a clean Close, and the first Get", func(t *testing.T, s *Setting) { opened(t, s, "open-clean", 61, 0) }, "61ms of ≤ 50ms: short of the aim"},
		"open, of a rival":   {"Open after a clean Close, and the first Get", func(t *testing.T, s *Setting) { cell(t, s, "open-clean", "bbolt-nosync", 7) }, notMeasured},
		"heap, reached":      {"Heap after the load", took(Footprint{Engine: "mapfile-never", Heap: 5 << 20}), "5.0 MiB of ≤ 32 MiB: reached"},
		"heap, missed":       {"Heap after the load", took(Footprint{Engine: "mapfile-never", Heap: 40 << 20}), "40 MiB of ≤ 32 MiB: short of the aim"},
		"heap, of a rival":   {"Heap after the load", took(Footprint{Engine: "pogreb-nosync", Heap: 5 << 20}), notMeasured},
		"blocks, reached":    {"Blocks after the load and Close, of keys plus values", took(Footprint{Engine: "mapfile-never", Data: 100, Allocated: 139}), "1.39 × of ≤ 1.45 ×: reached"},
		"blocks, missed":     {"Blocks after the load and Close, of keys plus values", took(Footprint{Engine: "mapfile-never", Data: 100, Allocated: 180}), "1.80 × of ≤ 1.45 ×: short of the aim"},
		"blocks, of nothing": {"Blocks after the load and Close, of keys plus values", took(Footprint{Engine: "mapfile-never", Heap: 5 << 20}), notMeasured},

		"replay, reached": {"Replay after SIGKILL", func(t *testing.T, s *Setting) {
			opened(t, s, "open-kill-0", 10, 0)
			opened(t, s, "open-kill", 210, 320_000)
		}, "1,600,000/s of 1,500,000/s: reached"},
		"replay, missed, one tail": {"Replay after SIGKILL", func(t *testing.T, s *Setting) {
			opened(t, s, "open-clean", 10, 0)
			opened(t, s, "open-kill", 110, 80_000)
		}, "800,000/s of 1,500,000/s: short of the aim"},
		"replay, a checkpoint took the longest tail": {"Replay after SIGKILL", func(t *testing.T, s *Setting) {
			opened(t, s, "open-kill-0", 10, 0)
			opened(t, s, "open-kill-48000", 40, 48_000)
			opened(t, s, "open-kill", 25, 14_000)
		}, "1,600,000/s of 1,500,000/s: reached"},
		"replay, medians": {"Replay after SIGKILL", func(t *testing.T, s *Setting) {
			opened(t, s, "open-clean", 10, 0)
			for _, ms := range []int{900, 110, 20} {
				opened(t, s, "open-kill", ms, 200_000)
			}
		}, "2,000,000/s of 1,500,000/s: reached"},
		"replay, nothing to compare with": {"Replay after SIGKILL", func(t *testing.T, s *Setting) { opened(t, s, "open-kill", 210, 320_000) }, notMeasured},
		"replay, too short to be seen": {"Replay after SIGKILL", func(t *testing.T, s *Setting) {
			opened(t, s, "open-clean", 10, 0)
			opened(t, s, "open-kill", 9, 200)
		}, notMeasured},
		"replay, a key was lost": {"Replay after SIGKILL", func(t *testing.T, s *Setting) {
			opened(t, s, "open-clean", 10, 0)
			opened(t, s, "open-kill", 210, 320_000).Err = "lost"
		}, notMeasured},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Setting{}
			c.measured(t, s)
			got := notMeasured
			for _, g := range s.Goals() {
				if g.Text == c.goal {
					got = g.Show(g.Is) + " of " + g.Want(g.Aim) + ": " + g.Verdict
				}
			}
			require.Equal(t, c.want, got)
		})
	}
}

// TestRegressions: below a floor, and not measured, are errors.
func TestRegressions(t *testing.T) {
	s := &Setting{Keys: 500}
	cell(t, s, "get-hit", "mapfile-never", 100)
	cell(t, s, "get-hit", "gomap", 49)
	cell(t, s, "get-hit", "bbolt-nosync", 190)
	cell(t, s, "get-miss", "mapfile-never", 100)
	cell(t, s, "get-miss", "bbolt-nosync", 1000)
	cell(t, s, "getmany-64", "mapfile-never", 100)
	cell(t, s, "getmany-64", "gomap", 100)
	r := Report{Settings: []*Setting{s}}
	err := r.Regressions()
	require.EqualError(t, err, "500 keys: Get hit against Go's map: 0.49 times, the floor is 0.5\n500 keys: Put over against bbolt in commits of 1,000: not measured")
	s.Find("get-hit", "gomap").Rounds[0].Elapsed *= 2
	cell(t, s, "put-over", "mapfile-never", 100)
	cell(t, s, "put-over-1000", "bbolt-nosync", 1000)
	require.NoError(t, r.Regressions())
}

// TestGoalNames: a goal for what does not exist is never checked.
func TestGoalNames(t *testing.T) {
	texts := map[string]bool{}
	for _, g := range goals {
		require.False(t, texts[g.Text], "two goals are called %q", g.Text)
		texts[g.Text] = true
		require.True(t, g.Must > 0 || g.Aim > 0, g.Text)
		require.True(t, g.Floor == 0 || g.Figure == Ratio, "%s: only ratios have a floor", g.Text)
		if g.Engine != "" {
			_, err := engine.ByName(g.Engine)
			require.NoError(t, err, g.Text)
		}
		for _, name := range []string{g.Workload, g.Rival} {
			if name != "" && !strings.HasPrefix(name, "open-") {
				_, err := workload.ByName(name)
				require.NoError(t, err, g.Text)
			}
		}
	}
}

// TestGoalsInFiles: tables, page and JSON tell the same.
func TestGoalsInFiles(t *testing.T) {
	s := &Setting{Keys: 1000}
	cell(t, s, "get-hit", "mapfile-never", 200)
	cell(t, s, "get-hit", "gomap", 300)
	cell(t, s, "get-hit-2g", "mapfile-never", 100)
	took(Footprint{Engine: "mapfile-never", Heap: 40 << 20})(t, s)
	r := &Report{Settings: []*Setting{s}}
	var text, page strings.Builder
	require.NoError(t, r.Text(&text))
	require.Regexp(t, `Get hit against Go's map +1.50 × +1.00 × +1.70 × +within 1.2 of the aim`, text.String())
	require.Regexp(t, `Heap after the load +40 MiB +≤ 32 MiB +short of the aim`, text.String())
	require.NoError(t, r.HTML(&page))
	require.Contains(t, page.String(), `<td>Get hit, 2 goroutines against one<td>2.00 ×<td><td>1.90 ×<td class="text">reached`)
	require.Contains(t, page.String(), `<td>Heap after the load<td>40 MiB<td><td>≤ 32 MiB<td class="text">short of the aim`)

	b, err := json.Marshal(r)
	require.NoError(t, err)
	var back struct {
		Settings []struct {
			Keys  int
			Cells []Cell
			Goals []map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, 1000, back.Settings[0].Keys)
	require.Len(t, back.Settings[0].Cells, 3)
	require.Equal(t, []map[string]any{
		{"Text": "Get hit against Go's map", "Figure": "ratio", "Workload": "get-hit", "Engine": "gomap", "Must": 1., "Aim": 1.7, "Floor": 0.5, "Is": 1.5, "Verdict": "within 1.2 of the aim"},
		{"Text": "Get hit, 2 goroutines against one", "Figure": "ratio", "Workload": "get-hit-2g", "Rival": "get-hit", "Aim": 1.9, "Is": 2., "Verdict": "reached"},
		{"Text": "Heap after the load", "Figure": "bytes of heap", "Aim": float64(32 << 20), "Is": float64(40 << 20), "Verdict": "short of the aim"},
	}, back.Settings[0].Goals)
}

func TestText(t *testing.T) {
	s := &Setting{Keys: 1000, Notes: []string{"mind the gap"}}
	cell(t, s, "get-hit", "mapfile-never", 100)
	cell(t, s, "get-hit", "gomap", 150)
	cell(t, s, "get-hit", "syncmap").Err = "broke"
	s.Footprints = []Footprint{{Engine: "mapfile-never", Data: 100, Allocated: 145}}
	var text, stat, page strings.Builder
	r := &Report{Settings: []*Setting{s}, Machine: Machine{CPU: "abacus"}}
	require.NoError(t, r.Text(&text))
	for _, want := range []string{"1.50 ×", "FAILED: broke", "mind the gap", "1.45", "abacus", "6,666,666"} {
		require.Contains(t, text.String(), want)
	}
	require.NoError(t, r.Benchstat(&stat))
	require.Contains(t, stat.String(), "BenchmarkGetHit/engine=gomap/keys=1000/value=0 10 150.00 ns/op")
	require.NoError(t, r.HTML(&page))
	require.Contains(t, page.String(), "<svg")
	require.Contains(t, page.String(), "broke")
}

func TestUnits(t *testing.T) {
	for in, want := range map[int64]string{7: "7ns", 1500: "1.5µs", 2_340_000: "2.34ms", 12_000_000_000: "12s"} {
		require.Equal(t, want, short(in))
	}
	require.Equal(t, []string{"12.3", "1,235", "12ms"}, []string{ns(12.34), ns(1234.6), ns(12e6)})
	require.Equal(t, []string{"2.0", "1,000"}, []string{rate(5e8), rate(1e6)})
	require.Equal(t, "PutOver1000", camel("put-over-1000"))
}
