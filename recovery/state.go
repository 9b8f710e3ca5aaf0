package recovery

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Shared is what readers look at, and what other processes would have to see: it can
// move into the control page. Readers load generation (or pin it), then published,
// then root, in this order.
type Shared struct {
	Generation atomic.Uint64 // raised before anything is reused
	root       atomic.Uint64 // page << 32 | epoch
	cleared    atomic.Pointer[cleared]
	_          [pager.CacheLine]byte
	Published  atomic.Uint64 // highest sequence that readers see. Of what a look-up begins with it is all that commits change
	_          [pager.CacheLine - 8]byte
}

// Root is the root of the index, as of the last commit appended.
func (s *Shared) Root() pager.Ref {
	w := s.root.Load()
	return pager.Ref{Page: pager.PageNo(w >> 32), Epoch: uint32(w)}
}

// SetRoot publishes a root.
func (s *Shared) SetRoot(r pager.Ref) { s.root.Store(uint64(r.Page)<<32 | uint64(r.Epoch)) }

// State is an open map: its file and the live state of its parts.
type State struct {
	P     *pager.Pager
	Free  *freelist.Allocator
	Tail  *tail.Tail
	Index *index.Index
	Shared

	// Matched is the record that the last Index.Lookup found.
	Matched tail.Record

	// As of the last commit appended.
	Keys       uint64
	Tombstones uint64

	history   history
	meta      pager.Meta // the newer meta page, as loaded or last written
	slot      int        // its place
	older     freelist.Meta
	image     freelist.Run // where the images of the newer meta page lie
	begun     bool         // this life has its two meta pages
	unnamed   bool         // a replay has led to a state that no meta page names: it would come to it again
	oneLed    bool         // of the meta pages that were opened, or of what they lead to, one did not hold
	life      uint32
	sealedLSN uint64        // LSN of the last seal
	unsum     []sealed      // seals whose checkpoint failed before their sums were stored
	sums      atomic.Uint32 // index pages of epochs below have their sums

	// SlowestGrowth is the longest time that a writer, or a checkpoint, waited for the file to grow, in ns.
	SlowestGrowth atomic.Int64
	GrowthWaits   atomic.Int64 // all of these times together, in ns

	advised     uint64 // size of the file when the kernel was last advised
	advisedFits bool
	advisedLSN  uint64 // segments that end before it were advised

	dry     []freelist.Run // free units that may be holes, see dry.go; ascending, with growMu
	noHoles bool           // the file system cannot punch, see give.go
	needs   [2]uint64      // pages that the newer and the older meta page need the file to have; of a life that has begun
	blocks  bool           // what is not dry and no segment has blocks, see reserveArenas
	credit  uint64         // pages granted in advance, see Admit
	merged  merged
	leaving []leaving
	stale   []freelist.Run // segments that were retired when the map was opened, their headers not yet zeroed

	syncMu sync.Mutex // syncs on the checkpoints' description; below the turn and the mutex of commits' syncs, above what a failure wakes
	growMu sync.Mutex // growth, from the file to the free space: no page is handed out in between

	// Loading says that a commit runs whose records are stored plainly and synced in large spans: zeros ahead of it are of no use.
	Loading atomic.Bool

	// Oldest pin of a reader; set by the owner of the pins.
	OldestPin func() uint64

	Report Report
}

// sealed is the list of index pages built in one epoch.
type sealed struct {
	pages []pager.PageNo
	epoch uint32
}

// Life tells whether this life may append, and its number.
func (s *State) Life() (life uint32, begun bool) { return s.life, s.begun }

// Unnamed reports whether a replay has led to a state that no meta page names yet: the life is still to begin. Nothing was appended since.
func (s *State) Unnamed() bool { return s.unnamed }

// Meta is a copy of the newer meta page.
func (s *State) Meta() pager.Meta { return s.meta }

// imagePages is what nobody but checkpoints may use: room for the images of the two that release everything.
func (s *State) imagePages() uint64 { return 2 * (s.meta.ImageBytes/pager.PageSize + 2) }

