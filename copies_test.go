//go:build linux || darwin || freebsd

package mapfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

var (
	copiesCount = flag.Int("copies.count", 24, "copies of a map in use that TestCopies makes and opens")
	copiesSeed  = flag.Uint64("copies.seed", 1, "seed of its commits and copies")
)

// copyLedger is every commit that there was: of each key in which commits it was set, or deleted.
type copyLedger struct {
	mu    sync.RWMutex // protects what follows
	begun uint32       // commits, numbered from 1
	keys  [][]uint32   // ascending; the top bit says that it was deleted
}

const (
	copyKeys    = 300
	copyDeleted = 1 << 31
)

// copyValue is what a commit sets a key to: it begins with the commit, and no other is like it.
func copyValue(key int, commit uint32) []byte {
	h := xxhash.Sum64(fmt.Appendf(nil, "%d %d", key, commit))
	b := binary.LittleEndian.AppendUint32(nil, commit)
	return append(b, bytes.Repeat(binary.LittleEndian.AppendUint64(nil, h), int(h%[]uint64{2, 20, 200}[h>>32%3]))...)
}

func copyKey(key int) []byte { return fmt.Appendf(nil, "key %d", key) }

// begin notes a commit, with the writer's turn held, so that the order is that of the log; key 0 is in every one.
func (l *copyLedger) begin(r *rand.Rand) (commit uint32, changed map[int]bool) {
	changed = map[int]bool{0: false} // whether it is deleted
	for range r.IntN(6) {
		changed[r.IntN(copyKeys)] = r.IntN(3) == 0
	}
	changed[0] = false
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun++
	for key, deleted := range changed {
		entry := l.begun
		if deleted {
			entry |= copyDeleted
		}
		l.keys[key] = append(l.keys[key], entry)
	}
	return l.begun, changed
}

// at is the commit that set a key last as of another one; 0: it is not there.
func (l *copyLedger) at(key int, commit uint32) uint32 {
	all := l.keys[key]
	for i := len(all) - 1; i >= 0; i-- {
		if n := all[i] &^ copyDeleted; n <= commit {
			if all[i]&copyDeleted != 0 {
				return 0
			}
			return n
		}
	}
	return 0
}

// until is the commit in which a value that a commit set was replaced, or that behind the last.
func (l *copyLedger) until(key int, commit uint32) uint32 {
	for _, entry := range l.keys[key] {
		if n := entry &^ copyDeleted; n > commit {
			return n
		}
	}
	return l.begun + 1
}

// copyState is what a copy answers: of each key the commit that set it, absent or unknown.
type copyState [copyKeys]int64

const (
	copyAbsent  = 0
	copyUnknown = -1 // ErrCorrupt
)

// prefix finds a commit behind which the map was in the state, 0 if there is none but the empty one.
func (l *copyLedger) prefix(s *copyState) (uint32, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	low, high := uint32(0), l.begun+1
	for key, n := range s {
		if n > 0 {
			if l.at(key, uint32(n)) != uint32(n) {
				return 0, fmt.Errorf("key %d: no commit %d set it", key, n)
			}
			low, high = max(low, uint32(n)), min(high, l.until(key, uint32(n)))
		}
	}
search:
	for commit := low; commit < high; commit++ {
		for key, n := range s {
			if n == copyAbsent && l.at(key, commit) != 0 {
				continue search
			}
		}
		return commit, nil
	}
	return 0, fmt.Errorf("it is the state behind no commit: some keys are of commit %d, some of one before %d", low, high)
}

// copyCourse is a map in use, and copies of it.
type copyCourse struct {
	t      *testing.T
	db     *DB
	ledger copyLedger
	stop   atomic.Bool
	dir    string

	mu                           sync.Mutex // protects what follows
	opened, refused, partly, cut int
	latest                       uint32
}

// TestCopies copies the file of a map by cp, and by plain reads and writes in several orders, sizes and speeds, while it is written, checkpointed and compacted:
// each copy opens to the state behind some commit, or answers ErrCorrupt, at open or for some of the keys.
func TestCopies(t *testing.T) {
	for _, row := range []struct {
		name     string
		geometry pager.Geometry
		sync     SyncMode
	}{
		{"small pieces, synced", copyGeometry(), SyncAlways},
		{"small pieces", copyGeometry(), SyncNever},
		{"as it comes", pager.DefaultGeometry(), SyncNever},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := &copyCourse{t: t, dir: t.TempDir(), ledger: copyLedger{keys: make([][]uint32, copyKeys)}}
			o := (&Options{Sync: row.sync}).withDefaults()
			var err error
			c.db, err = open(filepath.Join(c.dir, "live.map"), o, internals{disk: pager.OS(), geometry: row.geometry, memory: pager.MemoryLimit})
			require.NoError(t, err)
			c.run((*copiesCount + 2) / 3)
			require.NoError(t, c.db.Close())
			t.Logf("%d commits; of the copies %d whole, %d refused by open, %d with keys that are ErrCorrupt; %d end before the newest commit that had returned",
				c.ledger.begun, c.opened, c.refused, c.partly, c.cut)
			require.NotZero(t, c.opened, "no copy was whole")
		})
	}
}

