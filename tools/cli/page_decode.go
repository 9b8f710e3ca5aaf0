package cli

import (
	"encoding/binary"
	"fmt"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

func (m *rawMap) decodeMeta(r *pageReport, b []byte, which int) {
	r.Kind = kindMeta
	r.setSum(binary.LittleEndian.Uint64(b), pager.MetaSum(b, which), true)
	if _, err := pager.DecodeMeta(b, which); err != nil {
		r.Note = unprefixed{err}.Error()
		r.damaged = true
	}
	r.Fields = append(r.Fields, metaFields(b)...)
}

// metaFields are the fields of a meta page as they stand, in the order and by the names of FORMAT.md.
func metaFields(b []byte) []fieldReport {
	m, le := pager.MetaFields(b), binary.LittleEndian
	clean := "0"
	if m.Clean {
		clean = "1"
	}
	var out []fieldReport
	add := func(name string, value any) { out = append(out, fieldReport{name, fmt.Sprint(value)}) }
	add("magic", fmt.Sprintf("%q", b[8:16]))
	add("version", le.Uint32(b[16:]))
	add("page size", le.Uint32(b[20:]))
	add("must know", m.MustKnow)
	add("may ignore", m.MayIgnore)
	add("uuid", formatUUID(m.UUID))
	add("file salt", fmt.Sprintf("%016x", m.FileSalt))
	add("hash key", fmt.Sprintf("%x", m.HashKey))
	add("number", m.Number)
	add("epoch", m.Epoch)
	add("life", m.Life)
	add("pages", m.Pages)
	add("root page", m.Root.Page)
	add("root epoch", m.Root.Epoch)
	add("image page", m.Image.Page)
	add("image epoch", m.Image.Epoch)
	add("image bytes", m.ImageBytes)
	add("segment", m.Segment)
	add("salt", fmt.Sprintf("%016x", m.Salt))
	add("position", m.Position)
	add("lsn", m.LSN)
	add("sequence", m.Sequence)
	add("keys", m.Keys)
	add("clean", clean)
	add("bucket lines", m.BucketLines)
	add("fill percent", m.FillPercent)
	add("fan-out bits", m.FanoutBits)
	add("unit pages", m.UnitPages)
	add("small pages", m.SmallPages)
	add("buckets", m.Buckets)
	add("directories", m.Directories)
	add("tombstones", m.Tombstones)
	return out
}

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// decodeImages decodes the first page of images as all of them, any other as a part of them. which is the meta page that
// names them, -1 if none does.
func (m *rawMap) decodeImages(r *pageReport, b []byte, which int) {
	r.Kind = kindImage
	start := pager.PageNo(r.Page)
	if which >= 0 {
		meta := m.Metas.Meta[which]
		r.field("named by meta page", which)
		if start != meta.Image.Page {
			r.Note = fmt.Sprintf("the images begin at page %d", meta.Image.Page)
			return
		}
	}
	h := index.ReadHeader(b)
	want, whole := m.ImageSum(start, h)
	r.setSum(h.Sum, want, whole)
	r.field("page", h.Page)
	r.field("epoch", h.Epoch)
	r.field("length", h.Length)
	switch {
	case which < 0:
		r.damaged = false // images of an older checkpoint: nothing leads to them
		r.Note = "no meta page names these images"
		return
	case !whole:
		r.damaged = true
		r.Note = "they reach behind the file's end, or their length is none"
		return
	}
	m.imageContent(r, m.Metas.Meta[which])
}

// imageContent decodes free space and segment table.
func (m *rawMap) imageContent(r *pageReport, meta *pager.Meta) {
	free, segments, err := m.Images(meta)
	if err != nil {
		r.damaged = true
		r.Note = err.Error()
		return
	}
	r.field("pages", free.Pages())
	if free.Pages() > 2*m.Pages()+uint64(meta.UnitPages) {
		r.Note = "it speaks of more pages than the file has"
		return
	}
	var runs [4]uint64
	var pages [4]uint64
	freelist.FromImage(meta.Geometry(pager.DefaultGeometry()), free, free.Pages()).Account(func(run freelist.Run, state freelist.State) {
		runs[state]++
		pages[state] += uint64(run.Pages)
	})
	r.field("pages in use", pages[freelist.StateUsed])
	r.field("free pages", fmt.Sprintf("%d in %d runs", pages[freelist.StateFree], runs[freelist.StateFree]))
	r.field("retired pages", fmt.Sprintf("%d in %d runs", pages[freelist.StatePending], runs[freelist.StatePending]))
	r.field("segments", len(segments))
	for _, e := range segments {
		r.field(fmt.Sprintf("segment at page %d", e.Start),
			fmt.Sprintf("%d pages, life %d, first LSN %d, sequences %d to %d, %d bytes used, %d live", e.Pages, e.Life, e.FirstLSN, e.FirstSeq, e.LastSeq, e.Used, e.Live))
	}
	if h, err := m.History(meta); err == nil {
		r.field("history floor", h.Floor)
		r.field("history cleared", h.Cleared)
		r.field("lives", h.Lives)
	}
}

// segmentHeader decodes the header of a segment.
func (r *pageReport) segmentHeader(s *tail.Segment, both bool) {
	copies := "both copies hold"
	if !both {
		copies = "one copy of two holds"
	}
	r.field("header", copies)
	r.field("pages", s.Pages)
	r.field("salt", fmt.Sprintf("%016x", s.Salt))
	r.field("life", s.Life)
	r.field("first lsn", s.FirstLSN)
	r.field("first sequence", s.FirstSeq)
}

// decodeSegment decodes a page of a segment: its header, if it is the first, and the records that begin in it.
func (m *rawMap) decodeSegment(r *pageReport, u *useOf, n pager.PageNo) {
	r.Kind = kindSegment
	at := r.Offset
	r.field("segment", u.Start)
	if n == u.Start {
		at += tail.SegmentHeader
		if s, both, ok := m.SegmentAt(n); ok {
			r.segmentHeader(&s, both)
		} else {
			r.field("header", "neither copy holds")
			r.damaged = true
		}
	}
	end := min(r.Offset+pager.PageSize, u.Base()+u.Used)
	if at >= end {
		r.Note = "behind the last record"
		return
	}
	first, ok := m.firstRecord(u, at)
	if !ok {
		r.Note = "no record begins in it"
		return
	}
	for at = first; at < end; {
		rec := m.readRecord(u, at, false)
		r.Records = append(r.Records, rec)
		if rec.Size == 0 {
			next := tail.NextRecord(m.View, at, u.Salt, u.Base()+u.Used)
			r.damaged = r.damaged || !u.open || next < u.Base()+u.Used
			at = next
			continue
		}
		r.damaged = r.damaged || rec.damaged()
		at += rec.Size
	}
}

// firstRecord is where the first record at or behind a place begins, found by going through the segment from its beginning;
// ok is false if none begins before the page's end.
func (m *rawMap) firstRecord(u *useOf, at uint64) (first uint64, ok bool) {
	end := u.Base() + u.Used
	for p := u.Base() + tail.SegmentHeader; p < end; {
		if p >= at {
			return p, p/pager.PageSize == at/pager.PageSize
		}
		var r tail.Record
		if tail.ParseHeader(m.View, p, u.Salt, min(u.End(), m.Size), &r) {
			p += r.Size()
			continue
		}
		next := tail.NextRecord(m.View, p, u.Salt, end)
		if next >= at && at/pager.PageSize == (next-1)/pager.PageSize && p < at {
			return next, next/pager.PageSize == at/pager.PageSize && next < end
		}
		p = next
	}
	return 0, false
}
