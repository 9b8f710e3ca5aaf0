package mapfile_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/sabotage"
)

// The tests of the tests: internal/sabotage plants one bug at a time, the model test must not see it and another must.
var (
	planted       = flag.Bool("planted", false, "plant each bug and run the test that docs/planted-bugs.md names for it")
	plantedUpdate = flag.Bool("planted.update", false, "plant each bug, look for a test that catches it, and write docs/planted-bugs.md")
	plantedOnly   = flag.String("planted.only", "", "with one of the two: only the bugs whose names match this expression; nothing is written")
)

const (
	plantedDoc   = "docs/planted-bugs.md"
	plantedModel = "TestModelQuick"
)

// catchers are the tests that may catch a bug, the cheap ones first: a package and a pattern of -test.run.
var catchers = [][2]string{
	{".", "^(TestQueue.*|TestWoven[^R].*|TestWovenRot|TestWovenReclaim)$"},
	{".", "^(TestFound.*|TestHistory.*|TestBackupModel)$"},
	{".", "^(TestWovenReads)$"},
	{".", "^(TestLives)$"},
	{".", "^(TestCreatorDies.*|TestLock.*|TestReplaced|TestCutShort|TestOpenErrors|TestReadOnlyWritesNothing|TestCloseWaits|TestMaxSize|TestHashAttacks|TestOutgrowReservation|TestRemap)$"},
	{"tail", "^(TestRecord.*|TestWalk.*)$"},
	{"index", "^(TestDamagedPage|TestWrongPageInPlace|TestFlippedBit|TestEqualHashes.*|TestMerge.*)$"},
	{"recovery", "^(TestFallBack.*|TestCheck|TestTornTail|TestReplay.*|TestFull.*|TestFailed.*|TestMerge.*)$"},
	{".", "^(TestFaultMatrix|TestRot(Metas|AndPowerCut|Bits|Sectors|Swaps|Lengths|Edges)|TestSalvage.*)$"},
	{".", "^(TestCrash)$"},
}

