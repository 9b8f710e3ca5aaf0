package mapfile_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

func init() { maps.Copy(childRoles, mapfile.FaultRoles) }

// TestSIGBUS lets pages of open maps fault under four goroutines, in a child process each, which must live.
func TestSIGBUS(t *testing.T) {
	seed, all := rand.Uint64(), 0
	rows := []struct {
		scenario string
		faults   int // to recover, at least
	}{
		{"cut under readers", 5000}, {"cut under writers", 100}, {"unmapped", 3500}, {"holes on a full disk", 2000},
	}
	for _, row := range rows {
		if testing.Short() {
			row.faults /= 10
		}
		t.Run(row.scenario, func(t *testing.T) {
			said := busChild(t, row.scenario, t.TempDir(), fmt.Sprint(row.faults), fmt.Sprint(seed))
			if reason, ok := strings.CutPrefix(said, "error skip: "); ok {
				t.Skip(reason)
			}
			var faults int
			_, err := fmt.Sscanf(said, "faults %d,", &faults)
			require.NoError(t, err, "seed %d: the child says %q", seed, said)
			require.GreaterOrEqual(t, faults, row.faults)
			t.Logf("seed %d: %s", seed, said)
			all += faults
		})
	}
	t.Logf("%d faults recovered", all)
}

// busChild runs a scenario, as root of a user namespace where the process is not root, and gives what the child says.
func busChild(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childVariable+"=sigbus", childVariable+"_ARGS="+strings.Join(args, "\n"))
	if os.Getuid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Skipf("no child can be started in a user namespace (%v)", err)
	}
	err := cmd.Wait()
	said := strings.TrimSpace(out.String())
	if !strings.HasPrefix(said, "error ") {
		require.NoError(t, err, "the child died: %s", errs.String())
	}
	return said
}