// copyGeometry makes a map of a megabyte use its pages and segments again all the time.
func copyGeometry() pager.Geometry {
	g := pager.DefaultGeometry()
	g.BucketLines, g.FanoutBits, g.UnitPages, g.SmallPages, g.GrowPages, g.MaxGrowPages = 4, 3, 32, 4, 4, 64
	return g
}

// run makes copies beside writers.
func (c *copyCourse) run(copies int) {
	var writers, copiers sync.WaitGroup
	seed := *copiesSeed
	fill := rand.New(rand.NewPCG(seed, 99))
	for range 500 {
		require.NoError(c.t, c.commit(fill, SyncNever))
	}
	for i := range 2 {
		writers.Go(func() { c.write(rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	writers.Go(c.upkeep)
	time.Sleep(20 * time.Millisecond)
	var next atomic.Int64
	for i := range 3 {
		copiers.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(100+i)))
			for n := next.Add(1); n <= int64(copies) && !c.t.Failed(); n = next.Add(1) {
				c.copy(r, n)
			}
		})
	}
	copiers.Wait()
	c.stop.Store(true)
	writers.Wait()
}

// write commits until the copies are made.
func (c *copyCourse) write(r *rand.Rand) {
	for !c.stop.Load() {
		if err := c.commit(r, SyncDefault); err != nil {
			c.t.Errorf("commit: %v", err)
			return
		}
		time.Sleep(time.Duration(r.IntN(200)) * time.Microsecond)
	}
}

// commit makes one commit.
func (c *copyCourse) commit(r *rand.Rand, sync SyncMode) error {
	tx, err := c.db.BeginTx(context.Background(), &TxOptions{Sync: sync})
	if err != nil {
		return err
	}
	commit, changed := c.ledger.begin(r)
	for key, deleted := range changed {
		if deleted {
			err = errors.Join(err, tx.Delete(copyKey(key)))
		} else {
			err = errors.Join(err, tx.Put(copyKey(key), copyValue(key, commit)))
		}
	}
	if err = errors.Join(err, tx.Commit()); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest = max(c.latest, commit)
	return nil
}

