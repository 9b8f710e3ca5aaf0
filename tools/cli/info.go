package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// infoReport is what the two meta pages say.
type infoReport struct {
	Path           string        `json:"path"`
	SizeBytes      int64         `json:"size_bytes"`
	AllocatedBytes int64         `json:"allocated_bytes"`
	UUID           string        `json:"uuid"`
	FormatVersion  uint32        `json:"format_version"`
	NewestMeta     int           `json:"newest_meta"` // 0 or 1
	ClosedCleanly  bool          `json:"closed_cleanly"`
	Space          *spaceReport  `json:"space,omitempty"` // as of the newest checkpoint, if that can be read
	Metas          [2]metaReport `json:"metas"`
}

type spaceReport struct {
	LiveBytes    int64 `json:"live_bytes"`
	GarbageBytes int64 `json:"garbage_bytes"`
	IndexBytes   int64 `json:"index_bytes"`
	FreeBytes    int64 `json:"free_bytes"`
	PendingBytes int64 `json:"pending_bytes"`
}

type metaReport struct {
	Valid    bool   `json:"valid"`
	Reason   string `json:"reason,omitempty"` // why it is not valid
	Number   uint64 `json:"number"`
	Epoch    uint32 `json:"epoch"`
	Life     uint32 `json:"life"`
	Pages    uint64 `json:"pages"`
	Keys     uint64 `json:"keys"`
	LSN      uint64 `json:"lsn"`
	Sequence uint64 `json:"sequence"`
	Clean    bool   `json:"clean"`
}

func (a *app) infoCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "info FILE",
		Short: "Print what the meta pages say, how the space is used, and whether the map was closed cleanly",
		Args:  cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		info, err := mapfile.ReadInfo(args[0])
		if err != nil {
			return err
		}
		if err := printReport(cmd, *asJSON, newInfoReport(info)); err != nil {
			return err
		}
		if !info.Metas[0].Valid && !info.Metas[1].Valid {
			return fmt.Errorf("mapfile: %s: neither meta page holds: %w", args[0], unprefixed{mapfile.ErrCorrupt})
		}
		return nil
	})
	return cmd
}

func newInfoReport(i *mapfile.Info) *infoReport {
	r := &infoReport{
		Path: i.Path, SizeBytes: i.Size, AllocatedBytes: i.Allocated, UUID: i.UUID,
		FormatVersion: i.FormatVersion, NewestMeta: i.Newest, ClosedCleanly: i.ClosedCleanly,
	}
	if s := i.Space; s != nil {
		r.Space = &spaceReport{s.Live, s.Garbage, s.Index, s.Free, s.Pending}
	}
	for n, m := range i.Metas {
		r.Metas[n] = metaReport{m.Valid, m.Reason, m.Number, m.Epoch, m.Life, m.Pages, m.Keys, m.LSN, m.Sequence, m.Clean}
	}
	return r
}

func (r *infoReport) lines() []line {
	lines := []line{
		{"file", r.Path},
		{"size", formatCount(r.SizeBytes) + " bytes"},
		{"allocated", formatCount(r.AllocatedBytes) + " bytes"},
		{"uuid", r.UUID},
		{"format version", r.FormatVersion},
		{"closed cleanly", yesNo(r.ClosedCleanly)},
	}
	if s := r.Space; s != nil {
		for _, l := range []struct {
			name  string
			bytes int64
		}{{"live", s.LiveBytes}, {"garbage", s.GarbageBytes}, {"index", s.IndexBytes}, {"free", s.FreeBytes}, {"pending", s.PendingBytes}} {
			lines = append(lines, line{l.name, formatCount(l.bytes) + " bytes at the checkpoint"})
		}
	}
	for n, m := range r.Metas {
		name := fmt.Sprintf("meta %d", n)
		if n == r.NewestMeta {
			name += " (newest)"
		}
		lines = append(lines, line{name, m.text()})
	}
	return lines
}

func (m metaReport) text() string {
	if !m.Valid {
		return "not valid: " + m.Reason
	}
	return fmt.Sprintf("number %d, epoch %d, life %d, %s pages, %s keys, LSN %d, sequence %d, clean: %s",
		m.Number, m.Epoch, m.Life, formatCount(m.Pages), formatCount(m.Keys), m.LSN, m.Sequence, yesNo(m.Clean))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
