package recovery

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Salvage reads a file, one that no open accepts too, as raw bytes: all that it needs is the headers of segments, which stand
// twice, and the records' own sums. It takes from meta pages and images what holds of them, and does without. With OpenIndex
// its index is asked, where the map opens, which record of a key is the newest: the log does not tell of one whose key cannot be read.
//
// What counts, in this order: a segment's header, or the segment table, or a LINK gives its salt; a record's header sum
// holds under it; of a life only sequences below the first of any later life (a later life began where this one was cut);
// behind the end that a segment table knows nothing; no aborted commit; nothing older than a CLEAR that counts; and the last commit of the last life only if it
// is whole. In the order of the log the last record of a key is its newest.
//
// The heap holds something for each segment, and nothing for each key. For one goroutine. The file is mapped read-only; a
// single flipped bit is taken back in a private copy of its page.
type Salvage struct {
	Metas    pager.MetaPair
	UUID     [16]byte
	Segments uint64 // that records are read from
	Foreign  uint64 // segments of another map
	Records  uint64 // read; superseded ones, and those that do not count, included
	Orphans  uint64 // records of commits that a recovery cut off
	Puts     uint64 // records that set a key: at least as many as there are keys
	PutBytes uint64 // their keys and values
	KeyBytes uint64 // their keys
	Size     uint64 // of the file, in bytes
	Unopened error  // why OpenIndex found none: the map does not open
	Lost     Losses

	p        *pager.Pager
	state    *State   // of the map as it opens; nil without an index
	segments []*found // in the order of the log
	known    map[useID]*found
	lives    []lifeSeen
	aborted  map[commitID]bool
	torn     commitID // the commit that is not whole
	clears   []commitID
	cleared  uint64 // sequence of the last CLEAR that counts: what is older is gone
	reading  *found // the segment that read is in
	progress func(done, total uint64)
	done     uint64
	total    uint64
}

// found is a segment and what a survey saw of it.
type found struct {
	tail.Segment
	known  bool // the table of a meta page tells that it was used up to Used, and no further
	doubt  bool // only a LINK leads to it, and nothing says whether it was retired
	listed bool // in the segment table
	maxSeq uint64
	last   bool   // the last record of maxSeq was seen
	next   uint64 // first LSN of the next segment of the life, 0 if there is none
}

// useID names a use of a segment.
type useID struct {
	start pager.PageNo
	salt  uint64
}

// lifeSeen is what is known of a life.
type lifeSeen struct {
	life   uint32
	first  uint64 // its first sequence, at most
	limit  uint64 // first sequence of any later life
	maxSeq uint64
	last   bool
}

// commitID names a commit among those of all lives.
type commitID struct {
	life     uint32
	sequence uint64
}

// OpenSalvage maps a file for Survey and Each, with the lock of a read-only open. Errors: ErrLocked, ErrVersion for a
// meta page that a newer program wrote, ErrNotMapfile for an empty file, and the system's.
func OpenSalvage(o pager.OpenOptions) (*Salvage, error) {
	o.ReadOnly = true
	f, err := pager.Open(o)
	if err != nil {
		return nil, err
	}
	for i, reason := range f.Metas.Reason {
		if errors.Is(reason, errs.ErrVersion) {
			_ = f.File.Close() // nothing was written
			return nil, errs.At(f.Path, "salvage", reason)
		}
		if m := f.Metas.Meta[i]; m != nil {
			o.Geometry = m.Geometry(o.Geometry)
		}
	}
	p, err := pager.New(o, f, uint64(f.Info.Size)/pager.PageSize, true) // private: a flipped bit is taken back in memory
	if err != nil {
		_ = f.File.Close()
		return nil, err
	}
	s := &Salvage{Metas: f.Metas, p: p, Size: uint64(f.Info.Size), aborted: map[commitID]bool{}, known: map[useID]*found{}}
	s.readTables(f)
	return s, nil
}

// Close lets go of the file.
func (s *Salvage) Close() error {
	if s.state == nil {
		return s.p.Close()
	}
	return errors.Join(s.state.Close(), s.p.Close())
}

// Path is the absolute path of the file.
func (s *Salvage) Path() string { return s.p.Path() }

// readTables takes the segments of the segment tables that can be read, the newer table first.
func (s *Salvage) readTables(f *pager.Opened) {
	for _, which := range f.Metas.Order() {
		m := f.Metas.Meta[which]
		im, err := readImages(f.File, m)
		if err != nil {
			continue // what it says is lost; nothing depends on it
		}
		for _, e := range im.segments {
			g := &found{Segment: e.Segment, listed: true, known: e.Start != m.Segment}
			if s.find(g.Start, g.Salt) == nil && g.Base() < s.Size {
				s.add(g)
			}
		}
		return
	}
}

