package mapfile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"

	"github.com/mapfile-db/mapfile/internal/simdisk"
)

// found is what an open map holds: one of the states that it may.
func (r *faultRun) found(db *DB) {
	got := r.contents(db)
	i := r.match(got, r.floor)
	if i < 0 {
		r.fail("the state is none of %d to %d\ngot %v\nnewest %v", r.floor, len(r.states)-1, brief(got), brief(r.states[len(r.states)-1]))
	}
	r.states = r.states[:i+1]
	r.live, r.floor = i, i
	r.acked = min(r.acked, i)
	r.account(db, "opened")
}

// match finds the newest state that equals got and is not older than floor.
func (r *faultRun) match(got kv, floor int) int {
	for i := len(r.states) - 1; i >= floor; i-- {
		if maps.Equal(got, r.states[i]) {
			return i
		}
	}
	return -1
}

// contents reads the whole map, by a loop and by Get, which must agree.
func (r *faultRun) contents(db *DB) kv {
	got := kv{}
	err := db.View(func(tx *Tx) error {
		for k, v := range tx.All() {
			got[string(k)] = string(v)
		}
		return tx.Err()
	})
	if err != nil {
		r.fail("read: %v", err)
	}
	if n := db.Len(); n != uint64(len(got)) {
		r.fail("Len is %d, there are %d keys", n, len(got))
	}
	for i := range faultKeys {
		v, err := db.Get([]byte(faultKey(i)))
		want, ok := got[faultKey(i)]
		if ok && (err != nil || string(v) != want) || !ok && err != ErrNotFound {
			r.fail("Get of %s: %d bytes, %v; the loop says %t", faultKey(i), len(v), err, ok)
		}
	}
	return got
}

// read checks that an open map shows the live state, and accounts for every page.
func (r *faultRun) read(db *DB, where string) {
	if got := r.contents(db); !maps.Equal(got, r.states[r.live]) {
		r.fail("%s: got %v, want %v", where, brief(got), brief(r.states[r.live]))
	}
	r.account(db, where)
}

// account checks that each page has one owner; in a map for reading, new pages are private memory and in no account.
func (r *faultRun) account(db *DB, where string) {
	if db.opts.ReadOnly {
		return
	}
	db.turn.Lock()
	defer db.turn.Unlock()
	if err := db.s.Account(); err != nil {
		r.fail("%s: %v", where, err)
	}
}

// images looks, once, at what a kill and a power cut behind the fault leave.
func (r *faultRun) images() {
	if r.hit == nil || r.looked {
		return
	}
	r.looked = true
	r.crash("behind the fault")
}

// crash looks at what a kill and a power cut leave now.
func (r *faultRun) crash(where string) {
	if r.db != nil {
		r.disk.Notice()
	}
	kill := r.disk.Kill()
	r.verify(kill, r.floor, "killed "+where)
	kill.Release()
	r.cut(where, func(*simdisk.SectorState) int { return simdisk.Durable }, false)
	r.cut(where, func(s *simdisk.SectorState) int { return len(s.Versions) - 1 }, true)
	random := rand.New(rand.NewPCG(uint64(r.f.call), uint64(len(r.trail))))
	r.cut(where, func(s *simdisk.SectorState) int { return random.IntN(len(s.Versions)+1) - 1 }, random.IntN(2) == 0)
}

// cut looks at what a power cut leaves that chooses for each sector its durable bytes or a version since; changed says
// whether lengths and names are as they are now.
func (r *faultRun) cut(where string, choose func(s *simdisk.SectorState) int, changed bool) {
	img := r.disk.Crash(func(_ int, s *simdisk.SectorState) int { return choose(s) }, nil, changed, changed)
	defer img.Release()
	r.verify(img, r.acked, fmt.Sprintf("power cut %s, %v", where, img.Plan()))
}

