package tail

import (
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/pager"
)

// Gap is a part of one segment that a walk went past: bytes that cannot be read, and the records of a
// commit that is not whole because of them.
type Gap struct {
	Segment  int    // index in Walk.Segments
	From, To uint64 // byte offsets in the file
	LSN      uint64 // of From
	Sequence uint64 // of the last whole commit before
	Behind   bool   // no record was found behind it: To is how far the log is known to have reached
}

// NewWalkPast is NewWalk that does not end at damage below the mark: it goes on at the next record that begins
// a commit, in the same use of the segment, or along its LINK, or, if that is lost, in the segment of the same
// life that comes next by its header. What it went past is in Gaps. A commit of which a part is lost is lost.
func NewWalkPast(v *pager.View, limit uint64, uuid [16]byte, from Start, mark uint64, known *Segment, mend func(position, salt, limit uint64) bool) *Walk {
	x := newWalker(v, limit, uuid, from, mark, known, mend)
	if known == nil {
		return x.w
	}
	witnesses := true
	for {
		x.run(witnesses)
		witnesses = false // they looked along the whole log, but for what only a header leads to
		if x.w.Mark <= x.at.LSN {
			return x.w
		}
		past := detour{x: x, seg: len(x.w.Segments) - 1, from: x.at, at: x.at}
		if x.inCommit {
			past.seg, past.from = x.openFrom, x.openAt
		}
		if !past.around() {
			return x.w
		}
		witnesses = past.jumped
	}
}

// detour is the way of a walk around damage.
type detour struct {
	x      *walker
	seg    int   // index of the segment in which it began
	from   Start // where it began: behind the last whole commit
	at     Start // next place to look at
	jumped bool  // a LINK was lost
}

// around looks for the next record that begins a commit and moves the walk there. false: there is none.
func (d *detour) around() bool {
	x := d.x
	for {
		var r Record
		end := x.seg.End()
		if !ParseHeader(x.v, d.at.Position, x.seg.Salt, end, &r) {
			next := NextRecord(x.v, d.at.Position, x.seg.Salt, end)
			if next < end {
				d.move(next - d.at.Position)
			} else if !d.successor() {
				d.giveUp()
				return false
			}
			continue
		}
		switch {
		case r.Kind == KindLink && d.follow(&r):
		case d.begins(&r):
			d.resume(r.Sequence)
			return true
		default:
			d.move(r.Size())
		}
	}
}

func (d *detour) move(n uint64) {
	d.at.Position += n
	d.at.LSN += n
}

// begins reports whether the walk can go on with a record.
func (d *detour) begins(r *Record) bool {
	switch {
	case r.Kind == KindLink || r.Kind == KindPad || r.Flags&FlagFirst == 0 || r.Sequence <= d.x.w.End.Sequence:
		return false
	case r.ValueHolds(r.Value):
		return true
	}
	return d.at.LSN < d.x.w.Mark && r.Kind != KindRetire
}

// follow goes on in the segment to which a LINK leads.
func (d *detour) follow(r *Record) bool {
	x := d.x
	page, salt, ok := linkTarget(r)
	if !ok || !r.ValueHolds(r.Value) || !x.enter(page, salt) {
		return false
	}
	left := &x.w.Segments[len(x.w.Segments)-2]
	left.Used = d.at.Position + r.Size() - left.Base()
	d.enter(d.at.LSN + r.Size())
	return true
}

// enter puts the detour behind the header of the segment that was just entered, whose first byte has an LSN.
func (d *detour) enter(lsn uint64) {
	s := d.x.seg
	d.at = Start{Segment: s.Start, Salt: s.Salt, Position: s.Base() + SegmentHeader, LSN: lsn + SegmentHeader}
}

// successor goes on in the segment of the same life whose header says that it comes next.
func (d *detour) successor() bool {
	x := d.x
	var best Segment
	for page := pager.FirstPage; uint64(page) < x.limit/pager.PageSize; page++ {
		s, ok := ReadSegment(x.v, page, x.limit, x.uuid)
		if ok && s.Life == x.seg.Life && s.FirstLSN > x.seg.FirstLSN && (best.Pages == 0 || s.FirstLSN < best.FirstLSN) {
			best = s
		}
	}
	if best.Pages == 0 || !x.enter(best.Start, best.Salt) {
		return false
	}
	left := &x.w.Segments[len(x.w.Segments)-2]
	left.Used = min(best.FirstLSN-left.FirstLSN, uint64(left.Pages)*pager.PageSize)
	d.jumped = true
	d.enter(best.FirstLSN)
	return true
}

// resume notes what is lost and lets the walk go on at the record found.
func (d *detour) resume(sequence uint64) {
	x := d.x
	d.gaps(d.at.Position, false)
	x.at, x.at.Sequence = d.at, sequence-1
	x.seg.Used = x.at.Position - x.seg.Base()
	x.inCommit, x.open = false, 0
}

// giveUp notes what is lost up to the end of the log, as far as it is known to have reached.
func (d *detour) giveUp() {
	n := d.x.w.Mark - min(d.at.LSN, d.x.w.Mark)
	d.gaps(min(d.at.Position+n, d.x.seg.End()), true)
	d.x.inCommit, d.x.open = false, 0
}

// gaps notes what lies between the beginning of the detour and a place in the last segment. Damaged values in it are
// lost with their commit.
func (d *detour) gaps(to uint64, behind bool) {
	w := d.x.w
	last := len(w.Segments) - 1
	from, lsn := d.from.Position, d.from.LSN
	for i := d.seg; i <= last; i++ {
		s := &w.Segments[i]
		end := s.Base() + s.Used
		if i == last {
			end = to
		}
		if i > d.seg {
			from, lsn = s.Base()+SegmentHeader, s.FirstLSN+SegmentHeader
		}
		if end <= from {
			continue
		}
		w.Gaps = append(w.Gaps, Gap{Segment: i, From: from, To: end, LSN: lsn, Sequence: w.End.Sequence, Behind: behind})
		w.Damaged = slices.DeleteFunc(w.Damaged, func(r Walked) bool { return r.Segment == i && from <= r.Position && r.Position < end })
	}
}

// MinPad is the length of the shortest PAD.
const MinPad = (HeaderBytes + 7) &^ 7

// PadHeader makes one PAD of bytes that lie at position in a segment's use with the salt: it gives the bytes to store
// there, HeaderBytes of them. What lies behind them stays, as the PAD's value. b has MinPad bytes at least, a multiple
// of 8, and at most MaxValue; sequence is that of the record before.
func PadHeader(b []byte, position, salt, sequence uint64) []byte {
	value := b[HeaderBytes:]
	h := make([]byte, HeaderBytes)
	le := binary.LittleEndian
	le.PutUint64(h[8:], uint64(KindPad)<<16|uint64(len(value))<<32)
	le.PutUint64(h[16:], sequence)
	sum := xxhash.Sum64(h[8:]) ^ pager.Mix(salt, position)
	le.PutUint32(h, uint32(sum))
	le.PutUint32(h[4:], uint32(xxhash.Sum64(value))^uint32(sum>>32))
	return h
}
