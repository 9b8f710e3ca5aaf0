//go:build linux || darwin || freebsd

package mapfile_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// TestPadCommits: a map with padded commits holds what another does, costs at most a block a commit, and can be
// opened with and without.
func TestPadCommits(t *testing.T) {
	for _, mode := range []mapfile.SyncMode{mapfile.SyncAlways, mapfile.SyncNever} {
		t.Run(mode.String(), func(t *testing.T) {
			const commits = 300
			path := newPath(t)
			for _, pad := range []bool{false, true, false} {
				db := openTest(t, path, &mapfile.Options{Sync: mode, PadCommits: pad})
				before := db.Stats().Appended
				for i := range commits {
					require.NoError(t, db.Put(fmt.Appendf(nil, "key%d", i), fmt.Appendf(nil, "%t %d", pad, i)))
				}
				if bytes := db.Stats().Appended - before; pad {
					require.InDelta(t, commits*4096, bytes, 64<<10)
				} else {
					require.Less(t, bytes, uint64(commits*100+64<<10))
				}
				require.NoError(t, db.Update(func(tx *mapfile.Tx) error { return tx.Delete([]byte("key7")) }))
				require.NoError(t, db.Compact(t.Context()), "it ends, although what it writes is padded too")
				require.EqualValues(t, commits-1, db.Len())
				require.NoError(t, db.Close())
			}
			db := openTest(t, path, nil)
			value, err := db.Get([]byte("key8"))
			require.NoError(t, err)
			require.Equal(t, "false 8", string(value))
			require.NoError(t, db.Close())
		})
	}
}

// TestPadCommitsFull: a full map with padded commits answers ErrFull with nothing changed; admission counts the padding.
func TestPadCommitsFull(t *testing.T) {
	o := &mapfile.Options{Sync: mapfile.SyncNever, MaxSize: 3 << 20, PadCommits: true}
	db := openTest(t, newPath(t), o)
	n, err := fillUp(db, 3000)
	require.ErrorIs(t, err, mapfile.ErrFull)
	require.Greater(t, int64(n*4096), o.MaxSize/3)
	require.EqualValues(t, n, db.Len())
	require.NoError(t, db.Checkpoint())
	require.NoError(t, db.Close())
	require.LessOrEqual(t, stat(t, db.Path()).Size(), o.MaxSize)
	db = openTest(t, db.Path(), &mapfile.Options{PadCommits: true})
	require.EqualValues(t, n, db.Len())
	require.NoError(t, db.Put([]byte("more"), make([]byte, 3000)), "with a larger limit Put works again")
	require.NoError(t, db.Close())
}
