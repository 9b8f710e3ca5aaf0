package recovery

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// index walks directories and buckets: each slot must lead to a record of a key that belongs there. It goes on behind a page
// that does not hold, and says by the counts how much it could not reach.
func (c *checker) index() error {
	s := c.s
	root, buckets, directories := s.Index.Root, uint64(s.Index.Buckets), uint64(s.Index.Directories)
	keys, tombstones := s.Keys, s.Tombstones
	if !c.recovered { // a replay that was broken off leaves the index between two states
		root, buckets, directories, keys, tombstones = s.meta.Root, uint64(s.meta.Buckets), uint64(s.meta.Directories), s.meta.Keys, s.meta.Tombstones
	}
	slots, damaged := uint64(0), false
	var positions []uint64
	err := s.Index.Survey(root, func(p index.Place) error {
		if p.Directory {
			c.holds(StructureDirectory, 1)
			return c.step(pager.PageSize)
		}
		c.holds(StructureBucket, 1)
		positions = s.Index.Positions(positions[:0], uint64(p.Page)*pager.PageSize)
		slots += uint64(len(positions))
		for _, at := range positions {
			if err := c.slot(root, uint64(p.Page)*pager.PageSize, at); err != nil {
				return err
			}
		}
		return c.step(pager.PageSize)
	}, func(p index.Place, err error) error {
		damaged = true
		if c.broken[uint64(p.Page)] {
			return nil // the replay met it
		}
		structure := StructureBucket
		if p.Directory {
			structure = StructureDirectory
		}
		return c.damage(structure, err)
	})
	if err != nil {
		return err
	}
	c.unjudged(StructureDirectory, directories)
	c.unjudged(StructureBucket, buckets)
	if v := c.verdicts[StructureRecord]; keys+tombstones > slots {
		v.Unjudged = keys + tombstones - slots
		v.Note = "slots that lead to the others are in pages that could not be judged"
	}
	return c.counts(damaged, buckets, directories, keys, tombstones)
}

// unjudged notes how many of so many pages of a structure were not reached.
func (c *checker) unjudged(structure string, all uint64) {
	if v := c.verdicts[structure]; all > v.Judged {
		v.Unjudged = all - v.Judged
	}
}

