//go:build mapfile_debug

package mapfile

import (
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// raw reads the log as a salvage does, which has no index: what is deleted must stay deleted. (While this life has
// not begun, nothing in the file tells what an open cuts off.)
func (h *lifeHistory) raw() {
	if _, begun := h.db.s.Life(); !begun {
		return
	}
	for k, r := range rawNewest(h.db) {
		if _, ok := h.last()[k]; !ok && r.kind == tail.KindPut {
			h.fail("key %s is deleted, and a scan of the log finds it at %d", k, r.position)
		}
	}
}

// rawRecord is a record as a scan of the log finds it.
type rawRecord struct {
	kind              tail.Kind
	visible, sequence uint64
	position          uint64
}

// rawNewest finds the newest record of each key under every segment header that holds; of a life only those below the
// first sequence of any later one, because what lies behind was cut off.
func rawNewest(db *DB) map[string]rawRecord {
	var all []tail.Segment
	v, limit := db.s.P.View(), db.s.P.Pages()*pager.PageSize
	for p := pager.FirstPage; uint64(p) < db.s.P.Pages(); p++ {
		if g, ok := tail.ReadSegment(v, p, limit, db.s.Meta().UUID); ok {
			all = append(all, g)
		}
	}
	aborted := map[[2]uint64]bool{}
	for _, g := range all {
		eachRaw(v, &g, limit, func(r *tail.Record) {
			if r.Kind == tail.KindAbort {
				aborted[[2]uint64{uint64(g.Life), r.Sequence}] = true
			}
		})
	}
	newest := map[string]rawRecord{}
	for _, g := range all {
		below := uint64(tail.MaxSequence)
		for _, o := range all {
			if o.Life > g.Life {
				below = min(below, o.FirstSeq)
			}
		}
		eachRaw(v, &g, limit, func(r *tail.Record) {
			was, known := newest[string(r.Key)]
			isKey := r.Kind == tail.KindPut || r.Kind == tail.KindDelete || r.Kind == tail.KindDrop
			if r.Sequence >= below || !isKey || aborted[[2]uint64{uint64(g.Life), r.Sequence}] {
				return
			}
			if !known || r.Visible() > was.visible || r.Visible() == was.visible && r.Sequence > was.sequence {
				newest[string(r.Key)] = rawRecord{r.Kind, r.Visible(), r.Sequence, r.Position}
			}
		})
	}
	return newest
}

// eachRaw visits the records of a segment as far as they hold.
func eachRaw(v *pager.View, g *tail.Segment, limit uint64, visit func(r *tail.Record)) {
	var r tail.Record
	for at := g.Base() + tail.SegmentHeader; tail.ParseHeader(v, at, g.Salt, min(g.End(), limit), &r); at += r.Size() {
		visit(&r)
	}
}
