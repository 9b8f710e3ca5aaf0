package mapfile

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// logOrder visits the entries in the order of the file, segment by segment, so that a file larger than memory is read as
// the disk likes it. Of each key exactly one record counts: the last one that was appended up to the snapshot. From where
// the key's slot leads now, it is the first that the links to previous versions come to with such a
// sequence; a record that compaction has moved since is counted where it lay at the snapshot.
//
// Nearly always the slot leads to the record itself, or to one that was appended up to the snapshot as well, and then neither key
// nor version is looked at. At the end the number of keys at the snapshot, which is known, must have been seen: so damage
// of a record that nobody needs does no harm, and of one that is needed is found.
//
// With changes it visits what has changed since an earlier sequence: of each key whose newest version is newer that version, a tombstone, too.
// How many these are is not known, so a place where no record can be read is damage.
type logOrder struct {
	changes bool
	since   uint64 // with changes: the sequence that is known

	parts   []logPart
	begun   bool
	part    int    // being read
	next    uint64 // byte offset of the next record in it
	group   [stage]logRecord
	n, at   int // records in the group; the next of them to be taken
	window  *logWindow
	counted uint64 // keys that were met
	rotten  error  // the first place where no record could be read
	first   map[string]uint64
}

// logPart is a segment and what is known of it.
type logPart struct {
	tail.Part
	to  uint64 // byte offset where its records end, or the end of its pages, where a LINK comes before
	old bool   // nothing in it is newer than the snapshot
}

// logRecord is a record on its way through the stages.
type logRecord struct {
	r            tail.Record
	bucket, hash uint64
}

// begin lists what is to be read.
func (l *logOrder) begin(at *snapshot, tx *Tx) {
	generation := uint64(everything) // a writer's transaction sees no retired segment
	if tx.readOnly {
		generation = tx.generation
	}
	all := at.s.Tail.Parts(generation)
	order := make([]int, len(all))
	l.parts = make([]logPart, len(all))
	for i, p := range all {
		order[i] = i
		l.parts[i] = logPart{Part: p, to: p.End()}
		if p.Used > 0 {
			l.parts[i].to = p.Base() + p.Used
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(all[a].FirstLSN, all[b].FirstLSN) })
	for i, k := range order {
		p := &l.parts[k]
		// A segment ends in the commit in which the next begins.
		p.old = at.sequence == everything || i+1 < len(order) && l.parts[order[i+1]].FirstSeq <= at.sequence
		known := l.changes && i+1 < len(order) && l.parts[order[i+1]].FirstSeq <= l.since // nothing in it is newer
		if p.FirstLSN >= tx.logEnd || known {
			p.to = 0
		} else {
			p.to = min(p.to, p.Base()+tx.logEnd-p.FirstLSN)
		}
	}
	if uint64(at.s.P.Pages())*pageSize > tx.db.memory/2 {
		l.window = &logWindow{buf: make([]byte, windowBytes)}
	}
	l.begun = true
	l.enter(at, 0)
}

// enter goes on in a part, and asks the kernel for the one behind it.
func (l *logOrder) enter(at *snapshot, part int) {
	l.part = part
	if part >= len(l.parts) {
		return
	}
	l.next = l.parts[part].Base() + tail.SegmentHeader
	if l.window != nil {
		return // the kernel reads ahead of reads in order by itself
	}
	ahead := l.parts[part:min(part+3, len(l.parts))]
	if part > 0 {
		ahead = ahead[min(2, len(ahead)):]
	}
	for i := range ahead {
		if p := &ahead[i]; p.to > p.Base() {
			at.s.P.Advise(p.Base(), (p.to-p.Base()+pageSize-1)/pageSize*pageSize, pager.AdviseWillNeed)
		}
	}
}

