//go:build mapfile_debug

package mapfile

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
)

// TestLives follows maps through several lives, each ended by a power cut or a kill in the middle of an operation, where TestCrash looks at
// every outcome of one: what a life leaves behind is what the next one must not stumble over. In between
// syncs fail, the newest meta page rots, writers come between the steps of a checkpoint, and readers look on at every store.
func TestLives(t *testing.T) {
	for _, row := range lifeRows {
		t.Run(row.name, func(t *testing.T) {
			for seed := range uint64(row.histories) {
				h := &lifeHistory{t: t, row: row, seed: seed, r: rand.New(rand.NewPCG(seed, 4)), disk: simdisk.New(1 << 20), states: []lifeState{{}}}
				for h.life = range 5 {
					h.live()
				}
				h.disk.Release()
			}
		})
	}
}

// lifeRows are the ways of living. Each is right by itself, so that a failure names what it takes.
var lifeRows = []lifeRow{
	{name: "power cuts", histories: 40},
	{name: "newest meta page lost", histories: 40, badMeta: true},
	{name: "syncs fail", histories: 40, faults: true},
	{name: "writers beside checkpoints", histories: 40, beside: true},
	{name: "readers at every store", histories: 8, readers: true},
	{name: "space given back", histories: 40, badMeta: true, gives: true},
}

type lifeRow struct {
	name                                    string
	histories                               int
	badMeta, faults, beside, readers, gives bool
}

const (
	lifePath = "/lives.map"
	lifeKeys = 12
)

// lifeState is a state of the model.
type lifeState map[string]string

// lifeHistory is one map and its model.
type lifeHistory struct {
	t    *testing.T
	row  lifeRow
	seed uint64
	life int
	r    *rand.Rand
	disk *simdisk.Disk
	db   *DB

	repair *recovery.Repair // by which open opens

	states   []lifeState // after each commit, the running one included
	acked    int         // the last of them that is known to be durable
	returned int         // the last of them whose commit has returned
	lo, hi   int         // readers may see these states now
	opening  bool
	inside   bool // a hook runs
	cutAt    int  // the event at which the life ends
	fault    int  // the sync that fails, counted down
	image    *simdisk.Disk
	imageMin int // the oldest state that the image may hold
	imageAck int // acked, when it was made
	trail    []string
}

