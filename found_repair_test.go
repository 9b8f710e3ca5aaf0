//go:build mapfile_debug

package mapfile

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
)

// The tests of this file look at what an open, or Recover, leaves mended.

// judged is what a check finds in a file.
func (h *lifeHistory) judged(d *simdisk.Disk) []recovery.Finding {
	report, err := recovery.Check(h.t.Context(), recovery.Options{OpenOptions: pager.OpenOptions{
		Disk: d, Path: lifePath, ReadOnly: true, LockTimeout: -1, Geometry: pager.DefaultGeometry(),
	}}, recovery.CheckOptions{})
	require.NoError(h.t, err)
	require.True(h.t, report.Opens)
	return report.Findings
}

// TestFoundHeaderCopies: the header of a segment stands twice again when an open has gone over it, whichever copy a power cut lost, and
// when Recover has, whichever rots.
func TestFoundHeaderCopies(t *testing.T) {
	for copy := range int64(2) {
		h := newFound(t, 1<<20, SyncNever)
		h.set("key0", "before")
		require.NoError(t, h.db.Sync())
		h.fillSegment()
		_, g := h.db.s.Tail.Position()
		at := int64(g.Base()/pager.SectorSize) + copy
		d := h.disk.Crash(func(_ int, s *simdisk.SectorState) int {
			if s.Sector == at {
				return simdisk.Durable
			}
			return len(s.Versions) - 1
		}, nil, true, true)
		require.Empty(t, h.judged(d), "what the log behind the checkpoint tells of is no damage")
		want := h.states[0]
		h.life++
		other := *h
		var err error
		other.db, err = h.open(d, SyncNever)
		require.NoError(t, err)
		require.Equal(t, h.brief(want), h.brief(other.contents()))
		require.NoError(t, other.db.s.Verify())
		require.NoError(t, other.db.beginLife())
		other.end()
		require.Empty(t, h.judged(d))

		d.FlipBit(lifePath, at*pager.SectorSize*8+300)
		d.FlipBit(lifePath, at*pager.SectorSize*8+301)
		found := h.judged(d)
		require.Len(t, found, 1)
		require.True(t, found[0].Copy)
		require.EqualValues(t, at*pager.SectorSize, found[0].Offset)
		_, err = recoverMap(t.Context(), lifePath, &RecoverOptions{DryRun: true, LockTimeout: -1}, h.internals(d))
		require.NoError(t, err)
		require.Len(t, h.judged(d), 1)
		_, err = recoverMap(t.Context(), lifePath, &RecoverOptions{LockTimeout: -1}, h.internals(d))
		require.NoError(t, err)
		require.Empty(t, h.judged(d))
		d.Release()
	}
}

// TestFoundRecovered: behind a Recover that accepted a loss, or made the index anew, the next open has nothing to do, and says so.
func TestFoundRecovered(t *testing.T) {
	for name, o := range map[string]RecoverOptions{"loss": {AcceptLoss: true}, "index": {AcceptLoss: true, RebuildIndex: true}} {
		t.Run(name, func(t *testing.T) {
			m := newRottenMap(t)
			m.spoil(m.record(3) + 9)
			m.end()
			m.disk.Load(lifePath, m.file)
			o.LockTimeout = -1
			report, err := recoverMap(t.Context(), lifePath, &o, m.internals(m.disk))
			require.NoError(t, err)
			require.NotZero(t, report.Lost.Places)
			require.Equal(t, o.RebuildIndex, report.Rebuilt)
			require.True(t, report.Recovery.Recovered)
			m.db, err = m.open(m.disk, SyncNever)
			require.NoError(t, err)
			st := m.db.Stats().Recovery
			require.Equal(t, RecoveryStats{FromCheckpoint: st.FromCheckpoint, Duration: st.Duration}, st)
			require.Empty(t, m.judged(m.disk.Kill()))
		})
	}
}
