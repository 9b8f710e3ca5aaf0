package mapfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// crashKeys are the keys of all histories.
var crashKeys = []string{"key0", "key1", "key2", "key3", "key4", "key5", "key6", "key7", "key8"}

// letters are the values of all histories: one letter, again and again.
var letters = func() (all [26]string) {
	for i := range all {
		all[i] = strings.Repeat(string(rune('a'+i)), 30000)
	}
	return all
}()

// op runs an operation of a script:
//
//	put K N         sets key K to N bytes
//	delete K
//	tx MODE A...    a commit of several records: K=N sets, K- deletes
//	load K=N...     a commit by BulkLoad, in which a key may occur more than once
//	unload K=N...   the same, but its function fails at the end
//	swap K N        put, by CompareAndSwap if the key is there, by GetOrPut if not
//	clear, checkpoint, compact, give, sync, reopen
//	hold, release   a snapshot
func (c *crashRun) op(text string) {
	f := strings.Fields(text)
	switch f[0] {
	case "put":
		c.put(crashKeys[mustAtoi(f[1])], c.value(mustAtoi(f[2])))
	case "delete":
		c.delete(crashKeys[mustAtoi(f[1])])
	case "tx":
		c.tx(map[string]SyncMode{"default": SyncDefault, "always": SyncAlways, "interval": SyncInterval, "never": SyncNever}[f[1]], c.changes(f[2:]))
	case "load", "unload":
		c.load(c.changes(f[1:]), f[0] == "unload")
	case "checkpoint":
		c.say("checkpoint")
		c.must(c.db.Checkpoint())
		c.acked = len(c.states) - 1
	case "compact":
		c.say("compact")
		c.must(c.db.Compact(context.Background()))
	case "give":
		c.say("give")
		c.must(giveSpace(c.db))
	case "sync":
		c.say("sync")
		c.must(c.db.Sync())
		c.acked = len(c.states) - 1
	case "reopen":
		c.release()
		c.say("reopen")
		c.must(c.db.Close())
		c.acked = len(c.states) - 1
		c.open()
	case "clear":
		c.say("clear")
		c.will(func(m kv) { clear(m) })
		c.must(c.db.Clear())
		c.returned(c.mode)
	case "swap":
		c.swap(crashKeys[mustAtoi(f[1])], c.value(mustAtoi(f[2])))
	case "hold":
		c.hold()
	case "release":
		c.release()
	default:
		c.fail("no operation %q", text)
	}
	c.checkHeld()
}

func mustAtoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// value is one of n bytes, unlike those of the operations before.
func (c *crashRun) value(n int) string { return letters[len(c.states)%len(letters)][:n] }

// change is one record of a transaction.
type change struct {
	key, value string
	deleted    bool
}

func (c *crashRun) changes(words []string) (all []change) {
	for _, w := range words {
		if k, ok := strings.CutSuffix(w, "-"); ok {
			all = append(all, change{key: crashKeys[mustAtoi(k)], deleted: true})
			continue
		}
		k, n, _ := strings.Cut(w, "=")
		all = append(all, change{key: crashKeys[mustAtoi(k)], value: c.value(mustAtoi(n))})
	}
	return all
}

func (c *crashRun) put(k, v string) {
	c.say("put %s %d", k, len(v))
	c.will(func(m kv) { m[k] = v })
	c.must(c.db.Put([]byte(k), []byte(v)))
	c.returned(c.mode)
}

// swap sets a key that has a value by CompareAndSwap, and one that has none by GetOrPut.
func (c *crashRun) swap(k, v string) {
	c.say("swap %s %d", k, len(v))
	was, there := c.last()[k]
	c.will(func(m kv) { m[k] = v })
	if there {
		swapped, err := c.db.CompareAndSwap([]byte(k), []byte(was), []byte(v))
		c.must(err)
		if !swapped {
			c.fail("%s: CompareAndSwap found another value", c.doing())
		}
	} else if _, loaded, err := c.db.GetOrPut([]byte(k), []byte(v)); loaded || err != nil {
		c.fail("%s: GetOrPut found %v, %v", c.doing(), loaded, err)
	}
	c.returned(c.mode)
}

func (c *crashRun) delete(k string) {
	c.say("delete %s", k)
	c.will(func(m kv) { delete(m, k) })
	c.must(c.db.Delete([]byte(k)))
	c.returned(c.mode)
}

// returned says that a commit of a mode has returned.
func (c *crashRun) returned(mode SyncMode) {
	if mode == SyncAlways || mode == SyncDefault && c.mode == SyncAlways {
		c.acked = len(c.states) - 1
	}
}

// tx is a commit of several records, synced or not whatever the map's mode.
func (c *crashRun) tx(sync SyncMode, changes []change) {
	c.say("tx %v %s", sync, describe(changes))
	tx, err := c.db.BeginTx(context.Background(), &TxOptions{Sync: sync})
	c.must(err)
	next := maps.Clone(c.last())
	for _, x := range changes {
		if x.deleted {
			delete(next, x.key)
			c.must(tx.Delete([]byte(x.key)))
		} else {
			next[x.key] = x.value
			c.must(tx.Put([]byte(x.key), []byte(x.value)))
		}
	}
	c.states = append(c.states, next)
	c.must(tx.Commit())
	c.returned(sync)
}

// errUnload is that of a load which is taken back.
var errUnload = errors.New("enough")

