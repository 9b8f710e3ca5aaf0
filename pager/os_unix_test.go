//go:build linux || darwin || freebsd

package pager

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile/internal/errs"
)

// childEnv names the verb and the path for TestOSChild in a child process.
const childEnv = "MAPFILE_OS_CHILD"

// TestOSChild is what the child processes of this package's tests run.
func TestOSChild(t *testing.T) {
	verb, path, ok := strings.Cut(os.Getenv(childEnv), " ")
	if !ok {
		t.Skip("runs in child processes of other tests only")
	}
	switch verb {
	case "lock-shared", "lock-exclusive":
		childLock(t, path, verb == "lock-exclusive")
	case "low-descriptor":
		childLowDescriptor(t, path)
	default:
		childCreate(t, path, verb)
	}
}

// childCommand is this test binary, told to do verb with path.
func childCommand(t *testing.T, verb, path string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^TestOSChild$")
	cmd.Env = append(os.Environ(), childEnv+"="+verb+" "+path)
	return cmd
}

// tempDir is a directory whose path has no symbolic links.
func tempDir(t *testing.T) string {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	return dir
}

func writeOSFile(t *testing.T, path string, content []byte) {
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

func openOS(t *testing.T, path string, readOnly bool) *osFile {
	f, err := OS().Open(path, readOnly)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f.(*osFile)
}

// newOS is an open file of size bytes of zeros.
func newOS(t *testing.T, size int) *osFile {
	path := filepath.Join(tempDir(t), "m")
	writeOSFile(t, path, make([]byte, size))
	return openOS(t, path, false)
}

func TestOSOpenErrors(t *testing.T) {
	dir := tempDir(t)
	file := filepath.Join(dir, "file")
	writeOSFile(t, file, nil)
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	loop := filepath.Join(dir, "loop")
	require.NoError(t, os.Symlink(loop, loop))
	for name, row := range map[string]struct {
		path string
		want error
	}{
		"missing":        {filepath.Join(dir, "none"), fs.ErrNotExist},
		"below a file":   {filepath.Join(file, "x"), syscall.ENOTDIR},
		"directory":      {dir, syscall.EISDIR},
		"named pipe":     {pipe, errs.ErrNotMapfile},
		"device":         {os.DevNull, errs.ErrNotMapfile},
		"loop of links":  {loop, syscall.ELOOP},
		"name too long":  {filepath.Join(dir, strings.Repeat("x", 300)), syscall.ENAMETOOLONG},
		"empty path":     {"", fs.ErrNotExist},
		"regular (good)": {file, nil},
	} {
		for _, readOnly := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, read-only %v", name, readOnly), func(t *testing.T) {
				f, err := OS().Open(row.path, readOnly)
				if row.want == nil {
					require.NoError(t, err)
					require.NoError(t, f.Close())
					return
				}
				require.ErrorIs(t, err, row.want)
			})
		}
	}
}

func TestOSOpenWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may open everything")
	}
	path := filepath.Join(tempDir(t), "m")
	writeOSFile(t, path, []byte("x"))
	require.NoError(t, os.Chmod(path, 0o400))
	_, err := OS().Open(path, false)
	require.ErrorIs(t, err, fs.ErrPermission)
	openOS(t, path, true)
}

