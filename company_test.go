package mapfile

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCompany: the leader of a group commit waits for those who are expected, not longer than a part of a sync takes, and learns from waits in vain.
func TestCompany(t *testing.T) {
	var waiting atomic.Int64
	took := func(c *company) time.Duration {
		begin := time.Now()
		c.await(&waiting)
		return time.Since(begin)
	}

	waiting.Store(1)
	alone, least := &company{expected: 1, took: time.Hour}, time.Hour
	for range 20 { // on a busy machine it may lose its processor
		least = min(least, took(alone))
	}
	require.Less(t, least, companyMost, "one writer alone waits for nobody")

	var c *company
	for range 20 { // on a busy machine the others come too late now and then
		c = &company{expected: 3, took: companyShare * companyMost}
		go func() { waiting.Add(2) }()
		c.await(&waiting)
		if c.missed == 0 {
			break
		}
		require.Eventually(t, func() bool { return waiting.Load() == 3 }, time.Minute, time.Millisecond)
		waiting.Store(1)
	}
	require.Zero(t, c.missed, "the others came")
	require.Equal(t, int64(3), waiting.Load())

	waiting.Store(1)
	c = &company{expected: 3, took: companyShare * companyMost}
	for i := range 5 {
		require.GreaterOrEqual(t, took(c), companyMost, "the %d. wait in vain", i)
		require.Positive(t, c.missed) // how many, a machine that is busy decides
		require.Equal(t, c.missed, c.rests)
		for range c.missed {
			c.await(&waiting)
		}
		require.Zero(t, c.rests)
	}
	c = &company{}
	for _, rests := range []int{1, 3, 7, 15, 31, 63, 63} {
		c.learn(0, 2, companyMost)
		require.Equal(t, rests, c.rests)
	}

	for _, row := range []struct {
		came, missing int64
		waited        time.Duration
		was, missed   int
	}{
		{0, 1, 0, 3, 7}, {1, 1, 0, 3, 0}, {0, 2, 0, 3, 7}, {1, 2, 0, 3, 0}, {1, 3, 0, 3, 7}, {2, 3, 0, 3, 0}, {7, 15, 0, 3, 7}, {8, 15, 0, 3, 0}, {3, 2, 0, 3, 0},
		{2, 2, companyLate, 3, 0}, {2, 2, companyLate + 1, 0, 7}, {2, 2, time.Second, 63, 511}, {2, 2, time.Second, 1023, 1023}, {0, 2, 0, 1023, 63},
	} {
		c = &company{missed: row.was}
		c.learn(row.came, row.missing, row.waited)
		require.Equal(t, row.missed, c.missed, "%+v", row)
		require.Equal(t, row.missed, c.rests, "%+v", row)
	}

	c = &company{expected: 3, took: time.Hour}
	begin := time.Now()
	c.await(&waiting)
	require.Less(t, time.Since(begin), time.Minute, "however long the last sync took")
}

// TestCompanyOfWriters: a sync says how many to expect at the next, whose leader waits for them.
func TestCompanyOfWriters(t *testing.T) {
	db, err := Open(t.TempDir()+"/a.map", nil)
	require.NoError(t, err)
	require.NoError(t, db.Put([]byte("a"), nil))
	require.Equal(t, int64(1), db.dur.company.expected)
	require.Positive(t, db.dur.company.took)

	db.dur.company = company{expected: 2, took: time.Hour}
	require.NoError(t, db.Put([]byte("a"), nil))
	require.Positive(t, db.dur.company.missed, "it waited for the other, who did not come")
	require.Equal(t, int64(1), db.dur.company.expected)
	require.NoError(t, db.Put([]byte("a"), nil))
	require.Equal(t, db.dur.company.missed-1, db.dur.company.rests, "and the next did not")
	require.NoError(t, db.Close())
}
