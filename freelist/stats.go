package freelist

import (
	"cmp"
	"slices"

	"github.com/mapfile-db/mapfile/pager"
)

// Stats counts pages, but for the last group of fields. Pages is the sum of
// Used, Free, Pending and Due.
type Stats struct {
	Pages      uint64 // of the file (see Allocator.Pages)
	Used       uint64 // live: fixed pages, index, images, segments
	Free       uint64
	FreeSingle uint64 // what AllocPage can give without growth: every free page, wherever it is
	Avoided    uint64 // of Free: in arenas that AllocPage and AllocRun avoid (see SparseArenas)
	Pending    uint64 // retired, a meta page may need them
	Due        uint64 // retired, waiting for readers or for the caller of TakeDue

	FreeUnits    uint64 // units wholly free
	FreeRuns     uint64 // runs that these form
	Arenas       uint64 // units, without unit 0
	SegmentUnits uint64 // units
}

// Stats counts the pages of the file. O(units).
func (a *Allocator) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := Stats{
		Pages: a.sp.pages, Free: a.sp.free, FreeSingle: a.sp.free,
		Pending: a.pending.pages, Due: a.due.pages + a.taken.pages,
		FreeUnits: a.sp.freeUnits, FreeRuns: uint64(len(a.sp.runs)),
	}
	st.Used = st.Pages - st.Free - st.Pending - st.Due
	for _, u := range a.sp.units[1:] {
		switch u.class {
		case classArena:
			st.Arenas++
		case classSegment:
			st.SegmentUnits++
		}
		if u.avoid {
			st.Avoided += uint64(u.free)
		}
	}
	return st
}

// State says what a page is.
type State uint8

const (
	StateUsed    State = iota // fixed, index, image, segment
	StateFree                 // can be allocated
	StatePending              // retired, a meta page may need it
	StateDue                  // retired, waiting for readers or for the caller of TakeDue
)

// Account calls visit for runs that hold every page of the file, ascending, each
// page once; a page that the allocator counted twice is visited twice. visit must
// not call the allocator.
func (a *Allocator) Account(visit func(r Run, state State)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.notUsed()
	at := uint64(0)
	for _, k := range known {
		if uint64(k.Start) > at {
			visit(Run{pager.PageNo(at), uint32(uint64(k.Start) - at)}, StateUsed)
		}
		visit(k.Run, k.state)
		at = max(at, k.end())
	}
	if at < a.sp.pages {
		visit(Run{pager.PageNo(at), uint32(a.sp.pages - at)}, StateUsed)
	}
}

// stated is a run in one state.
type stated struct {
	Run
	state State
}

// notUsed lists the free and the retired runs, ascending.
func (a *Allocator) notUsed() (out []stated) {
	for r := range a.sp.freeRuns() {
		out = append(out, stated{r, StateFree})
	}
	for _, e := range a.pending.all {
		out = append(out, stated{e.Run, StatePending})
	}
	for _, l := range []list{a.due, a.taken} {
		for _, e := range l.all {
			out = append(out, stated{e.Run, StateDue})
		}
	}
	slices.SortStableFunc(out, func(x, y stated) int { return cmp.Compare(x.Start, y.Start) })
	return out
}
