package mapfile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// SalvageOptions say how Salvage works. nil is the defaults.
type SalvageOptions struct {
	// Older also writes what may be out of date: an older version where the newest of a key is damaged, and the records of
	// segments of which nothing tells that they were still in use. Keys that were deleted, or values that were
	// overwritten, may come back.
	Older bool

	Plan         func(SalvagePlan) error               // told what was found and how much room it may need, before anything is written; its error ends the work
	Progress     func(what string, done, total uint64) // called now and then; may be nil
	Lost         func(Loss)                            // called for each loss; may be nil
	LockTimeout  time.Duration                         // as in Options
	AllowNetwork bool                                  // as in Options
}

// SalvagePlan says what Salvage found, before it writes.
type SalvagePlan struct {
	Segments  uint64 // runs of the log
	Records   uint64 // whose header holds
	NewBytes  int64  // size of the new map, at most
	WorkBytes int64  // besides, of a map beside it that is removed at the end, at most
}

// SalvageReport says what Salvage did.
type SalvageReport struct {
	Path, New string
	UUID      string // of the map, "" if nothing tells it
	Metas     int    // meta pages that hold: 0 to 2. None is needed
	SalvagePlan
	Foreign uint64 // segments of another map: left out
	Orphans uint64 // records that a recovery had cut off: left out
	Keys    uint64 // written
	Older   uint64 // of these, older versions, or such as may be: with SalvageOptions.Older only

	// Where the map opens its index tells which version of a key is the newest. Unjudged counts the written keys of which it does
	// not: all, if the map does not open; those below a damaged page of the index; and those written behind the end that an open
	// gives the log. Where records cannot be read, these may show an older version, or have been deleted.
	Opens    bool
	Refused  string // why it does not open, "" if it does
	Unjudged uint64
	Lost     Losses
}

// Salvage copies what can be read of the map in the file src into a new map dst, for when nothing else opens it, or records are
// damaged. It reads src as raw bytes, with both meta pages, the free space and the whole index gone if need be: the newest version of
// each key whose checksums hold. A key whose newest version is damaged is reported, not written with an older one.
//
// Where src opens its index tells which version is the newest, or that the key was deleted: dst holds what Get answers, and nothing
// else. Of the keys that SalvageReport.Unjudged counts the log alone tells. A record whose key cannot be read is reported
// without it, as a Loss of the structure log, and then the version before counts for such a key, or a deleted one comes back.
//
// src is opened read-only and never changed; it must not be in use for writing (ErrLocked). dst must not exist
// (fs.ErrExist), and has its name only when it is whole and durable; what is made meanwhile lies in a directory of its own
// beside it, removed at the end. The heap does not grow with the number of keys.
//
// Errors: ErrNotMapfile if there is neither a meta page nor a segment in src, ErrVersion, that of ctx, and the system's.
func Salvage(ctx context.Context, src, dst string, o *SalvageOptions) (*SalvageReport, error) {
	var so SalvageOptions
	if o != nil {
		so = *o
	}
	return salvage(ctx, pager.OS(), src, dst, &so)
}

func salvage(ctx context.Context, disk pager.Disk, src, dst string, o *SalvageOptions) (report *SalvageReport, err error) {
	if dst, err = filepath.Abs(dst); err != nil {
		return nil, errs.At(dst, "salvage into", err)
	}
	if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.At(dst, "salvage into", errors.Join(err, fs.ErrExist))
	}
	locks := (&Options{LockTimeout: o.LockTimeout}).withDefaults()
	open := pager.OpenOptions{Disk: disk, Path: src, LockTimeout: locks.LockTimeout, AllowNetwork: o.AllowNetwork, Geometry: pager.DefaultGeometry()}
	from, err := recovery.OpenSalvage(open)
	if err != nil {
		return nil, err
	}
	from.OpenIndex(open)
	s := &salvager{ctx: ctx, o: o, from: from}
	if o.Lost != nil {
		from.Lost.Tell = func(l recovery.Loss) { o.Lost(newLoss(&l)) }
	}
	report, err = s.run(dst)
	return report, errors.Join(err, from.Close())
}

// salvager is one salvage. Its work map leads from each key to where its newest record lies, as keyPlace tells.
type salvager struct {
	ctx  context.Context
	o    *SalvageOptions
	from *recovery.Salvage
	dir  string // of what is made
	work *DB
	into *DB

	report SalvageReport
	value  []byte // of the record being copied
}