func (s *Salvage) find(start pager.PageNo, salt uint64) *found { return s.known[useID{start, salt}] }

func (s *Salvage) add(g *found) {
	s.segments = append(s.segments, g)
	s.known[useID{g.Start, g.Salt}] = g
}

// guarded runs f under the fault guard. A page that the system cannot give is a *pager.FaultError.
func (s *Salvage) guarded(f func() error) error { return guard(s.p, f) }

// Survey finds the segments and reads every header in them: what Each will visit is known afterwards, and how much room it
// takes. Errors: ErrNotMapfile if there is neither a meta page nor a segment; that of ctx.
func (s *Salvage) Survey(ctx context.Context, progress func(done, total uint64)) error {
	s.progress, s.done, s.total = progress, 0, 2*s.Size
	if err := s.discover(ctx); err != nil {
		return err
	}
	if len(s.segments) == 0 && s.Metas.Meta[0] == nil && s.Metas.Meta[1] == nil {
		return errs.At(s.Path(), "salvage", errs.Join(errs.ErrNotMapfile, errors.New("neither a meta page nor a segment is to be found in it")))
	}
	if err := s.readAll(ctx); err != nil {
		return err
	}
	s.settle()
	return nil
}

// discover looks at each page for the header of a segment.
func (s *Salvage) discover(ctx context.Context) error {
	of := map[[16]byte]uint64{}
	type candidate struct {
		g    tail.Segment
		uuid [16]byte
	}
	var all []candidate
	v, end := s.p.View(), (s.Size+pager.PageSize-1)/pager.PageSize
	for page := uint64(pager.FirstPage); page < end; page++ {
		err := s.guarded(func() error {
			if g, uuid, ok := tail.FindSegment(v, pager.PageNo(page), s.Size); ok {
				all = append(all, candidate{g, uuid})
				of[uuid] += uint64(g.Pages)
			}
			return nil
		})
		var fault *pager.FaultError
		if err != nil && !errors.As(err, &fault) {
			return err
		}
		if page%4096 == 0 {
			if err := s.step(ctx, 4096*pager.PageSize); err != nil {
				return err
			}
		}
	}
	s.chooseUUID(of)
	for _, c := range all {
		switch {
		case c.uuid != s.UUID:
			s.Foreign++
		case s.find(c.g.Start, c.g.Salt) == nil: // else the table knows it
			s.add(&found{Segment: c.g})
		}
	}
	return nil
}

// chooseUUID takes the map's UUID from a meta page, or from most of what the segments' headers say.
func (s *Salvage) chooseUUID(of map[[16]byte]uint64) {
	for _, which := range s.Metas.Order() {
		s.UUID = s.Metas.Meta[which].UUID
		return
	}
	most := uint64(0)
	for uuid, pages := range of {
		if pages > most || pages == most && string(uuid[:]) < string(s.UUID[:]) {
			s.UUID, most = uuid, pages
		}
	}
}

// step counts bytes looked at.
func (s *Salvage) step(ctx context.Context, bytes uint64) error {
	s.done += bytes
	if s.progress != nil {
		s.progress(min(s.done, s.total), s.total)
	}
	return ctx.Err()
}

