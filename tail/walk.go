package tail

import (
	"encoding/binary"

	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
)

// Start says where in the log a walk begins.
type Start struct {
	Segment  pager.PageNo
	Salt     uint64
	Position uint64
	LSN      uint64
	Sequence uint64 // of the last commit before
}

// Walked is a record that a walk accepted, without its bytes.
type Walked struct {
	Position uint64
	Size     uint64
	Segment  int // index in Walk.Segments
}

// Walk reads the log from a start, storing and allocating nothing: what may be
// accepted, where it ends, and the evidence of how far it was synced.
// (Segments grows while walking: elements are addressed by index across an append.)
type Walk struct {
	Segments []Segment // in order, as far as the walk came
	Records  uint64    // of whole commits; LINK and PAD are not among them
	End      Start     // behind the last whole commit; Segment and Salt of where that is
	EndIndex int       // index in Segments of End
	Refused  uint64    // X: the LSN that was refused
	RefPos   uint64    // its byte offset
	Mark     uint64    // D: the highest mark found, the start's LSN included
	Aborted  map[uint64]bool
	Damaged  []Walked // records below the mark whose value does not hold but whose header does
	Gaps     []Gap    // what NewWalkPast went past; those behind End are lost, too
	start    Start
}

// walker is the state of a walk.
type walker struct {
	v        *pager.View
	limit    uint64 // bytes of the file
	uuid     [16]byte
	w        *Walk
	inCommit bool
	open     uint64 // records of the commit not yet whole
	openFrom int    // index of the segment that holds its first
	openAt   Start  // before its first
	seg      *Segment
	at       Start // next byte to read
	mend     func(position, salt, limit uint64) bool
}

// NewWalk walks the log. limit is the length of the file in bytes, mark the highest
// mark known beforehand (meta page, mark page). known is the segment of the start as
// the segment table has it, nil if there is none: then there is no log to walk. mend, if not nil, is asked to
// take back a flipped bit in a record below the mark that does not hold; true: look again.
func NewWalk(v *pager.View, limit uint64, uuid [16]byte, from Start, mark uint64, known *Segment, mend func(position, salt, limit uint64) bool) *Walk {
	x := newWalker(v, limit, uuid, from, mark, known, mend)
	if known != nil {
		x.run(true)
	}
	return x.w
}

func newWalker(v *pager.View, limit uint64, uuid [16]byte, from Start, mark uint64, known *Segment, mend func(position, salt, limit uint64) bool) *walker {
	w := &Walk{Mark: max(mark, from.LSN), Aborted: map[uint64]bool{}, start: from, End: from, Refused: from.LSN, RefPos: from.Position}
	x := &walker{v: v, limit: limit, uuid: uuid, w: w, at: from, mend: mend}
	if known != nil {
		// The table repeats the header, which may be damaged.
		w.Segments = []Segment{*known}
		x.seg = &w.Segments[0]
	}
	return x
}

// run takes records up to the one that is refused. With witnesses it looks for marks behind that.
func (x *walker) run(witnesses bool) {
	for {
		for x.step() {
		}
		x.w.Refused, x.w.RefPos = x.at.LSN, x.at.Position
		if witnesses && !sabotage.Is(sabotage.WitnessIgnored) {
			x.witnesses()
		}
		// With what a witness told, a record whose value alone is damaged may be known to lie below the mark.
		if x.w.Mark <= x.at.LSN || !x.step() {
			return
		}
	}
}

// enter goes on in the segment at a page, if its header holds and has the salt.
func (x *walker) enter(page pager.PageNo, salt uint64) bool {
	if uint64(page)*pager.PageSize >= x.limit {
		return false
	}
	s, ok := ReadSegment(x.v, page, x.limit, x.uuid)
	if !ok || s.Salt != salt {
		return false
	}
	for i := range x.w.Segments {
		if x.w.Segments[i].Start == page {
			return false // a log never comes back to a segment
		}
	}
	x.w.Segments = append(x.w.Segments, s)
	x.seg = &x.w.Segments[len(x.w.Segments)-1]
	return true
}

