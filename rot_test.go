package mapfile

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
)

var (
	rotFull    = flag.Bool("rot.full", false, "try every bit, sector and length; without it a seeded sample of the large families")
	rotSeed    = flag.Uint64("rot.seed", 1, "seed of the sample and of what is trash, 0: the time")
	rotCount   = flag.Int("rot.count", 80, "how many damages of each family the sample has, for each map")
	rotPart    = flag.Int64("rot.part", 0, "which part of a full run, from 0")
	rotParts   = flag.Int64("rot.parts", 1, "of how many, so that a full run can be shared and resumed")
	rotMapName = flag.String("rot.map", "", "try only the map of this name")
	rotOnly    = flag.String("rot.only", "", "try only the damage of this name, as a failure prints it")
)

// rotOutcome is what damage came to.
type rotOutcome int

const (
	rotHarmless rotOutcome = iota // all answers right, nothing was found
	rotMended                     // all answers right: flipped bits were taken back
	rotDetected                   // ErrCorrupt for some keys, the others right
	rotRefused                    // ErrCorrupt for the open
	rotPrefix                     // all as it was after an earlier commit, above the durable mark
	rotOutcomes
)

var rotNames = [rotOutcomes]string{"harmless", "mended", "keys", "open", "prefix"}

// damage is one way to damage a file.
type damage struct {
	name  string
	apply func(file []byte) []byte // of a copy, in place if the length stays
	bits  int                      // that are flipped, each under a sum of its own; 0: it is worse, and not mended
}

// rotTable counts outcomes by family of damage and map.
type rotTable struct {
	t     testing.TB
	order []string
	rows  map[string]*[rotOutcomes]int
	begin time.Time
}

func newRotTable(t testing.TB) *rotTable {
	table := &rotTable{t: t, rows: map[string]*[rotOutcomes]int{}, begin: time.Now()}
	t.Cleanup(table.print)
	return table
}

func (x *rotTable) count(row string, o rotOutcome) {
	if x.rows[row] == nil {
		x.rows[row] = new([rotOutcomes]int)
		x.order = append(x.order, row)
	}
	x.rows[row][o]++
}

func (x *rotTable) print() {
	sum := [rotOutcomes]int{}
	x.t.Logf("%-44s %9s %9s %9s %9s %9s", "family of damage, map, mode", rotNames[0], rotNames[1], rotNames[2], rotNames[3], rotNames[4])
	line := func(name string, n *[rotOutcomes]int) {
		x.t.Logf("%-44s %9d %9d %9d %9d %9d", name, n[0], n[1], n[2], n[3], n[4])
	}
	all := 0
	for _, name := range x.order {
		line(name, x.rows[name])
		for i, n := range x.rows[name] {
			sum[i] += n
			all += n
		}
	}
	line("all", &sum)
	d := time.Since(x.begin)
	verdict := "undetected wrong answers: 0"
	if x.t.Failed() {
		verdict = "FAILED: see above"
	}
	x.t.Logf("%d opens of damaged maps in %v, %.0f a second; %s", all, d.Round(time.Millisecond), float64(all)/d.Seconds(), verdict)
}

// rotTrial is one damaged file, opened in one way.
type rotTrial struct {
	t        testing.TB
	m        *rotMap
	what     string // for the report of a failure
	file     []byte // as damaged
	readOnly bool
	bits     int             // as in damage
	lost     map[string]bool // keys that are damaged, the iteration left out
}

func (c *rotTrial) fail(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s\nmap: %s; damage: %s; read-only: %v\nrepeat: go test -run '%s' -rot.full -rot.seed=%d -rot.only='%s' .",
		fmt.Sprintf(format, args...), c.m.name, c.what, c.readOnly, c.t.Name(), *rotSeed, c.what)
}

