package tail

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/pager"
)

// The layout of a segment header. It stands twice, in a sector of its own each, so
// that the segment can be read from its own bytes alone:
//
//	0   8  sum of bytes 8 to 511
//	8   8  magic "segment\n"
//	16 16  UUID of the file
//	32  8  salt of this use
//	40  4  first page   44  4  pages
//	48  4  life         52  4  zero
//	56  8  first LSN    64  8  first sequence
//	72     zero up to 512
const (
	segmentMagic = "segment\n"
	// SegmentHeader is the number of bytes before the first record.
	SegmentHeader = 2 * pager.SectorSize
	// linkBytes is kept free at the end of a segment for the LINK.
	linkBytes = (HeaderBytes + 16 + 7) &^ 7
)

// Segment is one use of a run of pages. The fields but Used and LastSeq do not change during it.
type Segment struct {
	Start    pager.PageNo
	Pages    uint32
	Salt     uint64
	Life     uint32
	FirstLSN uint64 // of its first byte
	FirstSeq uint64 // of its first record, at least
	LastSeq  uint64 // of its last record, 0 while it has none
	Used     uint64 // bytes from its first, header included, up to the end of its last record
}

// Base is the byte offset of its first byte in the file.
func (s *Segment) Base() uint64 { return uint64(s.Start) * pager.PageSize }

// End is the byte offset behind its last byte.
func (s *Segment) End() uint64 { return s.Base() + uint64(s.Pages)*pager.PageSize }

// EndLSN is the LSN behind its last record.
func (s *Segment) EndLSN() uint64 { return s.FirstLSN + s.Used }

func (s *Segment) header(uuid [16]byte) []byte {
	b := make([]byte, SegmentHeader)
	le := binary.LittleEndian
	copy(b[8:], segmentMagic)
	copy(b[16:], uuid[:])
	le.PutUint64(b[32:], s.Salt)
	le.PutUint32(b[40:], uint32(s.Start))
	le.PutUint32(b[44:], s.Pages)
	le.PutUint32(b[48:], s.Life)
	le.PutUint64(b[56:], s.FirstLSN)
	le.PutUint64(b[64:], s.FirstSeq)
	le.PutUint64(b, xxhash.Sum64(b[8:pager.SectorSize]))
	copy(b[pager.SectorSize:], b[:pager.SectorSize])
	return b
}

// ReadSegment reads a segment's header from its own bytes: either copy does.
// ok is false if neither holds or it does not belong to page and file.
func ReadSegment(v *pager.View, start pager.PageNo, limit uint64, uuid [16]byte) (s Segment, ok bool) {
	for copy := range uint64(2) {
		if s, of, ok := readHeader(v, start, copy, limit); ok && of == uuid {
			return s, true
		}
	}
	return Segment{}, false
}

// FindSegment is ReadSegment for who does not know the file's UUID.
func FindSegment(v *pager.View, start pager.PageNo, limit uint64) (s Segment, uuid [16]byte, ok bool) {
	for copy := range uint64(2) {
		if s, uuid, ok = readHeader(v, start, copy, limit); ok {
			return s, uuid, true
		}
	}
	return Segment{}, uuid, false
}

// readHeader reads one copy of a segment's header.
func readHeader(v *pager.View, start pager.PageNo, copy, limit uint64) (s Segment, uuid [16]byte, ok bool) {
	at := uint64(start)*pager.PageSize + copy*pager.SectorSize
	if at+pager.SectorSize > limit {
		return s, uuid, false
	}
	b := v.Bytes(at, pager.SectorSize)
	le := binary.LittleEndian
	if !headerHolds(b) {
		return s, uuid, false
	}
	s = Segment{
		Start: pager.PageNo(le.Uint32(b[40:])), Pages: le.Uint32(b[44:]), Salt: le.Uint64(b[32:]),
		Life: le.Uint32(b[48:]), FirstLSN: le.Uint64(b[56:]), FirstSeq: le.Uint64(b[64:]), Used: SegmentHeader,
	}
	if s.Start != start || s.Pages == 0 || s.Salt == 0 {
		return s, uuid, false
	}
	// Close may have given the pages behind the last record back.
	s.Pages = uint32(min(uint64(s.Pages), (limit+pager.PageSize-1)/pager.PageSize-uint64(start)))
	return s, [16]byte(b[16:32]), true
}

