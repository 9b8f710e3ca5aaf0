package freelist

import (
	"slices"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
)

// Kind says what a retired run was.
type Kind uint8

const (
	KindPage    Kind = iota // index or image pages
	KindSegment             // a segment
)

// Entry is a retired run.
type Entry struct {
	Run
	Kind       Kind
	once       bool   // allocated and retired in one epoch: no meta page knows it
	Epoch      uint32 // in which it was retired
	EndLSN     uint64 // of a segment: the LSN of its end
	Generation uint64 // when it was retired; 0 if it comes from an image
}

// Meta is what the rule of reclamation asks of a meta page.
type Meta struct {
	Epoch uint32
	LSN   uint64 // the start of its replay
}

// dueBy reports whether neither meta page needs the entry. A page retired in
// epoch x is reachable from checkpoints up to x. A segment is so too, but the
// older meta page does without it as soon as its replay starts behind it, since
// replay finds slots by position and reads no older record.
func (e *Entry) dueBy(newer, older Meta) bool {
	if newer.Epoch <= e.Epoch {
		return false
	}
	if e.Kind == KindPage && sabotage.Is(sabotage.ReuseOneEarly) || e.Kind == KindSegment && sabotage.Is(sabotage.SegmentOneEarly) {
		return true
	}
	return older.Epoch > e.Epoch || e.Kind == KindSegment && older.LSN >= e.EndLSN
}

// Retire takes an allocated run out of the live state. allocatedIn is the epoch
// in which it was allocated: pages allocated and retired in one epoch are due at
// once, everything else is pending until Due finds it.
func (a *Allocator) Retire(e Entry, allocatedIn uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	debug.Assert(!debug.On || a.inUse(e.Run), "freelist: retired a run that is not in use: %v", e.Run)
	e.once = e.Kind == KindPage && allocatedIn == e.Epoch
	if e.once && sabotage.Is(sabotage.FreeAtOnce) {
		for p := range a.sp.parts(e.Run) {
			a.sp.give(p)
		}
		return
	}
	if e.once {
		a.due.push(e)
		a.dueMin = min(a.dueMin, e.Generation)
	} else {
		a.pending.push(e)
	}
}

// inUse reports whether the run lies in the file and no page of it is free.
func (a *Allocator) inUse(r Run) bool {
	if r.Start < pager.FirstPage || r.Pages == 0 || r.end() > a.sp.pages {
		return false
	}
	for p := range a.sp.parts(r) {
		u := a.sp.units[p.unit]
		if u.class == classFree || u.slot != noSlot && a.sp.bitmap(u.slot).count(p.off, p.n) > 0 {
			return false
		}
	}
	return true
}

// Due makes those of the pending entries due that neither of the two meta
// pages, both durable, needs. Call it when a checkpoint's meta page is durable.
func (a *Allocator) Due(newer, older Meta) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.pending.move(func(e *Entry) bool { return e.dueBy(newer, older) }, &a.due) {
		a.dueMin = min(a.dueMin, e.Generation)
	}
}

// TakeDue hands over the due entries whose generation is below oldestPin, the
// smallest generation that a reader may have pinned (above every generation
// that retired anything if there is no pin; always above 0). The caller zeroes
// the headers of segments and then calls Free for each, best in this order.
func (a *Allocator) TakeDue(oldestPin uint64) []Entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dueMin >= oldestPin {
		return nil
	}
	out := a.due.move(func(e *Entry) bool { return e.Generation < oldestPin }, &a.taken)
	a.dueMin = noEntry
	for i := range a.due.all {
		a.dueMin = min(a.dueMin, a.due.all[i].Generation)
	}
	return slices.Clone(out)
}

// Free makes the pages of a run free: one that TakeDue handed over, or one that
// was allocated and never used. Of a segment outside unit 0 only whole units can
// be freed. Freeing a free page is a mistake of the caller.
func (a *Allocator) Free(r Run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	debug.Assert(!debug.On || a.inUse(r), "freelist: freed a run that is not in use: %v", r)
	if t := a.taken.all; len(t) > 0 && t[0].Run == r {
		a.taken.dropFirst()
	} else {
		a.taken.cut(r)
	}
	for p := range a.sp.parts(r) {
		debug.Assert(p.unit == 0 || p.n == a.g.UnitPages || a.sp.units[p.unit].class != classSegment,
			"freelist: freed a part of a segment's unit: %v", r)
		a.sp.give(p)
	}
}

// MarkUsed takes exactly this run out of free space and out of the retired
// entries, which are split where they overlap it in part: recovery does so with
// the segments that it walked. Whole units become a segment's, single pages of
// a free unit make it an arena. It returns how many pages were not in use
// before; pages behind Pages are not counted and not taken.
func (a *Allocator) MarkUsed(r Run) uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.pending.cut(r) + a.due.cut(r) + a.taken.cut(r)
	segment := uint32(r.Start)%a.g.UnitPages == 0 && r.Pages%a.g.UnitPages == 0
	for p := range a.sp.parts(r) {
		n += a.sp.claim(p)
		if segment && p.unit != 0 {
			a.sp.units[p.unit].class = classSegment
		}
	}
	return n
}
