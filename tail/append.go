package tail

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
)

// Span is a part of the log: a range of the file, in bytes.
type Span struct {
	From, To uint64 // byte offsets in the file
}

// piece says that the log from an LSN on, up to that of the next piece, lies in the file from an offset on.
type piece struct{ lsn, at uint64 }

// Tail is the log of one open map. But for Salt and Spans it belongs to the
// holder of the writer's turn.
type Tail struct {
	Table
	p    *pager.Pager
	UUID [16]byte
	Life uint32

	// Allocate gives the pages of a new segment.
	Allocate func(pages uint32) (pager.PageNo, error)
	// Random gives the salt of a segment's use. Tests and the simulated disk set it.
	Random func() uint64

	// ByWrite says how records are stored: by pwrite, for commits that will be
	// synced one by one, or by plain stores into the mapping.
	ByWrite bool
	// ByStore says that the records of the running commit are stored plainly all the same. It must be set while nothing is buffered.
	ByStore bool
	// Thrifty says that new segments in the first unit are to be as short as their first record allows: there is no
	// room for longer ones.
	Thrifty bool

	// Padded says that a PAD fills the last block of every commit: nothing is ever stored to a block that
	// holds durable records, whichever sync made them durable.
	Padded bool

	_        [pager.CacheLine]byte // each read looks at the table, each commit changes what follows
	LSN      uint64                // of the next byte
	Sequence uint64                // of the last commit, or of the one being appended
	last     uint64                // sequence of the last record appended

	cur    *Segment // nil before the first append of a life
	pos    uint64   // byte offset of the next record
	buf    []byte   // records of the running commit that go out in one pwrite
	bufPos uint64

	pieceMu sync.Mutex // protects pieces; below the turn and the sync mutex
	pieces  []piece    // where the log lies, from the first part that may not be synced
}

// New makes the tail of an open file.
func New(p *pager.Pager) (*Tail, error) {
	table, err := newTable(p)
	if err != nil {
		return nil, fmt.Errorf("segment table: %w", err)
	}
	return &Tail{Table: table, p: p, Random: randomSalt}, nil
}

func randomSalt() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}

// Close gives the table's memory back.
func (t *Tail) Close() { t.Table.free() }

// Load fills the table from an image.
func (t *Tail) Load(all []Entry) {
	for _, e := range all {
		s := e.Segment
		t.add(&s)
		t.shelf.past[&s] = true
		t.AddLive(s.Base(), int64(e.Live))
	}
}

// AddWalked puts a segment that recovery found behind the checkpoint into the table.
func (t *Tail) AddWalked(s Segment) *Segment {
	if old := t.segments[s.Start]; old != nil && old.Salt == s.Salt {
		return old
	}
	t.add(&s)
	t.shelf.past[&s] = true
	return t.segments[s.Start]
}

// Position is the byte offset at which the next record would lie, and its segment;
// zero before the first append of a life.
func (t *Tail) Position() (position uint64, segment *Segment) { return t.pos, t.cur }

// segmentPages chooses the length of the next segment, in pages, for a record of
// size bytes: small ones while the file is young, later a unit, more for a large record.
func (t *Tail) segmentPages(size uint64) []uint32 {
	g := t.p.Geo
	need := (t.padEnd(SegmentHeader+size) + linkBytes + pager.PageSize - 1) / pager.PageSize
	up := func(n, unit uint64) uint32 { return uint32((n + unit - 1) / unit * unit) }
	var tries []uint32
	if t.p.Pages() <= uint64(g.UnitPages) && need < uint64(g.UnitPages) {
		// A quarter of what the log has had so far, between the smallest segment and a half unit, and few of the largest file.
		want := max(need, min(t.LSN/4/pager.PageSize, uint64(g.UnitPages)/2, t.p.MaxPages()/16))
		if t.Thrifty {
			want = need
		}
		tries = append(tries, up(want, uint64(g.SmallPages)))
		if least := up(need, uint64(g.SmallPages)); least < tries[0] {
			tries = append(tries, least)
		}
	}
	return append(tries, up(need, uint64(g.UnitPages)))
}

// NewSegments is how many new segments, of so many pages each, records of bytes in all take at most, the largest of
// them of largest bytes: for admission. At the end of each as much as the largest may stay unused.
func (t *Tail) NewSegments(records int, bytes, largest uint64) (n uint64, pages uint32) {
	for _, pages = range t.segmentPages(largest) {
		unused := SegmentHeader + linkBytes + largest - 8
		if t.Padded {
			unused += pager.PageSize // the LINK has a block of its own
		}
		usable := max(uint64(pages)*pager.PageSize, unused+8) - unused
		n = min(uint64(records), (bytes+usable-1)/usable)
		if n*uint64(pages) < uint64(t.p.Geo.UnitPages) {
			break // small ones, in the first unit; more than fit there become whole units
		}
	}
	return n, pages
}

// Begin opens a fresh segment without a link to it: the start of a life. The
// meta pages must name it before a record is appended.
func (t *Tail) Begin() error {
	if t.cur != nil && sabotage.Is(sabotage.SameSegment) {
		return nil
	}
	t.cur, t.last = nil, t.Sequence
	if err := t.open(0, t.Sequence+1); err != nil {
		return err
	}
	if err := t.pad(); err != nil { // the header is durable before the first commit
		return err
	}
	return t.Flush()
}

// Unbegin takes Begin back, before anything was appended, and returns the segment, whose pages are free again.
func (t *Tail) Unbegin() *Segment {
	s := t.Remove(t.cur.Start, t.cur.Salt)
	t.LSN, t.cur, t.pos, t.pieces = s.FirstLSN, nil, 0, nil
	return s
}