// read reads the record at the walk's place. Below the mark it should hold, and a flipped bit is taken back.
func (x *walker) read(r *Record) (header, value bool) {
	for again := x.mend != nil && x.w.Mark > x.at.LSN; ; again = false {
		header = x.at.Position+HeaderBytes <= x.seg.End() && ParseHeader(x.v, x.at.Position, x.seg.Salt, x.seg.End(), r)
		value = header && r.ValueHolds(r.Value)
		if value || !again || !x.mend(x.at.Position, x.seg.Salt, x.seg.End()) {
			return header, value
		}
	}
}

// step takes one record; false where the walk ends.
func (x *walker) step() bool {
	var r Record
	header, value := x.read(&r)
	if !header {
		return false
	}
	if !value {
		if x.w.Mark <= x.at.LSN || r.Kind == KindLink || r.Kind == KindRetire {
			return false
		}
		// The header is whole and below the mark: only the value is damaged.
		x.w.Damaged = append(x.w.Damaged, Walked{r.Position, r.Size(), len(x.w.Segments) - 1})
	}
	if r.Kind == KindLink || r.Kind == KindPad {
		return x.pass(&r)
	}
	first := r.Flags&FlagFirst != 0
	if first && (x.inCommit || r.Sequence != x.at.Sequence+1) || !first && (!x.inCommit || r.Sequence != x.at.Sequence) {
		return false
	}
	if first {
		x.openFrom, x.openAt = len(x.w.Segments)-1, x.at
	}
	x.at.Sequence, x.inCommit = r.Sequence, true
	if r.Flags&FlagMark != 0 {
		x.w.Mark = max(x.w.Mark, r.Extra)
	}
	if r.Kind == KindAbort {
		x.w.Aborted[r.Sequence] = true
	}
	x.open++
	x.advance(r.Size())
	if last := r.Flags&FlagLast != 0; last || sabotage.Is(sabotage.HalfCommits) {
		x.inCommit = !last
		x.whole()
		x.w.Records += x.open
		x.open = 0
		x.w.End, x.w.EndIndex = x.at, len(x.w.Segments)-1
	}
	return true
}

// whole notes that the commit whose last record was just read is whole, in the segments that hold it.
func (x *walker) whole() {
	for i := x.openFrom; i < len(x.w.Segments); i++ {
		x.w.Segments[i].LastSeq = x.at.Sequence
	}
}

func (x *walker) advance(n uint64) {
	x.at.Position += n
	x.at.LSN += n
	x.seg.Used = x.at.Position - x.seg.Base()
}

// pass goes over a LINK or PAD, which bear the sequence of the record before them.
func (x *walker) pass(r *Record) bool {
	if r.Sequence != x.at.Sequence {
		return false
	}
	if r.Kind == KindPad {
		x.advance(r.Size())
		return true
	}
	page, salt, ok := linkTarget(r)
	base := x.seg.Base()
	if !ok || !x.enter(page, salt) {
		return false
	}
	x.w.Segments[len(x.w.Segments)-2].Used = x.at.Position + r.Size() - base
	x.at.LSN += r.Size() + SegmentHeader
	x.at.Segment, x.at.Salt = x.seg.Start, x.seg.Salt
	x.at.Position = x.seg.Base() + SegmentHeader
	return true
}

func linkTarget(r *Record) (page pager.PageNo, salt uint64, ok bool) {
	if len(r.Value) != 16 {
		return 0, 0, false
	}
	n := binary.LittleEndian.Uint64(r.Value)
	return pager.PageNo(n), binary.LittleEndian.Uint64(r.Value[8:]), n <= pager.MaxPages
}

// witnesses looks behind the refused place, in the same use of the segment and along
// a LINK found there, for whole records that carry a mark.
func (x *walker) witnesses() {
	seen := map[pager.PageNo]bool{x.seg.Start: true}
	seg, from := *x.seg, x.at.Position
	for {
		next, ok := x.scanMarks(seg, from)
		if !ok || seen[next.Start] {
			return
		}
		seen[next.Start] = true
		seg, from = next, next.Base()+SegmentHeader
	}
}

// mayWitness reports whether the bytes at a place look like a record with a mark, or a LINK: cheap enough for every place.
func (x *walker) mayWitness(at uint64) bool {
	b := x.v.Bytes(at, HeaderBytes)
	kind, flags := Kind(b[10]), b[11]
	return kind >= KindPut && kind <= lastKind && flags&^knownFlags == 0 && (kind == KindLink || flags&FlagMark != 0 || sabotage.Is(sabotage.LaterValidIsDamage))
}

