package recovery

import (
	"errors"
	"fmt"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// fixedPages judges meta pages and mark page.
func (c *checker) fixedPages() error {
	for i, reason := range c.raw.Metas.Reason {
		name := structures[i]
		c.holds(name, 1)
		if reason != nil && !errors.Is(reason, errs.ErrVersion) {
			if err := c.found(Finding{Structure: name, Page: uint64(i), Reason: reason.Error()}); err != nil {
				return err
			}
		}
	}
	m := c.raw.Meta
	if m == nil {
		c.verdicts[StructureMark].Note = "no meta page tells its salt"
		return nil
	}
	if c.raw.Size < uint64(pager.ControlPage)*pager.PageSize {
		c.verdicts[StructureMark].Note = "it is cut off"
		return nil
	}
	mark := pager.ReadMarkPage(c.raw.Page(pager.MarkPage), m.FileSalt)
	v := c.holds(StructureMark, 1)
	switch {
	case mark.Sum == mark.Want:
		v.Note = fmt.Sprintf("the log is synced up to %d", mark.Mark)
	case mark.Blank:
		v.Note = "it says nothing yet"
	case flippedMark(c.raw, m.FileSalt): // it is reported as mended
	default: // it is never synced for its own sake, so that a power cut may leave it like this at any time
		v.Note = "its sum does not hold: it says nothing, and a torn tail is told from damage by the marks in the log alone"
	}
	return nil
}

// flippedMark reports whether the mark page holds but for one flipped bit.
func flippedMark(r *Raw, salt uint64) bool {
	b := r.Page(pager.MarkPage)
	_, ok := pager.FlippedBit(b[:32], func() bool {
		m := pager.ReadMarkPage(b, salt)
		return m.Sum == m.Want
	})
	return ok
}

// images judges what each meta page leads to at once: images and root. One that an open mends is reported as mended.
func (c *checker) images() error {
	metas := c.raw.Metas.Meta
	if metas[0] == nil && metas[1] == nil {
		for _, name := range []string{StructureImages, StructureTable, StructureLog, StructureDirectory, StructureBucket, StructureCount, StructureAccount} {
			c.verdicts[name].Note = "no meta page leads to it"
		}
		return nil
	}
	for i, m := range metas {
		if m == nil || i == 1 && metas[0] != nil && metas[0].Image == m.Image && metas[0].ImageBytes == m.ImageBytes {
			continue
		}
		c.holds(StructureImages, 1)
		if _, err := readImages(c.raw.File, m); err != nil {
			if failed := (*unread)(nil); errors.As(err, &failed) {
				return failed.error // no verdict
			}
			if err := c.found(Finding{Structure: StructureImages, Page: uint64(m.Image.Page), Reason: fmt.Sprintf("of meta page %d: %v", i, err)}); err != nil {
				return err
			}
		}
	}
	if c.raw.FellBack != nil && len(c.raw.Metas.Order()) == 2 {
		newer := 1 - c.raw.Slot
		if err := checkRoot(c.raw.File, metas[newer]); err != nil {
			c.holds(StructureDirectory, 1)
			return c.found(Finding{Structure: StructureDirectory, Page: uint64(metas[newer].Root.Page), Reason: fmt.Sprintf("of meta page %d: %v", newer, err)})
		}
	}
	return nil
}

// table judges the segment table of the checkpoint: both copies of each segment's header must say the same. What the log behind the
// checkpoint has retired may have been used again.
func (c *checker) table(segments []*tail.Segment) error {
	c.holds(StructureTable, 0)
	for _, g := range segments {
		if now := c.s.Tail.Lookup(g.Start); c.recovered && (now == nil || now.Salt != g.Salt) {
			continue
		}
		c.holds(StructureTable, 1)
		if f, ok := c.headerOf(g); !ok {
			if err := c.found(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// headerOf judges the header of a segment; ok is false if there is something to find.
func (c *checker) headerOf(g *tail.Segment) (f Finding, ok bool) {
	f = Finding{Structure: StructureTable, Page: uint64(g.Start), Offset: int64(g.Base())}
	stands := g.HeaderStands(c.raw.View, c.raw.Size/pager.PageSize*pager.PageSize)
	h, _, some := c.raw.SegmentAt(g.Start)
	switch {
	case stands[0] && stands[1]:
		return f, true
	case stands[0] || stands[1]:
		which := "first"
		if f.Copy = true; stands[0] {
			which, f.Offset = "second", f.Offset+pager.SectorSize
		}
		f.Reason = fmt.Sprintf("the %s of the two copies of the segment's header does not hold: the other one does", which)
	case some:
		f.Reason = fmt.Sprintf("the segment's header is of another use: first LSN %d, where the table says %d", h.FirstLSN, g.FirstLSN)
	default:
		f.Reason = "neither copy of the segment's header holds"
	}
	return f, false
}

// account judges the account of pages. Damage of the index, which it walks, is found where the index is judged.
func (c *checker) account() error {
	v := c.verdicts[StructureAccount]
	err := c.s.account(!c.o.Quick)
	var e *errs.CorruptError
	if errors.As(err, &e) {
		v.Note = "the index cannot be walked to its end"
		err = c.s.account(false)
	}
	if v.Judgement = Holds; c.o.Quick {
		v.Note = "a quick check leaves the pages of the index out"
	}
	v.Judged = c.s.Free.Pages()
	if err != nil {
		return c.found(Finding{Structure: StructureAccount, Reason: err.Error()})
	}
	return nil
}

// unopened judges what can be judged of a file that no meta page opens: the segments whose headers hold, and the records in
// them.
func (c *checker) unopened() error {
	c.total = 2 * c.raw.Size
	segments, err := c.raw.FindSegments(func(pager.PageNo) error { return c.step(pager.PageSize) })
	if err != nil {
		return err
	}
	if errors.Is(c.out.Refused, errs.ErrNotMapfile) {
		if len(segments) == 0 {
			return c.out.Refused
		}
		c.out.Refused = &errs.CorruptError{Path: c.raw.Path, Reason: "neither meta page is one of a map, and there are segments of one"}
	}
	c.out.Segments = uint64(len(segments))
	v := c.holds(StructureRecord, 0)
	v.Note = "by the segments' own headers; which are the newest is not known"
	for i := range segments {
		g := &segments[i]
		g.Used = g.End() - g.Base()
		for _, e := range c.raw.Segments {
			if e.Start == g.Start && e.Salt == g.Salt {
				g.Used = e.Used
			}
		}
		if err := c.segment(g, c.raw.View, g.Used == g.End()-g.Base()); err != nil {
			return err
		}
	}
	return nil
}
