//go:build linux || darwin || freebsd

package mapfile_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// killGroup is how many keys one transaction of the kill test writes, each with the same counter.
const killGroup = 16

// killMixes say how a child writes until it is killed.
var killMixes = map[string]struct {
	sync        mapfile.SyncMode
	transaction bool
}{
	"SyncNever, single puts":    {mapfile.SyncNever, false},
	"SyncNever, transactions":   {mapfile.SyncNever, true},
	"SyncAlways, single puts":   {mapfile.SyncAlways, false},
	"SyncAlways, transactions":  {mapfile.SyncAlways, true},
	"SyncInterval, single puts": {mapfile.SyncInterval, false},
}

func killKey(slot int) []byte { return fmt.Appendf(nil, "slot %03d", slot) }

// killValue is what write number n puts into a slot: it names both, and its length varies.
func killValue(slot int, n uint64) []byte {
	v := bytes.Repeat([]byte{byte(n)}, 16+int(n*31%700))
	binary.LittleEndian.PutUint64(v, n)
	binary.LittleEndian.PutUint64(v[8:], uint64(slot))
	return v
}

// killSlots is the number of keys, and deleted the rule by which write n removes its key instead.
const killSlots = 10 * killGroup

func killDeletes(n uint64) bool { return n%11 == 0 }

func init() {
	// write numbers its writes from args[2] on and says each number when the write has returned.
	childRoles["write"] = func(out io.Writer, args []string) error {
		signal.Ignore(syscall.SIGPIPE)
		mix := killMixes[args[1]]
		from, err := strconv.ParseUint(args[2], 10, 64)
		if err != nil {
			return err
		}
		db, err := mapfile.Open(args[0], &mapfile.Options{Sync: mix.sync, SyncEvery: 5 * time.Millisecond})
		if err != nil {
			return err
		}
		for n := from; ; n++ {
			if err := killWrite(db, n, mix.transaction); err != nil {
				return err
			}
			if n%200 == 199 {
				if err := db.Checkpoint(); err != nil {
					return err
				}
			}
			if _, err := fmt.Fprintln(out, n); err != nil {
				return nil // the parent has gone
			}
		}
	}
}

// killWrite is write number n: one slot, or a group of them in one step.
func killWrite(db *mapfile.DB, n uint64, transaction bool) error {
	slot := int(n % killSlots)
	if !transaction {
		if killDeletes(n) {
			return db.Delete(killKey(slot))
		}
		return db.Put(killKey(slot), killValue(slot, n))
	}
	return db.Update(func(tx *mapfile.Tx) error {
		for _, slot := range killGroupOf(n) {
			if err := tx.Put(killKey(slot), killValue(slot, n)); err != nil {
				return err
			}
		}
		return nil
	})
}

func killGroupOf(n uint64) []int {
	slots := make([]int, killGroup)
	for i := range slots {
		slots[i] = int(n%10)*killGroup + i
	}
	return slots
}

// killModel gives the state after write number n of all writes from 1 on: per slot the last
// write, 0 for none.
func killModel(n uint64, transaction bool) map[int]uint64 {
	state := map[int]uint64{}
	for i := uint64(max(1, int64(n)-killSlots)); i <= n; i++ {
		switch {
		case transaction:
			for _, slot := range killGroupOf(i) {
				state[slot] = i
			}
		case killDeletes(i):
			delete(state, int(i%killSlots))
		default:
			state[int(i%killSlots)] = i
		}
	}
	return state
}

// TestKill kills a writing child again and again. What is there after each reopening must be the state
// after the last acknowledged write, or after the one that was running (P3), and the next child goes on from there.
func TestKill(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for name, mix := range killMixes {
		t.Run(name, func(t *testing.T) {
			path, next := newPath(t), uint64(1)
			for cycle := range 4 {
				acked := killOnce(t, path, name, next, time.Duration(20+r.IntN(80))*time.Millisecond)
				db := openTest(t, path, &mapfile.Options{ReadOnly: cycle%2 == 1})
				next = requireKilled(t, db, acked, mix.transaction, seed) + 1
				require.NoError(t, db.Close())
			}
			require.Greater(t, next, uint64(20), "too little was written to mean anything")
		})
	}
}

// killOnce runs a child for a while, kills it while it writes, and gives the last write it acknowledged.
func killOnce(t *testing.T, path, mix string, from uint64, d time.Duration) uint64 {
	t.Helper()
	c := startChild(t, "write", path, mix, strconv.FormatUint(from, 10))
	acked := from - 1
	first := c.line() // the map is open, and a write has returned
	require.Equal(t, strconv.FormatUint(from, 10), first)
	acked++
	kill := time.AfterFunc(d, func() { _ = c.cmd.Process.Kill() })
	defer kill.Stop()
	for _, line := range c.rest() {
		require.False(t, strings.HasPrefix(line, "error"), line)
		if n, err := strconv.ParseUint(line, 10, 64); err == nil && n == acked+1 {
			acked = n // (a line may be cut off by the kill)
		}
	}
	state, err := c.cmd.Process.Wait()
	require.NoError(t, err)
	require.Equal(t, os.Kill, state.Sys().(syscall.WaitStatus).Signal(), "it was killed and did not end by itself")
	return acked
}

// requireKilled compares a reopened map with the model, and gives the number of the last write that it holds.
func requireKilled(t *testing.T, db *mapfile.DB, acked uint64, transaction bool, seed uint64) uint64 {
	t.Helper()
	got := map[int]uint64{}
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for k, v := range tx.All() {
			var slot int
			if _, err := fmt.Sscanf(string(k), "slot %03d", &slot); err != nil {
				return fmt.Errorf("key %q: %w", k, err)
			}
			n := binary.LittleEndian.Uint64(v)
			if !bytes.Equal(v, killValue(slot, n)) {
				return fmt.Errorf("slot %d holds no value of write %d", slot, n)
			}
			got[slot] = n
		}
		return tx.Err()
	}), "seed %d", seed)
	require.EqualValues(t, len(got), db.Len(), "seed %d", seed)
	for n := acked; n <= acked+1; n++ {
		if fmt.Sprint(got) == fmt.Sprint(killModel(n, transaction)) {
			return n
		}
	}
	require.Equal(t, killModel(acked, transaction), got, "seed %d: neither the state after write %d nor after the next", seed, acked)
	return 0
}
