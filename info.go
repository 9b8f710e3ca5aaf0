package mapfile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
)

// Info is what the meta pages of a file say.
type Info struct {
	Path            string
	Size, Allocated int64  // bytes: length, and blocks on disk
	UUID            string // of the map; a copy of the file has the same
	FormatVersion   uint32
	Newest          int // which meta page an open would begin from, 0 or 1; -1: neither holds
	Metas           [2]MetaInfo
	ClosedCleanly   bool // nothing was written since the last Close
}

// MetaInfo is one meta page.
type MetaInfo struct {
	Valid         bool
	Reason        string // why it is not valid
	Number        uint64 // the higher of the two wins
	Epoch, Life   uint32
	Pages         uint64 // of the file, 4,096 bytes each
	Keys          uint64 // live keys at the checkpoint
	LSN, Sequence uint64 // end of the log, and last commit, at the checkpoint
	Clean         bool   // written by Close
}

// ReadInfo reads the meta pages of the map at path and nothing else. It takes no lock and writes nothing: the
// file may be in use. Errors: ErrNotMapfile if neither page is one of a map, and those of the system.
func ReadInfo(path string) (*Info, error) {
	disk := pager.OS()
	path, err := disk.Resolve(path)
	if err != nil {
		return nil, errs.At(path, "info", err)
	}
	f, err := disk.Open(path, true)
	if err != nil {
		return nil, errs.At(path, "info", err)
	}
	metas, err := pager.ReadMetas(f)
	stat, statErr := f.Stat()
	if err := errors.Join(err, statErr, f.Close()); err != nil {
		return nil, errs.At(path, "info", err)
	}
	if errors.Is(metas.Reason[0], errs.ErrNotMapfile) && errors.Is(metas.Reason[1], errs.ErrNotMapfile) {
		return nil, errs.At(path, "info", errs.ErrNotMapfile)
	}
	out := &Info{Path: path, Size: stat.Size, Allocated: stat.Blocks, FormatVersion: pager.FormatVersion, Newest: -1}
	for i, m := range metas.Meta {
		if m == nil {
			out.Metas[i] = MetaInfo{Reason: metas.Reason[i].Error()}
			continue
		}
		out.Metas[i] = MetaInfo{Valid: true, Number: m.Number, Epoch: m.Epoch, Life: m.Life, Pages: m.Pages, Keys: m.Keys, LSN: m.LSN, Sequence: m.Sequence, Clean: m.Clean}
	}
	if order := metas.Order(); len(order) > 0 {
		m := metas.Meta[order[0]]
		out.Newest, out.ClosedCleanly = order[0], m.Clean
		out.UUID = uuidString(m.UUID)
	}
	return out, nil
}

func uuidString(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// CheckOptions say how Check looks. nil is a full check.
type CheckOptions struct {
	Quick       bool                     // meta pages, free space and the log that open replays; not every index page and record
	MaxErrors   int                      // stop after so many findings. 0: 100; negative: never
	Progress    func(done, total uint64) // called now and then with bytes looked at; may be nil
	LockTimeout time.Duration            // as in Options
}

// CheckReport is the verdict of Check.
type CheckReport struct {
	Path          string
	OK            bool // no findings
	ClosedCleanly bool // else it was judged as open would recover it, and that alone is no damage
	Recovery      RecoveryStats
	Keys          uint64 // live keys found
	Tombstones    uint64 // slots that lead to a deletion
	Records       uint64 // in all segments, superseded ones included
	Segments      uint64
	IndexPages    uint64
	FreePages     uint64
	Findings      []Finding
}

// Finding is one thing that does not hold.
type Finding struct {
	Structure string // meta, free space, index, record, log, or count
	Page      uint64 // page number, of 4,096 bytes
	Offset    int64  // bytes, 0 where only the page is known
	Reason    string
}

// Check judges the map at path, as open would recover it, in private memory. It never writes, and needs
// the lock of a read-only open. Damage is in the report; the error says why there is none: ErrNotMapfile,
// ErrVersion, ErrLocked, the system's, or that of ctx.
func Check(ctx context.Context, path string, o *CheckOptions) (report *CheckReport, err error) {
	var co CheckOptions
	if o != nil {
		co = *o
	}
	if co.MaxErrors < 0 {
		co.MaxErrors = math.MaxInt
	}
	options := (&Options{ReadOnly: true, LockTimeout: co.LockTimeout}).withDefaults()
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			if !pager.IsFault(r) {
				panic(r)
			}
			err = errs.At(path, "check", errors.New("the system could not read the file: I/O error, or it was cut short"))
		}
	}()
	found, err := recovery.Check(ctx, recovery.Options{OpenOptions: pager.OpenOptions{
		Disk: pager.OS(), Path: path, ReadOnly: true, LockTimeout: options.LockTimeout, AllowNetwork: true, Geometry: pager.DefaultGeometry(),
	}}, recovery.CheckOptions{Quick: co.Quick, MaxErrors: co.MaxErrors, Progress: co.Progress})
	out := &CheckReport{Path: path}
	var damage *CorruptError
	if errors.As(err, &damage) { // not even the open succeeds
		out.Findings = []Finding{{Structure: "open", Page: damage.Page, Offset: damage.Offset, Reason: damage.Reason}}
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out.ClosedCleanly, out.Recovery = found.Report.Clean, recoveryStats(&found.Report)
	out.Keys, out.Tombstones, out.Records = found.Keys, found.Tombstones, found.Records
	out.Segments, out.IndexPages, out.FreePages = found.Segments, found.IndexPages, found.FreePages
	for _, f := range found.Findings {
		out.Findings = append(out.Findings, Finding(f))
	}
	out.OK = len(out.Findings) == 0
	return out, nil
}
