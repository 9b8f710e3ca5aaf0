package mapfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"strings"

	"github.com/cespare/xxhash/v2"

	invariants "github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
)

// stateOptions say what is looked at at one point.
func (c *crashRun) stateOptions() simdisk.StateOptions {
	if c.search.level == levelDeep {
		return simdisk.StateOptions{Random: 50, TrashAll: c.pad}
	}
	return simdisk.StateOptions{Sample: 6, TrashAll: c.pad}
}

// look opens what a power cut, or a kill, at this event could leave.
func (c *crashRun) look(e simdisk.Event) {
	if c.search.enough() {
		return
	}
	r := rand.New(rand.NewPCG(c.seed, uint64(e.Count)))
	if c.search.level == levelQuick && *crashOne == "" && r.IntN(8) > 0 {
		return
	}
	c.cuts(c.disk, r, c.stateOptions(), crashDepth, e)
	c.killed(e)
	c.reached.Store(&crashOpen{Event: e.Count, Images: c.images})
}

// cuts looks at the outcomes of a power cut of a disk. An image that was met before is looked at again if it led to a
// state that has become too old since. The points that an earlier run of the search looked at are only enumerated.
func (c *crashRun) cuts(d *simdisk.Disk, r *rand.Rand, o simdisk.StateOptions, depth int, e simdisk.Event) {
	point := c.point
	o.Known = func(hash uint64) bool {
		if depth == crashDepth && e.Count <= c.skip {
			c.seen[hash] = int32(c.acked)
		}
		at, ok := c.seen[hash]
		return ok && int(at) >= c.acked
	}
	d.States(r, o, func(img *simdisk.Disk) bool {
		defer img.Release()
		h := img.Hash()
		if _, again := c.seen[h]; !again {
			c.count(depth)
		}
		c.point = fmt.Sprintf("%s at %v, %v", point, e, img.Plan())
		c.seen[h] = int32(c.verify(img, depth, h))
		c.point = point
		return depth < crashDepth || !c.search.enough()
	})
}

// count counts a distinct image.
func (c *crashRun) count(depth int) {
	c.images++
	c.search.images.Add(1)
	c.search.depths[crashDepth-depth].Add(1)
}

// killed looks at what a killed process leaves: P3, nothing that returned is lost.
func (c *crashRun) killed(e simdisk.Event) {
	if _, err := c.disk.Stat(crashPath); err != nil {
		return
	}
	least := max(c.acked, len(c.states)-2)
	h := ^xxhash.Sum64(c.disk.Bytes(crashPath))
	at, again := c.seen[h]
	if e.Count <= c.skip {
		c.seen[h] = int32(least)
		return
	}
	if again && int(at) >= least {
		return
	}
	img := c.disk.Kill()
	defer img.Release()
	acked, point := c.acked, c.point
	c.acked, c.point = least, fmt.Sprintf("killed at %v", e)
	c.seen[h] = int32(c.verify(img, 0, 0))
	c.acked, c.point = acked, point
}

// verify opens an image, checks everything that is promised, and returns the number of the state it was in.
func (c *crashRun) verify(img *simdisk.Disk, depth int, hash uint64) (at int) {
	if depth > 0 && hash%[]uint64{1, 1500, 500, 150}[depth] == 0 {
		c.cutAgain(img, depth)
	}
	img.Untrack()
	keys := -1
	if hash%16 == 1 {
		keys = c.judge(img)
	}
	db, err := c.openOn(img, 1, SyncNever)
	if err != nil {
		c.fail("%s: open: %v", c.point, err)
	}
	got := c.contents(db)
	if at = c.find(got); at < 0 {
		c.fail("%s: the state is that after no allowed prefix (acknowledged %d of %d)\ngot %v\nnewest %v", c.point, c.acked, len(c.states)-1, brief(got), brief(c.last()))
	}
	if keys >= 0 && keys != len(got) {
		c.fail("%s: a check found %d keys, there are %d", c.point, keys, len(got))
	}
	c.check(db, "opened")
	if hash%4 == 0 { // kills, too
		c.backUp(db, at, hash/4+uint64(c.images))
	}
	model := maps.Clone(c.states[at])
	c.goOn(db, model, uint64(at))
	c.check(db, "20 operations on")
	if err := db.Close(); err != nil {
		c.fail("%s: close: %v", c.point, err)
	}
	if db, err = c.openOn(img, 2, SyncAlways); err != nil {
		c.fail("%s: second open: %v", c.point, err)
	}
	if got := c.contents(db); !maps.Equal(got, model) {
		c.fail("%s: after 20 operations and a reopening: got %v, want %v", c.point, brief(got), brief(model))
	}
	c.check(db, "reopened")
	if err := db.Close(); err != nil {
		c.fail("%s: second close: %v", c.point, err)
	}
	return at
}

