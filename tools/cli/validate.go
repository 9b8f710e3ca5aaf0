package cli

import (
	"encoding/binary"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// validateReport compares the fields of both meta pages with the file.
type validateReport struct {
	Path   string       `json:"path"`
	Fields []validField `json:"fields"`
	Wrong  int          `json:"wrong"`
}

type validField struct {
	Meta  int    `json:"meta"`
	Field string `json:"field"`
	Value string `json:"value"`
	Wrong string `json:"wrong,omitempty"` // "" if it fits the file
}

func (r *validateReport) add(meta int, field string, value any, wrong string) {
	r.Fields = append(r.Fields, validField{meta, field, fmt.Sprint(value), wrong})
	if wrong != "" {
		r.Wrong++
	}
}

// unless gives the reason if a condition does not hold.
func unless(holds bool, format string, args ...any) string {
	if holds {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func (m *rawMap) validateMetas(cmd *cobra.Command) (*validateReport, error) {
	r := &validateReport{}
	for i := range 2 {
		b := m.Page(pager.PageNo(i))
		stored, want := binary.LittleEndian.Uint64(b), pager.MetaSum(b, i)
		r.add(i, "sum", fmt.Sprintf("%016x", stored), unless(stored == want, "it should be %016x", want))
		meta, err := pager.DecodeMeta(b, i)
		if err != nil {
			r.add(i, "page", "", unprefixed{err}.Error())
			continue
		}
		if err := m.validateMeta(cmd, r, i, meta, b); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// validateMeta compares one meta page whose sum holds.
func (m *rawMap) validateMeta(cmd *cobra.Command, r *validateReport, i int, meta *pager.Meta, b []byte) error {
	pages := m.Size / pager.PageSize
	r.add(i, "zero bytes", "", unless(allZero(b[208:]), "not all zero"))
	if other := m.Metas.Meta[1-i]; other != nil {
		r.add(i, "uuid", formatUUID(meta.UUID), unless(other.UUID == meta.UUID, "the other meta page has %s", formatUUID(other.UUID)))
		r.add(i, "file salt", fmt.Sprintf("%016x", meta.FileSalt), unless(other.FileSalt == meta.FileSalt, "the other meta page has another"))
		r.add(i, "hash key", fmt.Sprintf("%x", meta.HashKey), unless(other.HashKey == meta.HashKey, "the other meta page has another"))
		r.add(i, "number", meta.Number, unless(other.Number+1 == meta.Number || meta.Number+1 == other.Number, "the other meta page has %d", other.Number))
	}
	r.add(i, "pages", meta.Pages, unless(meta.Pages <= pages || meta.Clean, "the file has %d", pages))
	root := m.RootHolds(meta)
	r.add(i, "root page", meta.Root.Page, reasonOf(root))
	m.validateImages(r, i, meta)
	if root == nil && m.Meta != nil && meta.Number == m.Meta.Number {
		return m.validateCounts(cmd, r, i, meta)
	}
	return nil
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return unprefixed{err}.Error()
}

// validateImages compares the images, and the start of replay with the segment table in them and the segment's header.
func (m *rawMap) validateImages(r *validateReport, i int, meta *pager.Meta) {
	free, segments, err := m.Images(meta)
	r.add(i, "image page", meta.Image.Page, reasonOf(err))
	if err != nil {
		return
	}
	r.add(i, "image pages", free.Pages(), unless(free.Pages() <= meta.Pages, "the meta page says %d", meta.Pages))
	if meta.Segment == 0 {
		r.add(i, "segment", 0, unless(meta.Position == 0, "none, and the position is %d", meta.Position))
		return
	}
	var entry *tail.Entry
	for k := range segments {
		if segments[k].Start == meta.Segment {
			entry = &segments[k]
		}
	}
	if entry == nil {
		r.add(i, "segment", meta.Segment, "it is not in the segment table")
		return
	}
	h, _, ok := m.SegmentAt(meta.Segment)
	wrong := unless(ok, "neither copy of its header holds")
	if ok {
		wrong = unless(h.Salt == meta.Salt, "its header is of another use")
	}
	r.add(i, "segment", meta.Segment, wrong)
	r.add(i, "salt", fmt.Sprintf("%016x", meta.Salt), unless(entry.Salt == meta.Salt, "the segment table has %016x", entry.Salt))
	inside := meta.Position >= entry.Base()+tail.SegmentHeader && meta.Position <= entry.End() && meta.Position%8 == 0
	r.add(i, "position", meta.Position, unless(inside, "it is no place of a record in the segment"))
	if want := entry.FirstLSN + meta.Position - entry.Base(); inside {
		r.add(i, "lsn", meta.LSN, unless(meta.LSN == want, "by the segment it is %d", want))
	}
	r.add(i, "sequence", meta.Sequence, unless(meta.Sequence+1 >= entry.FirstSeq, "the segment begins with %d", entry.FirstSeq))
}

// validateCounts compares the numbers with the index of the state that an open begins from.
func (m *rawMap) validateCounts(cmd *cobra.Command, r *validateReport, i int, meta *pager.Meta) error {
	var buckets, directories, keys, tombstones, damaged uint64
	err := m.eachIndexPage(func(_ pager.PageNo, _ int, p indexPage) error {
		switch {
		case p.reason != "":
			damaged++
		case p.Type == index.TypeDirectory:
			directories++
		default:
			buckets++
			for _, s := range index.ReadSlots(p.bytes, int(meta.BucketLines)) {
				var rec tail.Record
				switch _, reason := m.record(s.Position, &rec); {
				case s.Dead:
				case reason != "":
					damaged++
				case rec.Kind == tail.KindDelete:
					tombstones++
				default:
					keys++
				}
			}
		}
		return cmd.Context().Err()
	})
	if err != nil {
		return err
	}
	for _, n := range []struct {
		field     string
		says, has uint64
	}{{"keys", meta.Keys, keys}, {"tombstones", meta.Tombstones, tombstones}, {"buckets", uint64(meta.Buckets), buckets}, {"directories", uint64(meta.Directories), directories}} {
		wrong := unless(n.says == n.has, "the index has %d", n.has)
		if damaged > 0 && wrong != "" {
			wrong += fmt.Sprintf(", and %d places that do not hold", damaged)
		}
		r.add(i, n.field, n.says, wrong)
	}
	return nil
}

func (r *validateReport) lines() []line {
	lines := []line{{"file", r.Path}}
	for _, f := range r.Fields {
		verdict := "ok"
		if f.Wrong != "" {
			verdict = "WRONG: " + f.Wrong
		}
		if f.Value != "" {
			verdict = f.Value + ": " + verdict
		}
		lines = append(lines, line{fmt.Sprintf("meta page %d, %s", f.Meta, f.Field), verdict})
	}
	verdict := "ok"
	if r.Wrong > 0 {
		verdict = fmt.Sprintf("%d fields are wrong", r.Wrong)
	}
	return append(lines, line{"verdict", verdict})
}
