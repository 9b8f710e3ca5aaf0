package mapfile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

// TestAdviceOfRecords: the records of a map that is larger than half of memory lie in ranges where a fault reads a single page. In one that is advised for
// huge pages it reads 2 MiB, whatever else is advised. What a map has grown by since its open is no exception.
func TestAdviceOfRecords(t *testing.T) {
	for name, memory := range map[string]uint64{"larger than memory": 4 << 20, "smaller": 1 << 40} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.map")
			in := internals{disk: pager.OS(), geometry: pager.DefaultGeometry(), memory: func() uint64 { return memory }}
			o := Options{Sync: SyncNever}
			for life := range 2 {
				db, err := open(path, o.withDefaults(), in)
				require.NoError(t, err)
				value := make([]byte, 4000)
				for i := range 4000 {
					require.NoError(t, db.Put(binary.LittleEndian.AppendUint32(nil, uint32(life<<16|i)), value))
					if i%1000 == 999 {
						require.NoError(t, db.Checkpoint())
					}
				}
				single := 0
				for i := 0; i < 4000; i += 100 {
					flags := flagsOf(t, db, binary.LittleEndian.AppendUint32(nil, uint32(life<<16|i)))
					require.False(t, flags["rr"] && flags["hg"], "entry %d: %v", i, flags)
					if flags["rr"] {
						single++
					}
				}
				// The first unit is advised of nothing, and what was appended since the last checkpoint may not be advised yet.
				require.Equal(t, memory < 1<<30, single >= 30, "%d of 40 entries", single)
				require.NoError(t, db.Close())
			}
		})
	}
}

// flagsOf is what the kernel knows of the mapping in which an entry's value lies.
func flagsOf(t *testing.T, db *DB, key []byte) (flags map[string]bool) {
	require.NoError(t, db.GetFunc(key, func(value []byte) error {
		flags = map[string]bool{}
		smaps, err := os.Open("/proc/self/smaps")
		if err != nil {
			return err
		}
		defer smaps.Close()
		inside, at := false, uint64(uintptr(unsafe.Pointer(&value[0])))
		for lines := bufio.NewScanner(smaps); lines.Scan(); {
			var from, to uint64
			if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n == 2 {
				inside = from <= at && at < to
			}
			if rest, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && inside {
				for _, flag := range strings.Fields(rest) {
					flags[flag] = true
				}
			}
		}
		return nil
	}))
	return flags
}
