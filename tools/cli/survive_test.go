package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
)

var (
	surviveSeed = flag.Uint64("survive.seed", 1, "first seed of the damages that the verbs must survive")
	surviveRuns = flag.Int("survive.runs", 10, "how many damages")
)

const (
	// longestVerb is how long a verb may take on a damaged map of some hundred kilobytes.
	longestVerb = 20 * time.Second
	// mostMemory is what it may allocate, in bytes.
	mostMemory = 128 << 20
)

// survive runs every reading verb on a file: it must come to an end, within bounds, with an exit code that means something, and
// leave the file as it was.
func survive(t *testing.T, content []byte, repeat string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	for name, args := range reading {
		surviveVerb(t, path, name, on(path, args), repeat)
	}
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, after), "a reading verb changed the file; %s", repeat)
}

func surviveVerb(t *testing.T, path, name string, args []string, repeat string) {
	t.Helper()
	// A verb that hangs cannot be ended from outside: the process says which it is and ends.
	watchdog := time.AfterFunc(longestVerb, func() {
		b, _ := os.ReadFile(path)
		kept := filepath.Join(os.TempDir(), "mapfile-hang")
		_ = os.WriteFile(kept, b, 0o600)
		panic(fmt.Sprintf("%s hangs on %s; %s", name, kept, repeat))
	})
	defer watchdog.Stop()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := callQuiet(t, args)
	runtime.ReadMemStats(&after)
	require.Contains(t, []int{0, 1, 2, 3}, got.code, "%s: %s; %s", name, got.err, repeat)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(mostMemory), "bytes allocated by %s; %s", name, repeat)
	if got.code != 0 {
		require.True(t, strings.HasPrefix(got.err, "mapfile: ") || strings.Contains(got.err, "\nmapfile: "), "%s: %q; %s", name, got.err, repeat)
	}
	if got.code == 3 {
		require.Contains(t, got.err, "; run: ", "%s; %s", name, repeat)
	}
}

// callQuiet runs the command line, and keeps no more output than the tests look at.
func callQuiet(t *testing.T, args []string) result {
	a := testApp()
	var errOut bytes.Buffer
	a.root.SetArgs(args)
	a.root.SetIn(strings.NewReader(""))
	a.root.SetOut(discard{})
	a.root.SetErr(&errOut)
	code := Main(context.WithoutCancel(t.Context()), a.root)
	return result{code, "", errOut.String()}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// rot damages a map in one to four places; in half of the cases the sum of the page, or of the segment header, is made right
// again, so that what is behind the sums meets the damage too.
func rot(b []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0xd0))
	var salt uint64
	for i := range 2 {
		if m, err := pager.DecodeMeta(b[i*4096:][:4096], i); err == nil {
			salt = m.FileSalt
		}
	}
	pages := usedPages(b)
	for range 1 + r.IntN(4) {
		n := pages[r.IntN(len(pages))]
		page := b[n*4096:][:4096]
		before := bytes.Clone(page)
		damagePage(r, page, b)
		if r.IntN(2) == 0 && !bytes.Equal(before, page) {
			mendSum(page, n, salt)
		}
	}
}

// usedPages are the pages with anything in them, the first four more often.
func usedPages(b []byte) []int {
	pages := []int{0, 0, 1, 1, 0, 1, 2, 3}
	for n := 4; (n+1)*4096 <= len(b); n++ {
		if !allZero(b[n*4096:][:4096]) {
			pages = append(pages, n)
		}
	}
	return pages
}

// damagePage changes bytes of a page.
func damagePage(r *rand.Rand, page, all []byte) {
	at := r.IntN(len(page))
	if r.IntN(2) == 0 {
		at = r.IntN(256) // where the headers are
	}
	switch r.IntN(7) {
	case 0:
		page[at] ^= 1 << r.IntN(8)
	case 1:
		for i := range min(1+r.IntN(16), len(page)-at) {
			page[at+i] = byte(r.Uint32())
		}
	case 2:
		at &^= 7
		putLE(page[at:], []uint64{0, 1, ^uint64(0), 1 << 32, 1 << 31, uint64(len(all)), 0xffff, 4096, 512}[r.IntN(9)])
	case 3:
		at &^= 3
		binary.LittleEndian.PutUint32(page[at:], uint32(r.IntN(len(all)/4096+2)))
	case 4: // another page of the map
		other := r.IntN(len(all) / 4096)
		copy(page, all[other*4096:][:4096])
	case 5: // two places swapped
		to := r.IntN(len(page) - 8)
		from := min(at, len(page)-8)
		tmp := bytes.Clone(page[to:][:8])
		copy(page[to:][:8], page[from:])
		copy(page[from:], tmp)
	case 6:
		clear(page[at&^511:][:512])
	}
}