// counts compares the numbers in the state with what was found.
func (c *checker) counts(damaged bool, buckets, directories, keys, tombstones uint64) error {
	if damaged || len(c.broken) > 0 {
		c.verdicts[StructureCount].Note = "what is damaged cannot be counted"
		return nil
	}
	c.holds(StructureCount, 4)
	for _, n := range []struct {
		what        string
		there, says uint64
	}{
		{"keys", c.out.Keys, keys}, {"tombstones", c.out.Tombstones, tombstones},
		{"buckets", c.verdicts[StructureBucket].Judged, buckets}, {"directory pages", c.verdicts[StructureDirectory].Judged, directories},
	} {
		if n.there != n.says {
			if err := c.found(Finding{Structure: StructureCount, Reason: fmt.Sprintf("%d %s are there, %d were counted", n.there, n.what, n.says)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// slot checks the record behind one slot.
func (c *checker) slot(root pager.Ref, bucket, position uint64) error {
	var r tail.Record
	c.holds(StructureRecord, 1)
	if err := c.record(position, &r); err != nil {
		c.broken[position] = true
		return c.damage(StructureRecord, err)
	}
	home, hash, err := c.s.Index.Find(root, xxhash.Sum64(r.Key), r.Key, true)
	reached := err == nil && home == bucket
	for seen := 0; reached; {
		var p uint64
		if p, seen = c.s.Index.Next(home, hash, seen); p == position {
			break
		}
		reached = p != 0
	}
	if !reached {
		return c.found(Finding{Structure: StructureBucket, Page: bucket / pager.PageSize, Offset: int64(position), Reason: "a slot leads to a record whose key does not belong there"})
	}
	if !r.ValueHolds(r.Value) && (!c.mend(position) || c.record(position, &r) != nil || !r.ValueHolds(r.Value)) {
		return c.badValue(&r, "the newest of its key")
	}
	if r.Kind == tail.KindDelete {
		c.out.Tombstones++
		return nil
	}
	c.out.Keys++
	if c.o.Visit != nil {
		return c.o.Visit(&r)
	}
	return nil
}

// badValue notes a record whose value does not hold, once.
func (c *checker) badValue(r *tail.Record, which string) error {
	if c.broken[r.Position] {
		return nil
	}
	c.broken[r.Position] = true
	return c.found(Finding{Structure: StructureRecord, Page: r.Position / pager.PageSize, Offset: int64(r.Position),
		Reason: fmt.Sprintf("the sum of the record does not hold: the value of key %s, %s, is damaged", quoteKey(r.Key), which)})
}

// quoteKey writes a key so that it fits in a line.
func quoteKey(key []byte) string {
	const most = 40
	if len(key) > most {
		return fmt.Sprintf("%q… (%d bytes)", key[:most], len(key))
	}
	return fmt.Sprintf("%q", key)
}

// records reads every segment from its first record to its end, superseded records and their values too.
func (c *checker) records() error {
	for _, g := range c.s.Tail.Segments() {
		if err := c.segment(g, c.s.P.View(), false); err != nil {
			return err
		}
	}
	return nil
}

// segment reads the records of a segment. open says that where it ends is not known.
func (c *checker) segment(g *tail.Segment, v *pager.View, open bool) error {
	for at, end := g.Base()+tail.SegmentHeader, g.Base()+g.Used; at < end; {
		var r tail.Record
		if !c.header(v, at, g, &r) {
			next := tail.NextRecord(v, at, g.Salt, end)
			if err := c.step(next - at); err != nil {
				return err
			}
			if next == end && open {
				return nil // the unused end of the segment
			}
			if !c.broken[at] {
				if err := c.found(Finding{Structure: StructureRecord, Page: at / pager.PageSize, Offset: int64(at),
					Reason: fmt.Sprintf("the header sum of a record does not hold: %d bytes of the log cannot be read", next-at)}); err != nil {
					return err
				}
			}
			at = next
			continue
		}
		c.out.Records++
		if c.s == nil { // else the slots count
			c.holds(StructureRecord, 1)
		}
		if !r.ValueHolds(r.Value) && !c.broken[at] && !c.mend(at) {
			if err := c.badValue(&r, c.which(&r)); err != nil {
				return err
			}
		}
		if err := c.step(r.Size()); err != nil {
			return err
		}
		at += r.Size()
	}
	return nil
}

// header reads the header of a record. One flipped bit is taken back in private memory, and reported at the end.
func (c *checker) header(v *pager.View, at uint64, g *tail.Segment, r *tail.Record) bool {
	return tail.ParseHeader(v, at, g.Salt, g.End(), r) ||
		c.mend(at) && tail.ParseHeader(v, at, g.Salt, g.End(), r)
}

// record is State.Record, with a bound on the time that mending takes.
func (c *checker) record(position uint64, r *tail.Record) error {
	err := c.s.Record(position, r, false)
	if err != nil && c.mend(position) {
		return c.s.Record(position, r, false)
	}
	return err
}

// maxMendWork bounds what a check hashes, in bytes, to find flipped bits: seconds. It grows with the square of a key's
// length, and what rots may say that the key is long.
const maxMendWork = 1 << 35

// mend takes back a flipped bit in a record, in private memory. It answers true if the record is worth reading again.
func (c *checker) mend(position uint64) bool {
	if c.s == nil || position%8 != 0 || position+tail.HeaderBytes > c.s.P.Pages()*pager.PageSize || c.mendWork > maxMendWork {
		return false
	}
	n := uint64(tail.HeaderBytes) + uint64(binary.LittleEndian.Uint16(c.s.P.View().Bytes(position+8, 2)))
	c.mendWork += 8*n*n + 1<<20
	return c.s.MendRecord(position)
}

// which says what a damaged record is to its key.
func (c *checker) which(r *tail.Record) string {
	if c.s == nil || c.verdicts[StructureBucket].Unjudged > 0 {
		return "which may be the newest"
	}
	return "an older version"
}