// verify opens an image, which must hold one of the states from floor on, writes to it, and opens it again.
func (r *faultRun) verify(img *simdisk.Disk, floor int, where string) {
	db, err := r.openMap(img, Options{Sync: SyncNever})
	if err != nil {
		r.fail("%s: open: %v", where, err)
	}
	got := r.contents(db)
	if r.match(got, floor) < 0 {
		r.fail("%s: the state is none of %d to %d\ngot %v\nnewest %v", where, floor, len(r.states)-1, brief(got), brief(r.states[len(r.states)-1]))
	}
	r.account(db, where)
	for i := range 4 {
		got[faultKey(i)] = fmt.Sprint(where, i)
		if err := db.Put([]byte(faultKey(i)), []byte(got[faultKey(i)])); err != nil {
			r.fail("%s: going on: %v", where, err)
		}
	}
	r.account(db, where+", gone on")
	if err := db.Close(); err != nil {
		r.fail("%s: close: %v", where, err)
	}
	if db, err = r.openMap(img, Options{}); err != nil {
		r.fail("%s: second open: %v", where, err)
	}
	if again := r.contents(db); !maps.Equal(again, got) {
		r.fail("%s: reopened: got %v, want %v", where, brief(again), brief(got))
	}
	r.account(db, where+", reopened")
	if err := db.Close(); err != nil {
		r.fail("%s: second close: %v", where, err)
	}
}

// probe checks that a failed map answers every call with ErrFailed and the cause, that no lock is stuck, and
// that what tells about it goes on.
func (r *faultRun) probe() {
	db, k := r.db, []byte(faultKey(0))
	none := func([]byte) error { return nil }
	begin := func(readOnly bool) error {
		_, err := db.BeginTx(context.Background(), &TxOptions{ReadOnly: readOnly})
		return err
	}
	calls := map[string]func() error{
		"Get":             func() error { _, err := db.Get(k); return err },
		"AppendGet":       func() error { _, err := db.AppendGet(nil, k); return err },
		"Has":             func() error { _, err := db.Has(k); return err },
		"GetFunc":         func() error { return db.GetFunc(k, none) },
		"GetMany":         func() error { return db.GetMany([][]byte{k}, func(int, []byte, error) error { return nil }) },
		"View":            func() error { return db.View(func(*Tx) error { return nil }) },
		"Update":          func() error { return db.Update(func(*Tx) error { return nil }) },
		"BeginTx to read": func() error { return begin(true) },
		"BeginTx":         func() error { return begin(false) },
		"Put":             func() error { return db.Put(k, nil) },
		"Delete":          func() error { return db.Delete(k) },
		"Sync":            db.Sync,
		"Checkpoint":      db.Checkpoint,
		"Compact":         func() error { return db.Compact(context.Background()) },
	}
	if tx := r.snap; tx != nil {
		calls["Tx.Get"] = func() error { _, err := tx.Get(k); return err }
		calls["Tx.Has"] = func() error { _, err := tx.Has(k); return err }
		calls["Tx.GetFunc"] = func() error { return tx.GetFunc(k, none) }
		calls["a loop in progress"] = func() error {
			if k, _, ok := r.next(); ok {
				return fmt.Errorf("it shows %s", k)
			}
			return tx.Err()
		}
		if !r.looping {
			delete(calls, "a loop in progress")
		}
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ErrFailed) || errors.Is(err, ErrFull) || !r.f.err.causes(err) {
			r.fail("%s of a failed map: %v", name, err)
		}
	}
	for name, mu := range map[string]*sync.Mutex{"turn": &db.turn, "checkpointMu": &db.checkpointMu, "syncMu": &db.dur.syncMu, "mu": &db.dur.mu} {
		if !mu.TryLock() {
			r.fail("%s is held by nobody who runs", name)
		}
		mu.Unlock()
	}
	if st := db.Stats(); st.Keys != db.Len() || db.Path() != crashPath {
		r.fail("Stats of a failed map: %+v", st)
	}
}
