package recovery

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Raw is a file that is looked at as bytes: it is locked against writers, nothing in it is believed, and it need not hold a
// map that opens. It is for one goroutine.
type Raw struct {
	File pager.File
	Path string
	Info pager.Info
	View *pager.View // of the whole file; read it inside Guard
	Size uint64      // of the file, in bytes

	Metas    pager.MetaPair
	Slot     int         // of the meta page an open would begin from: 0 or 1, or -1 if none leads to a whole state
	Meta     *pager.Meta // that page; else the newer that holds; nil if neither does
	FellBack error       // why the newer meta page is not used, nil if it is
	Refused  error       // why an open would refuse the meta pages, nil if it would not

	Free     *freelist.Allocator // free space as of Meta, nil if its images do not hold
	Segments []tail.Entry        // the segment table as of Meta, by page
}

// OpenRaw opens and locks a file as a read-only open of a map does. It writes nothing. Errors: those of the system,
// ErrLocked, and ErrNotMapfile of an empty file; never damage.
func OpenRaw(o pager.OpenOptions) (*Raw, error) {
	o.ReadOnly = true
	f, err := pager.Open(o)
	if err != nil {
		return nil, err
	}
	r := &Raw{File: f.File, Path: f.Path, Info: f.Info, Size: uint64(f.Info.Size), Metas: f.Metas, Slot: -1}
	if r.View, err = pager.MapReadOnly(f.File, f.Info.Size); err != nil {
		_ = f.File.Close() // the mapping's error is what matters
		return nil, errs.At(f.Path, "", err)
	}
	r.choose(f)
	return r, nil
}

// choose finds the meta page that an open would take, and what it leads to.
func (r *Raw) choose(f *pager.Opened) {
	which, im, fellBack, err := choose(f, false)
	if err == nil {
		r.Slot, r.Meta, r.FellBack = which, f.Metas.Meta[which], fellBack
		r.take(im)
		return
	}
	r.Refused = err
	for _, i := range f.Metas.Order() {
		if r.Meta == nil {
			r.Meta = f.Metas.Meta[i]
		}
		if im, err := readImages(f.File, f.Metas.Meta[i]); err == nil {
			r.Meta = f.Metas.Meta[i]
			r.take(im)
			return
		}
	}
}

// take makes what images say of free space and segments available.
func (r *Raw) take(im *images) {
	g := r.Meta.Geometry(pager.DefaultGeometry())
	if have := filePages(int64(r.Size), g); im.free.Pages() <= 2*have+uint64(g.UnitPages) { // memory in the size of the file
		r.Free = freelist.FromImage(g, im.free, max(have, im.free.Pages()))
	}
	r.Segments = im.segments
}

// Close gives address space and lock back.
func (r *Raw) Close() error { return errors.Join(r.View.Unmap(), r.File.Close()) }

// Guard calls look, which reads the view: bytes that the disk cannot give, or a file that is cut short meanwhile, are an
// error instead of the end of the process.
func (r *Raw) Guard(look func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			if !pager.IsFault(p) {
				panic(p)
			}
			err = errs.At(r.Path, "read", errors.New("the system could not give a page: I/O error, or the file was cut short"))
		}
	}()
	return look()
}

// Pages is the number of pages of the file; the last may be cut short.
func (r *Raw) Pages() uint64 { return (r.Size + pager.PageSize - 1) / pager.PageSize }

// Page is a copy of a page, zeros behind the file's end.
func (r *Raw) Page(n pager.PageNo) []byte {
	b := make([]byte, pager.PageSize)
	if at := uint64(n) * pager.PageSize; at < r.Size {
		copy(b, r.View.Bytes(at, min(pager.PageSize, r.Size-at)))
	}
	return b
}

// UUID is the map's, as far as a meta page tells; known is false if none does.
func (r *Raw) UUID() (uuid [16]byte, known bool) {
	if r.Meta == nil {
		return uuid, false
	}
	return r.Meta.UUID, true
}

// SegmentAt reads the header of a segment that begins at a page, of any map where no meta page tells which one. Both says
// that both of its copies hold.
func (r *Raw) SegmentAt(n pager.PageNo) (s tail.Segment, both, ok bool) {
	if uint64(n)*pager.PageSize+tail.SegmentHeader > r.Size {
		return s, false, false
	}
	limit := r.Size / pager.PageSize * pager.PageSize
	if uuid, known := r.UUID(); known {
		s, ok = tail.ReadSegment(r.View, n, limit, uuid)
	} else {
		s, _, ok = tail.FindSegment(r.View, n, limit)
	}
	return s, ok && tail.HeaderCopies(r.View.Bytes(uint64(n)*pager.PageSize, tail.SegmentHeader)) == 2, ok
}

