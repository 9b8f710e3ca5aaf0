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
	alone := &company{expected: 1, took: time.Hour}
	alone.await(&waiting)
	require.Zero(t, alone.missed, "one writer alone waits for nobody")

	c := &company{expected: 3, took: companyShare * companyMost}
	for range 20 { // on a busy machine the others come too late now and then
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
	for i, rests := range []int{1, 3, 7, 15, 31, 63, 63} {
		require.GreaterOrEqual(t, took(c), companyMost, "the %d. wait in vain", i)
		require.Equal(t, rests, c.rests)
		for range rests {
			c.await(&waiting)
		}
		require.Zero(t, c.rests)
	}

	c = &company{expected: 3, took: time.Hour}
	begin := time.Now()
	c.await(&waiting)
	require.Less(t, time.Since(begin), time.Minute, "however long the last sync took")
}

// TestCompanyOfWriters: a sync says how many to expect at the next.
func TestCompanyOfWriters(t *testing.T) {
	db, err := Open(t.TempDir()+"/a.map", nil)
	require.NoError(t, err)
	require.NoError(t, db.Put([]byte("a"), nil))
	require.Equal(t, int64(1), db.dur.company.expected)
	require.Positive(t, db.dur.company.took)
	require.NoError(t, db.Close())
}
