//go:build linux || darwin || freebsd

package pager

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestOSRetry repeats a call for as long as signals break it off, and no other.
func TestOSRetry(t *testing.T) {
	rows := []struct {
		name   string
		broken int
		end    error
	}{
		{"at once", 0, nil},
		{"broken off once", 1, nil},
		{"a storm of signals", 100_000, nil},
		{"another error behind it", 3, unix.EIO},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			calls := 0
			err := retryEINTR(func() error {
				if calls++; calls <= row.broken {
					return unix.EINTR
				}
				return row.end
			})
			require.Equal(t, row.end, err)
			require.Equal(t, row.broken+1, calls)
		})
	}
}

// interruptible are the calls that a signal may break off.
var interruptible = map[string]bool{
	"Open": true, "Pread": true, "Pwrite": true, "Pwritev2": true, "Fdatasync": true, "Fsync": true, "Fallocate": true, "Ftruncate": true,
	"Fstat": true, "Stat": true, "Statfs": true, "Linkat": true, "Link": true, "Rename": true, "Renameat2": true, "RenamexNp": true, "Msync": true,
	"Flock": true, "FcntlFlock": true, "FcntlFstore": true,
}

// ownLoop are the functions that look for EINTR themselves.
var ownLoop = map[string]bool{"ReadAt": true, "populate": true}

// TestOSCallsAreRepeated reads the source: each call that a signal may break off is made in a function that is called
// by retryEINTR or writeAll, by whatever way, or in one that looks for EINTR itself.
func TestOSCallsAreRepeated(t *testing.T) {
	makes, retried := map[string][]string{}, map[string]bool{}
	files, err := filepath.Glob("os_*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				lookForCalls(fn, makes, retried)
			}
		}
	}
	require.Greater(t, len(makes), 10, "the test finds the calls")
	for fn, calls := range makes {
		require.True(t, ownLoop[fn] || retried[fn], "%s makes %v, and EINTR is not met", fn, calls)
	}
}

// lookForCalls notes what a function calls outside of an argument of retryEINTR, and what inside of one.
func lookForCalls(fn *ast.FuncDecl, makes map[string][]string, retried map[string]bool) {
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch called := nameOf(call.Fun); {
		case called == "retryEINTR" || called == "writeAll":
			for _, arg := range call.Args {
				ast.Inspect(arg, func(n ast.Node) bool {
					if e, ok := n.(ast.Expr); ok {
						retried[nameOf(e)] = true
					}
					return true
				})
			}
			return false
		case interruptible[strings.TrimPrefix(called, "unix.")] && strings.HasPrefix(called, "unix."):
			makes[fn.Name.Name] = append(makes[fn.Name.Name], called)
		}
		return true
	})
}

// nameOf is the name of a function or method, with unix. before one of that package.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok && x.Name == "unix" {
			return "unix." + e.Sel.Name
		}
		return e.Sel.Name
	}
	return ""
}