// open takes a new segment for a record of size bytes and stores its header.
func (t *Tail) open(size, firstSequence uint64) error {
	var page pager.PageNo
	var pages uint32
	err := errs.ErrFull
	for _, pages = range t.segmentPages(size) {
		if page, err = t.Allocate(pages); !errors.Is(err, errs.ErrFull) {
			break
		}
	}
	if err != nil {
		return err
	}
	s := &Segment{Start: page, Pages: pages, Salt: t.Random() | 1, Life: t.Life, FirstLSN: t.LSN, FirstSeq: firstSequence, Used: SegmentHeader}
	t.add(s)
	if err := t.storeHeader(s); err != nil {
		return err
	}
	t.cur, t.pos = s, s.Base()+SegmentHeader
	t.LSN += SegmentHeader
	t.pieceMu.Lock()
	t.pieces = append(t.pieces, piece{s.FirstLSN, s.Base()})
	t.pieceMu.Unlock()
	return nil
}

// storeHeader stores the header of a segment.
func (t *Tail) storeHeader(s *Segment) error {
	if sabotage.Is(sabotage.DropSegmentHeader) {
		return nil
	}
	return t.store(s.header(t.UUID), s.Base())
}

// store puts bytes into the file in the style of the tail.
func (t *Tail) store(b []byte, at uint64) error {
	if t.ByWrite && !t.ByStore {
		return t.p.WriteAt(b, at)
	}
	copy(t.p.View().Writable(at, uint64(len(b))), b)
	t.p.Stored(at, uint64(len(b)))
	return nil
}

// Room makes sure that a record of size bytes fits, by going on in a new segment if
// it does not: header of the next, then LINK, in that order. With a commit running
// its buffered records go out first.
func (t *Tail) Room(size uint64) error {
	if t.cur != nil && t.padEnd(t.pos+size)+linkBytes <= t.cur.End() {
		return nil
	}
	return t.goOn(size)
}

// Roll goes on in a new segment, between two commits.
func (t *Tail) Roll() error { return t.goOn(0) }

// goOn opens the next segment, for a record of size bytes, and links it.
func (t *Tail) goOn(size uint64) error {
	if err := t.Flush(); err != nil {
		return err
	}
	debug.Assert(t.cur != nil, "append before the life began")
	old, at := t.cur, t.pos
	t.LSN += linkBytes
	if err := t.open(size, t.Sequence); err != nil {
		t.LSN -= linkBytes
		return err
	}
	var to [16]byte
	binary.LittleEndian.PutUint64(to[:], uint64(t.cur.Start))
	binary.LittleEndian.PutUint64(to[8:], t.cur.Salt)
	link := Record{Position: at, Kind: KindLink, Sequence: t.last, Value: to[:]}
	var b [linkBytes]byte
	put(b[:], &link, old.Salt)
	if err := t.store(b[:], at); err != nil {
		return err
	}
	old.Used = at + linkBytes - old.Base()
	return nil
}

// Append stores a record and sets r.Position. Its sequence must be t.Sequence. In the
// ByWrite style it is in the file only after Flush.
func (t *Tail) Append(r *Record) error {
	if err := t.Room(r.Size()); err != nil {
		return err
	}
	if t.pos > MaxPosition {
		return errs.Join(errs.ErrFull, errors.New("positions are used up"))
	}
	t.last = r.Sequence
	if err := t.place(r); err != nil {
		return err
	}
	t.cur.LastSeq = r.Sequence
	if r.Flags&FlagLast != 0 {
		return t.pad()
	}
	return nil
}

// place stores a record, for which there is room, at the end of the log.
func (t *Tail) place(r *Record) error {
	size := r.Size()
	r.Position = t.pos
	if t.ByWrite && !t.ByStore {
		if len(t.buf) == 0 {
			t.bufPos = t.pos
		}
		n := len(t.buf)
		t.buf = append(t.buf, make([]byte, size)...)
		put(t.buf[n:], r, t.cur.Salt)
	} else {
		put(t.p.View().Writable(t.pos, size), r, t.cur.Salt)
		t.p.Stored(t.pos, size)
	}
	t.pos += size
	t.LSN += size
	t.cur.Used = t.pos - t.cur.Base()
	if len(t.buf) >= 1<<20 {
		return t.Flush()
	}
	return nil
}

// Flush writes the buffered records of the running commit into the page cache.
func (t *Tail) Flush() error {
	if len(t.buf) == 0 {
		return nil
	}
	debug.Assert(t.bufPos+uint64(len(t.buf)) == t.pos, "buffer of %d bytes at %d does not end at %d", len(t.buf), t.bufPos, t.pos)
	err := t.p.WriteAt(t.buf, t.bufPos)
	t.buf = t.buf[:0]
	if cap(t.buf) > 4<<20 {
		t.buf = nil
	}
	return err
}

// Spans lists the parts of the file that hold the log from one LSN to another, in order. It forgets what
// lies before: from must never go back.
func (t *Tail) Spans(from, to uint64) []Span {
	t.pieceMu.Lock()
	defer t.pieceMu.Unlock()
	for len(t.pieces) > 1 && t.pieces[1].lsn <= from {
		t.pieces = t.pieces[1:]
	}
	var spans []Span
	for i, p := range t.pieces {
		lo, hi := max(from, p.lsn), to
		if sabotage.Is(sabotage.SyncSkipsHeaders) {
			lo = max(lo, p.lsn+SegmentHeader)
		}
		if i+1 < len(t.pieces) {
			hi = min(to, t.pieces[i+1].lsn)
		}
		if lo < hi {
			spans = append(spans, Span{From: p.at + lo - p.lsn, To: p.at + hi - p.lsn})
		}
	}
	return spans
}