func TestOSOpenStaysOffStandardDescriptors(t *testing.T) {
	path := filepath.Join(tempDir(t), "m")
	writeOSFile(t, path, []byte("kept"))
	out, err := childCommand(t, "low-descriptor", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func childLowDescriptor(t *testing.T, path string) {
	require.NoError(t, unix.Close(0))
	f := openOS(t, path, false)
	require.Greater(t, f.handle(), 2)
	flags, err := unix.FcntlInt(uintptr(f.handle()), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.FD_CLOEXEC, "a child process must not inherit the map")
	require.ErrorIs(t, unix.Close(0), unix.EBADF, "the low descriptor is free again")
}

func TestOSCreateLeavesNoNameBehind(t *testing.T) {
	for name, row := range map[string]struct {
		verb string
		want []string
	}{
		"killed after CreateTemp": {"created", nil},
		"killed after the writes": {"written", nil},
		"killed after Link":       {"linked", []string{"m"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(tempDir(t), "m")
			fd, err := openUnnamed(filepath.Dir(path), 0o600)
			if err != nil {
				t.Skip("no files without a name on this file system")
			}
			require.NoError(t, unix.Close(fd))
			out, err := childCommand(t, row.verb, path).CombinedOutput()
			require.ErrorContains(t, err, "killed", "%s", out)
			require.Equal(t, row.want, namesIn(t, filepath.Dir(path)))
		})
	}
}

// childCreate makes a file and kills itself after the step last.
func childCreate(t *testing.T, path, last string) {
	die := func(step string) {
		if step == last {
			require.NoError(t, unix.Kill(os.Getpid(), unix.SIGKILL))
			select {}
		}
	}
	f, err := OS().CreateTemp(path, 0o600)
	require.NoError(t, err)
	die("created")
	require.NoError(t, f.WriteAt([]byte("content"), 0))
	require.NoError(t, f.Sync())
	die("written")
	require.NoError(t, OS().Link(f, path, false))
	require.NoError(t, OS().SyncDir(path))
	die("linked")
	t.Fatal("unknown verb " + last)
}

func namesIn(t *testing.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestOSLink(t *testing.T) {
	makers := map[string]func(string, fs.FileMode) (File, error){
		"CreateTemp": OS().CreateTemp,
		"named":      createNamedTemp,
	}
	for name, row := range map[string]struct {
		existing, replace bool
		want              error
	}{
		"new":              {false, false, nil},
		"new, replacing":   {false, true, nil},
		"taken":            {true, false, fs.ErrExist},
		"taken, replacing": {true, true, nil},
	} {
		for maker, create := range makers {
			t.Run(maker+" "+name, func(t *testing.T) {
				path := filepath.Join(tempDir(t), "m")
				if row.existing {
					writeOSFile(t, path, []byte("old"))
				}
				f, err := create(path, 0o640)
				require.NoError(t, err)
				require.NoError(t, f.WriteAt([]byte("new"), 0))
				err = OS().Link(f, path, row.replace)
				require.ErrorIs(t, err, row.want)
				if row.want == nil {
					requireLinked(t, f, path)
				}
				require.NoError(t, f.Close())
				require.Equal(t, []string{"m"}, namesIn(t, filepath.Dir(path)))
				content, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, map[bool]string{true: "new", false: "old"}[row.want == nil], string(content))
			})
		}
	}
}

// requireLinked checks that f is what path names, and can be opened by it.
func requireLinked(t *testing.T, f File, path string) {
	open, err := f.Stat()
	require.NoError(t, err)
	named, err := OS().Stat(path)
	require.NoError(t, err)
	require.True(t, named.Same(open))
	require.Equal(t, uint64(1), named.Links)
	again, err := f.Reopen()
	require.NoError(t, err)
	require.NoError(t, again.Close())
	require.ErrorIs(t, OS().Link(f, path+"2", false), syscall.EINVAL, "a file is linked once")
}

func TestOSTempIsGoneAfterClose(t *testing.T) {
	path := filepath.Join(tempDir(t), "m")
	for name, create := range map[string]func(string, fs.FileMode) (File, error){
		"CreateTemp": OS().CreateTemp, "named": createNamedTemp,
	} {
		t.Run(name, func(t *testing.T) {
			f, err := create(path, 0o600)
			require.NoError(t, err)
			again, err := f.Reopen()
			require.NoError(t, err)
			require.NoError(t, f.WriteAt([]byte("seen"), 0))
			got := make([]byte, 4)
			_, err = again.ReadAt(got, 0)
			require.NoError(t, err)
			require.Equal(t, "seen", string(got))
			require.NoError(t, again.Close())
			require.NoError(t, f.Close())
			require.Empty(t, namesIn(t, filepath.Dir(path)))
		})
	}
}

func TestOSCreateTempErrors(t *testing.T) {
	_, err := OS().CreateTemp(filepath.Join(tempDir(t), "none", "m"), 0o600)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestOSLinkThenUnlink(t *testing.T) {
	dir := tempDir(t)
	from, to, taken := filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(dir, "taken")
	writeOSFile(t, from, []byte("x"))
	writeOSFile(t, taken, nil)
	require.ErrorIs(t, linkThenUnlink(from, taken), fs.ErrExist)
	require.NoError(t, linkThenUnlink(from, to))
	require.Equal(t, []string{"taken", "to"}, namesIn(t, dir))
}

func TestOSSyncDir(t *testing.T) {
	dir := tempDir(t)
	require.NoError(t, OS().SyncDir(filepath.Join(dir, "any")))
	require.ErrorIs(t, OS().SyncDir(filepath.Join(dir, "none", "any")), fs.ErrNotExist)
}

func TestOSStat(t *testing.T) {
	f := newOS(t, 5000)
	link := f.path + "-link"
	require.NoError(t, os.Symlink(f.path, link))
	require.NoError(t, os.Link(f.path, f.path+"-hard"))
	a, err := OS().Stat(link)
	require.NoError(t, err)
	b, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, b, a)
	require.Equal(t, int64(5000), a.Size)
	require.Equal(t, uint64(2), a.Links)
	require.Equal(t, fs.FileMode(0o600), a.Mode)
	dir, err := OS().Stat(filepath.Dir(f.path))
	require.NoError(t, err)
	require.True(t, dir.Mode.IsDir())
	require.False(t, dir.Same(a))
	_, err = OS().Stat(f.path + "-none")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestOSNetworkOfLocalDirectory(t *testing.T) {
	dir := tempDir(t)
	for name, path := range map[string]string{
		"exists": dir, "does not exist": filepath.Join(dir, "x"), "nor does its directory": filepath.Join(dir, "x", "y", "z"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := OS().Network(path)
			require.NoError(t, err)
			require.Empty(t, got)
		})
	}
}

func TestOSResolve(t *testing.T) {
	dir := tempDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.Mkdir(at("d"), 0o700))
	writeOSFile(t, at("d/file"), nil)
	for link, target := range map[string]string{
		"to-file": "d/file", "to-dir": at("d"), "to-nothing": at("d/new"), "to-nothing-relative": "d/new",
		"d/up": "../fresh", "chain": "to-nothing", "loop": "loop",
	} {
		require.NoError(t, os.Symlink(target, at(link)))
	}
	for name, row := range map[string]struct{ path, want string }{
		"plain":                      {at("d/file"), at("d/file")},
		"not clean":                  {at("d/../d/./file"), at("d/file")},
		"missing":                    {at("d/new"), at("d/new")},
		"missing, and its directory": {at("x/y"), at("x/y")},
		"link":                       {at("to-file"), at("d/file")},
		"through a link":             {at("to-dir/new"), at("d/new")},
		"link to nothing":            {at("to-nothing"), at("d/new")},
		"relative link to nothing":   {at("to-nothing-relative"), at("d/new")},
		"link upwards to nothing":    {at("to-dir/up"), at("fresh")},
		"links to a link to nothing": {at("chain"), at("d/new")},
		"loop":                       {at("loop"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := OS().Resolve(row.path)
			require.Equal(t, row.want == "", err != nil, "%v", err)
			require.Equal(t, row.want, got)
		})
	}
	t.Run("relative", func(t *testing.T) {
		t.Chdir(dir)
		got, err := OS().Resolve("to-dir/new")
		require.NoError(t, err)
		require.Equal(t, at("d/new"), got)
	})
}

func TestOSReopen(t *testing.T) {
	f := newOS(t, 10)
	again, err := f.Reopen()
	require.NoError(t, err)
	require.NotEqual(t, f.handle(), again.(*osFile).handle())
	require.NoError(t, again.Close())

	require.NoError(t, os.Rename(f.path, f.path+"-away"))
	_, err = f.Reopen()
	require.ErrorIs(t, err, fs.ErrNotExist)
	writeOSFile(t, f.path, []byte("another"))
	_, err = f.Reopen()
	require.ErrorIs(t, err, errs.ErrReplaced)
	require.NoError(t, os.Rename(f.path+"-away", f.path))
	again, err = f.Reopen()
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestOSCloseTwice(t *testing.T) {
	f := newOS(t, 10)
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Close(), fs.ErrClosed)
	_, err := f.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, syscall.EBADF)
	require.NotErrorIs(t, err, io.EOF)
}
