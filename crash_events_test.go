package mapfile

import (
	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// The names of what can occur in a history.
const (
	occCreated    = "creation"
	occSplit      = "split"
	occMerge      = "merge of buckets"
	occGrowth     = "growth"
	occReuse      = "reuse of freed pages"
	occMeta0      = "meta page 0 by a checkpoint"
	occMeta1      = "meta page 1 by a checkpoint"
	occLink       = "segment change"
	occOverwrite  = "overwrite"
	occDelete     = "delete"
	occMulti      = "commit of several records"
	occMixed      = "synced and unsynced commits in one life"
	occCheckpoint = "checkpoint"
	occMoved      = "moved record"
	occRetire     = "retired segment"
	occDrop       = "dropped tombstone"
	occPad        = "padding"
	occRemap      = "end of the reserved address space"
	occReplay     = "reopening"
	occLoad       = "load that changes segments"
	occRepeat     = "key put twice in a load"
	occAbort      = "load that is taken back"
	occHeldAbort  = "snapshot across a load that is taken back"
	occHeldSeal   = "snapshot across a checkpoint"
	occHeldMoved  = "snapshot across a compaction"
	occHeldSplit  = "snapshot across a split"
	occHeldMerge  = "snapshot across a merge of buckets"
	occHeldOver   = "snapshot across an overwrite"
	occPunch      = "punched unit"
	occCut        = "cut file"
	occHeldCut    = "snapshot across a cut"
)

// allOccurrences is what the scripted histories must show together.
var allOccurrences = []string{
	occCreated, occSplit, occGrowth, occReuse, occMeta0, occMeta1, occLink, occOverwrite, occDelete, occMulti, occMixed, occCheckpoint, occMoved,
	occRetire, occDrop, occPad, occRemap, occReplay, occHeldSeal, occHeldMoved, occHeldSplit, occHeldOver,
	occPunch, occCut, occHeldCut, occMerge, occHeldMerge,
	occLoad, occRepeat, occAbort, occHeldAbort,
}

// occurrences counts what happens in a history, seen from the disk and, between operations, from the open map.
type occurrences struct {
	count map[string]int
	was   looked
	syncs int    // since the last look
	metas [2]int // stores to the meta pages since the last look

	counted map[uint64]uint64 // by salt of a segment: bytes whose records are counted
	used    map[uint64]bool   // pages that were in use
	freed   map[uint64]bool   // pages that were in use, and then not
}

// looked is what the last look saw.
type looked struct {
	db               *DB
	held             *Tx
	view             *pager.View
	pages, number    uint64
	punched          uint64 // pages put aside that are holes
	lsn              uint64
	buckets          uint32
	begun            bool // the life
	synced, unsynced bool // it has commits with a sync, and without
}

func newOccurrences() occurrences {
	return occurrences{count: map[string]int{}, counted: map[uint64]uint64{}, used: map[uint64]bool{}, freed: map[uint64]bool{}}
}

// event looks at an event of the disk.
func (o *occurrences) event(e simdisk.Event) {
	switch {
	case e.Kind == simdisk.EventName:
		o.count[occCreated]++
	case e.Kind == simdisk.EventSync:
		o.syncs++
	case e.Kind == simdisk.EventStore && e.Length <= pager.PageSize && e.Offset%pager.PageSize == 0 && e.Offset <= pager.PageSize:
		o.metas[e.Offset/pager.PageSize]++
	}
}

// observe looks at the map behind an operation.
func (c *crashRun) observe() {
	o, s := &c.occurs, c.db.s
	now := looked{db: c.db, held: c.held, view: s.P.View(), pages: s.P.Pages(), punched: punchedPages(s), number: s.Meta().Number, lsn: s.Tail.LSN, buckets: s.Index.Buckets}
	_, now.begun = s.Life()
	if o.was.db == c.db {
		now.synced, now.unsynced = o.was.synced, o.was.unsynced
		o.compare(&now)
	} else {
		o.note(occReplay, "", o.was.db != nil)
		clear(o.used)
		clear(o.freed)
	}
	c.countRecords()
	c.countPages()
	o.was, o.syncs, o.metas = now, 0, [2]int{}
}

// punchedPages counts the pages that were given back and not cut off.
func punchedPages(s *recovery.State) (n uint64) {
	for at := uint64(s.P.Geo.UnitPages); at < s.P.Pages(); at += uint64(s.P.Geo.UnitPages) {
		if s.P.Punched(pager.PageNo(at), 1) {
			n += uint64(s.P.Geo.UnitPages)
		}
	}
	return n
}

// note counts what occurred, and that it did while a snapshot was held.
func (o *occurrences) note(name, held string, occurred bool) {
	if !occurred {
		return
	}
	o.count[name]++
	if o.was.held != nil && held != "" {
		o.count[held]++
	}
}

// compare counts what is different from the last look.
func (o *occurrences) compare(now *looked) {
	o.note(occRemap, "", now.view != o.was.view)
	o.note(occGrowth, "", now.pages > o.was.pages)
	o.note(occCut, occHeldCut, now.pages < o.was.pages)
	o.note(occPunch, "", now.punched > o.was.punched)
	o.note(occSplit, occHeldSplit, now.buckets > o.was.buckets)
	o.note(occMerge, occHeldMerge, now.buckets < o.was.buckets)
	if o.was.begun { // the beginning of a life writes both meta pages too
		o.note(occCheckpoint, occHeldSeal, now.number > o.was.number)
		o.note(occMeta0, "", o.metas[0] > 0)
		o.note(occMeta1, "", o.metas[1] > 0)
	}
	if now.lsn > o.was.lsn {
		now.synced, now.unsynced = now.synced || o.syncs > 0 && o.was.begun, now.unsynced || o.syncs == 0
	}
	o.note(occMixed, "", now.synced && now.unsynced)
}

// countRecords counts the records that were appended since the last look, by what they are.
func (c *crashRun) countRecords() {
	o, s := &c.occurs, c.db.s
	for _, g := range s.Tail.Segments() {
		var r tail.Record
		for at := g.Base() + max(tail.SegmentHeader, o.counted[g.Salt]); at < g.Base()+g.Used; at += r.Size() {
			if !tail.ParseHeader(s.P.View(), at, g.Salt, g.End(), &r) {
				c.fail("the record at %d does not hold", at)
			}
			o.record(&r)
		}
		o.counted[g.Salt] = g.Used
	}
}

func (o *occurrences) record(r *tail.Record) {
	put := r.Kind == tail.KindPut && r.Flags&tail.FlagMoved == 0
	o.note(occOverwrite, occHeldOver, put && r.Flags&tail.FlagNew == 0)
	o.note(occDelete, "", r.Kind == tail.KindDelete && r.Flags&tail.FlagMoved == 0)
	o.note(occMulti, "", put && r.Flags&tail.FlagFirst != 0 && r.Flags&tail.FlagLast == 0)
	o.note(occMoved, "", r.Flags&tail.FlagMoved != 0 && r.Kind != tail.KindDrop)
	o.note(occRetire, occHeldMoved, r.Kind == tail.KindRetire)
	o.note(occDrop, "", r.Kind == tail.KindDrop)
	o.note(occLink, "", r.Kind == tail.KindLink)
	o.note(occPad, "", r.Kind == tail.KindPad)
	o.note(occAbort, occHeldAbort, r.Kind == tail.KindAbort)
}

// countPages counts pages that are used again.
func (c *crashRun) countPages() {
	o := &c.occurs
	c.db.s.Free.Account(func(r freelist.Run, state freelist.State) {
		for p := uint64(r.Start); p < uint64(r.Start)+uint64(r.Pages); p++ {
			switch {
			case state == freelist.StateUsed:
				o.note(occReuse, "", o.freed[p])
				o.used[p], o.freed[p] = true, false
			case o.used[p]:
				o.freed[p] = true
			}
		}
	})
}