func (h *lifeHistory) require(err error, format string, args ...any) {
	h.t.Helper()
	if err != nil {
		h.fail("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

func (h *lifeHistory) fail(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("seed %d, life %d: %s\nhistory: %q\nrepeat: go test -tags mapfile_debug -run '%s' .", h.seed, h.life, fmt.Sprintf(format, args...), h.trail, h.t.Name())
}

func (h *lifeHistory) say(format string, args ...any) {
	h.trail = append(h.trail, fmt.Sprintf(format, args...))
}

func (h *lifeHistory) last() lifeState { return h.states[len(h.states)-1] }

// live runs one life: the map is opened and must hold what it may, works until its end, and leaves an image.
func (h *lifeHistory) live() {
	h.image, h.fault = nil, 0
	h.cutAt = h.disk.Events() + 1 + h.r.IntN([]int{30, 200, 800}[h.r.IntN(3)])
	if h.row.faults && h.r.IntN(2) == 0 {
		h.fault = 1 + h.r.IntN(20)
	}
	h.disk.OnEvent = h.event
	h.disk.Fail = h.failing
	mode := SyncMode(1 + h.r.IntN(3))
	h.say("open %v", mode)
	h.opening = true
	db, err := h.open(h.disk, mode)
	h.opening = false
	if err != nil && h.broken(err) {
		h.next()
		return
	}
	h.require(err, "open")
	h.db = db
	h.verify()
	for range 150 {
		if h.image != nil || h.db == nil || !h.step() {
			break
		}
	}
	h.end()
	h.next()
}

// open opens the map; salts depend on the place in the history alone.
func (h *lifeHistory) open(d *simdisk.Disk, mode SyncMode) (*DB, error) {
	o := Options{Sync: mode, LockTimeout: -1, MaxSize: d.Capacity()}
	return open(lifePath, o.withDefaults(), h.internals(d))
}

func (h *lifeHistory) internals(d *simdisk.Disk) internals {
	salts := rand.New(rand.NewPCG(h.seed, uint64(h.life*1000+len(h.trail))))
	g := pager.Geometry{
		BucketLines: 1, FillPercent: 40, FanoutBits: uint8(1 + h.seed/4%2), UnitPages: []uint32{4, 4, 4, 8}[h.seed%4], SmallPages: []uint32{1, 2, 4, 1}[h.seed%4],
		GrowPages: 1, MaxGrowPages: 8, ReserveBytes: 1 << 20, CheckpointBytes: 1 << 40, MaxCheckpoint: 1 << 40,
	}
	return internals{disk: d, geometry: g, random: salts.Uint64, memory: func() uint64 { return 1 << 40 }, repair: h.repair, loadStage: 1 + int(h.seed%3)}
}

// broken reports whether an error is the fault that was asked for: then the life ends.
func (h *lifeHistory) broken(err error) bool {
	return h.fault < 0 && (errors.Is(err, ErrFailed) || errors.Is(err, syscall.EIO))
}

// failing fails the sync that was chosen, once.
func (h *lifeHistory) failing(c simdisk.Call) error {
	if c.Name != "Sync" && c.Name != "WriteSync" && c.Name != "SyncRange" || h.fault <= 0 {
		return nil
	}
	if h.fault--; h.fault > 0 {
		return nil
	}
	h.fault = -1
	h.say("sync fails")
	return syscall.EIO
}

// verify compares the map with the states that it may be in, and goes on from there.
func (h *lifeHistory) verify() {
	got := h.contents()
	at := len(h.states) - 1
	for ; at >= h.returned && !maps.Equal(got, h.states[at]); at-- {
	}
	if at < h.returned {
		h.fail("the state is that after none of the commits %d to %d: got %v, newest %v", h.returned, len(h.states)-1, h.brief(got), h.brief(h.last()))
	}
	h.account()
	if h.image == nil { // else the power went in recovery: what is left may still be any of them
		h.states = []lifeState{got}
		h.acked, h.returned = 0, 0
	}
}

func (h *lifeHistory) account() {
	h.db.turn.Lock()
	defer h.db.turn.Unlock()
	h.require(h.db.s.Account(), "account of pages")
}

// contents reads everything: by iteration, and by Get.
func (h *lifeHistory) contents() lifeState {
	got := lifeState{}
	err := h.db.View(func(tx *Tx) error {
		for k, v := range tx.All() {
			got[string(k)] = string(v)
		}
		return tx.Err()
	})
	h.require(err, "read")
	if n := h.db.Len(); n != uint64(len(got)) {
		h.fail("Len is %d, there are %d keys", n, len(got))
	}
	for i := range lifeKeys {
		k := fmt.Sprint("key", i)
		v, err := h.db.Get([]byte(k))
		if want, ok := got[k]; ok && (err != nil || string(v) != want) || !ok && err != ErrNotFound {
			h.fail("Get(%s): %d bytes, %v; the iteration says %v", k, len(v), err, ok)
		}
	}
	return got
}

func (h *lifeHistory) brief(m lifeState) string {
	s := ""
	for _, k := range slices.Sorted(maps.Keys(m)) {
		s += fmt.Sprintf(" %s=%.1s*%d", k, m[k], len(m[k]))
	}
	return s
}

// write is one that the model follows.
type lifeWrite struct {
	key, value string
	deleted    bool
}

func (h *lifeHistory) write() lifeWrite {
	n := []int{5, 60, 400, 400, 400, 900, 3000}[h.r.IntN(7)]
	value := make([]byte, n)
	for i := range value {
		value[i] = byte('a' + h.r.IntN(26))
	}
	return lifeWrite{fmt.Sprint("key", h.r.IntN(lifeKeys)), string(value), h.r.IntN(4) == 0}
}

// commit runs writes as one commit, whose state is one that may come to be from here on.
func (h *lifeHistory) commit(writes []lifeWrite, sync SyncMode) error {
	next := maps.Clone(h.last())
	for _, w := range writes {
		if next[w.key] = w.value; w.deleted {
			delete(next, w.key)
		}
	}
	h.states = append(h.states, next)
	if h.lo, h.hi = len(h.states)-2, len(h.states)-1; sync == SyncAlways {
		h.hi = h.lo
	}
	err := h.commitBy(writes, sync)
	if err == nil {
		h.returned = len(h.states) - 1
	}
	if err == nil && sync == SyncAlways {
		h.acked = len(h.states) - 1
	}
	return err
}

// commitBy commits writes in a transaction.
func (h *lifeHistory) commitBy(writes []lifeWrite, sync SyncMode) error {
	tx, err := h.db.BeginTx(h.t.Context(), &TxOptions{Sync: sync})
	for _, w := range writes {
		if err == nil && w.deleted {
			err = tx.Delete([]byte(w.key))
		} else if err == nil {
			err = tx.Put([]byte(w.key), []byte(w.value))
		}
	}
	if err == nil {
		err = tx.Commit()
	}
	return err
}

// load is a commit by BulkLoad, or one that is taken back.
func (h *lifeHistory) load(fails bool) error {
	next := maps.Clone(h.last())
	err := h.db.BulkLoad(h.t.Context(), func(put func(key, value []byte) error) error {
		writes := make([]lifeWrite, h.r.IntN(6))
		for i := range writes {
			writes[i] = h.write()
			next[writes[i].key] = writes[i].value
		}
		if !fails {
			h.states = append(h.states, next)
			if h.hi = len(h.states) - 1; h.db.opts.Sync == SyncAlways {
				h.hi = h.lo
			}
		}
		for _, w := range writes {
			if err := put([]byte(w.key), []byte(w.value)); err != nil {
				return err
			}
		}
		if fails {
			return errUnload
		}
		return nil
	})
	if fails && err == errUnload {
		return nil
	}
	if err == nil {
		h.returned = len(h.states) - 1
		if h.db.opts.Sync == SyncAlways {
			h.acked = len(h.states) - 1
		}
	}
	return err
}

// step runs one operation; false ends the life.
func (h *lifeHistory) step() bool {
	var err error
	h.lo, h.hi = len(h.states)-1, len(h.states)-1
	newest := func() { h.acked = len(h.states) - 1 }
	switch x := h.r.IntN(22); {
	case x >= 20:
		fails := h.r.IntN(2) == 0
		h.say("load, failing %t", fails)
		err = h.load(fails)
	case x < 11:
		sync := []SyncMode{SyncAlways, SyncNever, SyncNever}[h.r.IntN(3)]
		var writes []lifeWrite
		for range []int{1, 1, 1, 2, 4}[h.r.IntN(5)] {
			writes = append(writes, h.write())
		}
		h.say("commit of %d, %v", len(writes), sync)
		err = h.commit(writes, sync)
	case x < 12:
		h.say("sync")
		if err = h.db.Sync(); err == nil {
			newest()
		}
	case x < 15:
		h.say("checkpoint")
		sealed := len(h.states) - 1
		if err = h.db.Checkpoint(); err == nil {
			h.acked = max(h.acked, sealed)
		}
		if err == nil && h.row.gives {
			h.say("give back")
			err = giveSpace(h.db)
		}
	case x < 18:
		h.say("compact")
		err = h.db.Compact(h.t.Context())
		if err == nil && h.row.gives {
			h.say("give back")
			err = giveSpace(h.db)
		}
	case x < 19:
		h.say("close and open")
		err = h.db.Close()
		if err == nil && h.db.s.P.Failed() == nil {
			newest()
			h.db, err = h.open(h.disk, SyncNever)
		}
		if err != nil {
			h.db = nil
		}
	default:
		if h.image == nil {
			h.raw()
		}
	}
	if h.broken(err) {
		h.afterFault()
		return false
	}
	if errors.Is(err, ErrFull) {
		return false // (its garbage and the pages of its index copies fill the disk before a checkpoint)
	}
	h.require(err, "step")
	if h.fault < 0 {
		h.fail("a sync has failed, and nobody was told")
	}
	return true
}

// afterFault: a map whose sync failed answers nothing, and its Close writes nothing.
func (h *lifeHistory) afterFault() {
	if h.db == nil || h.db.closed.Load() {
		return
	}
	_, err := h.db.Get([]byte("key0"))
	require.ErrorIs(h.t, err, ErrFailed, "%q", h.trail)
	require.ErrorIs(h.t, h.db.Put([]byte("key0"), nil), ErrFailed)
	events := h.disk.Events()
	h.require(h.db.Close(), "Close of a failed map")
	if h.disk.Events() != events {
		h.fail("Close of a failed map wrote")
	}
	h.db = nil
}

// end gives back what a life held, without a store.
func (h *lifeHistory) end() {
	h.disk.OnEvent, h.disk.Fail = nil, nil
	if h.db != nil {
		_ = h.db.s.Close()
		h.db = nil
	}
}

// next makes the image that the life left the disk of the next one.
func (h *lifeHistory) next() {
	h.end()
	if h.image == nil { // killed between two operations, or behind a fault: the cache lives on
		h.image, h.imageMin, h.imageAck = h.disk.Kill(), h.acked, h.acked
		if h.fault >= 0 {
			h.imageMin = max(h.acked, h.returned)
		}
	}
	h.returned, h.acked = h.imageMin, h.imageAck
	h.disk.Release()
	h.disk = h.image
	if h.row.badMeta && h.r.IntN(2) == 0 {
		h.loseMeta()
	}
}

// loseMeta destroys the newest meta page.
func (h *lifeHistory) loseMeta() {
	if _, err := h.disk.Stat(lifePath); err != nil {
		return
	}
	f, err := h.disk.Open(lifePath, true)
	h.require(err, "open to read")
	metas, err := pager.ReadMetas(f)
	h.require(err, "read the meta pages")
	h.require(f.Close(), "close")
	if order := metas.Order(); len(order) == 2 {
		h.say("meta page %d is lost", order[0])
		h.disk.SetSector(lifePath, int64(order[0])*pager.PageSize/pager.SectorSize, make([]byte, pager.SectorSize))
	}
}
