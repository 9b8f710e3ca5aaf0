package pager

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSumMaps: the ranges of the view count, others do not.
func TestSumMaps(t *testing.T) {
	const smaps = `7f0000000000-7f0000200000 rw-s 00000000 fe:00 42 /a.map
Size:               2048 kB
Rss:                2000 kB
FilePmdMapped:         0 kB
VmFlags: rd wr sh
7f0000200000-7f0000800000 r--s 00200000 fe:00 42 /a.map
Rss:                6144 kB
ShmemPmdMapped:     2048 kB
FilePmdMapped:      2048 kB
7f0000800000-7f0000a00000 r--s 00000000 fe:00 43 /b.map
Rss:                2048 kB
FilePmdMapped:      2048 kB
`
	bytes, huge, err := sumMaps(strings.NewReader(smaps), 0x7f0000000000, 0x7f0000800000)
	require.NoError(t, err)
	require.EqualValues(t, (2000+6144)<<10, bytes)
	require.EqualValues(t, 4096<<10, huge)
	_, _, err = sumMaps(strings.NewReader("1000-2000 r--p\nRss: many kB\n"), 0, 0x3000)
	require.ErrorContains(t, err, "smaps")
}
