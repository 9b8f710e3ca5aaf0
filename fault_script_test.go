package mapfile

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"

	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
)

// faultScript is a history whose calls fail one at a time.
type faultScript struct {
	name     string
	sync     SyncMode
	capacity int64
	before   func(r *faultRun) // runs without faults; what it leaves is killed, and crashed
	run      func(r *faultRun)
}

// faultScripts make every kind of call of the seam, in operation and in recovery: TestFaultMatrix checks that they do.
var faultScripts = []faultScript{
	{name: "by pwrite", sync: SyncAlways, capacity: 1 << 20, run: (*faultRun).life},
	{name: "by stores", sync: SyncNever, capacity: 1 << 20, run: (*faultRun).life},
	{name: "large", sync: SyncNever, capacity: 4 << 20, run: (*faultRun).large},
	{name: "loads", sync: SyncAlways, capacity: 1 << 20, run: (*faultRun).loads},
	{name: "loads unsynced", sync: SyncNever, capacity: 1 << 20, run: (*faultRun).loads},
	{name: "recovery", sync: SyncAlways, capacity: 1 << 20, before: (*faultRun).half, run: (*faultRun).recovered},
	{name: "recovery of stores", sync: SyncNever, capacity: 1 << 20, before: (*faultRun).half, run: (*faultRun).recovered},
	{name: "recovery aside", sync: SyncNever, capacity: 1 << 20, before: (*faultRun).half, run: (*faultRun).aside},
}

// life creates a map, lets it split, grow, overwrite, checkpoint, compact and be closed, and opens it again.
func (r *faultRun) life() {
	for i := range 8 {
		r.put(i, []int{5, 900, 3000, 60}[i%4])
	}
	r.tx(SyncNever, 1, 2, 3)
	r.tx(SyncAlways, 4, 5)
	r.checkpoint()
	r.beginSnapshot()
	for i := range 6 {
		r.put(i, 2500+i)
	}
	r.delete(3)
	r.syncInsideTx(7, 40)
	r.endSnapshot()
	r.checkpoint()
	r.compact()
	r.growAhead()
	for i := range 8 {
		r.put(i, 7000)
	}
	r.sync()
	r.compact()
	r.put(8, 20000)
	r.checkpoint()
	r.close()
	r.look()
	r.judge()
	r.put(2, 100)
	r.delete(4)
	r.tx(SyncAlways, 6, 7, 8)
	r.close()
}

// large syncs more than is rewritten, and outgrows the first mapping.
func (r *faultRun) large() {
	r.put(0, 10)
	r.put(1, 1_300_000)
	r.sync()
	r.put(2, 40)
	r.close()
}

// loads loads, and takes loads back, each across segments and growth, and goes on.
func (r *faultRun) loads() {
	r.put(0, 900)
	r.load(false, 0, 1, 2, 1, 3)
	r.load(true, 4, 0, 5, 0, 6)
	r.put(4, 60)
	r.checkpoint()
	r.load(true, 7, 8, 4)
	r.load(false, 4, 5, 6, 7, 8, 0, 4)
	r.compact()
	r.close()
	r.look()
	r.judge()
	r.load(false, 2, 3)
	r.close()
}

// half leaves a map in the middle of its life, with a checkpoint and a tail.
func (r *faultRun) half() {
	for i := range 8 {
		r.put(i, 600*i)
	}
	r.checkpoint()
	for i := range 5 {
		r.put(i, 3000)
	}
	r.compact()
	r.delete(5)
	r.tx(SyncAlways, 6, 7)
	r.tx(SyncNever, 8, 1)
}

// recovered goes on with what half left.
func (r *faultRun) recovered() {
	r.open()
	r.put(0, 77)
	r.sync()
	r.close()
	r.open()
	r.put(1, 7777)
	r.close()
}

// aside looks at what half left without a change to it.
func (r *faultRun) aside() {
	r.look()
	r.judge()
	r.look()
}

func faultKey(i int) string { return fmt.Sprintf("key%d", i) }

// faultKeys is how many keys the scripts use.
const faultKeys = 9

// value is never the same twice.
func (r *faultRun) value(size int) string {
	v := fmt.Sprintf("%d of %s ", len(r.trail), r.f.script)
	return (v + strings.Repeat("v", max(0, size-len(v))))[:max(size, 4)]
}

func (r *faultRun) put(i, size int) {
	k, v := faultKey(i), r.value(size)
	r.commit(fmt.Sprintf("put %s %d", k, size), r.o.Sync == SyncAlways, func(m kv) { m[k] = v }, func() error {
		return r.db.Put([]byte(k), []byte(v))
	})
}

func (r *faultRun) delete(i int) {
	k := faultKey(i)
	r.commit("delete "+k, r.o.Sync == SyncAlways, func(m kv) { delete(m, k) }, func() error { return r.db.Delete([]byte(k)) })
}

// tx is one commit of several keys, the last of which is deleted.
func (r *faultRun) tx(sync SyncMode, keys ...int) {
	v := r.value(300)
	change := func(m kv) {
		for _, i := range keys {
			m[faultKey(i)] = v
		}
		delete(m, faultKey(keys[len(keys)-1]))
	}
	r.commit(fmt.Sprintf("tx %v %v", sync, keys), sync == SyncAlways, change, func() error {
		tx, err := r.db.BeginTx(context.Background(), &TxOptions{Sync: sync})
		if err != nil {
			return err
		}
		for n, i := range keys {
			if err == nil && n == len(keys)-1 {
				err = tx.Delete([]byte(faultKey(i)))
			} else if err == nil {
				err = tx.Put([]byte(faultKey(i)), []byte(v))
			}
		}
		if err != nil {
			_ = tx.Rollback()
			return err
		}
		return tx.Commit()
	})
}