func (s *salvager) run(dst string) (*SalvageReport, error) {
	if err := s.from.Survey(s.ctx, s.progress("looking for records")); err != nil {
		return nil, err
	}
	f := s.from
	s.report = SalvageReport{Path: f.Path(), New: dst, Foreign: f.Foreign, Opens: f.Unopened == nil}
	if f.Unopened != nil {
		s.report.Refused = f.Unopened.Error()
		if damage := (*CorruptError)(nil); errors.As(f.Unopened, &damage) {
			s.report.Refused = damage.Reason
		}
	}
	for _, m := range f.Metas.Meta {
		if m != nil {
			s.report.Metas++
		}
	}
	if f.UUID != [16]byte{} {
		s.report.UUID = uuidString(f.UUID)
	}
	s.report.SalvagePlan = SalvagePlan{
		Segments: f.Segments, Records: f.Records,
		NewBytes:  room(f.Puts, f.PutBytes),
		WorkBytes: 2 * room(f.Puts, f.KeyBytes+placeBytes*f.Puts), // written over and over, until compaction takes it back
	}
	if s.o.Plan != nil {
		if err := s.o.Plan(s.report.SalvagePlan); err != nil {
			return nil, err
		}
	}
	if err := s.make(dst); err != nil {
		return nil, err
	}
	s.report.Orphans, s.report.Lost = f.Orphans, newLosses(&f.Lost)
	return &s.report, nil
}

// room is how large a map of so many keys, of so many bytes with their values, can be.
func room(keys, bytes uint64) int64 {
	const record, slot = tail.HeaderBytes + 16, 96 // at most, with padding; with the worst fill of a bucket, and copies of it
	return int64(bytes + (record+slot)*keys + 8<<20)
}

// progress makes the callback of one step, nil if nobody listens.
func (s *salvager) progress(what string) func(done, total uint64) {
	if s.o.Progress == nil {
		return nil
	}
	return func(done, total uint64) { s.o.Progress(what, done, total) }
}

// make builds the new map in a directory of its own beside dst, and gives it its name when it is whole.
func (s *salvager) make(dst string) (err error) {
	if s.dir, err = os.MkdirTemp(filepath.Dir(dst), "."+filepath.Base(dst)+".salvage-*"); err != nil {
		return errs.At(dst, "salvage into", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if s.work, err = s.open("work"); err != nil {
		return err
	}
	err = s.find()
	if err == nil {
		if s.into, err = s.open("new"); err == nil {
			err = errors.Join(s.copy(), s.into.Close())
		}
	}
	if err = errors.Join(err, s.work.Close()); err != nil {
		return err
	}
	return errs.At(dst, "salvage into", nameNew(filepath.Join(s.dir, "new"), dst))
}

func (s *salvager) open(name string) (*DB, error) {
	return Open(filepath.Join(s.dir, name), &Options{Sync: SyncNever, AllowNetwork: s.o.AllowNetwork})
}

// nameNew gives a file that was made its name, which nothing must have, and makes it durable.
func nameNew(made, dst string) error {
	err := os.Link(made, dst) // unlike a rename it takes nobody's place
	if err != nil && !errors.Is(err, fs.ErrExist) {
		if _, there := os.Lstat(dst); errors.Is(there, fs.ErrNotExist) { // a file system without links
			err = os.Rename(made, dst)
		}
	}
	if err == nil {
		err = pager.OS().SyncDir(dst)
	}
	return err
}

// A keyPlace is the value of the work map: where the newest record of a key lies, where the newest good one before it if it is
// damaged, and what is to be said of it.
type keyPlace struct {
	position, older uint64
	how             byte
}

const (
	placeBytes   = 17
	placeRotten  = 1 // the newest record's value does not hold
	placeDoubted = 2 // it is not known whether the record's segment was in use
	placeBehind  = 4 // no index knows of it
)

// good is where the newest record lies whose value holds, 0 if there is none.
func (p *keyPlace) good() uint64 {
	if p.how&placeRotten != 0 {
		return p.older
	}
	return p.position
}

func (p *keyPlace) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, p.position)
	return append(binary.LittleEndian.AppendUint64(b, p.older), p.how)
}

func readPlace(b []byte) (keyPlace, error) {
	if len(b) != placeBytes {
		return keyPlace{}, fmt.Errorf("work map: a place of %d bytes", len(b))
	}
	return keyPlace{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), b[16]}, nil
}
