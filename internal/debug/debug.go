// Package debug holds what only builds with the tag mapfile_debug contain: the
// invariant checks, and the switch that announces every store into the mapping
// to the storage seam, which is how a simulated disk learns of it.
package debug

import "fmt"

// Assert panics when an invariant of our own does not hold. It must not be used
// for bytes that come from the disk: those give errors.
func Assert(ok bool, format string, args ...any) {
	if On && !ok {
		panic("mapfile: invariant broken: " + fmt.Sprintf(format, args...))
	}
}