// plantedTests builds the test binaries with the tags, once.
func plantedTests(t *testing.T) map[string]string {
	dir, bins := t.TempDir(), map[string]string{}
	for _, c := range catchers {
		if bins[c[0]] != "" {
			continue
		}
		bins[c[0]] = filepath.Join(dir, filepath.Base(c[0])+".test")
		out, err := exec.Command("go", "test", "-c", "-tags", "mapfile_debug mapfile_sabotage", "-o", bins[c[0]], "./"+c[0]).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return bins
}

// outcome is how a test process ended.
type outcome struct {
	failed bool
	test   string // which failed
	output string
	took   time.Duration
}

var (
	failLine = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
	runLine  = regexp.MustCompile(`(?m)^=== RUN +(\S+)`)
)

// plantAndRun runs tests in a process of their own, with a bug. One that does not end counts as passed: a
// slow machine must not look like a caught bug.
func plantAndRun(t *testing.T, bin, pkg, pattern, bug string) outcome {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	args := []string{"-test.run", pattern, "-test.failfast", "-test.short", "-test.v", "-test.timeout=80s"}
	if pkg == "." {
		args = append(args, "-fault.seed=1") // the same sample each time
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir, cmd.Env = pkg, append(os.Environ(), sabotage.Environment+"="+bug, "GOMAXPROCS=1")
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	o := outcome{failed: err != nil, output: string(out), took: time.Since(begin)}
	if bytes.Contains(out, []byte("panic: test timed out")) || ctx.Err() != nil {
		o.failed = false
	}
	names := failLine.FindAllStringSubmatch(o.output, -1)
	if len(names) == 0 {
		names = runLine.FindAllStringSubmatch(o.output, -1)
	}
	if o.failed && len(names) > 0 {
		o.test = names[len(names)-1][1]
	}
	return o
}

// exactly makes a pattern that runs one test, or subtest.
func exactly(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// chosenBugs are the bugs to plant.
func chosenBugs() (bugs []sabotage.Planted) {
	only := regexp.MustCompile(*plantedOnly)
	for _, b := range sabotage.All() {
		if only.MatchString(b.Name) {
			bugs = append(bugs, b)
		}
	}
	return bugs
}

// eachBug runs f for each chosen bug, on all processors.
func eachBug(f func(b sabotage.Planted)) {
	var workers sync.WaitGroup
	next := make(chan sabotage.Planted)
	for range runtime.NumCPU() {
		workers.Go(func() {
			for b := range next {
				f(b)
			}
		})
	}
	for _, b := range chosenBugs() {
		next <- b
	}
	close(next)
	workers.Wait()
}

// row is a line of the document.
type plantedRow struct{ bug, what, breaks, test, took string }

// plantedRows reads the document.
func plantedRows(t *testing.T) (rows []plantedRow) {
	b, err := os.ReadFile(plantedDoc)
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimSpace(line), " | "); len(f) == 5 && strings.HasPrefix(f[0], "| `") {
			rows = append(rows, plantedRow{strings.Trim(f[0], "| `"), f[1], f[2], strings.Trim(f[3], "`"), strings.Trim(f[4], " |")})
		}
	}
	return rows
}

// splitTest is the package and the name of a test as the document has it.
func splitTest(test string) (pkg, name string) {
	pkg, name, ok := strings.Cut(test, ".")
	if !ok {
		return ".", test
	}
	return pkg, name
}

// TestPlanted plants the bugs. Without a flag it looks at the document alone: it lists exactly the bugs of the code, and for each a test that exists.
func TestPlanted(t *testing.T) {
	switch {
	case *plantedUpdate:
		updatePlanted(t)
	case *planted:
		runPlanted(t)
	}
	if *plantedOnly != "" {
		return
	}
	rows := plantedRows(t)
	var documented, planted []plantedRow
	for _, r := range rows {
		require.True(t, hasTest(t, r.test), "%s: there is no test %q: it survived", r.bug, r.test)
		documented = append(documented, plantedRow{bug: r.bug, what: r.what, breaks: r.breaks})
	}
	for _, b := range sabotage.All() {
		planted = append(planted, plantedRow{bug: b.Name, what: b.What, breaks: b.Breaks})
	}
	require.Equal(t, planted, documented, "go test -run 'TestPlanted$' -planted.update -timeout 60m .")
	require.GreaterOrEqual(t, len(rows), 50)
	said, err := os.ReadFile("docs/durability.md")
	require.NoError(t, err)
	require.Contains(t, string(said), fmt.Sprintf("| planted bugs, one at a time | %d, ", len(rows)))
}

// hasTest reports whether the function of a test is in its package.
func hasTest(t *testing.T, test string) bool {
	pkg, name := splitTest(test)
	name, _, _ = strings.Cut(name, "/")
	files, err := filepath.Glob(filepath.Join(pkg, "*_test.go"))
	require.NoError(t, err)
	return name != "" && slices.ContainsFunc(files, func(file string) bool {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		return bytes.Contains(b, []byte("\nfunc "+name+"("))
	})
}

// runPlanted runs the test that the document names for each bug.
func runPlanted(t *testing.T) {
	bins, named := plantedTests(t), map[string]string{}
	for _, r := range plantedRows(t) {
		named[r.bug] = r.test
	}
	clean := map[string]bool{plantedModel: true}
	for _, b := range chosenBugs() {
		clean[named[b.Name]] = true
	}
	for test := range clean {
		pkg, name := splitTest(test)
		o := plantAndRun(t, bins[pkg], pkg, exactly(name), "")
		require.False(t, o.failed, "%s fails without a bug:\n%s", test, o.output)
	}
	eachBug(func(b sabotage.Planted) {
		if o := plantAndRun(t, bins["."], ".", exactly(plantedModel), b.Name); o.failed {
			t.Errorf("%s: the model test sees it\n%s", b.Name, o.output)
		}
		pkg, name := splitTest(named[b.Name])
		if o := plantAndRun(t, bins[pkg], pkg, exactly(name), b.Name); !o.failed {
			t.Errorf("%s: %s does not catch it (%v)", b.Name, named[b.Name], o.took)
		}
	})
}

// updatePlanted looks for a test for each bug and writes the document.
func updatePlanted(t *testing.T) {
	bins, found, mu := plantedTests(t), map[string]plantedRow{}, sync.Mutex{}
	before := map[string]string{} // which test caught it the last time
	for _, r := range plantedRows(t) {
		before[r.bug] = r.test
	}
	for _, c := range catchers {
		o := plantAndRun(t, bins[c[0]], c[0], c[1], "")
		require.False(t, o.failed, "%v fails without a bug:\n%s", c, o.output)
		t.Logf("%v: %.1f s without a bug", c, o.took.Seconds())
	}
	eachBug(func(b sabotage.Planted) {
		r := plantedRow{b.Name, b.What, b.Breaks, "", ""}
		if o := plantAndRun(t, bins["."], ".", exactly(plantedModel), b.Name); o.failed {
			t.Errorf("%s: the model test sees it\n%s", b.Name, o.output)
		}
		tries := catchers
		if pkg, name := splitTest(before[b.Name]); name != "" {
			tries = append([][2]string{{pkg, exactly(name)}}, catchers...)
		}
		for _, c := range tries {
			o := plantAndRun(t, bins[c[0]], c[0], c[1], b.Name)
			if !o.failed {
				continue
			}
			if r.test = o.test; c[0] != "." {
				r.test = c[0] + "." + o.test
			}
			r.took = fmt.Sprintf("%.1f", plantAndRun(t, bins[c[0]], c[0], exactly(o.test), b.Name).took.Seconds())
			break
		}
		if r.test == "" {
			t.Errorf("%s survived", b.Name)
		}
		t.Logf("%-22s %s %s", r.bug, r.test, r.took)
		mu.Lock()
		defer mu.Unlock()
		found[b.Name] = r
	})
	if *plantedOnly == "" {
		writePlanted(t, found)
	}
}

const plantedHead = `# Planted bugs

Each bug of internal/sabotage, planted alone: the model test without crashes, faults and interleavings does not see it, and the test named here fails. Generated by

    go test -run 'TestPlanted$' -planted.update -timeout 60m .

and checked again, bug by bug, by ` + "`go test -run 'TestPlanted$' -planted -timeout 10m .`" + `, which is part of ` + "`.ci/run`" + `. A test outside of the root package has its package before it.

| bug | what the engine does wrong | breaks | caught by | seconds |
|---|---|---|---|---|
`

func writePlanted(t *testing.T, found map[string]plantedRow) {
	out := strings.Builder{}
	out.WriteString(plantedHead)
	for _, b := range sabotage.All() {
		r := found[b.Name]
		fmt.Fprintf(&out, "| `%s` | %s | %s | `%s` | %s |\n", r.bug, r.what, r.breaks, r.test, r.took)
	}
	require.NoError(t, os.WriteFile(plantedDoc, []byte(out.String()), 0o644))
}