// mendSum makes the sum of a page right, if it has one.
func mendSum(page []byte, n int, salt uint64) {
	switch h := index.ReadHeader(page); {
	case n < 2:
		putLE(page, pager.MetaSum(page, n))
	case n == 2:
		putLE(page, pager.ReadMarkPage(page, salt).Want)
	case h.Type >= index.TypeDirectory && h.Type <= index.TypeImage:
		putLE(page, index.Sum(page, salt, pager.PageNo(n), h.Epoch))
	}
}

// TestEveryVerbSurvivesRot runs all reading verbs on damaged maps.
func TestEveryVerbSurvivesRot(t *testing.T) {
	maps := [][]byte{}
	for _, killed := range []bool{false, true} {
		b, err := os.ReadFile(newFixture(t, killed))
		require.NoError(t, err)
		maps = append(maps, b)
	}
	for i := range *surviveRuns {
		seed := *surviveSeed + uint64(i)
		b := bytes.Clone(maps[seed%2])
		rot(b, seed)
		survive(t, b, fmt.Sprintf("go test ./tools/cli -run TestEveryVerbSurvivesRot -survive.seed=%d -survive.runs=1", seed))
	}
}

// TestEveryVerbSurvivesLengths cuts a map at lengths of every kind.
func TestEveryVerbSurvivesLengths(t *testing.T) {
	b, err := os.ReadFile(newFixture(t, true))
	require.NoError(t, err)
	for _, n := range []int{0, 1, 511, 512, 4096, 8191, 2*4096 + 100, 4 * 4096, 33 * 4096, 17*4096 + 1000, len(b) - 1} {
		survive(t, b[:n], fmt.Sprintf("cut to %d bytes", n))
	}
}

// FuzzEveryVerb takes any bytes as the map.
func FuzzEveryVerb(f *testing.F) {
	b, err := os.ReadFile(newFixture(f, true))
	require.NoError(f, err)
	f.Add([]byte{})
	f.Add([]byte("no map at all"))
	f.Add(b[:20*4096])
	f.Fuzz(func(t *testing.T, content []byte) { survive(t, content, "the fuzzer's input") })
}

// FuzzRot takes what is damaged from the fuzzer: it finds its way by coverage.
func FuzzRot(f *testing.F) {
	var maps [][]byte
	for _, killed := range []bool{false, true} {
		b, err := os.ReadFile(newFixture(f, killed))
		require.NoError(f, err)
		maps = append(maps, b)
	}
	f.Add(uint64(1), uint32(5*4096+10), []byte{1, 2, 3}, true)
	f.Add(uint64(2), uint32(100), []byte{0xff}, true)
	f.Fuzz(func(t *testing.T, which uint64, at uint32, with []byte, mend bool) {
		b := bytes.Clone(maps[which%2])
		at %= uint32(len(b))
		copy(b[at:], with[:min(len(with), 64)])
		if mend {
			m := pager.MetaFields(maps[which%2])
			n := int(at) / 4096
			mendSum(b[n*4096:][:4096], n, m.FileSalt)
		}
		survive(t, b, "the fuzzer's input")
	})
}

// TestReadingVerbsAreAllTried: no verb that reads is left out of what must survive any bytes.
func TestReadingVerbsAreAllTried(t *testing.T) {
	tried := map[string]bool{}
	for _, args := range reading {
		cmd, _, err := testApp().root.Find(args)
		require.NoError(t, err)
		tried[cmd.CommandPath()] = true
	}
	others := []string{"put", "delete", "load", "import", "demo", "demo-child", "crashtest", "crashtest-child", "version", "fallback", "help", "completion", "salvage", "diff", "restore", "verify-backup", "compact"}
	for _, cmd := range testApp().root.Commands() {
		require.True(t, tried[cmd.CommandPath()] || cmd.HasSubCommands() || slices.Contains(others, cmd.Name()), "%s is not tried", cmd.CommandPath())
	}
}