// upkeep makes checkpoints and compacts until the copies are made.
func (c *copyCourse) upkeep() {
	for n := 0; !c.stop.Load(); n++ {
		err := c.db.Checkpoint()
		if n%3 == 0 {
			err = errors.Join(err, c.db.Compact(context.Background()))
		}
		if err != nil {
			c.t.Errorf("upkeep: %v", err)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// copyPlan is a way of copying.
type copyPlan struct {
	chunk int64
	order string
	pause time.Duration // between chunks
}

func newCopyPlan(r *rand.Rand) copyPlan {
	p := copyPlan{
		chunk: []int64{512, 4096, 16 << 10, 128 << 10, 1 << 20}[r.IntN(5)],
		order: []string{"forward", "backward", "random", "meta last", "meta first", "cp"}[r.IntN(6)],
	}
	if r.IntN(2) == 0 {
		p.pause = time.Duration(r.IntN(2000)) * time.Microsecond
	}
	return p
}

// offsets is the order in which the chunks of a file are copied.
func (p copyPlan) offsets(r *rand.Rand, size int64) (at []int64) {
	for off := int64(0); off < size; off += p.chunk {
		at = append(at, off)
	}
	switch p.order {
	case "backward":
		for i, j := 0, len(at)-1; i < j; i, j = i+1, j-1 {
			at[i], at[j] = at[j], at[i]
		}
	case "random":
		r.Shuffle(len(at), func(i, j int) { at[i], at[j] = at[j], at[i] })
	case "meta last":
		n := min(len(at), max(1, int(3*pager.PageSize/p.chunk)))
		at = append(at[n:], at[:n]...)
	}
	return at
}

// copy makes a copy and looks at it.
func (c *copyCourse) copy(r *rand.Rand, n int64) {
	p := newCopyPlan(r)
	path := filepath.Join(c.dir, fmt.Sprintf("copy %d", n))
	defer os.Remove(path)
	c.mu.Lock()
	before := c.latest
	c.mu.Unlock()
	err := copyFile(c.db.Path(), path, p, r)
	if err == nil {
		err = c.judge(path, n%2 == 0, before)
	}
	if err != nil {
		kept := filepath.Join(os.TempDir(), "mapfile-copy")
		c.t.Errorf("copy %d (%+v): %v; kept as %s; go test -run TestCopies -copies.count %d -copies.seed %d .", n, p, err, kept, *copiesCount, *copiesSeed)
		if b, err := os.ReadFile(path); err == nil {
			_ = os.WriteFile(kept, b, 0o600)
		}
	}
}

// copyFile copies a file that changes, as much of it as it had at the begin.
func copyFile(from, to string, p copyPlan, r *rand.Rand) error {
	if p.order == "cp" {
		out, err := exec.Command("cp", from, to).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("cp: %w: %s", err, out)
		}
		return err
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, p.chunk)
	pauses := 0
	at := p.offsets(r, info.Size())
	for i, off := range at {
		n, err := src.ReadAt(b, off)
		if err != nil && err != io.EOF {
			return err
		}
		if _, err := dst.WriteAt(b[:n], off); err != nil {
			return err
		}
		if p.pause > 0 && i%(len(at)/100+1) == 0 && pauses < 100 { // a hundred pauses, whatever the size
			pauses++
			time.Sleep(p.pause)
		}
		if p.order == "meta first" && i == 0 {
			time.Sleep(20 * time.Millisecond) // checkpoints go by
		}
	}
	return nil
}

// judge opens a copy and compares it with the ledger. What had returned before the copy was begun may be cut off: which part of it was copied when is not
// known to anybody.
func (c *copyCourse) judge(path string, readOnly bool, before uint32) error {
	db, err := Open(path, &Options{ReadOnly: readOnly, LockTimeout: -1})
	if err != nil {
		return c.note(&c.refused, err)
	}
	err = c.compare(db, before)
	return errors.Join(err, c.note(nil, db.Close()))
}

// note counts what ended in an error that may be.
func (c *copyCourse) note(count *int, err error) error {
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if count != nil {
		c.mu.Lock()
		*count++
		c.mu.Unlock()
	}
	return nil
}

// compare reads all of a copy, by keys and by a scan.
func (c *copyCourse) compare(db *DB, before uint32) error {
	var s copyState
	whole := true
	for key := range s {
		n, err := readCopy(db.Get(copyKey(key)))(key)
		if err != nil {
			return fmt.Errorf("key %d: %w", key, err)
		}
		s[key], whole = n, whole && n != copyUnknown
	}
	commit, err := c.ledger.prefix(&s)
	if err != nil {
		return err
	}
	if err := c.scan(db, &s, whole); err != nil {
		return err
	}
	count := &c.opened
	if !whole {
		count = &c.partly
	} else if commit < before {
		c.mu.Lock()
		c.cut++
		c.mu.Unlock()
	}
	return c.note(count, nil)
}

// readCopy makes of what Get answered the commit that set the value of a key.
func readCopy(value []byte, err error) func(key int) (int64, error) {
	return func(key int) (int64, error) {
		switch {
		case err == ErrNotFound:
			return copyAbsent, nil
		case errors.Is(err, ErrCorrupt):
			return copyUnknown, nil
		case err != nil:
			return 0, err
		case len(value) < 4:
			return 0, fmt.Errorf("a value of %d bytes", len(value))
		}
		n := binary.LittleEndian.Uint32(value)
		if !bytes.Equal(value, copyValue(key, n)) {
			return 0, fmt.Errorf("a value that no commit set: %d bytes, begins as that of commit %d", len(value), n)
		}
		return int64(n), nil
	}
}

// scan compares a scan with what Get answered: each key once, with the same value, and none that is not there.
func (c *copyCourse) scan(db *DB, s *copyState, whole bool) error {
	seen := map[int]bool{}
	err := db.View(func(tx *Tx) error {
		for k, v := range tx.All() {
			var key int
			if _, err := fmt.Sscanf(string(k), "key %d", &key); err != nil || seen[key] || s[key] == copyAbsent {
				return fmt.Errorf("the scan shows %q, and should not", k)
			}
			seen[key] = true
			if n, err := readCopy(v, nil)(key); err != nil || s[key] != copyUnknown && s[key] != n {
				return fmt.Errorf("the scan shows %q of commit %d, Get that of %d: %w", k, n, s[key], err)
			}
		}
		return tx.Err()
	})
	if errors.Is(err, ErrCorrupt) && !whole {
		return nil
	}
	if err != nil {
		return err
	}
	for key, n := range s {
		if n > 0 && !seen[key] {
			return fmt.Errorf("the scan leaves key %d out", key)
		}
	}
	if whole && db.Len() != uint64(len(seen)) {
		return fmt.Errorf("Len is %d of %d keys", db.Len(), len(seen))
	}
	return nil
}
