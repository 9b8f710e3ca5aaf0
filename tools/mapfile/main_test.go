package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// program is the built command.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mapfile-program-")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "mapfile")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		panic(string(out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// call runs the program to its end.
func call(t *testing.T, stdin string, args ...string) (code int, out, errOut string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil {
		require.True(t, errors.As(err, &exit), "%v", err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

func TestExitCodesAndStreams(t *testing.T) {
	dir := t.TempDir()
	path, text := filepath.Join(dir, "m"), filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, bytes.Repeat([]byte("no map\n"), 1000), 0o600))
	rows := []struct {
		name  string
		stdin string
		args  []string
		code  int
		out   string
		err   string // part of it
	}{
		{"no map yet", "", []string{"get", path, "k"}, 2, "", "no such file"},
		{"put from stdin", "the value\n", []string{"put", "--create", path, "k", "-"}, 0, "", ""},
		{"get", "", []string{"get", path, "k"}, 0, "the value\n", ""},
		{"get a missing key", "", []string{"get", path, "x"}, 1, "", "key not found"},
		{"dump", "", []string{"dump", path}, 0, `{"key":"aw==","value":"dGhlIHZhbHVlCg=="}` + "\n", ""},
		{"load", `{"key":"eA==","value":""}`, []string{"load", path}, 0, "", "loaded 1 entries"},
		{"delete", "", []string{"delete", path, "k"}, 0, "", ""},
		{"keys", "", []string{"keys", path}, 0, "x\n", ""},
		{"usage", "", []string{"keys"}, 2, "", "; run: mapfile keys --help"},
		{"no mapfile", "", []string{"get", text, "k"}, 3, "", "; run: mapfile check " + text},
	}
	for _, row := range rows {
		ok := t.Run(row.name, func(t *testing.T) {
			code, out, errOut := call(t, row.stdin, row.args...)
			require.Equal(t, row.code, code, errOut)
			require.Equal(t, row.out, out)
			require.Contains(t, errOut, row.err)
			if row.err == "" {
				require.Empty(t, errOut)
			}
		})
		require.True(t, ok, "the rows build on one another")
	}
}

func TestInterrupt(t *testing.T) {
	rows := []struct {
		name   string
		signal os.Signal
		load   []string // verb and flags before the map
	}{
		{"load, Ctrl-C", os.Interrupt, []string{"load"}},
		{"load, SIGTERM", syscall.SIGTERM, []string{"load"}},
		{"put from stdin", os.Interrupt, []string{"put", "--create"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m")
			args := append(row.load, path)
			if row.load[0] == "put" {
				args = append(args, "k", "-")
			}
			code, errOut := interrupt(t, row.signal, args, func() {
				if row.load[0] == "load" {
					waitForFile(t, path)
				}
			})
			require.Equal(t, 2, code, errOut)
			require.Contains(t, errOut, "interrupted")
			require.NoFileExists(t, path)
		})
	}
}

// interrupt starts the program with a stdin that stays open, gives it some input,
// and signals it when ready returns.
func interrupt(t *testing.T, signal os.Signal, args []string, ready func()) (code int, errOut string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var e bytes.Buffer
	cmd.Stderr = &e
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	// More than a pipe holds: once it is all written, the program has read.
	_, err = io.WriteString(stdin, strings.Repeat(`{"key":"aw==","value":"dg=="}`+"\n", 10_000))
	require.NoError(t, err)
	ready()
	require.NoError(t, cmd.Process.Signal(signal))
	err = cmd.Wait()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit), "%v", err)
	return cmd.ProcessState.ExitCode(), e.String()
}

func waitForFile(t *testing.T, path string) {
	t.Helper()
	require.Eventually(t, func() bool { _, err := os.Stat(path); return err == nil }, 10*time.Second, time.Millisecond)
}

func TestInterruptedImport(t *testing.T) {
	src := t.TempDir()
	content := bytes.Repeat([]byte("content "), 1<<17)
	for i := range 200 {
		require.NoError(t, os.WriteFile(filepath.Join(src, "f"+strings.Repeat("x", i)), content, 0o600))
	}
	path := filepath.Join(t.TempDir(), "m")
	cmd := exec.CommandContext(t.Context(), program, "import", src, path)
	var e bytes.Buffer
	cmd.Stderr = &e
	require.NoError(t, cmd.Start())
	waitForFile(t, path)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	require.Equal(t, 2, cmd.ProcessState.ExitCode(), e.String())
	require.Equal(t, "mapfile: interrupted\n", e.String())
	require.NoFileExists(t, path)
	left, err := os.ReadDir(src)
	require.NoError(t, err)
	require.Len(t, left, 200)
}

func TestDemoOfTheBuiltProgram(t *testing.T) {
	src := t.TempDir()
	for i := range 100 {
		require.NoError(t, os.WriteFile(filepath.Join(src, strings.Repeat("f", i+1)), bytes.Repeat([]byte{byte(i)}, 100*i), 0o600))
	}
	code, out, errOut := call(t, "", "demo", "--dir", t.TempDir(), "--source", src, "--kills", "4")
	require.Equal(t, 0, code, errOut)
	require.True(t, strings.HasSuffix(out, "\ndemo: ok\n"), out)
}
