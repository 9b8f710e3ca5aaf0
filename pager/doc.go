// Package pager keeps the 4 KB pages of one growing, memory-mapped file: the
// mapping and its reservation of address space, growth, the two meta pages and
// the mark page, synchronisation, the guard that turns a fault into an error,
// prefetching for staged look-ups, and the seam behind which the operating system's file lies.
//
// It knows no page type but the fixed pages 0 to 3. A Pager is safe for
// concurrent use where a method does not say otherwise.
//
// Part of mapfile's implementation, no stable API.
package pager