// load is one commit of several keys by BulkLoad, which may fail at its end and is taken back then.
func (r *faultRun) load(fails bool, keys ...int) {
	values := make([]string, len(keys))
	for n := range keys {
		values[n] = fmt.Sprint(n, r.value(3000))
	}
	change := func(m kv) {
		for n, i := range keys {
			m[faultKey(i)] = values[n]
		}
	}
	if fails {
		change = func(kv) {}
	}
	r.commit(fmt.Sprintf("load %v, failing %t", keys, fails), r.o.Sync == SyncAlways && !fails, change, func() error {
		err := r.db.BulkLoad(context.Background(), func(put func(key, value []byte) error) error {
			for n, i := range keys {
				if err := put([]byte(faultKey(i)), []byte(values[n])); err != nil {
					return err
				}
			}
			if fails {
				return errUnload
			}
			return nil
		})
		if err == errUnload {
			return nil
		}
		if fails && err == nil {
			r.fail("the error of a load's function is lost")
		}
		return err
	})
}

// syncInsideTx lets the sync of somebody else fail between the begin and the commit of a transaction, which must hear of it.
func (r *faultRun) syncInsideTx(i, size int) {
	k, v := faultKey(i), r.value(size)
	r.commit("sync inside a tx", false, func(m kv) { m[k] = v }, func() error {
		tx, err := r.db.BeginTx(context.Background(), &TxOptions{Sync: SyncNever})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // ErrTxDone behind a Commit
		if err := tx.Put([]byte(k), []byte(v)); err != nil {
			return err
		}
		if err := r.db.Sync(); err != nil {
			r.states[len(r.states)-1] = r.states[r.live] // nothing of the transaction may be there
			r.seal()
			return tx.Commit()
		}
		r.acked = r.live
		return tx.Commit()
	})
}

// sync, checkpoint and compact change nothing that is seen.
func (r *faultRun) sync() { r.upkeep("sync", true, func() error { return r.db.Sync() }) }

func (r *faultRun) checkpoint() {
	r.upkeep("checkpoint", true, func() error { return r.db.Checkpoint() })
}

func (r *faultRun) compact() {
	r.upkeep("compact", false, func() error { return r.db.Compact(context.Background()) })
}

const growAhead = "grow ahead"

// growAhead is what the background does for the next writer.
func (r *faultRun) growAhead() {
	r.upkeep(growAhead, false, func() error {
		return r.db.guarded(func() error { _, err := r.db.s.GrowAhead(); return err })
	})
}

func (r *faultRun) upkeep(name string, durable bool, call func() error) {
	r.commit(name, durable, func(kv) {}, call)
}

// faultGeometry is tiny, and in a map for writing its mappings too, so that they are replaced.
func faultGeometry(readOnly bool) pager.Geometry {
	g := tinyGeometry(1)
	g.ReserveBytes = 1 << 20
	if !readOnly {
		g.ReserveBytes = 64 << 10
	}
	return g
}

func (r *faultRun) openMap(d *simdisk.Disk, o Options) (*DB, error) {
	salts := rand.New(rand.NewPCG(uint64(len(r.trail)), 0xfa017))
	o.LockTimeout, o.MaxSize = -1, d.Capacity()
	return open(crashPath, o.withDefaults(), internals{disk: d, geometry: faultGeometry(o.ReadOnly), random: salts.Uint64, memory: func() uint64 { return 1 << 40 }, loadStage: 2})
}

// look opens the map read-only, and closes it.
func (r *faultRun) look() {
	r.aloof("look", func() error {
		db, err := r.openMap(r.disk, Options{ReadOnly: true})
		if err != nil {
			return err
		}
		r.found(db)
		return db.Close()
	})
}

// judge checks the map as Check does.
func (r *faultRun) judge() {
	r.aloof("check", func() error {
		report, err := recovery.Check(context.Background(), recovery.Options{OpenOptions: pager.OpenOptions{
			Disk: r.disk, Path: crashPath, ReadOnly: true, LockTimeout: -1, Geometry: faultGeometry(true),
		}}, recovery.CheckOptions{})
		if err != nil || r.short {
			return err
		}
		for _, f := range report.Findings {
			if f.Structure != recovery.StructureMark || r.f.err.err != nil { // half a mark page may look like one flipped bit
				r.fail("check: %+v", report.Findings)
			}
		}
		return err
	})
}

// beginSnapshot begins a transaction and a loop that are in progress while calls fail.
func (r *faultRun) beginSnapshot() {
	if r.db == nil {
		return
	}
	tx, err := r.db.BeginTx(context.Background(), &TxOptions{ReadOnly: true})
	if err != nil {
		r.fail("begin a snapshot: %v", err)
	}
	r.snap = tx
	r.next, r.stop = iter.Pull2(tx.All())
	_, _, r.looping = r.next()
	if r.looping != (len(r.states[r.live]) > 0) {
		r.fail("the loop shows something: %t, %v", r.looping, tx.Err())
	}
}

func (r *faultRun) endSnapshot() {
	if r.snap == nil {
		return
	}
	r.stop()
	if err := r.snap.Rollback(); err != nil {
		r.fail("end a snapshot: %v", err)
	}
	r.snap = nil
}
