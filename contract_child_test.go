//go:build linux || darwin || freebsd

package mapfile_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// childVariable names the role that a child process plays: the test binary, run again.
const childVariable = "MAPFILE_TEST_CHILD"

// childRoles are what a child can be. A role gets the arguments that startChild was given, and talks on
// stdout; it ends with the process.
var childRoles = map[string]func(out io.Writer, args []string) error{}

// TestChild is no test: it is what a child process runs.
func TestChild(t *testing.T) {
	role, ok := childRoles[os.Getenv(childVariable)]
	if !ok {
		t.Skip("runs in child processes only")
	}
	if err := role(os.Stdout, strings.Split(os.Getenv(childVariable+"_ARGS"), "\n")); err != nil {
		_, _ = os.Stdout.WriteString("error " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}

// child is a running child process.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startChild runs this test binary in a role.
func startChild(t testing.TB, role string, args ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childVariable+"="+role, childVariable+"_ARGS="+strings.Join(args, "\n"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := &child{cmd, in, bufio.NewScanner(out)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // most have ended
		_ = cmd.Wait()
	})
	return c
}

// line is the next line that the child says, "" when it has ended.
func (c *child) line() string {
	if !c.out.Scan() {
		return ""
	}
	return c.out.Text()
}

// rest is all that the child says from here to its end.
func (c *child) rest() []string {
	var all []string
	for c.out.Scan() {
		all = append(all, c.out.Text())
	}
	return all
}
