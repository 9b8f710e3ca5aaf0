package recovery

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/tail"
)

// historyOf is a history of so many lives of ten commits each, of which the first has identity 1.
func historyOf(lives int) *State {
	s := &State{}
	s.history.load(historyImage{}, 0)
	for i := range lives {
		s.history.begin(uint64(10*i+1), uint64(i+1))
	}
	return s
}

func TestIdentity(t *testing.T) {
	s := historyOf(3)
	for sequence, want := range map[uint64]uint64{0: 0, 1: 1, 10: 1, 11: 2, 20: 2, 21: 3, 30: 3, 1 << 40: 3} {
		require.Equal(t, want, s.Identity(sequence), "%d", sequence)
	}
	s.history.begin(11, 9) // the second life was cut off whole
	require.EqualValues(t, 1, s.Identity(10))
	require.EqualValues(t, 9, s.Identity(25))
	undo := s.history.begin(12, 10)
	require.EqualValues(t, 10, s.Identity(25))
	undo()
	require.EqualValues(t, 9, s.Identity(25))
	require.Zero(t, s.history.floor.Load())
}

func TestHistoryForgetsLives(t *testing.T) {
	s := historyOf(maxLives)
	_, ok := s.Since(0, 1<<40)
	require.True(t, ok)
	undo := s.history.begin(1<<30, 7)
	for base, want := range map[uint64]bool{0: false, 1: false, 10: false, 11: true, 1 << 29: true} {
		_, ok := s.Since(base, 1<<40)
		require.Equal(t, want, ok, "%d", base)
	}
	require.Len(t, *s.history.lives.Load(), maxLives)
	undo()
	_, ok = s.Since(1, 1<<40)
	require.True(t, ok)
}

func TestSince(t *testing.T) {
	for _, row := range []struct {
		name     string
		change   func(s *State)
		base, at uint64
		whole    bool
		ok       bool
	}{
		{"nothing", func(*State) {}, 5, 30, false, true},
		{"the same", func(*State) {}, 30, 30, false, true},
		{"behind the map", func(*State) {}, 31, 30, false, false},
		{"a newer tombstone", func(s *State) { s.Dropped(&tail.Record{Flags: tail.FlagMoved, Extra: 6, Sequence: 29}) }, 5, 30, false, false},
		{"an older tombstone", func(s *State) { s.Dropped(&tail.Record{Flags: tail.FlagMoved, Extra: 5, Sequence: 29}) }, 5, 30, false, true},
		{"a tombstone of which the DROP does not tell", func(s *State) { s.Dropped(&tail.Record{Sequence: 29}) }, 5, 30, false, false},
		{"cleared", func(s *State) { s.history.cleared.Store(6) }, 5, 30, true, true},
		{"cleared, and a newer tombstone", func(s *State) { s.history.raise(20); s.history.cleared.Store(6) }, 5, 30, true, true},
		{"cleared before", func(s *State) { s.history.raise(20); s.history.cleared.Store(5) }, 5, 30, false, false},
		{"cleared behind the snapshot", func(s *State) {
			s.history.cleared.Store(40)
			s.cleared.Store(&cleared{sequence: 40, last: 31, before: &cleared{sequence: 31, last: 4}})
		}, 5, 30, false, true},
		{"cleared before and behind the snapshot", func(s *State) {
			s.history.cleared.Store(40)
			s.cleared.Store(&cleared{sequence: 40, last: 31, before: &cleared{sequence: 31, last: 7}})
		}, 5, 30, true, true},
		{"lost in the middle", func(s *State) { s.history.lost(4, 0) }, 5, 30, false, true},
		{"lost", func(s *State) { s.history.lost(5, 0) }, 5, 30, false, false},
		{"lost at the end, where there was room for one commit", func(s *State) { s.history.lost(4, 32) }, 5, 30, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := historyOf(3)
			row.change(s)
			since, ok := s.Since(row.base, row.at)
			require.Equal(t, row.ok, ok)
			if ok {
				require.Equal(t, Since{Base: s.Identity(row.base), At: s.Identity(row.at), Whole: row.whole}, since)
			}
		})
	}
}

func TestReadHistory(t *testing.T) {
	s := historyOf(3)
	s.history.raise(7)
	s.history.cleared.Store(4)
	im := s.history.image()
	b := im.appendTo(nil)
	require.Len(t, b, im.size())
	got, err := readHistory(append(b, make([]byte, 100)...))
	require.NoError(t, err)
	require.Equal(t, im, got)
	for _, row := range []struct {
		name string
		b    []byte
	}{
		{"cut short", b[:len(b)-1]},
		{"more lives than there may be", append([]byte{16: 1, 18: 1, 23: 0}, make([]byte, 1<<20)...)},
		{"out of order", append(append(append([]byte{}, b[:24]...), b[40:56]...), append(append([]byte{}, b[24:40]...), b[56:]...)...)},
		{"a life without identity", append(append([]byte{}, b[:len(b)-8]...), make([]byte, 8)...)},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := readHistory(row.b)
			require.Error(t, err)
		})
	}
	for n := range 24 {
		got, err := readHistory(make([]byte, n))
		require.NoError(t, err, "a file without a history")
		require.Equal(t, historyImage{}, got, fmt.Sprint(n))
	}
	old := &State{}
	old.history.load(historyImage{}, 100)
	_, ok := old.Since(99, 200)
	require.False(t, ok, "of what came before nothing is known")
	_, ok = old.Since(100, 200)
	require.True(t, ok)
}
