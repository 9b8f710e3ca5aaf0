//go:build mapfile_debug

package debug

// On is true in builds with the tag mapfile_debug.
const On = true
