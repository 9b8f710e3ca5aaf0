package recovery

import (
	"context"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Finding is one thing that does not hold.
type Finding struct {
	Structure string // meta, free space, index, record, log, count
	Page      uint64
	Offset    int64 // in bytes, 0 where only the page is known
	Reason    string
}

// CheckReport is the verdict of a check.
type CheckReport struct {
	Report     Report
	Metas      pager.MetaPair
	Keys       uint64 // live keys found by walking the index
	Tombstones uint64
	Records    uint64 // in all segments, superseded ones included
	Segments   uint64
	IndexPages uint64
	FreePages  uint64
	Findings   []Finding
}

// CheckOptions say how thorough a check is.
type CheckOptions struct {
	Quick     bool                       // meta pages, free space and the part of the log that open replays; not the index and not the records
	MaxErrors int                        // stop after so many findings; 0: 100
	Progress  func(done, total uint64)   // bytes looked at
	Visit     func(r *tail.Record) error // called for each live record, if not nil
}

// errEnough ends a check that has found as many errors as were asked for.
var errEnough = errors.New("enough errors found")

// checker is one check.
type checker struct {
	ctx         context.Context
	s           *State
	o           CheckOptions
	out         *CheckReport
	done, total uint64
	steps       int
}

// Check opens a map read-only, as open would recover it, in private memory, and looks at
// everything. It writes nothing. The error is that of an open which fails, or of ctx; what does not
// hold in a map that opens is in the report.
func Check(ctx context.Context, o Options, co CheckOptions) (*CheckReport, error) {
	o.ReadOnly = true
	if co.MaxErrors <= 0 {
		co.MaxErrors = 100
	}
	f, err := pager.Open(o.OpenOptions)
	if err != nil {
		return nil, err
	}
	s, err := openState(&o, f)
	if err != nil {
		_ = f.File.Close() // what went wrong before matters
		return nil, errs.At(f.Path, "open", err)
	}
	c := &checker{ctx: ctx, s: s, o: co, out: &CheckReport{Metas: f.Metas}}
	err = c.run(&o)
	c.out.Report = s.Report
	if err == nil {
		err = c.mended()
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return c.out, errs.At(f.Path, "check", errors.Join(err, s.Close()))
}

// mended notes the single flipped bits that were taken back in private memory: in the file they are still wrong.
func (c *checker) mended() error {
	flips, _ := c.s.P.Mended()
	for _, f := range flips {
		if err := c.found(f.What, f.Off/pager.PageSize, int64(f.Off), "one bit is flipped: an open for writing mends it"); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) run(o *Options) error {
	for i, reason := range c.out.Metas.Reason {
		if reason != nil {
			if err := c.found("meta", uint64(i), 0, reason.Error()); err != nil {
				return err
			}
		}
	}
	if failed := (*unread)(nil); errors.As(c.s.Report.FellBack, &failed) {
		return failed.error // no verdict
	}
	if c.s.Report.FellBack != nil {
		if err := c.found("meta", 0, 0, c.s.Report.FellBack.Error()); err != nil {
			return err
		}
	}
	c.out.FreePages = c.s.Free.FreePages()
	c.total = c.s.Index.Bytes()
	for _, g := range c.s.Tail.Segments() {
		c.total += g.Used
	}
	// Free space belongs to the state of the checkpoint, before the tail is replayed.
	if err := c.s.Account(); err != nil {
		if err := c.account(err); err != nil {
			return err
		}
	}
	if err := c.s.guardedRecover(o); err != nil {
		return c.damage("log", err)
	}
	for _, at := range c.s.Report.Damaged {
		if err := c.found("record", at/pager.PageSize, int64(at), "the value of a record of the tail is damaged"); err != nil {
			return err
		}
	}
	c.out.Segments, c.out.IndexPages = uint64(len(c.s.Tail.Segments())), c.s.Index.Pages()
	if c.o.Quick {
		return nil
	}
	if err := c.index(); err != nil {
		return err
	}
	return c.log()
}

// account notes what the account of pages found. Damage of the index, which it walks, is found again where the index is checked.
func (c *checker) account(err error) error {
	var e *errs.CorruptError
	switch {
	case !errors.As(err, &e):
		return c.found("free space", 0, 0, err.Error())
	case c.o.Quick:
		return c.damage("index", err)
	}
	return nil
}

// found notes something that does not hold.
func (c *checker) found(structure string, page uint64, offset int64, reason string) error {
	c.out.Findings = append(c.out.Findings, Finding{structure, page, offset, reason})
	if len(c.out.Findings) >= c.o.MaxErrors {
		return errEnough
	}
	return nil
}

// damage notes an error; one that is no damage of the file ends the check.
func (c *checker) damage(structure string, err error) error {
	var e *errs.CorruptError
	if errors.As(err, &e) {
		return c.found(structure, e.Page, e.Offset, e.Reason)
	}
	return err
}

// step counts bytes looked at and looks at the context now and then.
func (c *checker) step(bytes uint64) error {
	c.done += bytes
	if c.steps++; c.steps%64 != 0 {
		return nil
	}
	if c.o.Progress != nil {
		c.o.Progress(min(c.done, c.total), c.total)
	}
	return c.ctx.Err()
}

// index walks the buckets: each slot must lead to a record of a key that belongs there.
func (c *checker) index() error {
	x := c.s.Index
	var positions []uint64
	for at, end := (index.Path{}), false; !end; {
		bucket, after, last, err := x.BucketAt(c.s.Index.Root, at)
		if err != nil {
			// The rest of the order of hashes behind a damaged page is not reached.
			return c.damage("index", err)
		}
		positions = x.Positions(positions[:0], bucket)
		for _, p := range positions {
			if err := c.slot(bucket, p); err != nil {
				return err
			}
		}
		if err := c.step(pager.PageSize); err != nil {
			return err
		}
		at, end = after, last
	}
	if c.out.Keys != c.s.Keys || c.out.Tombstones != c.s.Tombstones {
		return c.found("count", 0, 0, fmt.Sprintf("%d keys and %d tombstones are there, %d and %d were counted", c.out.Keys, c.out.Tombstones, c.s.Keys, c.s.Tombstones))
	}
	return nil
}

// slot checks the record behind one slot.
func (c *checker) slot(bucket, position uint64) error {
	var r tail.Record
	if err := c.s.Record(position, &r, true); err != nil {
		return c.damage("record", err)
	}
	home, hash, err := c.s.Index.Find(c.s.Index.Root, xxhash.Sum64(r.Key), r.Key, true)
	if err != nil {
		return c.damage("index", err)
	}
	reached := home == bucket
	for probe := c.s.Index.Probe(home, hash); reached; {
		p, ok := probe.Next()
		if reached = ok; p == position {
			break
		}
	}
	if !reached {
		return c.found("index", bucket/pager.PageSize, int64(position), "a slot leads to a record whose key does not belong there")
	}
	if !r.ValueHolds(r.Value) {
		return c.found("record", position/pager.PageSize, int64(position), "the sum of the record does not hold: its value is damaged")
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

// log reads every segment from its first record to its end.
func (c *checker) log() error {
	v := c.s.P.View()
	for _, g := range c.s.Tail.Segments() {
		if _, ok := tail.ReadSegment(v, g.Start, c.s.P.Pages()*pager.PageSize, c.s.meta.UUID); !ok {
			if err := c.found("log", uint64(g.Start), 0, "neither copy of the segment's header holds"); err != nil {
				return err
			}
		}
		for at, end := g.Base()+tail.SegmentHeader, g.Base()+g.Used; at < end; {
			var r tail.Record
			if !tail.ParseHeader(v, at, g.Salt, g.End(), &r) {
				if err := c.found("log", at/pager.PageSize, int64(at), "the header sum of a record does not hold"); err != nil {
					return err
				}
				at = tail.NextRecord(v, at, g.Salt, end)
				continue
			}
			c.out.Records++
			if err := c.step(r.Size()); err != nil {
				return err
			}
			at += r.Size()
		}
	}
	return nil
}
