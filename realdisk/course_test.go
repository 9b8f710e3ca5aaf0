//go:build linux

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestContents takes the steps one by one and compares.
func TestContents(t *testing.T) {
	var held [slots]uint64
	groups := uint64(0)
	for n := uint64(1); n <= 3*slots; n++ {
		s := step{2, n}
		puts, deleted := s.touches()
		for _, slot := range puts {
			held[slot] = n
		}
		if deleted >= 0 {
			held[deleted] = 0
		}
		if s.groups() {
			groups++
			require.Len(t, puts, groupSize-1)
		}
		if n%97 == 0 || n < 30 {
			require.Equal(t, held, contents(2, n), "after %d steps", n)
			require.Equal(t, groups, total(counts{0, 0, n, 0}), "after %d steps", n)
		}
	}
	require.Greater(t, groups, uint64(300))
}

func TestStepsOfSlots(t *testing.T) {
	for n := uint64(0); n < 200; n++ {
		held, newest := contents(1, n), uint64(0)
		for _, at := range held {
			newest = max(newest, at)
		}
		found, err := steps(1, newest, &held)
		require.NoError(t, err)
		require.Equal(t, contents(1, n), contents(1, found))
		require.LessOrEqual(t, found-min(found, n), uint64(1), "a deletion of nothing cannot be told from none")
	}
	held := contents(1, 150)
	held[100] = 7
	_, err := steps(1, 150, &held)
	require.ErrorContains(t, err, "slot 100 holds step 7")
}

func TestValuesAreChecked(t *testing.T) {
	e := entry{step: step{3, 60}, slot: 17, life: 9, seen: counts{1, 2, 3, 4}}
	v := e.value()
	back, err := parse(v)
	require.NoError(t, err)
	require.Equal(t, e, back)
	for i := range v {
		v[i] ^= 4
		_, err := parse(v)
		require.ErrorIs(t, err, errForeign, "byte %d", i)
		v[i] ^= 4
	}
	_, err = parse(v[:len(v)-1])
	require.ErrorIs(t, err, errForeign)
	large, err := parse(entry{step: step{0, 61}}.value())
	require.NoError(t, err)
	require.EqualValues(t, 61, large.n)
}

func TestLifeOf(t *testing.T) {
	lives := []life{{4, counts{}}, {7, counts{10, 0, 3, 0}}, {8, counts{10, 5, 3, 0}}}
	require.EqualValues(t, 4, lifeOf(lives, step{0, 10}))
	require.EqualValues(t, 8, lifeOf(lives, step{0, 11}))
	require.EqualValues(t, 7, lifeOf(lives, step{1, 5}))
	require.EqualValues(t, 0, lifeOf(nil, step{1, 5}))
}

func TestJudgeCounts(t *testing.T) {
	found := counts{12, 12, 12, 12}
	rows := []struct {
		name       string
		seen, need counts
		sum        uint64
		wrong      string
	}{
		{"all is well", counts{12, 11, 3, 0}, counts{12, 12, 12, 12}, total(found), ""},
		{"one durable step is not there", counts{}, counts{0, 13, 0, 0}, total(found), "lost"},
		{"a step is there without one before it", counts{0, 0, 13, 0}, counts{}, total(found), "a hole"},
		{"a transaction is there in part", counts{}, counts{}, total(found) + 1, "torn"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			err := judgeCounts(found, row.seen, row.need, row.sum)
			if row.wrong == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, row.wrong)
			}
		})
	}
}

func TestKindsOf(t *testing.T) {
	found, err := kindsOf([]string{"xfs", "ext4"})
	require.NoError(t, err)
	require.Equal(t, "xfs", found[0].name)
	require.Equal(t, "ext4", found[1].name)
	_, err = kindsOf([]string{"fat"})
	require.ErrorContains(t, err, "fat")
	_, err = kindsOf(nil)
	require.Error(t, err)
}
