package mapfile

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
)

// RecoverOptions say what Recover may do. nil: what Open does, and no more.
type RecoverOptions struct {
	// DryRun does it in private memory: the report says what would be done, and no byte of the file changes.
	DryRun bool
	// RebuildIndex makes the index anew from the log, beside the old one, which is not looked at. A crash at any moment
	// leaves the old state or the new one.
	RebuildIndex bool
	// AcceptLoss goes past records that cannot be read, where without it the answer is ErrCorrupt: their keys may show an
	// older version, or be gone, or be there though they were deleted. Commits of which a part is lost are lost.
	AcceptLoss bool
	// Mend reads the whole map, so that every single flipped bit is taken back, which else happens when it is met.
	Mend bool

	Progress     func(done, total uint64) // called now and then with bytes read, while the index is rebuilt, and again while all is read to be mended; may be nil
	Lost         func(Loss)               // called for each loss, in order; may be nil
	LockTimeout  time.Duration            // as in Options
	AllowNetwork bool                     // as in Options
	Logger       *slog.Logger             // as in Options
}

// RecoverReport says what Recover did, or would do.
type RecoverReport struct {
	Path       string
	DryRun     bool
	Keys       uint64        // live keys afterwards
	Tombstones uint64        // slots that lead to a deletion
	Recovery   RecoveryStats // what was replayed and cut
	Rebuilt    bool          // the index was made anew
	Mended     uint64        // flipped bits that were taken back
	Copies     uint64        // copies of segments' headers that were written anew; a dry run does not look for them
	Lost       Losses
}

// Loss is one thing that was there once and is not any more.
type Loss struct {
	Structure string // log: bytes that nobody can read; commit: a record of a commit that is not whole; record: the value of a record; segment: a run of the log
	Offset    int64  // in the file, in bytes
	LSN       uint64 // where in the log, 0 where that is not known
	Bytes     int64
	Key       []byte // nil: not known. The empty key is not nil
	Older     int64  // offset of the newest older version that can be read, 0: none, or not looked for
	Reason    string
}

// Losses counts what was lost.
type Losses struct {
	Places uint64 // in all
	Bytes  uint64
	Keys   uint64 // places whose key is known
	List   []Loss // the first thousand
}

// Recover opens the map at path for writing, which brings it to the state after its last whole commit, does what the
// options allow beyond that, writes anew what is there twice and holds once (copies of segments' headers, meta pages), and closes it. What is
// done, and what is lost by it, is in the report; where nothing may be done the error is that of Open, and the map stays as it is.
//
// ctx ends a rebuild of the index before the new one is named, and the reading of Mend. Errors: those of Open, but a file that is not there,
// or is empty, stays so (fs.ErrNotExist, ErrNotMapfile); ErrFull where there is no room for a second index, or for new meta pages.
func Recover(ctx context.Context, path string, o *RecoverOptions) (*RecoverReport, error) {
	var ro RecoverOptions
	if o != nil {
		ro = *o
	}
	return recoverMap(ctx, path, &ro, internals{disk: pager.OS(), geometry: pager.DefaultGeometry(), memory: pager.MemoryLimit})
}

func recoverMap(ctx context.Context, path string, o *RecoverOptions, in internals) (*RecoverReport, error) {
	path, err := in.disk.Resolve(path)
	if err != nil {
		return nil, errs.At(path, "recover", err)
	}
	if info, err := in.disk.Stat(path); err != nil {
		return nil, errs.At(path, "recover", err)
	} else if info.Size == 0 && info.Mode.IsRegular() {
		return nil, errs.At(path, "recover", errs.Join(errs.ErrNotMapfile, errors.New("the file is empty")))
	}
	in.repair = &recovery.Repair{RebuildIndex: o.RebuildIndex, AcceptLoss: o.AcceptLoss, Context: ctx, Progress: o.Progress}
	if o.Lost != nil {
		in.repair.Tell = func(l recovery.Loss) { o.Lost(newLoss(&l)) }
	}
	options := &Options{ReadOnly: o.DryRun, LockTimeout: o.LockTimeout, AllowNetwork: o.AllowNetwork, Logger: o.Logger}
	db, err := open(path, options.withDefaults(), in)
	if err != nil {
		return nil, err
	}
	copies := uint64(0)
	if err := db.guarded(func() error {
		copies, err = db.mend(ctx, o)
		return err
	}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	_, mended := db.s.P.Mended()
	report := &RecoverReport{Path: db.Path(), DryRun: o.DryRun, Keys: db.Len(), Tombstones: db.s.Tombstones,
		Recovery: recoveryStats(&db.s.Report), Rebuilt: db.s.Report.Rebuilt, Mended: mended, Copies: copies, Lost: newLosses(&db.s.Report.Lost)}
	return report, db.Close()
}

// mend is what Recover does behind the open.
func (db *DB) mend(ctx context.Context, o *RecoverOptions) (copies uint64, err error) {
	db.turn.Lock()
	defer db.turn.Unlock()
	if o.Mend {
		if err := db.s.MendAll(ctx, o.Progress); err != nil {
			return 0, err
		}
	}
	if o.DryRun {
		return 0, nil
	}
	if copies, err = db.s.MendHeaders(); err != nil {
		return copies, err
	}
	if !db.s.OneLed() {
		return copies, nil
	}
	return copies, db.beginLife() // writes both meta pages anew
}

func newLoss(l *recovery.Loss) Loss {
	return Loss{Structure: l.Structure, Offset: int64(l.Offset), LSN: l.LSN, Bytes: int64(l.Bytes), Key: l.Key, Older: int64(l.Older), Reason: l.Reason}
}

func newLosses(l *recovery.Losses) Losses {
	out := Losses{Places: l.Places, Bytes: l.Bytes, Keys: l.Keys}
	for i := range l.List {
		out.List = append(out.List, newLoss(&l.List[i]))
	}
	return out
}
