package mapfile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// reads is what Get answers of each key of a damaged map, and for which keys it answers ErrCorrupt.
func (l *lived) reads(b []byte) (got kv, corrupt map[string]bool) {
	disk := simdisk.New(int64(len(b)+pager.PageSize) &^ (pager.PageSize - 1))
	defer disk.Release()
	disk.Load(crashPath, b)
	db, err := simOpen(disk, l.seed, 1, Options{ReadOnly: true})
	require.NoError(l.t, err)
	defer func() { require.NoError(l.t, db.Close()) }()
	got, corrupt = kv{}, map[string]bool{}
	for key := range l.ever {
		switch v, err := db.Get([]byte(key)); {
		case err == nil:
			got[key] = string(v)
		default:
			if corrupt[key] = true; err == ErrNotFound {
				delete(corrupt, key)
				continue
			}
			require.ErrorIs(l.t, err, ErrCorrupt)
		}
	}
	return got, corrupt
}

// logParts are the parts of segments, a page long at most, in which lie records that an open does not replay.
func (l *lived) logParts() (parts []extent) {
	m := l.db.s.Meta()
	for _, g := range l.db.s.Tail.Segments() {
		to := g.Base() + min(g.Used, m.LSN-min(m.LSN, g.FirstLSN))
		for at := g.Base() + tail.SegmentHeader; at < to; at += pager.PageSize {
			parts = append(parts, extent{at, min(at+pager.PageSize, to)})
		}
	}
	return parts
}

// requireSameAsReads salvages a map that opens, with --older and without: what it shows is what Get answers, and older versions only of
// keys for which that is ErrCorrupt, all of which are told.
func (l *lived) requireSameAsReads(b []byte) (old int) {
	want, corrupt := l.reads(b)
	got, r := salvaged(l.t, b, nil)
	require.Equal(l.t, want, got)
	require.Empty(l.t, r.Refused)
	require.Zero(l.t, r.Unjudged)
	require.Zero(l.t, r.Older)
	told := map[string]bool{}
	for _, x := range r.Lost.List {
		if x.Key != nil && x.Older != 0 {
			require.True(l.t, corrupt[string(x.Key)], "%s: %s", x.Key, x.Reason)
			told[string(x.Key)] = true
		}
	}
	older, r := salvaged(l.t, b, &SalvageOptions{Older: true})
	require.EqualValues(l.t, len(told), r.Older)
	for key, value := range older {
		if v, there := want[key]; there {
			require.Equal(l.t, v, value)
			continue
		}
		require.True(l.t, told[key], "%s", key)
		require.True(l.t, l.ever[key][value], "%s has a value that it never had", key)
		old++
	}
	require.Len(l.t, older, len(want)+len(told))
	return old
}

// TestSalvageAsksTheIndex zeroes each part of the log, in turn, of a map in which keys were overwritten and deleted: no key
// of which the newest record was there shows the version before, or is back.
func TestSalvageAsksTheIndex(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(db *DB) error
	}{
		{"closed", func(db *DB) error { return db.Close() }},
		{"killed", func(db *DB) error { return db.Put([]byte("key1"), []byte("replayed")) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := newLived(t, 2)
			for round := range 3 {
				for i := range 40 {
					key, value := fmt.Sprintf("key%d", i), strings.Repeat(fmt.Sprintf("%d.", round), 40)
					if round == 2 && i%3 == 0 {
						delete(l.want, key)
						require.NoError(t, l.db.Delete([]byte(key)))
						continue
					}
					l.set(l.want, key, value)
					require.NoError(t, l.db.Put([]byte(key), []byte(value)))
				}
			}
			l.set(l.want, "key1", "replayed")
			require.NoError(t, l.db.Checkpoint())
			require.NoError(t, row.end(l.db))
			parts, whole := l.logParts(), l.disk.Bytes(crashPath)
			if row.name == "closed" {
				l.open()
			}
			old := 0
			for _, part := range parts {
				b := append([]byte(nil), whole...)
				clear(b[part.from:part.to])
				old += l.requireSameAsReads(b)
			}
			require.Greater(t, len(parts), 3)
			require.Greater(t, old, 20)
		})
	}
}

