//go:build mapfile_unverified

package debug

// Verify is false in builds with the tag mapfile_unverified: readers believe records and index pages as they are. Such a build is
// for one measurement (benchmarks/verifycost) and for nothing else.
const Verify = false
