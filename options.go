package mapfile

import (
	"io/fs"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/mapfile-db/mapfile/tail"
)

// Limits of keys and values, in bytes. A map has at most 16 TiB.
const (
	MaxKeySize   = tail.MaxKey   // 65,535
	MaxValueSize = tail.MaxValue // 4 GiB - 1
)

// SyncMode says when a commit is made durable against power loss. A killed process
// loses nothing that returned, in any mode.
type SyncMode int

const (
	// SyncDefault is SyncAlways for a map, the map's own mode in TxOptions.
	SyncDefault SyncMode = iota
	// SyncAlways syncs before a commit returns; concurrent commits share one sync. Power loss takes nothing that returned.
	SyncAlways
	// SyncInterval syncs every Options.SyncEvery. Power loss takes at most what was committed since the last sync.
	SyncInterval
	// SyncNever leaves it to the system, to Sync, to checkpoints and to Close. Power loss takes what was committed since; a prefix of the commits stays.
	SyncNever
)

// String names the mode.
func (m SyncMode) String() string {
	switch m {
	case SyncDefault:
		return "default"
	case SyncAlways:
		return "always"
	case SyncInterval:
		return "interval"
	case SyncNever:
		return "never"
	}
	return "SyncMode(" + strconv.Itoa(int(m)) + ")"
}

// Options say how Open opens a map. The zero value, and nil, are the defaults. Open copies them.
type Options struct {
	// ReadOnly needs read permission only, creates nothing and writes no byte: a crashed file
	// is recovered in private memory. Any number of read-only opens share a file; none shares it with a read-write one.
	ReadOnly bool
	// Mode is the permission of a new file, before umask. 0: 0600.
	Mode fs.FileMode
	// Sync is when commits become durable. SyncDefault: SyncAlways.
	Sync SyncMode
	// SyncEvery is the time between syncs in SyncInterval. 0: 1 s.
	SyncEvery time.Duration
	// PadCommits gives every commit 4 KiB blocks of its own, filled up with padding: for a disk that may leave anything in a
	// sector that it was writing when the power failed, and not the old or the new bytes. That such a disk leaves alone what is
	// rewritten with its own bytes is still assumed. It costs up to 4 KiB of log for each commit, synced or not, and the compaction
	// of that, so many small writes belong into one transaction. On a full
	// map a single Delete takes a block too, and may find none. It may differ from open to open.
	PadCommits bool
	// LockTimeout is how long Open waits for another opener. 0: 1 s; negative: not at all.
	LockTimeout time.Duration
	// MaxSize is the largest size of the file, in bytes. 0: no limit but the format's, 16 TiB.
	MaxSize int64
	// Compaction says when garbage is taken back in the background, and how fast.
	Compaction CompactionOptions
	// AllowNetwork opens a file on a network file system, where locks and shared mappings may not do what they promise.
	AllowNetwork bool
	// Debug finds mistakes of the program that uses the map. For tests.
	Debug DebugOptions
	// Logger is told what no caller hears: a recovery at open, a failed background checkpoint or sync. nil: silent.
	Logger *slog.Logger
}

// CompactionOptions say when garbage is taken back in the background, and how fast. The zero value is the defaults.
type CompactionOptions struct {
	// Off leaves garbage where it is until Compact, or until a writer finds no room.
	Off bool
	// Garbage is how much of what the file holds may be garbage, or wait for checkpoints, in percent, 10 to 90. Compaction begins 8 below; 3
	// below writers who make garbage faster than it is taken back wait for that. What a reader holds does not count. 0: 40.
	Garbage int
	// Rate is how many bytes of the log compaction looks at in a second; it is exceeded the more, the more Garbage is. 0: 32 MiB.
	Rate int64
}

// withDefaults is the options with every default filled in.
func (o *Options) withDefaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Mode == 0 {
		d.Mode = 0o600
	}
	if d.Sync == SyncDefault {
		d.Sync = SyncAlways
	}
	if d.SyncEvery <= 0 {
		d.SyncEvery = time.Second
	}
	if d.LockTimeout == 0 {
		d.LockTimeout = time.Second
	}
	if d.MaxSize <= 0 {
		d.MaxSize = math.MaxInt64
	}
	if d.Compaction.Garbage <= 0 {
		d.Compaction.Garbage = 40
	}
	d.Compaction.Garbage = min(max(d.Compaction.Garbage, 10), 90)
	if d.Compaction.Rate <= 0 {
		d.Compaction.Rate = 32 << 20
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return d
}

// TxOptions are the options of one transaction.
type TxOptions struct {
	// ReadOnly begins a snapshot: it sees one moment, waits for no writer and no writer waits for it.
	ReadOnly bool
	// Sync is when this transaction becomes durable. SyncDefault: as the map. SyncAlways makes every
	// earlier commit durable too; SyncInterval makes it durable within Options.SyncEvery in a map of any mode.
	Sync SyncMode
}
