package mapfile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/simdisk"
	"github.com/mapfile-db/mapfile/pager"
)

// windowMap opens a map that is larger than memory.
func windowMap(t *testing.T, d *simdisk.Disk, readOnly bool) *DB {
	o := Options{Sync: SyncNever, ReadOnly: readOnly}
	db, err := open("/w.map", o.withDefaults(), internals{disk: d, geometry: pager.DefaultGeometry(), memory: func() uint64 { return 1 }})
	require.NoError(t, err)
	return db
}

func scanned(tx *Tx) (map[string]string, error) {
	got := map[string]string{}
	for k, v := range tx.All() {
		got[string(k)] = string(v)
	}
	return got, tx.Err()
}

// TestScanThroughAWindow scans a map that is larger than memory: values longer than the window, snapshots beside writers and compaction, and
// records across the border of what is read at once.
func TestScanThroughAWindow(t *testing.T) {
	d := simdisk.New(64 << 20)
	defer d.Release()
	db := windowMap(t, d, false)
	want := map[string]string{}
	rng := rand.New(rand.NewPCG(1, 2))
	put := func(n int) {
		for range n {
			k, v := fmt.Sprint("key ", rng.IntN(3000)), strings.Repeat(fmt.Sprintf("%8d", rng.IntN(1e6)), 1+rng.IntN(200))
			require.NoError(t, db.Put([]byte(k), []byte(v)))
			want[k] = v
		}
	}
	put(6000)
	want["large"] = strings.Repeat("l", 3*windowBytes+17)
	require.NoError(t, db.Put([]byte("large"), []byte(want["large"])))
	require.NoError(t, db.View(func(tx *Tx) error {
		before := maps.Clone(want)
		put(2000)
		require.NoError(t, db.Delete([]byte("large")))
		delete(want, "large")
		require.NoError(t, db.Compact(t.Context()))
		got, err := scanned(tx)
		require.True(t, maps.Equal(before, got), "%d entries of %d", len(got), len(before))
		return err
	}))
	require.NoError(t, db.Update(func(tx *Tx) error {
		require.NoError(t, tx.Put([]byte("own"), []byte("write")))
		want["own"] = "write"
		got, err := scanned(tx)
		require.True(t, maps.Equal(want, got), "%d entries of %d", len(got), len(want))
		return err
	}))
	require.NoError(t, db.Close())
}

// TestScanThroughAWindowOfRot: what is read in order is judged, and mended, like what is read in the mapping; also where nothing can be read
// but through that.
func TestScanThroughAWindowOfRot(t *testing.T) {
	whole := simdisk.New(64 << 20)
	defer whole.Release()
	db := windowMap(t, whole, false)
	want := map[string]string{}
	for i := range 3000 {
		k, v := fmt.Sprint("key ", i), strings.Repeat(fmt.Sprintf("value %4d ", i), 60)
		require.NoError(t, db.Put([]byte(k), []byte(v)))
		want[k] = v
	}
	require.NoError(t, db.Close())
	at := int64(strings.Index(string(whole.Bytes("/w.map")), want["key 1000"]))
	require.Positive(t, at)
	rows := []struct {
		name    string
		bits    []int64 // from the begin of the value of key 1000
		corrupt bool
	}{
		{"whole", nil, false},
		{"a bit of a value", []int64{8*77 + 3}, false},
		{"a bit of a header", []int64{-8 * 20}, false},
		{"two bits of a value", []int64{8*77 + 3, 8*78 + 3}, true},
		{"two bits of a header", []int64{-8 * 20, -8*21 - 3}, true},
	}
	for _, row := range rows {
		for _, readOnly := range []bool{true, false} {
			for _, broken := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, read-only %v, reads fail %v", row.name, readOnly, broken), func(t *testing.T) {
					d := simdisk.New(64 << 20)
					defer d.Release()
					d.Load("/w.map", whole.Bytes("/w.map"))
					for _, bit := range row.bits {
						d.FlipBit("/w.map", 8*at+bit)
					}
					db := windowMap(t, d, readOnly)
					if broken {
						d.Fail = func(c simdisk.Call) error {
							if c.Name == "ReadAt" {
								return syscall.EIO
							}
							return nil
						}
					}
					tx, err := db.BeginTx(t.Context(), &TxOptions{ReadOnly: true})
					require.NoError(t, err)
					got, err := scanned(tx)
					if row.corrupt {
						require.ErrorIs(t, err, ErrCorrupt)
					} else {
						require.NoError(t, err)
						require.True(t, maps.Equal(want, got), "%d entries of %d", len(got), len(want))
					}
					require.NoError(t, tx.Rollback())
					d.Fail = nil
					require.NoError(t, db.Close())
				})
			}
		}
	}
}
