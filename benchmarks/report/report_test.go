package report

import (
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
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
		verdicts[g.Workload+" "+g.Engine] = g.Verdict()
	}
	require.Equal(t, map[string]string{
		"get-hit gomap":         "MISSED",
		"get-hit pogreb-nosync": "reached",
		"get-hit bbolt-nosync":  "within 1.2 of the aim",
		"get-hit badger-nosync": "reached, below the aim",
		"get-hit pebble-nosync": "below the aim",
		"put-over bbolt-nosync": "reached",
	}, verdicts)
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

// TestGoalNames: a goal for an engine that does not exist is never checked.
func TestGoalNames(t *testing.T) {
	for _, g := range goals {
		_, err := engine.ByName(g.Engine)
		require.NoError(t, err, g.Text)
		require.True(t, g.Must > 0 || g.Aim > 0, g.Text)
	}
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
