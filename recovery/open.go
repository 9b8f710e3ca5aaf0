package recovery

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"github.com/cespare/xxhash/v2"
	"io"
	"runtime/debug"
	"time"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Options say how a map is opened.
type Options struct {
	pager.OpenOptions
	ByWrite bool          // commits will be synced one by one: store records by pwrite
	Padded  bool          // commits have blocks of their own
	Random  func() uint64 // salts; nil: crypto/rand. The simulated disk sets it.
	Beside  bool          // parts of a recovery may run in goroutines
	Repair  *Repair       // what may be done beyond replay; nil: nothing
}

// Report is what an open had to do.
type Report struct {
	Clean      bool          // closed cleanly: there was nothing to do
	Checkpoint uint64        // number of the meta page that it began from
	Records    uint64        // replayed
	Bytes      uint64        // of log replayed
	Cut        uint64        // bytes behind the last whole commit that were part of a torn tail, as far as they could be read
	Damaged    []uint64      // byte offsets of records whose value does not hold: ErrCorrupt for their keys alone
	FellBack   error         // why the newer meta page was not used, nil if it was
	Rebuilt    bool          // the index was made anew
	Lost       Losses        // what was given up in the log
	Duration   time.Duration // of the whole open
}

// NewFile gives the bytes of an empty map: both meta pages naming the same state, a root
// directory, one bucket, the images.
func NewFile(g pager.Geometry, random func() uint64) []byte {
	const root, bucket, image, epoch = pager.FirstPage, pager.FirstPage + 1, pager.FirstPage + 2, 1
	pages := uint64(image) + 1
	m := pager.Meta{Epoch: epoch + 1, Pages: pages, Root: pager.Ref{Page: root, Epoch: epoch}, LSN: 1, Keys: 0, Buckets: 1, Directories: 1, Clean: true}
	m.SetGeometry(g)
	m.FileSalt = random()
	for _, b := range [][]byte{m.UUID[:8], m.UUID[8:], m.HashKey[:8], m.HashKey[8:]} {
		binary.LittleEndian.PutUint64(b, random())
	}
	m.UUID[6], m.UUID[8] = m.UUID[6]&0x0f|0x40, m.UUID[8]&0x3f|0x80 // a UUID of version 4

	free := freelist.New(g, pages).Snapshot()
	free.MarkUsed(freelist.Run{Start: root, Pages: 3})
	im := images{free: free}
	m.Pages = free.Pages()
	out := make([]byte, m.Pages*pager.PageSize)
	index.BuildEmpty(out[root*pager.PageSize:], g, root, bucket, epoch, m.FileSalt)
	b := im.encode(image, 1, m.Epoch, m.FileSalt)
	copy(out[image*pager.PageSize:], b)
	m.Image, m.ImageBytes = pager.Ref{Page: image, Epoch: m.Epoch}, uint64(len(b))
	m.Number = 1
	copy(out, m.Encode(0))
	m.Number = 2
	copy(out[pager.PageSize:], m.Encode(1))
	return out
}

// Random is the source of salts when none is given.
func Random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}

// Open opens or creates a map and brings its state to the end of the last whole commit.
//
// A read-write open of a map whose tail holds records replays them; one without writes nothing before the first append. The life, and with
// it the first meta page that names what was replayed, is the caller's to begin (Unnamed), but where something was repaired or fallen back upon: that
// begins at once. A read-only open replays into private memory.
// Errors: ErrNotMapfile, ErrVersion, ErrLocked, ErrCorrupt, and the system's.
func Open(o Options) (*State, error) {
	begin := time.Now()
	if o.Random == nil {
		o.Random = Random
	}
	o.NewFile = func(g pager.Geometry) []byte { return NewFile(g, o.Random) }
	f, err := pager.Open(o.OpenOptions)
	if err != nil {
		return nil, err
	}
	s, err := openState(&o, f)
	if err != nil {
		_ = f.File.Close() // what went wrong before matters
		return nil, errs.At(f.Path, "open", err)
	}
	if err := s.guard(func() error { return s.recover(&o) }); err != nil {
		_ = s.Close()
		return nil, errs.At(f.Path, "recover", err)
	}
	if !o.ReadOnly {
		s.P.Sign()
	}
	s.Report.Duration = time.Since(begin)
	return s, nil
}

// guard runs a part of a recovery under the fault guard: none of the caller's code runs in it.
func (s *State) guard(part func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = s.P.Fault(r)
		}
	}()
	return part()
}

