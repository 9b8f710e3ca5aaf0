package mapfile

import (
	"time"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// Stats is the state of an open map. Sizes are bytes unless said otherwise.
type Stats struct {
	Keys           uint64        // as readers see them now
	Tombstones     uint64        // index slots that lead to a deletion
	FileSize       int64         // length of the file
	Allocated      int64         // disk blocks of the file
	LiveBytes      int64         // records that are the newest of their key, with their headers; a close estimate
	GarbageBytes   int64         // records that are not
	FreeBytes      int64         // pages that can be used again at once
	PendingBytes   int64         // pages that wait for the next checkpoints
	IndexPages     uint64        // pages of 4,096 bytes: buckets and directories
	DirectoryPages uint64        // of these
	Segments       uint64        // runs of pages that hold the log
	LogBytes       uint64        // of log since the last checkpoint: what an open after a crash replays
	Checkpoints    uint64        // made by this DB
	Sequence       uint64        // of the last commit appended
	Published      uint64        // highest sequence that readers see
	Durable        uint64        // log position below which all is known to be synced
	Appended       uint64        // log position of the next commit
	Waits          Waits         // the longest that a writer of this DB can have waited for its upkeep
	Mended         uint64        // single flipped bits taken back since Open
	Readers        int           // transactions and callbacks reading now
	Oldest         OldestReader  // the one of them that began first
	Writer         string        // with Debug.Callers: who holds the writer's turn in a transaction, as file:line (function); "" if nobody does
	Recovery       RecoveryStats // what Open had to do
}

// OldestReader is the transaction or callback that has been reading for the longest time: what it may need is not used again
// before it ends. It is zero while nobody reads.
type OldestReader struct {
	Age      time.Duration // since it began
	Sequence uint64        // of the last commit that it sees
	Caller   string        // with Debug.Callers: who began it, as file:line (function)
}

// Waits tells how long a single Put can have waited for the map itself, at worst so far, and of the slowest one what it waited for.
type Waits struct {
	Growth time.Duration // for the file to grow, where growth ahead of need came too late
	Seal   time.Duration // for a checkpoint to fix its content
	Finish time.Duration // for a checkpoint to be made the newer one

	Slowest SlowestWrite // and what it waited for
}

// RecoveryStats is what Open had to do. Open never makes an index anew and never accepts a loss: only Recover does, whose RecoverReport tells of it,
// and what it leaves opens like a map that was closed.
type RecoveryStats struct {
	Recovered      bool          // there was a tail to replay
	Records        uint64        // replayed
	Bytes          uint64        // of log replayed
	CutBytes       uint64        // of a commit that was not whole at the end of the log
	Damaged        uint64        // records whose value is damaged: ErrCorrupt for their keys alone
	FromCheckpoint uint64        // number of the meta page that it began from
	FellBack       string        // why the newer meta page was not used, "" if it was
	Duration       time.Duration // of the whole Open
}

// Stats reports on the map. It takes the writer's turn for a moment: inside Update it would wait for itself,
// but for Options.Debug.Callers. After Close it is zero.
func (db *DB) Stats() Stats {
	pin := db.pins.acquire(&db.s.Generation)
	defer pin.release()
	if db.closed.Load() {
		return Stats{}
	}
	holder := db.holder.Load() // before waiting for it
	st := Stats{
		Keys: db.Len(), Published: db.s.Published.Load(), Durable: db.dur.synced.Load(), Appended: db.dur.appended.Load(),
		Readers: db.pins.readers(), Oldest: db.pins.oldestReader(), Checkpoints: db.counters.checkpoints.Load(), Recovery: recoveryStats(&db.s.Report),
	}
	if info, err := db.s.P.Stat(); err == nil {
		st.FileSize, st.Allocated = info.Size, info.Blocks
	}
	_, st.Mended = db.s.P.Mended()
	free := db.s.Free.Stats()
	st.FreeBytes, st.PendingBytes = int64(free.Free+db.s.DryPages())*pageSize, int64(free.Pending+free.Due)*pageSize
	if holder != nil {
		st.Writer = holder.caller
	}
	if db.waitsForItself() == nil { // else the turn is this goroutine's
		db.turn.Lock()
		defer db.turn.Unlock()
	}
	st.Tombstones, st.Sequence = db.s.Tombstones, db.s.Tail.Sequence
	st.IndexPages, st.DirectoryPages = db.s.Index.Pages(), uint64(db.s.Index.Directories)
	st.LogBytes = db.s.Tail.LSN - db.s.LastSeal()
	st.Waits = Waits{time.Duration(db.s.SlowestGrowth.Load()), db.counters.seal.get(), db.counters.finish.get(), db.work.slowestWrite()}
	for _, g := range db.s.Tail.Segments() {
		live := int64(db.s.Tail.Live(g))
		st.Segments++
		st.LiveBytes += live
		st.GarbageBytes += max(int64(g.Used)-tail.SegmentHeader-live, 0)
	}
	return st
}

// Mapped tells how many bytes of the file are mapped into this process's memory for reading, and how many of these by entries of 2 MiB, with which
// look-ups are faster. The kernel counts them page by page: some milliseconds for a large map. Errors: ErrClosed; errors.ErrUnsupported on systems other than
// Linux.
func (db *DB) Mapped() (bytes, huge uint64, err error) {
	err = db.pinned(func(at snapshot) error {
		bytes, huge, err = at.s.P.Mapped()
		return err
	})
	if err != nil {
		return 0, 0, errs.At(db.s.P.Path(), "mapped", err)
	}
	return bytes, huge, nil
}

func recoveryStats(r *recovery.Report) RecoveryStats {
	out := RecoveryStats{Recovered: r.Records > 0, Records: r.Records, Bytes: r.Bytes, CutBytes: r.Cut, Damaged: uint64(len(r.Damaged)), FromCheckpoint: r.Checkpoint, Duration: r.Duration}
	if r.FellBack != nil {
		out.FellBack = r.FellBack.Error()
	}
	return out
}
