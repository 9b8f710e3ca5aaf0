//go:build mapfile_debug

package mapfile

import (
	"fmt"
	"maps"

	"github.com/mapfile-db/mapfile/internal/simdisk"
)

// event is called before every store and sync.
func (h *lifeHistory) event(e simdisk.Event) {
	if h.inside || h.image != nil {
		return
	}
	h.inside = true
	defer func() { h.inside = false }()
	if e.Count >= h.cutAt {
		h.cut(e)
		return
	}
	if h.db == nil || h.opening {
		return
	}
	if h.row.readers {
		h.look(e)
	}
	if h.row.beside && e.Kind != simdisk.EventLength && h.r.IntN(3) == 0 && h.db.turn.TryLock() {
		h.db.turn.Unlock()
		h.comeBetween()
	}
}

// comeBetween runs a writer's commit between two steps of a checkpoint.
func (h *lifeHistory) comeBetween() {
	if h.db.checkpointMu.TryLock() {
		h.db.checkpointMu.Unlock()
		return // none is running
	}
	if h.db.closed.Load() || h.db.s.P.Pages() > 200 {
		return
	}
	h.say("commit beside a checkpoint")
	h.require(h.commit([]lifeWrite{h.write(), h.write()}, SyncNever), "commit beside a checkpoint")
}

// cut chooses what the power cut, or the kill, leaves.
func (h *lifeHistory) cut(e simdisk.Event) {
	h.imageMin, h.imageAck = h.acked, h.acked
	kind := h.r.IntN(6)
	h.say("cut at %v, kind %d", e, kind)
	if kind == 0 {
		h.image, h.imageMin = h.disk.Kill(), max(h.acked, h.returned)
		return
	}
	h.image = h.disk.Crash(func(_ int, s *simdisk.SectorState) int {
		switch newest := len(s.Versions) - 1; {
		case kind == 1:
			return simdisk.Durable
		case kind == 2:
			return newest
		default:
			return h.r.IntN(newest+2) - 1
		}
	}, nil, kind == 2 || kind > 2 && h.r.IntN(2) == 0, kind == 2 || kind > 2 && h.r.IntN(2) == 0)
}

// look reads as another goroutine could just now: a commit is seen whole or not at all, and not before it is durable if
// that was demanded.
func (h *lifeHistory) look(e simdisk.Event) {
	got := lifeState{}
	keys := make([][]byte, lifeKeys)
	for i := range keys {
		keys[i] = fmt.Append(nil, "key", i)
	}
	if h.db.closed.Load() || h.db.s.P.Failed() != nil {
		return
	}
	h.require(h.db.GetMany(keys, func(i int, v []byte, err error) error {
		if err == ErrNotFound {
			return nil
		}
		got[string(keys[i])] = string(v)
		return err
	}), "read at %v", e)
	for i := h.lo; i <= h.hi; i++ {
		if maps.Equal(got, h.states[i]) {
			h.lookAgain(e, got, keys)
			return
		}
	}
	h.fail("at %v readers see %v; the states are %v and %v", e, h.brief(got), h.brief(h.states[h.lo]), h.brief(h.states[h.hi]))
}

// lookAgain reads without a pin what was read with one.
func (h *lifeHistory) lookAgain(e simdisk.Event, want lifeState, keys [][]byte) {
	for _, k := range keys {
		v, err := h.db.Get(k)
		if w, ok := want[string(k)]; ok != (err == nil) || !ok && err != ErrNotFound || string(v) != w {
			h.fail("at %v: Get(%s) is %d bytes, %v; GetMany saw %d bytes, %v", e, k, len(v), err, len(w), ok)
		}
	}
}