// reserve is the number of pages that Put leaves alone besides, so that deletes and compaction go on when the
// disk is full.
func (s *State) reserve() uint64 {
	images := s.meta.ImageBytes/pager.PageSize + 1
	if pages := s.P.Pages(); pages <= 2*uint64(s.P.Geo.UnitPages) {
		return max(min(16, uint64(s.P.Geo.UnitPages)/2), pages/8) + 2*images
	}
	return 2*(images+8) + uint64(s.Index.Directories)
}

// allocPage gives a page to the index.
func (s *State) allocPage() (pager.PageNo, error) {
	for {
		if page, ok := s.Free.AllocPage(); ok {
			return s.prepared(page, 1)
		}
		if err := s.Grow(1); err != nil {
			return 0, err
		}
	}
}

// prepared makes a run that was just allocated fit to be stored to, or gives it back.
func (s *State) prepared(page pager.PageNo, n uint32) (pager.PageNo, error) {
	if err := s.P.Prepare(page, n); err != nil {
		s.Free.Free(freelist.Run{Start: page, Pages: n})
		return 0, err
	}
	return page, nil
}

// allocSegment gives pages to the tail. In a file of one unit it refuses small segments
// rather than leave the unit.
func (s *State) allocSegment(pages uint32) (pager.PageNo, error) {
	unit := uint64(s.P.Geo.UnitPages)
	s.credit = 0
	for {
		if page, ok := s.Free.AllocSegment(pages); ok {
			s.Tail.Forget(page, pages) // an entry changes only between the generation's bump and the first store
			return s.prepared(page, pages)
		}
		have := s.P.Pages()
		var err error
		switch {
		case uint64(pages) >= unit:
			err = s.Grow(uint64(pages) + max(have, unit) - have)
		case have >= unit:
			return 0, errs.ErrFull
		default:
			err = s.Grow(min(uint64(pages)+uint64(s.P.Geo.SmallPages), unit-have))
		}
		if err != nil {
			return 0, err
		}
	}
}

// Grow gains n free pages at least, in one run of whole units if they are that many: from units that
// are free but not fit to be stored to, or by growth of the file.
func (s *State) Grow(n uint64) error {
	s.growMu.Lock()
	defer s.growMu.Unlock()
	defer func(begin time.Time) {
		waited := int64(time.Since(begin))
		s.GrowthWaits.Add(waited)
		s.SlowestGrowth.Store(max(s.SlowestGrowth.Load(), waited))
	}(time.Now())
	if ok, err := s.wet(n); ok || err != nil {
		return err
	}
	err := s.growTo(s.P.Pages() + n)
	if errors.Is(err, errs.ErrFull) {
		// What is dry may be enough together with what is free beside it.
		if ok, _ := s.wet(1); ok {
			return nil
		}
	}
	return err
}

// growTo makes the file at least so many pages long: in small steps within the first
// unit, then by whole units. Where the step does not fit, the least is tried. growMu is held.
func (s *State) growTo(pages uint64) error {
	g, have := s.P.Geo, s.P.Pages()
	unit := uint64(g.UnitPages)
	least := pages
	if pages > unit {
		least = (pages + unit - 1) / unit * unit
	}
	want := max(least, have+uint64(g.GrowPages))
	if want > unit && have < unit && least <= unit {
		want = unit
	} else if want > unit {
		want = (want + unit - 1) / unit * unit
	}
	err := s.P.Grow(want)
	if errors.Is(err, errs.ErrFull) && least < want {
		err = s.P.Grow(least)
	}
	if err == nil {
		s.Free.Extend(s.P.Pages())
	}
	return err
}