// fill is source.fill.
func (l *logOrder) fill(at *snapshot, w *walker) (more bool, err error) {
	if !l.begun {
		l.begin(at, w.tx)
	}
	for !w.full() {
		if l.at == l.n {
			if !l.gather(at) {
				return false, l.complete(at, w.tx)
			}
			if err := l.judge(at); err != nil {
				return false, err
			}
		}
		for l.at < l.n && !w.full() {
			r := &l.group[l.at].r
			l.at++
			if r.Kind == 0 || w.own(r.Key) {
				continue // judged not to count, or shown with the writes
			}
			if err := w.take(at, r); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// gather reads the headers of the next records and comes to their buckets. It answers false at the end of the log.
func (l *logOrder) gather(at *snapshot) bool {
	l.n, l.at = 0, 0
	for l.n < stage && l.part < len(l.parts) {
		p, g := &l.parts[l.part], &l.group[l.n]
		if l.next+tail.HeaderBytes > p.to {
			l.enter(at, l.part+1)
			continue
		}
		ok, more := l.read(at, p, &g.r)
		if !more {
			break
		}
		if !ok {
			continue
		}
		l.next += g.r.Size()
		switch {
		case g.r.Kind == tail.KindLink:
			l.enter(at, l.part+1)
		case l.wants(&g.r) && g.r.Sequence <= at.sequence:
			l.n++
		}
	}
	return l.n > 0
}

// wants reports whether the walk shows such a record, if it counts.
func (l *logOrder) wants(r *tail.Record) bool {
	if l.changes {
		return (r.Kind == tail.KindPut || r.Kind == tail.KindDelete) && r.Visible() > l.since
	}
	return r.Kind == tail.KindPut
}

// read reads a record's header, in the window if there is one. more is false where the window moves on, and the group is to be judged before.
func (l *logOrder) read(at *snapshot, p *logPart, r *tail.Record) (ok, more bool) {
	w := l.window
	if w == nil {
		return l.parse(at, p, r), true
	}
	if tail.ParseBytes(w.from(l.next), l.next, p.Salt, p.End(), r) {
		return true, true
	}
	if l.n > 0 {
		return false, false
	}
	w.move(at.s.P, l.next, p.to)
	if tail.ParseBytes(w.from(l.next), l.next, p.Salt, p.End(), r) {
		return true, true
	}
	return l.parse(at, p, r), true // it is longer than the window, or damaged
}

// parse reads a record's header in the mapping. Where none can be read it goes on behind.
func (l *logOrder) parse(at *snapshot, p *logPart, r *tail.Record) bool {
	v := at.s.P.View()
	if tail.ParseHeader(v, l.next, p.Salt, p.End(), r) {
		return true
	}
	if at.s.MendRecord(l.next) && tail.ParseHeader(v, l.next, p.Salt, p.End(), r) {
		return true
	}
	if l.rotten == nil {
		l.rotten = at.s.Record(l.next, r, false)
	}
	l.next = tail.NextRecord(v, l.next, p.Salt, p.to)
	return false
}

// judge makes the kind of each record of the group that does not count zero.
func (l *logOrder) judge(at *snapshot) error {
	x := at.s.Index
	var homes [stage]uint64
	for i := range l.n {
		g := &l.group[i]
		var err error
		if g.bucket, g.hash, err = x.Find(at.root, xxhash.Sum64(g.r.Key), g.r.Key, at.mend); err != nil {
			return err
		}
	}
	for i := range l.n {
		homes[i] = x.HomeLine(l.group[i].bucket, l.group[i].hash)
	}
	at.s.P.View().Prefetch(homes[:l.n], 1)
	for i := range l.n {
		g := &l.group[i]
		counts, err := l.counts(at, g)
		if err != nil {
			return err
		}
		if counts {
			l.counted++
		} else {
			g.r.Kind = 0
		}
	}
	return nil
}

// counts reports whether a record is the last of its key that was appended up to the snapshot.
func (l *logOrder) counts(at *snapshot, g *logRecord) (bool, error) {
	if at.s.Index.LeadsTo(g.bucket, g.hash, g.r.Position) {
		return true, nil
	}
	moved := false
	for seen := 0; ; {
		var position uint64
		position, seen = at.s.Index.Next(g.bucket, g.hash, seen)
		switch {
		case position == 0 && !moved:
			return false, nil // its key's slot, if there is one, leads to a record up to the snapshot: another
		case position == 0:
			first, err := l.firstUpTo(at, g)
			return first == g.r.Position, err
		case position == g.r.Position: // since a moment ago
			return true, nil
		}
		moved = moved || !l.isOld(position)
	}
}

// isOld reports whether a record is known to have been appended up to the snapshot, by the segment that it lies in.
func (l *logOrder) isOld(position uint64) bool {
	page := pager.PageNo(position / pageSize)
	i, found := slices.BinarySearchFunc(l.parts, page, func(p logPart, page pager.PageNo) int { return cmp.Compare(p.Start, page) })
	if !found {
		i--
	}
	return i >= 0 && l.parts[i].old && position < l.parts[i].End()
}

// Chains of versions that are longer than longChain are remembered, so many of them at once.
const (
	longChain  = 8
	manyChains = 1 << 14
)

// firstUpTo is where the last record lies that was appended for a key up to the snapshot; 0 if there is none.
func (l *logOrder) firstUpTo(at *snapshot, g *logRecord) (uint64, error) {
	if position, ok := l.first[string(g.r.Key)]; ok {
		return position, nil
	}
	var r tail.Record
	var unread error // of a record that does not hold: another key's with the same tag, if this one's is found
	for seen := 0; ; {
		var position uint64
		if position, seen = at.s.Index.Next(g.bucket, g.hash, seen); position == 0 {
			return 0, unread
		}
		if err := at.s.Record(position, &r, at.mend); err != nil {
			unread = err
		} else if bytes.Equal(r.Key, g.r.Key) {
			break
		}
	}
	var way wayBack
	for r.Sequence > at.sequence {
		ok, err := at.back(&r, &way)
		if err != nil {
			return 0, err
		}
		if !ok {
			r.Position = 0
			break
		}
	}
	if way.steps > longChain {
		if l.first == nil || len(l.first) >= manyChains {
			l.first = map[string]uint64{}
		}
		l.first[string(g.r.Key)] = r.Position
	}
	return r.Position, nil
}

// complete makes sure that each key was met.
func (l *logOrder) complete(at *snapshot, tx *Tx) error {
	if l.changes {
		return l.rotten
	}
	if l.counted == tx.keys {
		return nil
	}
	if l.rotten != nil {
		return l.rotten
	}
	return &errs.CorruptError{Path: at.s.P.Path(), Structure: "count", Reason: fmt.Sprintf("%d keys are there, and the log has %d", tx.keys, l.counted)}
}