// load is a commit by BulkLoad, or one that is taken back, during which readers see the state before it.
func (c *crashRun) load(changes []change, fails bool) {
	c.say("load, failing %t: %s", fails, describe(changes))
	before := c.last()
	_, first := c.db.s.Tail.Position()
	keys := map[string]bool{}
	for _, x := range changes {
		keys[x.key] = true
	}
	if !fails {
		c.will(func(m kv) {
			for _, x := range changes {
				m[x.key] = x.value
			}
		})
	}
	err := c.db.BulkLoad(context.Background(), func(put func(key, value []byte) error) error {
		for _, x := range changes {
			c.must(put([]byte(x.key), []byte(x.value)))
			if got := c.contents(c.db); !maps.Equal(got, before) {
				c.fail("%s: readers see %v, want %v", c.doing(), brief(got), brief(before))
			}
			c.checkHeld()
		}
		if fails {
			return errUnload
		}
		return nil
	})
	switch {
	case !fails:
		c.must(err)
		c.returned(c.mode)
	case err != errUnload:
		c.must(cmp.Or(err, errors.New("the error of a load's function is lost")))
	}
	_, last := c.db.s.Tail.Position()
	c.occurs.note(occLoad, "", !fails && first != nil && first != last)
	c.occurs.note(occRepeat, "", !fails && len(keys) < len(changes))
	if got := c.contents(c.db); !maps.Equal(got, c.last()) {
		c.fail("%s: %v is there, want %v", c.doing(), brief(got), brief(c.last()))
	}
	c.check(c.db, "loaded")
}

func describe(changes []change) string {
	var b strings.Builder
	for _, x := range changes {
		if x.deleted {
			fmt.Fprintf(&b, "%s- ", x.key)
		} else {
			fmt.Fprintf(&b, "%s=%d ", x.key, len(x.value))
		}
	}
	return b.String()
}

// hold begins a snapshot.
func (c *crashRun) hold() {
	c.release()
	c.say("hold")
	tx, err := c.db.BeginTx(context.Background(), &TxOptions{ReadOnly: true})
	c.must(err)
	c.held, c.shown = tx, c.last()
}

// release ends the snapshot, if there is one: Close would wait for it.
func (c *crashRun) release() {
	if c.held == nil {
		return
	}
	c.checkHeld()
	c.say("release")
	c.must(c.held.Rollback())
	c.held = nil
}

// checkHeld reads the whole snapshot.
func (c *crashRun) checkHeld() {
	if c.held == nil {
		return
	}
	got := kv{}
	for k, v := range c.held.All() {
		got[string(k)] = string(v)
	}
	c.must(c.held.Err())
	if !maps.Equal(got, c.shown) {
		c.fail("%s: the snapshot shows %v, want %v", c.doing(), brief(got), brief(c.shown))
	}
}

// random runs a random operation.
func (c *crashRun) random() {
	switch x := c.r.IntN(43); {
	case x < 15:
		c.put(c.someKey(), c.someValue())
	case x < 17:
		c.swap(c.someKey(), c.someValue())
	case x < 18:
		c.op("clear")
	case x < 24:
		c.delete(c.someKey())
	case x < 30:
		c.tx(SyncMode(c.r.IntN(4)), c.someChanges())
	case x < 33:
		c.op("checkpoint")
		c.giveSome()
	case x < 35:
		c.op("compact")
		c.giveSome()
	case x < 36:
		c.op("sync")
	case x < 38:
		c.op("hold")
	case x < 41:
		c.load(c.somePuts(), c.r.IntN(2) == 0)
	default:
		c.op("reopen")
	}
	for c.db.background.due.Swap(false) {
		c.must(c.db.Checkpoint())
	}
	c.checkHeld()
}

// giveSome gives space back, in some histories.
func (c *crashRun) giveSome() {
	if c.seed%3 == 0 {
		c.op("give")
	}
}

// giveSpace does all at once what the background does to give space back: it moves index pages out of sparse arenas, and keeps no free unit.
func giveSpace(db *DB) error {
	db.checkpointMu.Lock()
	defer db.checkpointMu.Unlock()
	return db.guarded(func() error {
		err := db.tidy()
		db.s.Free.SparseArenas(-1)
		if err == nil {
			err = db.s.Reclaim()
		}
		if err != nil {
			return err
		}
		return db.giveBack(context.Background(), 0)
	})
}

func (c *crashRun) someKey() string { return crashKeys[c.r.IntN(len(crashKeys))] }

func (c *crashRun) someValue() string {
	n := []int{0, 5, 60, 900, 3000, 7000}[c.r.IntN(6)]
	if c.r.IntN(40) == 0 {
		n = 20000
	}
	return letters[c.r.IntN(len(letters))][:n]
}

func (c *crashRun) someChanges() (all []change) {
	for range 1 + c.r.IntN(4) {
		all = append(all, change{c.someKey(), c.someValue(), c.r.IntN(4) == 0})
	}
	return all
}

func (c *crashRun) somePuts() (all []change) {
	for range c.r.IntN(7) {
		all = append(all, change{key: c.someKey(), value: c.someValue()})
	}
	return all
}

// brief describes a state.
func brief(m kv) string {
	var b strings.Builder
	for _, k := range crashKeys {
		if v, ok := m[k]; ok {
			fmt.Fprintf(&b, " %s=%.1s*%d", k, v, len(v))
		}
	}
	return b.String()
}