// choose takes the newer of the meta pages whose sum, root page and images hold; with rootless the root does not matter.
// Where none does because a call failed, the error is that call's, and not damage.
func choose(f *pager.Opened, rootless bool) (which int, im *images, fellBack error, err error) {
	for _, reason := range f.Metas.Reason {
		if errors.Is(reason, errs.ErrVersion) && !sabotage.Is(sabotage.NewerVersionIgnored) {
			return 0, nil, nil, reason
		}
	}
	order := f.Metas.Order()
	if len(order) == 0 {
		if errors.Is(f.Metas.Reason[0], errs.ErrNotMapfile) && errors.Is(f.Metas.Reason[1], errs.ErrNotMapfile) {
			return 0, nil, nil, errs.ErrNotMapfile
		}
		return 0, nil, nil, &errs.CorruptError{Path: f.Path, Page: 0, Structure: "meta", Reason: fmt.Sprintf("neither meta page holds (%v; %v)", f.Metas.Reason[0], f.Metas.Reason[1])}
	}
	structure, rootsOnly := "meta", false
	for _, which = range order {
		m := f.Metas.Meta[which]
		im, err = readImages(f.File, m)
		if err == nil && !rootless {
			err = checkRoot(f.File, m)
			rootsOnly = rootsOnly || err != nil
		}
		if err == nil {
			if len(order) == 1 {
				fellBack = f.Metas.Reason[1-which]
			}
			return which, im, fellBack, nil
		}
		err = fmt.Errorf("meta page %d: %w", which, err)
		if fellBack != nil {
			err = fmt.Errorf("%w; %w", fellBack, err) // a message is one line
		}
		fellBack = err
	}
	if failed := (*unread)(nil); errors.As(fellBack, &failed) {
		return 0, nil, nil, failed.error
	}
	if rootsOnly {
		structure = "index" // all else is there to make it anew
	}
	m := f.Metas.Meta[order[0]]
	return 0, nil, nil, &errs.CorruptError{Path: f.Path, Page: uint64(m.Image.Page), Structure: structure, Reason: fmt.Sprintf("no meta page leads to a whole state (%v)", fellBack)}
}

// otherHolds reports whether a meta page that was not chosen, and its images, hold.
func otherHolds(f *pager.Opened, which int) bool {
	m := f.Metas.Meta[which]
	if m == nil {
		return false
	}
	_, err := readImages(f.File, m)
	return err == nil
}

// checkRoot verifies the root page before anything is mapped.
func checkRoot(f pager.File, m *pager.Meta) error {
	if sabotage.Is(sabotage.RootUnchecked) {
		return nil
	}
	b := make([]byte, pager.PageSize)
	if _, err := f.ReadAt(b, int64(m.Root.Page)*pager.PageSize); err != nil && !errors.Is(err, io.EOF) {
		return unreadable(err)
	}
	// A flipped bit is taken back where the page is first used.
	if _, ok := index.Flipped(b, m.FileSalt, m.Root.Page, func() bool {
		return index.HeaderNames(b, index.TypeDirectory, m.Root.Page, m.Root.Epoch)
	}); !ok {
		return fmt.Errorf("the sum of root page %d does not hold", m.Root.Page)
	}
	return nil
}

