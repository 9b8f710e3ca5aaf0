package mapfile

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// The promises on space are tested with few keys in the default run, and at full size by flags: CONTRIBUTING.md has the commands.
var (
	spaceKeys    = flag.Uint64("space.keys", 0, "keys of the map in the tests of space, 0: few")
	spaceRounds  = flag.Int("space.rounds", 0, "how often TestSteadyState overwrites the map, 0: as the test says")
	spaceWindows = flag.Int("space.windows", 0, "pairs of windows, of two seconds each, in TestForeground, 0: few short ones")
	spaceDir     = flag.String("space.dir", "", "directory of the map, on a real disk; a temporary one if empty")
	spaceSeed    = flag.Uint64("space.seed", 1, "seed of the keys' order")
)

// The entries of these tests: as the project's goals count them.
const (
	spaceKey   = 16
	spaceValue = 100
)

// spaceRun is a map under load, and what it holds.
type spaceRun struct {
	t     *testing.T
	db    *DB
	keys  uint64
	r     *rand.Rand
	value []byte
}

// newSpaceRun fills a new map with keys. keys is what the flag says, or few.
func newSpaceRun(t *testing.T, few uint64, o *Options) *spaceRun {
	dir := *spaceDir
	if dir == "" {
		dir = t.TempDir()
	}
	path := filepath.Join(dir, "space.map")
	require.NoError(t, os.RemoveAll(path))
	in := internals{disk: pager.OS(), geometry: pager.DefaultGeometry(), memory: pager.MemoryLimit, background: true}
	if *spaceKeys == 0 {
		in.every = 50 * time.Millisecond
	}
	db, err := open(path, o.withDefaults(), in)
	require.NoError(t, err)
	run := &spaceRun{t: t, db: db, keys: few, r: rand.New(rand.NewPCG(*spaceSeed, 5)), value: make([]byte, spaceValue)}
	t.Cleanup(func() { _ = db.Close(); _ = os.Remove(path) })
	if *spaceKeys > 0 {
		run.keys = *spaceKeys
	}
	for i := range run.keys {
		run.put(i)
	}
	return run
}

// data is keys and values in bytes.
func (s *spaceRun) data() int64 { return int64(s.keys) * (spaceKey + spaceValue) }

// slack is what a small map may take besides: units that are grown ahead, and pages that wait for checkpoints, do not become less with it.
func (s *spaceRun) slack() float64 {
	if *spaceKeys > 0 {
		return 0
	}
	return float64(16 * s.db.s.P.Geo.UnitBytes())
}

func spaceKeyOf(i uint64) (key [spaceKey]byte) {
	binary.BigEndian.PutUint64(key[:], i*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(key[8:], i)
	return key
}

func (s *spaceRun) put(i uint64) {
	key := spaceKeyOf(i)
	for at := 0; at+8 <= len(s.value); at += 8 {
		binary.LittleEndian.PutUint64(s.value[at:], s.r.Uint64())
	}
	require.NoError(s.t, s.db.Put(key[:], s.value))
}

// allocated is the size of the file's blocks in bytes.
func (s *spaceRun) allocated() int64 {
	info, err := s.db.s.P.Stat()
	require.NoError(s.t, err)
	return info.Blocks
}

// watchSpace notes how the map was used when it had the most blocks, looked at every 50 ms, until stop, which answers it, is called.
func watchSpace(db *DB) (stop func() Stats) {
	var most Stats
	end, done := make(chan struct{}), sync.WaitGroup{}
	look := func() {
		if st := db.Stats(); st.Allocated > most.Allocated {
			most = st
		}
	}
	done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				look()
			}
		}
	})
	return func() Stats {
		close(end)
		done.Wait()
		look()
		return most
	}
}

// split tells what takes the space of a map, in MiB.
func split(st Stats) string {
	return fmt.Sprintf("allocated %d, live %d, garbage %d, pending %d, free %d, index %d MiB of %d MiB", st.Allocated>>20, st.LiveBytes>>20, st.GarbageBytes>>20,
		st.PendingBytes>>20, st.FreeBytes>>20, st.IndexPages>>8, st.FileSize>>20)
}

// writtenBytes is what this process has had written to disks, 0 where the system does not tell.
func writtenBytes() (n int64) {
	b, _ := os.ReadFile("/proc/self/io")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, _ = strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		}
	}
	return n
}
