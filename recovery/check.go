package recovery

import (
	"context"
	"errors"
	"fmt"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// The structures that a check judges, each of which gets a verdict, in this order.
const (
	StructureMeta0     = "meta page 0"
	StructureMeta1     = "meta page 1"
	StructureMark      = "mark page"
	StructureImages    = "images"
	StructureTable     = "segment table"
	StructureLog       = "log"
	StructureDirectory = "directory pages"
	StructureBucket    = "buckets"
	StructureRecord    = "records"
	StructureCount     = "counts"
	StructureAccount   = "account of pages"
)

var structures = []string{StructureMeta0, StructureMeta1, StructureMark, StructureImages, StructureTable, StructureLog,
	StructureDirectory, StructureBucket, StructureRecord, StructureCount, StructureAccount}

// Finding is one thing that does not hold.
type Finding struct {
	Structure string // see above
	Page      uint64
	Offset    int64 // in bytes, 0 where only the page is known
	Reason    string
	Flipped   bool // one bit: an open for writing mends it
	Copy      bool // one copy of two: the other holds
}

// Judgement says whether a structure was judged, and how.
type Judgement string

// The judgements.
const (
	Holds   Judgement = "ok"
	Damaged Judgement = "damaged"
	Skipped Judgement = "not judged"
)

// Verdict is the verdict on one structure.
type Verdict struct {
	Structure string
	Judgement Judgement
	Judged    uint64 // pages, records, segments or numbers that were looked at
	Unjudged  uint64 // of these, as far as they are counted elsewhere, that could not be reached
	Note      string // why it was not judged, or not wholly
}

// CheckReport is the verdict of a check.
type CheckReport struct {
	Report     Report
	Opens      bool  // else Refused says why an open would refuse the file
	Refused    error // damage
	Metas      pager.MetaPair
	Verdicts   []Verdict
	Keys       uint64 // live keys found by walking the index
	Tombstones uint64
	Records    uint64 // in all segments, superseded ones included
	Segments   uint64
	IndexPages uint64
	FreePages  uint64
	Findings   []Finding
	Stopped    bool // as many errors were found as were asked for: there may be more
}

// CheckOptions say how thorough a check is.
type CheckOptions struct {
	Quick     bool                       // meta pages, mark page, free space, segment table and the part of the log that open replays; not the index and not the records
	MaxErrors int                        // stop after so many findings; 0: 100
	Progress  func(done, total uint64)   // bytes looked at
	Visit     func(r *tail.Record) error // called for each live record, if not nil
}

// errEnough ends a check that has found as many errors as were asked for.
var errEnough = errors.New("enough errors found")

// checker is one check.
type checker struct {
	ctx         context.Context
	raw         *Raw
	s           *State // nil where the map does not open
	o           CheckOptions
	out         *CheckReport
	verdicts    map[string]*Verdict
	mending     bool            // reading is what mends: nothing that is found is noted
	recovered   bool            // the part of the log behind the checkpoint was replayed
	broken      map[uint64]bool // positions of records, and numbers of index pages, that were reported (no record lies as low as a page number)
	done, total uint64
	steps       int
	mendWork    uint64
}

// Check looks at everything in a map, as open would recover it, in private memory. Of a map that does not open it judges what can be judged. It
// writes nothing. What does not hold is in the report; the error says why there is no verdict: ErrNotMapfile of a file in
// which there is no trace of a map, ErrVersion, ErrLocked, the system's, or that of ctx.
func Check(ctx context.Context, o Options, co CheckOptions) (*CheckReport, error) {
	o.ReadOnly = true
	if co.MaxErrors <= 0 {
		co.MaxErrors = 100
	}
	raw, err := OpenRaw(o.OpenOptions)
	if err != nil {
		return nil, err
	}
	c := newChecker(ctx, co)
	c.raw, c.out.Metas = raw, raw.Metas
	err = raw.Guard(func() error { return c.run(&o) })
	if errors.Is(err, errEnough) {
		c.out.Stopped, err = true, nil
	}
	for _, name := range structures {
		c.out.Verdicts = append(c.out.Verdicts, *c.verdicts[name])
	}
	if c.s != nil {
		err = errors.Join(err, c.s.Close())
	}
	return c.out, errs.At(raw.Path, "check", errors.Join(err, raw.Close()))
}

func newChecker(ctx context.Context, o CheckOptions) *checker {
	c := &checker{ctx: ctx, o: o, out: &CheckReport{}, verdicts: map[string]*Verdict{}, broken: map[uint64]bool{}}
	for _, name := range structures {
		c.verdicts[name] = &Verdict{Structure: name, Judgement: Skipped}
	}
	return c
}

func (c *checker) run(o *Options) error {
	if failed := (*unread)(nil); errors.As(c.raw.FellBack, &failed) {
		return failed.error // no verdict
	}
	if err := c.fixedPages(); err != nil {
		return err
	}
	if err := c.images(); err != nil {
		return err
	}
	if err := c.open(o); err != nil {
		return err
	}
	if c.s == nil {
		return c.unopened()
	}
	if err := c.opened(o); err != nil {
		return err
	}
	return c.mended()
}

// open opens the map in private memory. Where it is refused because of damage c.s stays nil.
func (c *checker) open(o *Options) error {
	f, err := pager.Open(o.OpenOptions)
	if err != nil {
		return err
	}
	s, err := openState(o, f)
	if err == nil {
		c.s, c.out.Opens = s, true
		return nil
	}
	_ = f.File.Close() // what went wrong before matters
	err = errs.At(f.Path, "open", err)
	if !errors.Is(err, errs.ErrCorrupt) && !errors.Is(err, errs.ErrNotMapfile) {
		return err
	}
	c.out.Refused = err
	return nil
}

func (c *checker) opened(o *Options) error {
	s := c.s
	c.out.FreePages = s.Free.FreePages()
	c.total = s.Index.Bytes()
	for _, g := range s.Tail.Segments() {
		c.total += g.Used
	}
	segments := s.Tail.Segments()
	// Free space belongs to the state of the checkpoint, before the tail is replayed.
	if err := c.account(); err != nil {
		return err
	}
	if err := c.replayed(o); err != nil {
		return err
	}
	if err := c.table(segments); err != nil {
		return err
	}
	c.out.Report = s.Report
	c.out.Segments, c.out.IndexPages = uint64(len(s.Tail.Segments())), s.Index.Pages()
	if c.o.Quick {
		for _, name := range []string{StructureDirectory, StructureBucket, StructureRecord, StructureCount} {
			c.verdicts[name].Note = "a quick check leaves it out"
		}
		return nil
	}
	if err := c.index(); err != nil {
		return err
	}
	return c.records()
}

// replayed recovers the state as an open would.
func (c *checker) replayed(o *Options) error {
	v := c.holds(StructureLog, 0)
	err := c.s.guard(func() error { return c.s.recover(o) })
	c.recovered = err == nil
	v.Judged = c.s.Report.Records
	if err != nil {
		v.Note = "it could not be replayed: what follows is the state of the checkpoint"
		c.out.Opens, c.out.Refused = false, err
		structure := StructureLog
		var e *errs.CorruptError
		if errors.As(err, &e) && e.Structure == "index" {
			structure = StructureBucket
			c.broken[e.Page] = true
		}
		return c.damage(structure, err)
	}
	for _, at := range c.s.Report.Damaged {
		c.broken[at] = true
		c.holds(StructureRecord, 0)
		if err := c.found(Finding{Structure: StructureRecord, Page: at / pager.PageSize, Offset: int64(at), Reason: "the value of a record of the tail is damaged"}); err != nil {
			return err
		}
	}
	return nil
}

// holds notes that n things of a structure were looked at; damage may yet be found.
func (c *checker) holds(structure string, n uint64) *Verdict {
	v := c.verdicts[structure]
	v.Judged += n
	if v.Judgement == Skipped {
		v.Judgement = Holds
	}
	return v
}

// found notes something that does not hold.
func (c *checker) found(f Finding) error {
	if c.mending {
		return nil
	}
	c.verdicts[f.Structure].Judgement = Damaged
	c.out.Findings = append(c.out.Findings, f)
	if len(c.out.Findings) >= c.o.MaxErrors {
		return errEnough
	}
	return nil
}

// damage notes an error; one that is no damage of the file ends the check.
func (c *checker) damage(structure string, err error) error {
	var e *errs.CorruptError
	if errors.As(err, &e) {
		return c.found(Finding{Structure: structure, Page: e.Page, Offset: e.Offset, Reason: e.Reason})
	}
	return err
}

// mended notes the single flipped bits that were taken back in private memory: in the file they are still wrong.
func (c *checker) mended() error {
	flips, _ := c.s.P.Mended()
	for _, f := range flips {
		structure := structureOf(f)
		if structure == StructureDirectory && c.raw.Page(pager.PageNo(f.Off / pager.PageSize))[8] != 1 {
			structure = StructureBucket
		}
		c.holds(structure, 0)
		if err := c.found(Finding{structure, f.Off / pager.PageSize, int64(f.Off), "one bit is flipped: an open for writing mends it", true, false}); err != nil {
			return err
		}
	}
	return nil
}

// structureOf is the structure that a flipped bit lies in; any index page counts as a directory.
func structureOf(f pager.Flip) string {
	switch f.What {
	case "meta":
		return fmt.Sprintf("meta page %d", f.Off/pager.PageSize)
	case "mark":
		return StructureMark
	case "images":
		return StructureImages
	case "index":
		return StructureDirectory
	}
	return StructureRecord
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
