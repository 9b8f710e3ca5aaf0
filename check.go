package mapfile

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
)

// CheckOptions say how Check looks. nil is a full check.
type CheckOptions struct {
	Quick       bool                     // meta pages, mark page, free space, segment table and the log that open replays; not every index page and record
	MaxErrors   int                      // stop after so many findings. 0: 100; negative: never
	Progress    func(done, total uint64) // called now and then with bytes looked at; may be nil
	LockTimeout time.Duration            // as in Options
}

// CheckReport is the verdict of Check.
type CheckReport struct {
	Path          string
	OK            bool   // no findings
	Opens         bool   // an Open succeeds
	Refused       string // why it does not, "" if it does
	ClosedCleanly bool   // else it was judged as open would recover it, and that alone is no damage
	Recovery      RecoveryStats
	Verdicts      []Verdict // one for each structure, always the same ones in the same order
	Keys          uint64    // live keys found
	Tombstones    uint64    // slots that lead to a deletion
	Records       uint64    // in all segments, superseded ones included
	Segments      uint64
	IndexPages    uint64
	FreePages     uint64
	Findings      []Finding
	Stopped       bool // MaxErrors findings were made: there may be more
}

// Verdict is what Check says of one structure.
type Verdict struct {
	Structure string // meta page 0, meta page 1, mark page, images, segment table, log, directory pages, buckets, records, counts, account of pages
	Judgement string // ok, damaged, or not judged
	Judged    uint64 // pages, records, segments or numbers that were looked at
	Unjudged  uint64 // of these, as far as they are counted elsewhere, that could not be reached
	Note      string
}

// Finding is one thing that does not hold.
type Finding struct {
	Structure string // as in Verdict
	Page      uint64 // page number, of 4,096 bytes
	Offset    int64  // bytes, 0 where only the page is known
	Reason    string
	Flipped   bool // a single bit, which an Open for writing takes back
	Copy      bool // one of two copies of a segment's header, which Recover writes anew by the other
}

// Check judges the map at path, as open would recover it, in private memory; of a map that does not open it judges what can be
// judged. It never writes, and needs the lock of a read-only open. Damage is in the report; the error says why there
// is none: ErrNotMapfile of a file without a trace of a map, ErrVersion, ErrLocked, the system's, or that of ctx.
func Check(ctx context.Context, path string, o *CheckOptions) (report *CheckReport, err error) {
	var co CheckOptions
	if o != nil {
		co = *o
	}
	if co.MaxErrors < 0 {
		co.MaxErrors = math.MaxInt
	}
	options := (&Options{ReadOnly: true, LockTimeout: co.LockTimeout}).withDefaults()
	found, err := recovery.Check(ctx, recovery.Options{OpenOptions: pager.OpenOptions{
		Disk: pager.OS(), Path: path, ReadOnly: true, LockTimeout: options.LockTimeout, AllowNetwork: true, Geometry: pager.DefaultGeometry(),
	}}, recovery.CheckOptions{Quick: co.Quick, MaxErrors: co.MaxErrors, Progress: co.Progress})
	if err != nil {
		return nil, errs.At(path, "check", err)
	}
	return newCheckReport(path, found), nil
}

func newCheckReport(path string, c *recovery.CheckReport) *CheckReport {
	out := &CheckReport{
		Path: path, OK: len(c.Findings) == 0 && c.Opens, Opens: c.Opens, ClosedCleanly: c.Report.Clean, Recovery: recoveryStats(&c.Report),
		Keys: c.Keys, Tombstones: c.Tombstones, Records: c.Records,
		Segments: c.Segments, IndexPages: c.IndexPages, FreePages: c.FreePages, Stopped: c.Stopped,
	}
	for _, f := range c.Findings {
		out.Findings = append(out.Findings, Finding(f))
	}
	for _, v := range c.Verdicts {
		out.Verdicts = append(out.Verdicts, Verdict{v.Structure, string(v.Judgement), v.Judged, v.Unjudged, v.Note})
	}
	if c.Refused != nil {
		out.Refused = c.Refused.Error()
		var e *CorruptError
		if errors.As(c.Refused, &e) {
			out.Refused = e.Reason
		}
	}
	return out
}
