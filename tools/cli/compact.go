package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// compactReport is what a compaction gained.
type compactReport struct {
	Path       string    `json:"path"`
	Keys       uint64    `json:"keys"`
	Before     spaceUsed `json:"before"`
	After      spaceUsed `json:"after"`
	DurationNS int64     `json:"duration_ns"`
}

// spaceUsed is what a map takes, in bytes.
type spaceUsed struct {
	Size      int64 `json:"size"`
	Allocated int64 `json:"allocated"`
	Garbage   int64 `json:"garbage"`
}

func (a *app) compactCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compact MAP",
		Short: "Take the space of what was overwritten and deleted back, and make the file shorter",
		Long: "Move what is alive out of every part of the log that holds garbage, and close the map, which\n" +
			"gives the space that comes free back. Stopped half-way it keeps what it has gained.",
		Args: cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		r, err := a.compact(cmd, args[0])
		if err != nil {
			return err
		}
		took := time.Duration(r.DurationNS)
		gained := max(r.Before.Allocated-r.After.Allocated, 0)
		fmt.Fprintf(cmd.ErrOrStderr(), "%s of garbage taken back in %s (%s); %s smaller\n", formatBytes(r.Before.Garbage),
			formatDuration(took), formatRate(r.Before.Garbage, took), formatBytes(gained))
		return printReport(cmd, *asJSON, r)
	})
	return cmd
}

func (a *app) compact(cmd *cobra.Command, path string) (*compactReport, error) {
	db, err := a.openExisting(cmd, path)
	if err != nil {
		return nil, err
	}
	begin, was := time.Now(), db.Stats()
	done, shown := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(shown)
		a.showCompaction(cmd, db, was.GarbageBytes, done)
	}()
	err = db.Compact(cmd.Context())
	close(done)
	<-shown
	now := db.Stats()
	if err = first(err, db.Close()); err != nil {
		return nil, err
	}
	info, err := mapfile.ReadInfo(path)
	if err != nil {
		return nil, err
	}
	return &compactReport{
		Path: path, Keys: now.Keys, DurationNS: time.Since(begin).Nanoseconds(),
		Before: spaceUsed{was.FileSize, was.Allocated, was.GarbageBytes}, After: spaceUsed{info.Size, info.Allocated, now.GarbageBytes},
	}, nil
}

// showCompaction shows how much of the garbage is gone, until done is closed.
func (a *app) showCompaction(cmd *cobra.Command, db *mapfile.DB, garbage int64, done <-chan struct{}) {
	bar := a.newProgress(cmd, "compacting", unitBytes, garbage)
	defer bar.finish()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			left := min(db.Stats().GarbageBytes, garbage)
			bar.set(uint64(garbage-left), uint64(garbage))
		}
	}
}

func (r *compactReport) lines() []line {
	return []line{
		{"file", r.Path},
		{"keys", formatCount(r.Keys)},
		{"size before", formatBytes(r.Before.Size)},
		{"size", formatBytes(r.After.Size)},
		{"on disk before", formatBytes(r.Before.Allocated)},
		{"on disk", formatBytes(r.After.Allocated)},
		{"garbage before", formatBytes(r.Before.Garbage)},
		{"garbage", formatBytes(r.After.Garbage)},
		{"time", formatDuration(time.Duration(r.DurationNS))},
	}
}
