package cli

import (
	"io"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

func TestReports(t *testing.T) {
	path := newMap(t, map[string]string{"a": "1", "bb": "22", "ccc": "333"})
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	rows := []struct {
		name string
		args []string
	}{
		{"info", []string{"info", path}},
		{"stats", []string{"stats", path}},
		{"check", []string{"check", path}},
		{"check-quick", []string{"check", "--quick", path}},
		{"recover-dry-run", []string{"recover", "--dry-run", path}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			text := call(t, row.args...)
			require.Equal(t, 0, text.code, text.err)
			require.Empty(t, text.err)
			golden(t, row.name, path, text.out)
			asJSON := call(t, append(row.args, "--json")...)
			require.Equal(t, 0, asJSON.code)
			golden(t, row.name+"-json", path, asJSON.out)
		})
	}
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after, "a reading verb changed the file")
}

func TestReportsCount(t *testing.T) {
	path := newMap(t, map[string]string{"a": "1", "bb": "22", "ccc": "333"})
	stats := decodeJSON(t, call(t, "stats", "--json", path).out)
	require.Equal(t, 3.0, stats["keys"])
	require.Equal(t, map[string]any{
		"keys": 3.0, "key_bytes": 6.0, "value_bytes": 6.0, "largest_key_bytes": 3.0, "largest_value_bytes": 3.0,
	}, stats["walk"])

	check := decodeJSON(t, call(t, "check", "--json", path).out)
	require.Equal(t, true, check["ok"])
	require.Equal(t, 3.0, check["keys"])
	require.Empty(t, check["findings"])

	info := decodeJSON(t, call(t, "info", "--json", path).out)
	require.Equal(t, true, info["closed_cleanly"])

	recovered := decodeJSON(t, call(t, "recover", "--json", path).out)
	require.Equal(t, 3.0, recovered["keys"])
	require.Equal(t, false, recovered["dry_run"])
	require.Equal(t, false, recovered["recovered"])
}

func TestReportLines(t *testing.T) {
	recovery := recoveryReport{Recovered: true, Records: 12345, Bytes: 1 << 20, CutBytes: 7, FromCheckpoint: 3, DurationNS: int64(1234 * time.Microsecond)}
	require.Equal(t, []line{
		{"recovery from meta", uint64(3)}, {"records replayed", "12,345"}, {"bytes replayed", "1,048,576"},
		{"bytes cut off", "7"}, {"recovery time", "1.23ms"},
	}, recovery.lines())

	cut := recoveryReport{CutBytes: 1, Damaged: 2, FellBack: "sum"}
	require.Equal(t, []line{{"damaged values", "2"}, {"newer meta not used", "sum"}}, cut.lines()[5:])

	check := newCheckReport(&mapfile.CheckReport{Path: "m", Findings: []mapfile.Finding{{Structure: "buckets", Page: 9, Offset: 36864, Reason: "sum"}}})
	lines := check.lines()
	require.Equal(t, []line{{"damage in buckets", "page 9, offset 36864: sum"}, {"verdict", "damaged"}}, lines[len(lines)-2:])

	info := newInfoReport(&mapfile.Info{Newest: 1, Metas: [2]mapfile.MetaInfo{{Reason: "sum"}, {Valid: true}}})
	lines = info.lines()
	require.Equal(t, line{"meta 0", "not valid: sum"}, lines[len(lines)-2])
	require.Equal(t, "meta 1 (newest)", lines[len(lines)-1].name)
}

func TestVersion(t *testing.T) {
	got := call(t, "version", "--json")
	require.Equal(t, 0, got.code)
	require.Contains(t, decodeJSON(t, got.out)["go"], "go1.")

	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Deps: []*debug.Module{{Path: modulePath, Version: "v0.4.0"}}}
	require.Equal(t, "v1.2.3", newVersionReport(info).Program)
	require.Equal(t, "v0.4.0", newVersionReport(info).Mapfile)
	require.Equal(t, "unknown", newVersionReport(nil).Program)
}

func TestFormats(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, formatCount(n))
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_960: "1.0 MB", 3_200_000_000_000: "3200.0 GB"} {
		require.Equal(t, want, formatBytes(n))
	}
	for d, want := range map[time.Duration]string{0: "0s", 12: "12ns", 12_345: "12.3µs", 1_234_567_890: "1.23s"} {
		require.Equal(t, want, formatDuration(d))
	}
	require.Equal(t, "-", formatRate(5, 0))
	require.Equal(t, "2.0 kB/s", formatRate(1000, 500*time.Millisecond))
}

func TestProgressShowsOnATerminalOnly(t *testing.T) {
	entries := map[string]string{}
	for i := range 600 {
		entries[strings.Repeat("k", i)] = "v"
	}
	path := newMap(t, entries)
	require.Empty(t, call(t, "stats", path).err)
	a := testApp()
	a.isTerminal = func(io.Writer) bool { return true }
	got := callApp(t.Context(), a, strings.NewReader(""), "stats", path)
	require.Equal(t, 0, got.code)
	require.Contains(t, got.err, "walking")
	require.Contains(t, got.err, "/600")
	require.Contains(t, got.err, "it/s")
}