// TestSalvageAsksTheIndexAnywhere is the same for random histories, with compaction and cuts of the log, and random sectors.
func TestSalvageAsksTheIndexAnywhere(t *testing.T) {
	old := 0
	for seed := range uint64(12) {
		l := newLived(t, 300+seed)
		l.play(150)
		parts, b := l.logParts(), l.disk.Bytes(crashPath)
		require.Zero(t, l.requireSameAsReads(b), "seed %d", seed)
		for range l.rng.IntN(6) {
			part := parts[l.rng.IntN(len(parts))]
			at := part.from + l.rng.Uint64N((part.to-part.from+pager.SectorSize-1)/pager.SectorSize)*pager.SectorSize
			trash(b[at:min(at+pager.SectorSize, part.to)], l.rng)
		}
		old += l.requireSameAsReads(b)
	}
	require.NotZero(t, old)
}

// TestSalvageWithoutTheIndex: where the map does not open, or its bucket is damaged, the log alone says what is the newest, and the report says so.
func TestSalvageWithoutTheIndex(t *testing.T) {
	l := newLived(t, 2)
	for _, value := range []string{"first", "newest"} {
		require.NoError(t, l.db.Put([]byte("k"), []byte(value)))
		require.NoError(t, l.db.Put([]byte("other"), []byte(value)))
	}
	require.NoError(t, l.db.Checkpoint())
	key := []byte("k")
	position, found, err := l.db.s.Index.Lookup(xxhash.Sum64(key), key)
	require.NoError(t, err)
	require.True(t, found)
	bucket, _, err := l.db.s.Index.Find(l.db.s.Root(), xxhash.Sum64(key), key, false)
	require.NoError(t, err)
	for _, row := range []struct {
		name     string
		at, n    uint64
		opens    bool
		unjudged uint64
		k        string
	}{
		{"nothing", 0, 0, true, 0, ""},
		{"the meta pages", 0, 2 * pager.PageSize, false, 2, "first"},
		{"the bucket", bucket, pager.PageSize, true, 2, "first"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := l.disk.Bytes(crashPath)
			clear(b[position : position+tail.HeaderBytes])
			clear(b[row.at : row.at+row.n])
			got, r := salvaged(t, b, nil)
			require.Equal(t, []any{row.k, "newest"}, []any{got["k"], got["other"]})
			require.Equal(t, []bool{row.opens, row.opens}, []bool{r.Opens, r.Refused == ""}, r.Refused)
			require.Equal(t, row.unjudged, r.Unjudged)
		})
	}
}

// TestSalvageBehindTheEnd: records behind the end that an open gives a torn log are newer than all that its index knows. They count, as
// without it, and are told.
func TestSalvageBehindTheEnd(t *testing.T) {
	l := newLived(t, 2)
	put := func(key, value string) {
		l.set(l.want, key, value)
		require.NoError(t, l.db.Put([]byte(key), []byte(value)))
	}
	put("k", "first")
	put("other", "first")
	require.NoError(t, l.db.Checkpoint())
	torn, _ := l.db.s.Tail.Position()
	put("k", "torn")
	put("other", "behind")
	b := l.disk.Bytes(crashPath)
	clear(b[torn : torn+tail.HeaderBytes])
	shown, corrupt := l.reads(b)
	require.Equal(t, kv{"k": "first", "other": "first"}, shown)
	require.Empty(t, corrupt)
	got, r := salvaged(t, b, nil)
	require.Equal(t, kv{"k": "first", "other": "behind"}, got)
	require.True(t, r.Opens)
	require.EqualValues(t, 1, r.Unjudged)
}

// TestSalvageAfterClear: what Clear took does not come back where its record cannot be read.
func TestSalvageAfterClear(t *testing.T) {
	l := newLived(t, 2)
	for i := range 8 {
		l.set(l.want, fmt.Sprintf("key%d", i), "cleared")
		require.NoError(t, l.db.Put(fmt.Appendf(nil, "key%d", i), []byte("cleared")))
	}
	at, g := l.db.s.Tail.Position()
	require.NoError(t, l.db.Clear())
	require.NoError(t, l.db.Put([]byte("key1"), []byte("cleared")))
	_, same := l.db.s.Tail.Position()
	require.Equal(t, g.Start, same.Start)
	require.NoError(t, l.db.Checkpoint())
	b := l.disk.Bytes(crashPath)
	clear(b[at : at+tail.HeaderBytes])
	require.Zero(t, l.requireSameAsReads(b))
	clear(b[:2*pager.PageSize])
	got, _ := salvaged(t, b, nil)
	require.Len(t, got, 8, "without the index they come back: the test would show nothing")
}