// GrowAhead makes room for what writers will want next, outside their calls: half of an eighth of the file, at least a unit, beside what
// commits leave alone. It answers false if there is room already.
func (s *State) GrowAhead() (grown bool, err error) {
	unit := uint64(s.P.Geo.UnitPages)
	if s.P.Pages() < unit {
		return false, nil
	}
	want := s.aheadUnits()
	for range want {
		if s.Free.FreeUnits() >= want {
			return grown, nil
		}
		// One unit at a time: a writer may want to grow too.
		if err := s.growUnit(unit); err != nil {
			return true, err
		}
		grown = true
	}
	return grown, nil
}

// aheadUnits is how many free units GrowAhead sees to.
func (s *State) aheadUnits() uint64 {
	unit := uint64(s.P.Geo.UnitPages)
	step := min(max(s.P.Pages()/8/unit, 2), uint64(s.P.Geo.MaxGrowPages)/unit)
	return s.reserveUnits() + (step+1)/2 + 1
}

// growUnit gains one unit; a new one is written with zeros where commits will be synced.
func (s *State) growUnit(unit uint64) error {
	s.growMu.Lock()
	defer s.growMu.Unlock()
	if ok, err := s.wet(unit); ok || err != nil {
		return err
	}
	from := s.P.Pages()
	if err := s.P.Grow(from/unit*unit + unit); err != nil {
		return err
	}
	if s.Tail.ByWrite && !s.Loading.Load() {
		if err := s.P.WriteZeros(from, s.P.Pages()); err != nil {
			return err
		}
	}
	s.Free.Extend(s.P.Pages())
	return nil
}

// Urgency says how much of the reserve a commit may use.
type Urgency int

const (
	Ordinary Urgency = iota // none
	Urgent                  // half: deletes
	Upkeep                  // all: compaction
)

// reserveUnits is what an ordinary commit leaves of a file of more than one unit, beside the pages of reserve: one for
// the tombstones of deletes, one for what compaction moves; together one where the file cannot become large.
func (s *State) reserveUnits() uint64 {
	if s.P.MaxPages() < 32*uint64(s.P.Geo.UnitPages) {
		return 1
	}
	return 2
}

// leftUnits is what a commit leaves of the units of reserveUnits: a delete takes the only one there is of a file of two.
func (s *State) leftUnits(urgency Urgency) uint64 {
	if urgency == Urgent && s.P.Pages() <= 2*uint64(s.P.Geo.UnitPages) {
		return 0
	}
	return s.reserveUnits() * uint64(Upkeep-urgency) / 2
}

// Admit makes sure, before a byte is stored, that a commit of some records has room:
// its bytes in the log and the worst case of index pages. largest is the size of the
// largest record. Errors: ErrFull.
func (s *State) Admit(records int, bytes, largest uint64, urgency Urgency) error {
	if sabotage.Is(sabotage.AdmitAll) {
		return nil
	}
	if sabotage.Is(sabotage.ReserveForAll) {
		urgency = Upkeep
	}
	position, cur := s.Tail.Position()
	bytes += s.Tail.Padding()
	fits := cur != nil && position+bytes+pager.SectorSize <= cur.End()
	if fits && records == 1 && s.credit >= onePages {
		s.credit -= onePages
		return nil
	}
	s.Tail.Thrifty = false
	pages := s.worstIndexPages(records)
	err := s.admit(pages, records, bytes, largest, urgency, fits)
	if errors.Is(err, errs.ErrFull) && !fits && s.P.Pages() <= uint64(s.P.Geo.UnitPages) {
		s.Tail.Thrifty = true // shorter segments may still find room
		err = s.admit(pages, records, bytes, largest, urgency, fits)
	}
	if err != nil {
		return err
	}
	s.credit = 0
	if loose, need := s.LoosePages(), s.imagePages()+s.reserve()+pages+s.owed(); fits && loose > need {
		s.credit = min((loose-need)/2, maxCredit) // half: checkpoints take their images from the same space
	}
	return nil
}

