// Package freelist knows which pages of the file are free, and which retired
// pages will be: by whom they are still needed, and when that ends.
//
// The file is divided into units (Geometry.UnitPages pages, 2 MiB). Unit 0 is
// mixed: behind the fixed pages it holds single index pages, image runs and
// small segments side by side. Every other unit is wholly free, or an arena
// (single index pages and image runs), or part of a segment; so index pages and
// records never share a 2 MiB folio. Wholly free units are kept as sorted runs,
// and only an arena that is partly free has a bitmap: the memory is some 12
// bytes a unit, plus the runs.
//
// A page's life: free, allocated (AllocPage, AllocRun, AllocSegment), retired
// (Retire: pending while a meta page may need it, then due), taken (TakeDue,
// once no pin is old enough to reach it), free again (Free). Each page is in
// exactly one of these states. All of it lives on the heap; a checkpoint writes
// an Image, from which the next open starts.
//
// The package never touches a page. Every choice depends on the calls alone,
// never on map order, time or chance, so a history can be replayed. An
// Allocator is safe for concurrent use; an Image belongs to one goroutine.
//
// Part of mapfile's implementation, no stable API.
package freelist
