//go:build mapfile_sabotage

package sabotage

import (
	"os"
	"sync/atomic"
)

// On is true in builds with the tag mapfile_sabotage.
const On = true

var active = fromEnvironment()

// fromEnvironment finds the bug of this process.
func fromEnvironment() Bug {
	name := os.Getenv(Environment)
	if name == "" {
		return 0
	}
	for i, p := range planted {
		if i > 0 && p.Name == name {
			return Bug(i)
		}
	}
	panic(Environment + ": there is no bug " + name)
}

// Is reports whether a bug is active.
func Is(b Bug) bool { return b == active }

var yield atomic.Pointer[func(Point)]

// SetYield sets what Yield calls; nil: nothing.
func SetYield(f func(Point)) {
	if f == nil {
		yield.Store(nil)
		return
	}
	yield.Store(&f)
}

// Yield lets a test come between.
func Yield(p Point) {
	if f := yield.Load(); f != nil {
		(*f)(p)
	}
}