// find finds the newest allowed state that equals what was read, -1 if there is none.
func (c *crashRun) find(got kv) int {
	for i := len(c.states) - 1; i >= c.acked; i-- {
		if maps.Equal(got, c.states[i]) {
			return i
		}
	}
	return -1
}

// goOn runs 20 operations on a map that was recovered, and on its model.
func (c *crashRun) goOn(db *DB, model kv, seed uint64) {
	r := rand.New(rand.NewPCG(c.seed, seed))
	for range 20 {
		var err error
		k, v := crashKeys[r.IntN(len(crashKeys))], letters[25][:r.IntN(500)]
		if r.IntN(4) == 0 {
			delete(model, k)
			err = db.Delete([]byte(k))
		} else {
			model[k] = v
			err = db.Put([]byte(k), []byte(v))
		}
		if err == nil && r.IntN(20) == 0 {
			err = db.Compact(context.Background())
		}
		if err == nil && r.IntN(10) == 0 {
			err = db.Checkpoint()
		}
		if err != nil {
			c.fail("%s: going on: %v", c.point, err)
		}
	}
}

// cutAgain cuts the power inside recovery, at every event of it.
func (c *crashRun) cutAgain(img *simdisk.Disk, depth int) {
	again := img.Clone()
	defer again.Release()
	point := c.point
	again.OnEvent = func(e simdisk.Event) {
		if !invariants.On {
			again.Notice()
		}
		c.point = point + "; in recovery"
		c.cuts(again, rand.New(rand.NewPCG(c.seed, uint64(e.Count))), simdisk.StateOptions{Sample: 2, TrashAll: c.pad}, depth-1, e)
	}
	db, err := c.openOn(again, 3, SyncAlways)
	c.point = point
	if err != nil {
		c.fail("%s: open: %v", c.point, err)
	}
	again.OnEvent = nil
	if err := db.Close(); err != nil {
		c.fail("%s: close: %v", c.point, err)
	}
}

// check is the full check: account of the pages, every slot, every record.
func (c *crashRun) check(db *DB, when string) {
	db.turn.Lock()
	defer db.turn.Unlock()
	if err := db.s.Verify(); err != nil {
		var segments []string
		for _, g := range db.s.Tail.Segments() {
			segments = append(segments, fmt.Sprintf("%d+%d", g.Start, g.Pages))
		}
		c.fail("%s, %s: %v\nsegments %v, meta %+v, recovery %+v", c.point, when, err, segments, db.s.Meta(), db.s.Report)
	}
}

// contents reads the whole map, by iteration and by Get.
func (c *crashRun) contents(db *DB) kv {
	got := kv{}
	err := db.View(func(tx *Tx) error {
		for k, v := range tx.All() {
			if _, twice := got[string(k)]; twice {
				c.fail("%s: key %q twice", c.point, k)
			}
			got[string(k)] = text(v)
		}
		return tx.Err()
	})
	if err != nil {
		c.fail("%s: read: %v", c.point, err)
	}
	if n := db.Len(); n != uint64(len(got)) {
		c.fail("%s: Len is %d, there are %d keys: %v; recovery %+v", c.point, n, len(got), brief(got), db.s.Report)
	}
	var v []byte
	for _, k := range crashKeys {
		v, err = db.AppendGet(v[:0], []byte(k))
		want, ok := got[k]
		if ok && (err != nil || string(v) != want) || !ok && err != ErrNotFound {
			c.fail("%s: Get(%s) is %d bytes, %v; the iteration says %v", c.point, k, len(v), err, ok)
		}
	}
	return got
}

// text is the string of a value: a part of letters if it is one, so that nothing is copied.
func text(v []byte) string {
	if len(v) == 0 {
		return ""
	}
	if i := int(v[0]) - 'a'; i >= 0 && i < len(letters) && string(v) == letters[i][:min(len(v), len(letters[i]))] {
		return letters[i][:len(v)]
	}
	return string(v)
}

// judge checks an image as the tool would, read-only, in private memory, and returns the number of keys; -1 if the
// map was not there yet.
func (c *crashRun) judge(img *simdisk.Disk) int {
	geometry := tinyGeometry(c.shape)
	geometry.ReserveBytes = 4 * crashDisk // private memory is taken in steps of a MiB
	report, err := recovery.Check(context.Background(), recovery.Options{OpenOptions: pager.OpenOptions{
		Disk: img, Path: crashPath, ReadOnly: true, LockTimeout: -1, Geometry: geometry,
	}}, recovery.CheckOptions{})
	if errors.Is(err, fs.ErrNotExist) {
		return -1
	}
	if err != nil {
		c.fail("%s: check: %v", c.point, err)
	}
	for _, f := range report.Findings {
		if !strings.HasPrefix(f.Structure, "meta page") { // of the meta page that was being written nothing need be there
			c.fail("%s: check: %+v", c.point, f)
		}
	}
	return int(report.Keys)
}