// HeaderCopies counts the copies of a segment's header, in its first bytes, whose sum holds.
func HeaderCopies(b []byte) (n int) {
	for at := 0; at < SegmentHeader; at += pager.SectorSize {
		if c := b[at : at+pager.SectorSize]; headerHolds(c) {
			n++
		}
	}
	return n
}

// HeaderStands tells which of the two copies of its header, in the file, are of this use of the segment.
func (s *Segment) HeaderStands(v *pager.View, limit uint64) (stands [2]bool) {
	for copy := range stands {
		h, _, ok := readHeader(v, s.Start, uint64(copy), limit)
		stands[copy] = ok && h.Salt == s.Salt && h.FirstLSN == s.FirstLSN
	}
	return stands
}

// MendHeader gives the place in the file, in bytes, of the copy of the segment's header that does not stand, and what it should hold, where
// the other one does: a power cut while they were written leaves it so, or rot. ok is false if both stand, or neither.
func (s *Segment) MendHeader(v *pager.View, limit uint64) (at uint64, right []byte, ok bool) {
	stands := s.HeaderStands(v, limit)
	if stands[0] == stands[1] {
		return 0, nil, false
	}
	first, second := s.Base(), s.Base()+pager.SectorSize
	if stands[0] {
		return second, bytes.Clone(v.Bytes(first, pager.SectorSize)), true
	}
	return first, bytes.Clone(v.Bytes(second, pager.SectorSize)), true
}

// headerHolds reports whether one copy of a header is whole.
func headerHolds(b []byte) bool {
	return string(b[8:16]) == segmentMagic && binary.LittleEndian.Uint64(b) == xxhash.Sum64(b[8:])
}

// Table knows the segments in use. Looking up a salt is for any goroutine; the rest
// belongs to the holder of the writer's turn.
type Table struct {
	unit, small uint64 // bytes
	granules    uint64 // small segments in the first unit
	salts       *pager.Sparse64
	live        *pager.Sparse64
	segments    map[pager.PageNo]*Segment
	shelf       *shelf
}

func newTable(p *pager.Pager) (Table, error) {
	g := p.Geo
	t := Table{
		unit: uint64(g.UnitPages) * pager.PageSize, small: uint64(g.SmallPages) * pager.PageSize,
		granules: uint64(g.UnitPages / g.SmallPages), segments: map[pager.PageNo]*Segment{}, shelf: &shelf{past: map[*Segment]bool{}},
	}
	n := t.granules + p.MaxPages()/uint64(g.UnitPages) + 1
	var err error
	if t.salts, err = pager.NewSparse64(n); err != nil {
		return t, err
	}
	if t.live, err = pager.NewSparse64(n); err != nil {
		t.salts.Free()
		return t, err
	}
	return t, nil
}

func (t *Table) free() {
	t.salts.Free()
	t.live.Free()
}

// granule is the index of the array entry that covers a byte of the file.
func (t *Table) granule(position uint64) uint64 {
	if position < t.unit {
		return position / t.small
	}
	return t.granules + position/t.unit - 1
}

// Salt is the salt of the segment that holds position; 0 if none does. position
// must lie in the file.
func (t *Table) Salt(position uint64) uint64 { return t.salts.Load(t.granule(position)) }

// each visits the granules of a segment.
func (t *Table) each(s *Segment, visit func(i uint64)) {
	for at := s.Base(); at < s.End(); {
		visit(t.granule(at))
		if at < t.unit {
			at += t.small
		} else {
			at += t.unit
		}
	}
}

func (t *Table) add(s *Segment) {
	debug.Assert(s.Salt != 0, "segment at page %d without salt", s.Start)
	t.shelf.mu.Lock()
	t.segments[s.Start] = s
	t.shelf.mu.Unlock()
	t.each(s, func(i uint64) { t.live.Store(i, 0); t.salts.Store(i, s.Salt) })
}

// Remove takes a segment out of the table but leaves its salt until Forget: readers
// of an older generation may still come. It answers nil if there is no such use.
func (t *Table) Remove(start pager.PageNo, salt uint64) *Segment {
	s := t.segments[start]
	if s == nil || s.Salt != salt {
		return nil
	}
	t.shelf.mu.Lock()
	delete(t.segments, start)
	delete(t.shelf.past, s)
	t.shelf.mu.Unlock()
	return s
}

// Forget clears the salts of a run of pages that nobody can reach any more.
func (t *Table) Forget(start pager.PageNo, pages uint32) {
	s := Segment{Start: start, Pages: pages}
	t.each(&s, func(i uint64) { t.salts.Store(i, 0); t.live.Store(i, 0) })
}