// readAll reads the headers of all records, by page. A header of a segment that stands inside the value of a record that
// holds is a part of that value. A LINK to a segment that nothing else tells of adds it.
func (s *Salvage) readAll(ctx context.Context) error {
	inside := map[pager.PageNo]bool{}
	slices.SortStableFunc(s.segments, func(x, y *found) int { return cmp.Compare(x.Start, y.Start) })
	for i := 0; i < len(s.segments); i++ {
		g := s.segments[i]
		if inside[g.Start] && !g.listed {
			continue
		}
		steps := 0
		err := s.read(g, func(r *tail.Record) error {
			if steps++; steps%256 == 0 {
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			s.note(g, r)
			for page := (r.Position + pager.PageSize - 1) / pager.PageSize; page*pager.PageSize < r.Position+r.Size(); page++ {
				if _, _, ok := tail.FindSegment(s.p.View(), pager.PageNo(page), s.Size); ok && r.ValueHolds(r.Value) {
					inside[pager.PageNo(page)] = true
				}
			}
			return nil
		}, nil)
		if err != nil {
			return err
		}
		if err := s.step(ctx, g.End()-g.Base()); err != nil {
			return err
		}
	}
	s.segments = slices.DeleteFunc(s.segments, func(g *found) bool {
		return inside[g.Start] && !g.listed || g.doubt && s.state != nil // a map that opens lists what is in use
	})
	return nil
}

// note keeps what a survey needs to know of a record.
func (s *Salvage) note(g *found, r *tail.Record) {
	s.Records++
	switch r.Kind {
	case tail.KindLink:
		s.link(g, r)
		return
	case tail.KindPad:
		return
	case tail.KindPut:
		s.Puts++
		s.PutBytes += uint64(len(r.Key) + len(r.Value))
		s.KeyBytes += uint64(len(r.Key))
	case tail.KindClear:
		s.clears = append(s.clears, commitID{g.Life, r.Sequence})
	case tail.KindAbort:
		s.aborted[commitID{g.Life, r.Sequence}] = true
	}
	if r.Sequence > g.maxSeq {
		g.maxSeq, g.last = r.Sequence, false
	}
	g.last = g.last || r.Sequence == g.maxSeq && r.Flags&tail.FlagLast != 0
}

// link adds the segment that a LINK leads to, if its own header is gone. A header of zeros was overwritten on purpose: the
// segment was retired.
func (s *Salvage) link(g *found, r *tail.Record) {
	if len(r.Value) != 16 || !r.ValueHolds(r.Value) {
		return
	}
	page, salt := binary.LittleEndian.Uint64(r.Value), binary.LittleEndian.Uint64(r.Value[8:])
	base := page * pager.PageSize
	if page < uint64(pager.FirstPage) || page > pager.MaxPages || base+tail.SegmentHeader >= s.Size || salt == 0 || s.find(pager.PageNo(page), salt) != nil {
		return
	}
	head := s.p.View().Bytes(base, tail.SegmentHeader)
	if _, _, other := tail.FindSegment(s.p.View(), pager.PageNo(page), s.Size); other || len(trimZeros(head)) == 0 {
		return // used again, or retired
	}
	next := &found{doubt: true, Segment: tail.Segment{
		Start: pager.PageNo(page), Salt: salt, Life: g.Life, FirstSeq: r.Sequence,
		FirstLSN: g.FirstLSN + r.Position + r.Size() - g.Base(), Used: tail.SegmentHeader,
	}}
	end := (s.Size + pager.PageSize - 1) / pager.PageSize
	for _, o := range s.segments {
		if uint64(o.Start) > page {
			end = min(end, uint64(o.Start))
		}
	}
	next.Pages = uint32(end - page)
	if m := s.newest(); m != nil && next.FirstLSN >= m.LSN {
		next.doubt = false // behind the checkpoint: open would replay it
	}
	s.add(next) // at the end: readAll comes to it
}

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	return b
}

// newest is the newer meta page that holds, nil if there is none.
func (s *Salvage) newest() *pager.Meta {
	for _, which := range s.Metas.Order() {
		return s.Metas.Meta[which]
	}
	return nil
}

// settle sorts the segments by the log and finds what limits each life.
func (s *Salvage) settle() {
	slices.SortFunc(s.segments, func(x, y *found) int {
		return cmp.Or(cmp.Compare(x.FirstLSN, y.FirstLSN), cmp.Compare(x.Life, y.Life), cmp.Compare(x.Start, y.Start))
	})
	after := map[uint32]uint64{}
	for i := len(s.segments) - 1; i >= 0; i-- {
		g := s.segments[i]
		g.next = after[g.Life]
		after[g.Life] = g.FirstLSN
	}
	lives := map[uint32]*lifeSeen{}
	of := func(life uint32) *lifeSeen {
		if lives[life] == nil {
			lives[life] = &lifeSeen{life: life, first: ^uint64(0)}
		}
		return lives[life]
	}
	for _, g := range s.segments {
		l := of(g.Life)
		if !g.doubt {
			l.first = min(l.first, g.FirstSeq)
			s.Segments++
		}
		if g.maxSeq > l.maxSeq {
			l.maxSeq, l.last = g.maxSeq, g.last
		} else if g.maxSeq == l.maxSeq {
			l.last = l.last || g.last
		}
	}
	if m := s.newest(); m != nil && m.Life > 0 {
		of(m.Life).first = min(of(m.Life).first, m.Sequence+1)
	}
	for _, l := range lives {
		s.lives = append(s.lives, *l)
	}
	slices.SortFunc(s.lives, func(x, y lifeSeen) int { return cmp.Compare(x.life, y.life) })
	limit := ^uint64(0)
	for i := len(s.lives) - 1; i >= 0; i-- {
		l := &s.lives[i]
		l.limit = limit
		limit = min(limit, l.first)
		if m := s.newest(); l.maxSeq > 0 && l.limit == ^uint64(0) && !l.last && (m == nil || l.maxSeq > m.Sequence) {
			s.torn = commitID{l.life, l.maxSeq}
		}
	}
	for _, id := range s.clears {
		if id.sequence < s.life(id.life).limit && !s.aborted[id] && id != s.torn {
			s.cleared = max(s.cleared, id.sequence)
		}
	}
}