// FindSegments lists the segments that the headers in the file tell of, by page, those in free space too: it looks at
// every page. step is called for each page and may end the search.
func (r *Raw) FindSegments(step func(pager.PageNo) error) (all []tail.Segment, err error) {
	for n := pager.FirstPage; uint64(n) < r.Size/pager.PageSize; n++ {
		if err := step(n); err != nil {
			return all, err
		}
		if s, _, ok := r.SegmentAt(n); ok {
			all = append(all, s)
		}
	}
	return all, nil
}

// Leads says whether what a meta page leads to holds: nil, or the first thing that does not.
func (r *Raw) Leads(which int) error {
	m := r.Metas.Meta[which]
	if m == nil {
		return r.Metas.Reason[which]
	}
	if _, err := readImages(r.File, m); err != nil {
		return err
	}
	return checkRoot(r.File, m)
}

// Images reads the images that a meta page names. The error is the reason why they do not hold.
func (r *Raw) Images(m *pager.Meta) (free *freelist.Image, segments []tail.Entry, err error) {
	im, err := readImages(r.File, m)
	if err != nil {
		return nil, nil, err
	}
	return im.free, im.segments, nil
}

// History is what the images that a meta page names tell of how far back the log can tell what has changed.
type History struct {
	Floor   uint64 // below this sequence it cannot
	Cleared uint64 // sequence of the last Clear, 0 if there was none
	Lives   int    // that are remembered
}

// History reads the history in the images that a meta page names. The error is the reason why they do not hold.
func (r *Raw) History(m *pager.Meta) (h History, err error) {
	im, err := readImages(r.File, m)
	if err != nil {
		return h, err
	}
	return History{im.history.floor, im.history.cleared, len(im.history.lives)}, nil
}

// RootHolds says why the root page that a meta page names does not hold, nil if it does.
func (r *Raw) RootHolds(m *pager.Meta) error { return checkRoot(r.File, m) }

// ImageSum is the sum that the images in the run of pages from n on should have, by the length and epoch in their header, and
// whether they are all there.
func (r *Raw) ImageSum(n pager.PageNo, h index.Header) (want uint64, whole bool) {
	at := uint64(n) * pager.PageSize
	if r.Meta == nil || h.Length < index.HeaderBytes || h.Length > maxImageBytes || at+h.Length > r.Size {
		return 0, false
	}
	return index.Sum(r.View.Bytes(at, h.Length), r.Meta.FileSalt, n, h.Epoch), true
}

// readWhole reads a page by system call; zeros behind the file's end.
func readWhole(f pager.File, n pager.PageNo) ([]byte, error) {
	b := make([]byte, pager.PageSize)
	if _, err := f.ReadAt(b, int64(n)*pager.PageSize); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return b, nil
}

// reasons is why meta pages do not hold, as one line.
func reasons(m pager.MetaPair) error {
	if m.Reason[0] != nil && m.Reason[1] != nil {
		return fmt.Errorf("%w; %w", m.Reason[0], m.Reason[1])
	}
	return errors.Join(m.Reason[:]...)
}

// FallBack makes the newer meta page of a file void, by a write through to the disk, so that an open begins from the older
// one. f is open for writing and locked. It refuses where the older leads to no whole state.
func FallBack(f *pager.Opened) (from, to int, err error) {
	order := f.Metas.Order()
	if len(order) < 2 {
		return 0, 0, fmt.Errorf("there is no older meta page to fall back to (%w)", reasons(f.Metas))
	}
	from, to = order[0], order[1]
	m := f.Metas.Meta[to]
	if _, err := readImages(f.File, m); err != nil {
		return from, to, fmt.Errorf("the older meta page %d leads to no whole state: %w", to, err)
	}
	if err := checkRoot(f.File, m); err != nil {
		return from, to, fmt.Errorf("the older meta page %d leads to no whole state: %w", to, err)
	}
	// The magic stays, so that the page says that it was one.
	b, err := readWhole(f.File, pager.PageNo(from))
	if err != nil {
		return from, to, err
	}
	binary.LittleEndian.PutUint64(b, ^pager.MetaSum(b, from))
	return from, to, f.File.WriteSync(b[:pager.SectorSize], int64(from)*pager.PageSize)
}
