//go:build !mapfile_debug

package debug

// On is false in production builds: everything behind it is compiled out.
const On = false
