// Package tail keeps the log of records: checksummed records in segments of the
// one file, values contiguous, each record linked to the previous version of its
// key, commits of many records atomic by their first and last flags.
//
// Appending and changing the segment table belong to the holder of the writer's
// turn. Reading records needs a View that cannot go away (a pin, or a generation
// check afterwards) and is safe for any number of goroutines.
//
// Part of mapfile's implementation, no stable API.
package tail