// tried opens a damaged file, read-only and read-write, and counts what came of it.
func (m *rotMap) tried(t testing.TB, table *rotTable, family string, d damage) {
	m.scratch = append(m.scratch[:0], m.file...)
	file := d.apply(m.scratch)
	for _, readOnly := range []bool{true, false} {
		c := &rotTrial{t: t, m: m, what: d.name, file: file, readOnly: readOnly, bits: d.bits}
		table.count(fmt.Sprintf("%s, %s, %s", family, m.name, [2]string{"read-write", "read-only"}[btoi(readOnly)]), c.run())
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// run opens the file, asks for everything, and holds the answers against the states that the map may have.
func (c *rotTrial) run() rotOutcome {
	c.m.disk.Load(crashPath, c.file)
	db, err := rotOpen(c.m.disk, c.m.deep, 7, Options{Sync: SyncNever, ReadOnly: c.readOnly})
	if err != nil {
		c.corrupt(err, "open")
		if c.bits > 0 {
			c.fail("an open is refused because of a flipped bit: %v", err)
		}
		if !c.m.disk.Holds(crashPath, c.file) {
			c.fail("an open that was refused changed the file")
		}
		return rotRefused
	}
	got := c.answers(db)
	at := got.state(c.m.states)
	if at < 0 {
		c.fail("wrong answers: %s", got.differs(c.m.states[len(c.m.states)-1]))
	}
	_, mended := db.s.P.Mended()
	c.lost = maps.Clone(got.lost)
	delete(c.lost, iteration)
	if err := db.Close(); err != nil {
		c.fail("close: %v", err)
	}
	switch {
	case c.readOnly && !c.m.disk.Holds(crashPath, c.file):
		c.fail("a read-only open changed the file")
	case !c.readOnly && (mended > 0 || len(got.lost) > 0):
		c.again(at, got, mended)
	}
	return c.outcome(at, got, mended)
}

// outcome classifies what was found, and holds single flipped bits to what is promised of them.
func (c *rotTrial) outcome(at int, got *rotAnswers, mended uint64) rotOutcome {
	for k := range got.lost {
		if c.bits > 0 && k != rotLarge && k != iteration {
			c.fail("key %q is lost by a flipped bit", k)
		}
	}
	switch {
	case len(got.lost) > 0:
		return rotDetected
	case at < len(c.m.states)-1:
		return rotPrefix
	case mended > 0:
		return rotMended
	}
	return rotHarmless
}

// corrupt makes sure that an error names what is damaged.
func (c *rotTrial) corrupt(err error, doing string) {
	var e *CorruptError
	switch {
	case errors.As(err, &e) && errors.Is(err, ErrCorrupt) && e.Reason != "" && e.Path == crashPath:
	case errors.Is(err, ErrNotMapfile) && doing == "open" && c.noMagic():
	default:
		c.fail("%s: %v", doing, err)
	}
}

// noMagic reports whether neither meta page can be known for one: then nothing says that the file was a map.
func (c *rotTrial) noMagic() bool {
	for which := range 2 {
		from := which*pager.PageSize + 8
		if len(c.file) >= from+8 && string(c.file[from:from+8]) == pager.Magic {
			return false
		}
	}
	return true
}

// again opens a map once more that was damaged, was opened for writing, and was closed: nothing of what it said
// has changed, and if all was mended the file is whole.
func (c *rotTrial) again(at int, was *rotAnswers, mended uint64) {
	db, err := rotOpen(c.m.disk, c.m.deep, 8, Options{ReadOnly: true})
	if err != nil {
		c.corrupt(err, "open") // damage that stays may be met by an open too
		return
	}
	got := c.answers(db)
	if got.state(c.m.states[at:at+1]) < 0 {
		c.fail("after a close, wrong answers: %s", got.differs(c.m.states[at]))
	}
	if len(was.lost) == 0 && len(got.lost) > 0 {
		c.fail("lost after it was mended: %v", slices.Collect(maps.Keys(got.lost)))
	}
	if err := db.Close(); err != nil {
		c.fail("close: %v", err)
	}
	if c.bits > 0 && len(was.lost) == 0 {
		c.check()
	}
}

// check makes sure that a map is whole.
func (c *rotTrial) check() {
	report, err := recovery.Check(context.Background(), recovery.Options{
		OpenOptions: pager.OpenOptions{Disk: c.m.disk, Path: crashPath, ReadOnly: true, Geometry: rotGeometry(c.m.deep)},
	}, recovery.CheckOptions{})
	if err != nil || len(report.Findings) > 0 {
		c.fail("check of a map that was mended: %v %+v", err, report)
	}
}

// rotLarge is the key whose value is longer than what is mended.
const rotLarge = "larger"

// iteration stands among lost keys for the iteration.
const iteration = "\x00iteration"

// rotAnswers is all that a map says.
type rotAnswers struct {
	is      kv              // keys that were found
	not     map[string]bool // keys that were not
	lost    map[string]bool // keys that are damaged, and iteration if that met damage
	entries kv              // of the iteration, all of them or those before it met damage
	whole   bool            // the iteration came to its end
	len     uint64
}

// answers asks for everything.
func (c *rotTrial) answers(db *DB) *rotAnswers {
	a := &rotAnswers{is: kv{}, not: map[string]bool{}, lost: map[string]bool{}, entries: kv{}, len: db.Len()}
	for _, k := range c.m.keys {
		v, err := db.Get(k)
		switch {
		case err == nil:
			a.is[string(k)] = string(v)
		case err == ErrNotFound:
			a.not[string(k)] = true
		default:
			c.corrupt(err, "get")
			a.lost[string(k)] = true
		}
	}
	err := db.View(func(tx *Tx) error {
		for k, v := range tx.All() {
			if _, twice := a.entries[string(k)]; twice {
				c.fail("key %q twice", k)
			}
			a.entries[string(k)] = string(v)
		}
		return tx.Err()
	})
	if a.whole = err == nil; !a.whole {
		c.corrupt(err, "iteration")
		a.lost[iteration] = true
	}
	return a
}

// state finds the newest of some states that all answers fit, or is -1.
func (a *rotAnswers) state(states []kv) int {
	for i := len(states) - 1; i >= 0; i-- {
		if a.differs(states[i]) == "" {
			return i
		}
	}
	return -1
}

// differs tells in what the answers differ from a state; "" if they do not.
func (a *rotAnswers) differs(s kv) string {
	if a.len != uint64(len(s)) {
		return fmt.Sprintf("%d keys instead of %d", a.len, len(s))
	}
	for k, v := range a.is {
		if want, ok := s[k]; !ok || want != v {
			return fmt.Sprintf("key %q has a value of %d bytes, that of another state", k, len(v))
		}
	}
	for k := range a.not {
		if _, ok := s[k]; ok {
			return fmt.Sprintf("key %q is not found", k)
		}
	}
	for k, v := range a.entries {
		if want, ok := s[k]; !ok || want != v {
			return fmt.Sprintf("the iteration shows key %q with a value of %d bytes, that of another state", k, len(v))
		}
	}
	if a.whole && len(a.entries) != len(s) {
		return fmt.Sprintf("the iteration shows %d keys of %d", len(a.entries), len(s))
	}
	return ""
}

// rotFamily is a family of damages of a map: so many, made by number.
type rotFamily struct {
	count int64
	each  func(i int64) damage
}

// rotTest tries a family on some maps: all of it in a full run, else a sample that the seed chooses, spread evenly.
func rotTest(t *testing.T, all []*rotMap, name string, family func(m *rotMap) rotFamily) {
	table := newRotTable(t)
	for i, m := range all {
		f := family(m)
		r := rotRand(uint64(i))
		try := func(i int64) {
			if d := f.each(i); *rotOnly == "" || *rotOnly == d.name {
				m.tried(t, table, name, d)
			}
		}
		n := int64(*rotCount)
		if *rotFull || n >= f.count {
			for i := *rotPart; i < f.count; i += *rotParts {
				try(i)
			}
			continue
		}
		for k := range n {
			from, to := f.count*k/n, f.count*(k+1)/n
			try(from + r.Int64N(to-from))
		}
	}
}

func rotRand(salt uint64) *rand.Rand {
	if *rotSeed == 0 {
		*rotSeed = uint64(time.Now().UnixNano())
	}
	return rand.New(rand.NewPCG(*rotSeed, salt))
}

// rotMaps are those that rot.map chooses.
func rotMaps(t testing.TB) (some []*rotMap) {
	for _, m := range buildRotMaps(t) {
		if *rotMapName == "" || *rotMapName == m.name {
			some = append(some, m)
		}
	}
	return some
}

// flipBit is the damage of one bit; bit 0 is the lowest of the first byte.
func flipBit(bit int64) damage {
	return damage{fmt.Sprintf("bit %d of byte %d", bit%8, bit/8), func(b []byte) []byte {
		b[bit/8] ^= 1 << (bit % 8)
		return b
	}, 1}
}

// TestRotBits flips single bits, all of them in a full run: no key is lost, but the one whose value is longer than what is mended.
func TestRotBits(t *testing.T) {
	rotTest(t, rotMaps(t), "bit flipped", func(m *rotMap) rotFamily { return rotFamily{int64(len(m.file)) * 8, flipBit} })
}

// setSector is the damage of a sector that holds something else.
func setSector(name string, i int64, content []byte) damage {
	return damage{fmt.Sprintf("sector %d %s", i, name), func(b []byte) []byte {
		copy(b[i*pager.SectorSize:], content)
		return b
	}, 0}
}

// trashSector is a sector of random bytes.
func trashSector(r *rand.Rand) []byte {
	b := make([]byte, pager.SectorSize)
	for k := range b {
		b[k] = byte(r.Uint32())
	}
	return b
}

// TestRotSectors zeroes and trashes every sector, and puts what it held before in its place.
func TestRotSectors(t *testing.T) {
	rotTest(t, rotMaps(t), "sector", func(m *rotMap) rotFamily {
		var all []damage
		r := rotRand(2)
		ones := bytes.Repeat([]byte{0xff}, pager.SectorSize)
		for i := range int64(len(m.file) / pager.SectorSize) {
			all = append(all, setSector("zeroed", i, make([]byte, pager.SectorSize)), setSector("all ones", i, ones), setSector("trashed", i, trashSector(r)))
			for k, was := range m.older[i] {
				all = append(all, setSector(fmt.Sprintf("as it was before, %d", k), i, was))
			}
		}
		return rotFamily{int64(len(all)), func(i int64) damage { return all[i] }}
	})
}

// TestRotSwaps puts what stands in other sectors in the place of each.
func TestRotSwaps(t *testing.T) {
	rotTest(t, rotMaps(t), "another sector", func(m *rotMap) rotFamily {
		var distinct [][]byte
		seen := map[string]bool{}
		for at := 0; at < len(m.file); at += pager.SectorSize {
			if s := m.file[at : at+pager.SectorSize]; !seen[string(s)] {
				seen[string(s)] = true
				distinct = append(distinct, s)
			}
		}
		sectors := int64(len(m.file) / pager.SectorSize)
		return rotFamily{sectors * int64(len(distinct)), func(i int64) damage {
			return setSector(fmt.Sprintf("replaced by content %d", i/sectors), i%sectors, distinct[i/sectors])
		}}
	})
}

// cutTo is the damage of a file that lost its end.
func cutTo(n int64) damage {
	return damage{fmt.Sprintf("cut to %d bytes", n), func(b []byte) []byte { return b[:n] }, 0}
}

// TestRotLengths cuts the file to each length in a full run. A file of no bytes is a new map by contract and not looked at.
func TestRotLengths(t *testing.T) {
	rotTest(t, rotMaps(t), "cut", func(m *rotMap) rotFamily {
		return rotFamily{int64(len(m.file)) - 1, func(i int64) damage { return cutTo(i + 1) }}
	})
}

// TestRotEdges cuts the file at a sector, a byte before and a byte behind.
func TestRotEdges(t *testing.T) {
	rotTest(t, rotMaps(t), "cut at a sector", func(m *rotMap) rotFamily {
		return rotFamily{int64(len(m.file))/pager.SectorSize*3 - 2, func(i int64) damage { return cutTo((i+3)/3*pager.SectorSize + (i+3)%3 - 1) }}
	})
}