// AddLive adds d bytes to what is alive where position lies. A hint: it chooses, it never decides.
func (t *Table) AddLive(position uint64, d int64) { t.live.Add(t.granule(position), d) }

// Live is the number of live bytes of a segment, at most what it holds.
func (t *Table) Live(s *Segment) uint64 {
	var sum int64
	t.each(s, func(i uint64) { sum += int64(t.live.Load(i)) })
	return min(uint64(max(sum, 0)), s.Used)
}

// Totals sums the segments in use up: bytes of records, and of those that are alive.
func (t *Table) Totals() (used, live uint64) {
	for _, s := range t.segments {
		size := s.Used - SegmentHeader
		used, live = used+size, live+min(t.Live(s), size)
	}
	return used, live
}

// ClearLive begins to count live bytes anew.
func (t *Table) ClearLive() {
	for _, s := range t.segments {
		t.each(s, func(i uint64) { t.live.Store(i, 0) })
	}
}

// Lookup finds the segment in use that begins at a page.
func (t *Table) Lookup(start pager.PageNo) *Segment { return t.segments[start] }

// Each visits the segments in use, in no order.
func (t *Table) Each(visit func(s *Segment)) {
	for _, s := range t.segments {
		visit(s)
	}
}

// Segments lists the segments in use, by page.
func (t *Table) Segments() []*Segment {
	all := make([]*Segment, 0, len(t.segments))
	for _, s := range t.segments {
		all = append(all, s)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Start < all[j].Start })
	return all
}

// entryBytes is the length of a segment in the image of the table:
//
//	0   4  first page   4   4  pages
//	8   8  salt
//	16  4  life         20  4  zero
//	24  8  first LSN    32  8  first sequence
//	40  8  used bytes   48  8  live bytes
//	56  8  last sequence
const entryBytes = 64

// Entry is a segment as the image of the table holds it.
type Entry struct {
	Segment
	Live uint64
}

// Entries copies the table, for an image.
func (t *Table) Entries() []Entry {
	all := make([]Entry, 0, len(t.segments))
	for _, s := range t.Segments() {
		all = append(all, Entry{*s, t.Live(s)})
	}
	return all
}

// EntriesSize is the length of an image of n entries.
func EntriesSize(n int) int { return 8 + n*entryBytes }

// AppendEntries writes the image of a table behind b.
func AppendEntries(b []byte, all []Entry) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(len(all)))
	for _, s := range all {
		b = le.AppendUint32(b, uint32(s.Start))
		b = le.AppendUint32(b, s.Pages)
		b = le.AppendUint64(b, s.Salt)
		b = le.AppendUint32(b, s.Life)
		b = le.AppendUint32(b, 0)
		b = le.AppendUint64(b, s.FirstLSN)
		b = le.AppendUint64(b, s.FirstSeq)
		b = le.AppendUint64(b, s.Used)
		b = le.AppendUint64(b, s.Live)
		b = le.AppendUint64(b, s.LastSeq)
	}
	return b
}

// ReadEntries reads an image of the table of a file of so many pages. Any bytes
// give an error, not a panic.
func ReadEntries(b []byte, pages uint64) ([]Entry, error) {
	le := binary.LittleEndian
	if len(b) < 8 || le.Uint64(b) > uint64(len(b)-8)/entryBytes {
		return nil, fmt.Errorf("segment table of %d bytes is cut short", len(b))
	}
	n := int(le.Uint64(b))
	b = b[8:]
	all := make([]Entry, n)
	for i := range all {
		e := b[i*entryBytes:]
		all[i] = Entry{Segment{
			Start: pager.PageNo(le.Uint32(e)), Pages: le.Uint32(e[4:]), Salt: le.Uint64(e[8:]), Life: le.Uint32(e[16:]),
			FirstLSN: le.Uint64(e[24:]), FirstSeq: le.Uint64(e[32:]), Used: le.Uint64(e[40:]), LastSeq: le.Uint64(e[56:]),
		}, le.Uint64(e[48:])}
		s := &all[i]
		if s.Pages == 0 || s.Salt == 0 || uint64(s.Start)+uint64(s.Pages) > pages || s.Used > uint64(s.Pages)*pager.PageSize {
			return nil, fmt.Errorf("segment table: entry %d is impossible", i)
		}
	}
	return all, nil
}
