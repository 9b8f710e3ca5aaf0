//go:build linux

package main

import (
	"bufio"
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// loaded runs a load of n steps of each writer and gives its log.
func loaded(t *testing.T, path, mode string, life, n uint64) *writer {
	var out bytes.Buffer
	w := &writer{opened: make(chan struct{})}
	require.NoError(t, runLoad(&lockedWriter{b: &out}, path, mode, life, n))
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		require.NoError(t, w.note(lines.Text()))
	}
	require.True(t, w.begun)
	require.Empty(t, w.ends)
	require.Equal(t, "nil nil", w.after)
	return w
}

func TestLoadsLeaveWhatTheySay(t *testing.T) {
	for _, mode := range []string{modeNever, modeMixed, modeLie} {
		t.Run(mode, func(t *testing.T) {
			path := mapIn(t.TempDir())
			first := loaded(t, path, mode, 1, 150)
			require.NotEmpty(t, first.acks)
			all := counts{150, 150, 150, 150}
			require.True(t, all.covers(first.durableAt(monotonic())))
			require.Equal(t, counts{}, first.durableAt(first.acks[0].at))
			second := loaded(t, path, mode, 2, 60)
			require.Equal(t, all, second.began)
			q := question{Path: path, Lives: []life{{1, counts{}}, {2, all}}, Need: counts{210, 210, 210, 210}, Open: true}
			require.Equal(t, answer{Found: q.Need}, q.answer())
		})
	}
}

// TestSurveySeesDamage spoils a map and expects to hear of it: a judge that cannot say no proves nothing.
func TestSurveySeesDamage(t *testing.T) {
	put := func(e entry) func(db *mapfile.DB) error {
		return func(db *mapfile.DB) error { return db.Put(slotKey(e.writer, e.slot), e.value()) }
	}
	rows := []struct {
		name  string
		spoil func(db *mapfile.DB) error
		need  counts
		wrong string
	}{
		{"a durable step is missing", nil, counts{0, 41, 0, 0}, "lost"},
		{"a key is missing", func(db *mapfile.DB) error { return db.Delete(slotKey(1, 20)) }, counts{}, "slot 20 holds step 0"},
		{"an older value is back", put(entry{step: step{1, 20}, slot: 38, life: 1}), counts{}, "slot 38"},
		{"a value of another life", put(entry{step: step{1, 20}, slot: 20, life: 3}), counts{}, "by life 3"},
		{"a value under another's key", func(db *mapfile.DB) error {
			return db.Put(slotKey(1, 20), entry{step: step{1, 19}, slot: 19, life: 1}.value())
		}, counts{}, "no value of this load"},
		{"a commit before its time", put(entry{step: step{1, 20}, slot: 20, life: 1, seen: counts{99}}), counts{}, "a hole"},
		{"a transaction in part", func(db *mapfile.DB) error { return db.Put(totalKey, make([]byte, 8)) }, counts{}, "torn"},
		{"a strange key", func(db *mapfile.DB) error { return db.Put([]byte("x"), []byte("y")) }, counts{}, "no value of this load"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			path := mapIn(t.TempDir())
			loaded(t, path, modeNever, 1, 40)
			if row.spoil != nil {
				db, err := mapfile.Open(path, &mapfile.Options{Sync: mapfile.SyncNever})
				require.NoError(t, err)
				require.NoError(t, row.spoil(db))
				require.NoError(t, db.Close())
			}
			a := question{Path: path, Lives: []life{{1, counts{}}}, Need: row.need}.answer()
			require.Contains(t, a.Wrong, row.wrong)
			require.NotEmpty(t, a.Wrong)
		})
	}
}

func TestMissingMaps(t *testing.T) {
	q := question{Path: filepath.Join(t.TempDir(), "none")}
	require.Equal(t, answer{Missing: true}, q.answer())
	q.Need[0] = 1
	require.NotEmpty(t, q.answer().Wrong, "something was durable")
}

func TestLogOfALoad(t *testing.T) {
	w := &writer{opened: make(chan struct{})}
	for _, line := range []string{"begin 1 2 3 4 0", "durable 5 6 7 8 90", "end 2 failed: why", "after failed nil"} {
		require.NoError(t, w.note(line))
	}
	require.Equal(t, counts{1, 2, 3, 4}, w.began)
	require.Equal(t, counts{5, 6, 7, 8}, w.durableAt(91))
	require.Equal(t, counts{}, w.durableAt(90))
	require.Equal(t, []string{"2 failed: why"}, w.ends)
	require.Equal(t, "failed nil", w.after)
	for _, line := range []string{"", "durable 1 2", "panic: 1 2 3 4 5"} {
		require.Error(t, w.note(line))
	}
}

// TestFilling runs the script of a full disk against a map of bounded size.
func TestFilling(t *testing.T) {
	f := &filling{path: mapIn(t.TempDir()), size: 4000, strict: true, keys: 40, in: bufio.NewScanner(strings.NewReader("go\n")), out: &bytes.Buffer{}}
	f.options = mapfile.Options{Sync: mapfile.SyncNever, MaxSize: 3 << 20}
	for _, part := range []func() error{f.begin, f.untilFull, f.verify, f.overwrite, f.large, f.thinOut, f.verify} {
		require.NoError(t, part())
	}
	require.GreaterOrEqual(t, f.tally.Full, 4)
	require.NoError(t, f.db.Delete(fillKey(1)))
	require.Error(t, f.verify(), "a key is missing")
	require.NoError(t, f.db.Put(fillKey(1), fillValue(1, 99999, f.size)))
	require.Error(t, f.verify(), "a value of another version")
	require.NoError(t, f.db.Close())
}
