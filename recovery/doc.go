// Package recovery keeps the state of an open map as a whole, writes it down
// (a checkpoint), and reads it back (recovery: choose a meta page, walk the tail,
// replay it, begin a life), as PROTOCOL steps that FORMAT.md lists with what a crash
// in each leaves behind.
//
// A State belongs to the holder of the writer's turn, but for the atomics in Shared,
// and for the steps of a checkpoint that say otherwise.
//
// Part of mapfile's implementation, no stable API.
package recovery