// scanMarks looks at every 8th byte of the rest of a segment.
func (x *walker) scanMarks(seg Segment, from uint64) (next Segment, ok bool) {
	var r Record
	for at := (from + 7) &^ 7; at+HeaderBytes <= seg.End(); {
		if !x.mayWitness(at) || !ParseHeader(x.v, at, seg.Salt, seg.End(), &r) || !r.ValueHolds(r.Value) {
			at += 8
			continue
		}
		if r.Flags&FlagMark != 0 {
			x.w.Mark = max(x.w.Mark, r.Extra)
		}
		if sabotage.Is(sabotage.LaterValidIsDamage) {
			x.w.Mark = max(x.w.Mark, x.at.LSN+1)
		}
		if r.Kind == KindLink {
			if page, salt, good := linkTarget(&r); good && uint64(page)*pager.PageSize < x.limit {
				if s, whole := ReadSegment(x.v, page, x.limit, x.uuid); whole && s.Salt == salt {
					return s, true
				}
			}
		}
		at += r.Size()
	}
	return seg, false
}

// Each visits the records of the whole commits, in order, LINK and PAD left out. The
// record is the callee's until it returns. It answers false if the bytes changed since the walk.
func (w *Walk) Each(v *pager.View, visit func(r *Record) error) (bool, error) {
	for i := range w.Parts() {
		if ok, err := w.EachOf(v, i, visit); !ok || err != nil {
			return ok, err
		}
	}
	return true, nil
}

// Parts is the number of parts of the walked log, one in each segment, see EachOf.
func (w *Walk) Parts() int { return min(w.EndIndex+1, len(w.Segments)) }

// EachOf is Each for a part of the log. Several parts may be visited at once.
func (w *Walk) EachOf(v *pager.View, part int, visit func(r *Record) error) (bool, error) {
	var r Record
	s := &w.Segments[part]
	at, end := s.Base()+SegmentHeader, s.Base()+s.Used
	if part == 0 {
		at = w.start.Position
	}
	if part == w.EndIndex {
		end = w.End.Position
	}
	gaps := w.Gaps
	for len(gaps) > 0 && gaps[0].Segment < part {
		gaps = gaps[1:]
	}
	for at < end {
		if len(gaps) > 0 && gaps[0].Segment == part && gaps[0].From == at {
			at, gaps = gaps[0].To, gaps[1:]
			continue
		}
		if !ParseHeader(v, at, s.Salt, s.End(), &r) {
			return false, nil
		}
		at += r.Size()
		if r.Kind == KindLink || r.Kind == KindPad {
			continue
		}
		if err := visit(&r); err != nil {
			return true, err
		}
	}
	return true, nil
}

// Spans lists the parts of the log from an LSN to the end of the whole commits.
func (w *Walk) Spans(from uint64) []Span {
	var spans []Span
	lsn := w.start.LSN
	for i := range w.Segments[:min(w.EndIndex+1, len(w.Segments))] {
		s := &w.Segments[i]
		at, end := s.Base(), s.Base()+s.Used
		if i == 0 {
			at = w.start.Position
		}
		if i == w.EndIndex {
			end = w.End.Position
		}
		if end <= at {
			continue
		}
		behind := lsn + end - at
		if behind > from {
			if from > lsn {
				at += from - lsn
			}
			spans = append(spans, Span{From: at, To: end})
		}
		lsn = behind
	}
	return spans
}

// NextRecord finds the first place behind at, and before end, where a record's header holds: how a scan
// goes on behind a rotten length. It answers end if there is none.
func NextRecord(v *pager.View, at, salt, end uint64) uint64 {
	var r Record
	for at += 8; at < end; at += 8 {
		b := v.Bytes(at, min(HeaderBytes, end-at))
		if len(b) == HeaderBytes && b[10] >= byte(KindPut) && b[10] <= byte(lastKind) && b[11]&^knownFlags == 0 && ParseHeader(v, at, salt, end, &r) {
			return at
		}
	}
	return end
}
