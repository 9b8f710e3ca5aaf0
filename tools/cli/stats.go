package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// statsReport is what the map counts of itself, and what a walk over all its
// entries found.
type statsReport struct {
	Path           string         `json:"path"`
	Keys           uint64         `json:"keys"`
	FileSizeBytes  int64          `json:"file_size_bytes"`
	AllocatedBytes int64          `json:"allocated_bytes"`
	LiveBytes      int64          `json:"live_bytes"`
	GarbageBytes   int64          `json:"garbage_bytes"`
	FreeBytes      int64          `json:"free_bytes"`
	PendingBytes   int64          `json:"pending_bytes"` // free after the next checkpoints
	LogBytes       uint64         `json:"log_bytes"`     // since the last checkpoint
	IndexPages     uint64         `json:"index_pages"`   // directory pages among them
	DirectoryPages uint64         `json:"directory_pages"`
	Segments       uint64         `json:"segments"`
	Tombstones     uint64         `json:"tombstones"`
	Sequence       uint64         `json:"sequence"`
	DurableLSN     uint64         `json:"durable_lsn"`
	MappedBytes    uint64         `json:"mapped_bytes"` // behind the walk, in this process
	HugeBytes      uint64         `json:"huge_bytes"`   // of these, by entries of 2 MiB
	Recovery       recoveryReport `json:"recovery"`
	Walk           walkReport     `json:"walk"`
}

type walkReport struct {
	Keys              uint64 `json:"keys"`
	KeyBytes          uint64 `json:"key_bytes"`
	ValueBytes        uint64 `json:"value_bytes"`
	LargestKeyBytes   int    `json:"largest_key_bytes"`
	LargestValueBytes int    `json:"largest_value_bytes"`
}

func (a *app) statsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stats FILE",
		Short: "Walk the map and print its counts; exit code 1 if the two disagree",
		Args:  cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) (err error) {
		db, err := a.openReadOnly(cmd, args[0])
		if err != nil {
			return err
		}
		defer closeInto(&err, db)
		walk, err := a.walk(cmd, db)
		if err != nil {
			return err
		}
		r := newStatsReport(args[0], db.Stats(), walk)
		if r.MappedBytes, r.HugeBytes, err = db.Mapped(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		if err := printReport(cmd, *asJSON, r); err != nil {
			return err
		}
		if r.Keys != walk.Keys {
			return fmt.Errorf("mapfile: %s: %w: the map counts %d keys, the walk %d", args[0], errDiffers, r.Keys, walk.Keys)
		}
		return nil
	})
	return cmd
}

func (a *app) walk(cmd *cobra.Command, db *mapfile.DB) (walkReport, error) {
	var r walkReport
	err := a.forEach(cmd, db, "walking", func(key, value []byte) error {
		r.Keys++
		r.KeyBytes += uint64(len(key))
		r.ValueBytes += uint64(len(value))
		r.LargestKeyBytes = max(r.LargestKeyBytes, len(key))
		r.LargestValueBytes = max(r.LargestValueBytes, len(value))
		return nil
	})
	return r, err
}

// forEach calls fn with every entry of db as it is now, and shows progress under
// the name what. key and value are valid until fn returns.
func (a *app) forEach(cmd *cobra.Command, db *mapfile.DB, what string, fn func(key, value []byte) error) error {
	return db.View(func(tx *mapfile.Tx) error {
		bar := a.newProgress(cmd, what, unitEntries, int64(tx.Len()))
		defer bar.finish()
		for key, value := range tx.All() {
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if err := fn(key, value); err != nil {
				return err
			}
			bar.add(1)
		}
		return tx.Err()
	})
}

func newStatsReport(path string, s mapfile.Stats, walk walkReport) *statsReport {
	return &statsReport{
		Path: path, Keys: s.Keys,
		FileSizeBytes: s.FileSize, AllocatedBytes: s.Allocated, LiveBytes: s.LiveBytes,
		GarbageBytes: s.GarbageBytes, FreeBytes: s.FreeBytes, PendingBytes: s.PendingBytes, LogBytes: s.LogBytes,
		IndexPages: s.IndexPages, DirectoryPages: s.DirectoryPages, Segments: s.Segments, Tombstones: s.Tombstones,
		Sequence: s.Sequence, DurableLSN: s.Durable,
		Recovery: newRecoveryReport(s.Recovery), Walk: walk,
	}
}

func (r *statsReport) lines() []line {
	lines := []line{
		{"file", r.Path},
		{"keys", formatCount(r.Keys)},
		{"key bytes", formatCount(r.Walk.KeyBytes)},
		{"value bytes", formatCount(r.Walk.ValueBytes)},
		{"largest key", formatCount(r.Walk.LargestKeyBytes) + " bytes"},
		{"largest value", formatCount(r.Walk.LargestValueBytes) + " bytes"},
		{"file size", formatCount(r.FileSizeBytes) + " bytes"},
		{"allocated", formatCount(r.AllocatedBytes) + " bytes"},
		{"live", formatCount(r.LiveBytes) + " bytes"},
		{"garbage", formatCount(r.GarbageBytes) + " bytes"},
		{"free", formatCount(r.FreeBytes) + " bytes"},
		{"pending", formatCount(r.PendingBytes) + " bytes"},
		{"log since checkpoint", formatCount(r.LogBytes) + " bytes"},
		{"index pages", formatCount(r.IndexPages)},
		{"of these directory", formatCount(r.DirectoryPages)},
		{"segments", formatCount(r.Segments)},
		{"tombstones", formatCount(r.Tombstones)},
		{"sequence", formatCount(r.Sequence)},
		{"durable LSN", formatCount(r.DurableLSN)},
		{"mapped", formatCount(r.MappedBytes) + " bytes"},
		{"of these huge", formatCount(r.HugeBytes) + " bytes"},
	}
	return append(lines, r.Recovery.lines()...)
}