// openState maps the file and loads what the chosen meta page leads to.
func openState(o *Options, f *pager.Opened) (*State, error) {
	which, im, fellBack, err := choose(f, o.repair().RebuildIndex)
	if err != nil {
		return nil, err
	}
	m := *f.Metas.Meta[which]
	o.Geometry = m.Geometry(o.Geometry)
	have := filePages(f.Info.Size, o.Geometry)

	// What both meta pages have let go of is free, and so is what only a lost one needed.
	newer := freelist.Meta{Epoch: m.Epoch, LSN: m.LSN}
	older := newer
	if other := f.Metas.Meta[1-which]; other != nil {
		older = freelist.Meta{Epoch: other.Epoch, LSN: other.LSN}
	}
	if older.Epoch > newer.Epoch {
		newer, older = older, newer
	}
	free := freelist.FromImage(o.Geometry, im.free, max(have, im.free.Pages()))
	free.Due(newer, older)
	var stale []freelist.Run
	for _, e := range free.TakeDue(^uint64(0)) {
		free.Free(e.Run)
		if e.Kind == freelist.KindSegment {
			stale = append(stale, e.Run)
		}
	}
	if cut := free.CutEnd(); cut > have {
		return nil, &errs.CorruptError{Path: f.Path, Page: have, Structure: "meta", Reason: fmt.Sprintf("the file is cut short: %d bytes, at least %d are in use", f.Info.Size, cut*pager.PageSize)}
	}
	free.Shrink(have)

	p, err := pager.New(o.OpenOptions, f, have, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	t, err := tail.New(p)
	if err != nil {
		return nil, errors.Join(err, p.CloseMapping())
	}
	p.MendLater(f.Metas.Flips...)
	p.MendLater(im.flips...)
	s := &State{P: p, Free: free, Tail: t, meta: m, slot: which, life: m.Life}
	s.older, s.stale = older, stale
	s.oneLed = fellBack != nil || o.Repair != nil && !otherHolds(f, 1-which)
	s.image = freelist.Run{Start: m.Image.Page, Pages: uint32((m.ImageBytes + pager.PageSize - 1) / pager.PageSize)}
	free.Keep(s.reserveUnits())
	s.Keys, s.Tombstones, s.sealedLSN = m.Keys, m.Tombstones, m.LSN
	s.OldestPin = func() uint64 { return ^uint64(0) }
	s.Generation.Store(1)
	t.Load(im.segments)
	s.history.load(im.history, m.Sequence)
	t.UUID, t.Life, t.ByWrite, t.Padded, t.Random = m.UUID, m.Life, o.ByWrite, o.Padded, o.Random
	t.LSN, t.Sequence = m.LSN, m.Sequence
	t.Allocate = s.allocSegment
	s.openIndex(o)
	s.sums.Store(m.Epoch)
	s.Report = Report{Clean: m.Clean, Checkpoint: m.Number, FellBack: fellBack}
	return s, nil
}

// epochSkip is by how much epochs go on behind a recovery: pages of the life that died may bear those between, which
// a life keeps below it (maxEpochs).
const (
	epochSkip = 16
	maxEpochs = 12
)

// privateStep is by how many pages the private memory of a read-only open grows.
const privateStep = 256

// openIndex makes the index of the state.
func (s *State) openIndex(o *Options) {
	x := index.New(s.P, s.meta.FileSalt, s.meta.HashKey)
	x.Root, x.Epoch = s.meta.Root, s.meta.Epoch+epochSkip
	if sabotage.Is(sabotage.EpochsNotSkipped) {
		x.Epoch = s.meta.Epoch
	}
	x.Buckets, x.Directories = s.meta.Buckets, s.meta.Directories
	x.Alloc, x.Retire = s.allocPage, s.retirePage
	x.Matches, x.KeyAt, x.FirstHash = s.matches, s.keyAt, xxhash.Sum64
	if o.ReadOnly {
		next := s.P.Pages()
		x.Alloc = func() (pager.PageNo, error) {
			if next == s.P.Pages() {
				left := s.P.View().Size()/pager.PageSize - next
				if err := s.P.Grow(next + min(max(left, 1), privateStep)); err != nil {
					return 0, err
				}
			}
			next++
			return pager.PageNo(next - 1), nil
		}
		x.Retire = func(pager.PageNo, uint32) {} // private pages are never reused, the file's never freed
	}
	s.Index = x
	s.SetRoot(x.Root)
	s.Published.Store(s.meta.Sequence)
}

// filePages is the number of pages of a file of that many bytes that can be used: behind
// the first unit whole units only, for a growth that was cut off may have left less.
func filePages(size int64, g pager.Geometry) uint64 {
	pages, unit := uint64(size)/pager.PageSize, uint64(g.UnitPages)
	if pages > unit {
		pages -= pages % unit
	}
	return min(pages, pager.MaxPages)
}

// matches reports whether the record at position has the key, and keeps it as s.Matched.
func (s *State) matches(position uint64, key []byte) (bool, error) {
	if err := s.Record(position, &s.Matched, true); err != nil {
		return false, err
	}
	return string(s.Matched.Key) == string(key), nil
}

// keyAt reads the key of the record at position.
func (s *State) keyAt(position uint64) ([]byte, error) {
	var r tail.Record
	if err := s.Record(position, &r, true); err != nil {
		return nil, err
	}
	return r.Key, nil
}

// Record reads the record at a position that a slot or a link gave, as far as its header
// sum: key, kind and sequence may be believed, the value not yet. mend says that what lies there is not reused meanwhile, because
// of a pin or the turn, so that a flipped bit may be taken back.
func (s *State) Record(position uint64, r *tail.Record, mend bool) error {
	if s.parse(position, r) || mend && s.MendRecord(position) && s.parse(position, r) {
		return nil
	}
	return &errs.CorruptError{Path: s.P.Path(), Page: position / pager.PageSize, Offset: int64(position), Structure: "record", Reason: "the header sum of the record does not hold"}
}

func (s *State) parse(position uint64, r *tail.Record) bool {
	limit := s.P.Pages() * pager.PageSize // before the view: that is never shorter then
	if position+tail.HeaderBytes > limit {
		return false
	}
	salt := s.Tail.Salt(position)
	return salt != 0 && tail.ParseHeader(s.P.View(), position, salt, limit, r)
}

// MendRecord takes back a flipped bit in the record at position, as Record may. It answers true if the record is worth reading again.
func (s *State) MendRecord(position uint64) bool {
	limit := s.P.Pages() * pager.PageSize
	if position+tail.HeaderBytes > limit {
		return false
	}
	salt := s.Tail.Salt(position)
	return salt != 0 && tail.Mend(s.P, position, salt, limit)
}