// LoosePages is the number of free pages that are in no free unit: index pages can be taken from them while the
// units stay whole.
func (s *State) LoosePages() uint64 {
	if s.P.Pages() <= uint64(s.P.Geo.UnitPages) {
		return s.Free.FreePages()
	}
	units := s.Free.FreeUnits() // first: a unit that is opened in between counts on neither side
	free := s.Free.FreePages()
	return free - min(free, units*uint64(s.P.Geo.UnitPages))
}

// onePages is what a commit of one record may take for index pages, and maxCredit how many pages are
// granted in advance to commits that stay within a segment.
const (
	onePages  = 8
	maxCredit = 4096
)

// AdmitPages is Admit for upkeep of the index that appends nothing and takes so many pages. Errors: ErrFull.
func (s *State) AdmitPages(pages uint64) error { return s.admit(pages, 0, 0, 0, Upkeep, true) }

// admit is Admit where the room has to be looked for; pages are those that the index may take.
func (s *State) admit(pages uint64, records int, bytes, largest uint64, urgency Urgency, fits bool) error {
	unit := uint64(s.P.Geo.UnitPages)
	units, run := uint64(0), uint64(1)
	opened := uint64(0)                 // units for index pages
	small, each := uint64(0), uint32(0) // segments in the first unit, and their length
	if s.P.Pages() > unit {
		units = s.leftUnits(urgency)
		// Index pages open units too, but compaction opens none of those kept for the log: checkpoints bring the old
		// copies back. A commit leaves pages enough for one of each more urgent kind.
		if loose, need := s.LoosePages(), pages+uint64(Upkeep-urgency)*s.worstIndexPages(1)+s.owed(); loose < need {
			if urgency == Upkeep {
				units = s.reserveUnits()
			}
			opened = (need - loose + unit - 1) / unit
			units += opened
		}
	}
	pages += s.imagePages() + s.reserve()*uint64(Upkeep-urgency)/2 + s.owed()
	if !fits {
		var n uint64
		n, each = s.Tail.NewSegments(records, bytes, largest)
		if uint64(each) < unit {
			small = n
			pages += n * uint64(each)
		} else {
			run = (uint64(each) + unit - 1) / unit
			units += n * run
		}
	}
	least := pages + (units-opened)*unit
	for {
		switch free := s.Free.FreeUnits(); {
		case free < units:
			if err := s.Grow(max((units-free)*unit, run*unit)); err != nil {
				return err
			}
		case s.Free.FreePages() < least:
			if err := s.Grow(least - s.Free.FreePages()); err != nil {
				return err
			}
		case small > 0 && s.P.Pages() <= unit && s.Free.SmallRuns(each) < small: // enough pages, and scattered
			if err := s.Grow(small * uint64(each)); err != nil {
				return err
			}
		case run > 1 && !s.hasRuns(units/run, run):
			if err := s.Grow(units * unit); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// hasRuns reports whether there is room for n segments of k units each.
func (s *State) hasRuns(n, k uint64) bool {
	for _, r := range s.Free.FreeUnitRuns() {
		n -= min(n, uint64(r.Pages)/uint64(s.P.Geo.UnitPages)/k)
	}
	return n == 0
}

// worstIndexPages is what the index may take for so many records: a copy of each
// bucket and of the directories above, and the splits.
func (s *State) worstIndexPages(records int) uint64 {
	n := uint64(records)
	perBucket := uint64(s.P.Geo.BucketLines)*8*uint64(s.P.Geo.FillPercent)/200 + 1
	return min(n, s.Index.Pages()) + min(n, uint64(s.Index.Directories)) + 2*(n/perBucket+1) + 6
}

// Distrust lets every index page that has a sum be verified again at its next use, and what could not be mended be
// tried again: what the kernel has read from the disk since may have rotted there. For any goroutine.
func (s *State) Distrust() {
	if sabotage.Is(sabotage.TrustForEver) {
		return
	}
	s.Index.Distrust(s.sums.Load())
	s.P.ForgetRot()
}

// Close gives memory and descriptors back. Nothing is written.
func (s *State) Close() error {
	err := s.P.Close()
	s.Tail.Close()
	return err
}
