package freelist

import (
	"cmp"
	"slices"

	"github.com/mapfile-db/mapfile/pager"
)

// Image is free space and retired runs as they were at one moment, as a
// checkpoint writes them. It belongs to one goroutine.
type Image struct {
	g pager.Geometry
	// One of the two holds the space: a decoded image has a table, whose size is
	// bounded by its encoding, until somebody needs the space.
	sp    *space
	table table

	unsettled bool
	shared    [3][]Entry // the allocator's lists, until settle sorts them
	entries   []Entry    // retired, ascending
}

// Snapshot copies the state of this moment. It is meant to be called under the
// writer's turn and does block copies only; what is left to do is done when the
// image is first used.
func (a *Allocator) Snapshot() *Image {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &Image{
		g: a.g, sp: a.sp.clone(),
		unsettled: true,
		shared:    [3][]Entry{a.pending.share(), a.due.share(), a.taken.share()},
	}
}

// Pages is the number of pages that the image speaks of.
func (im *Image) Pages() uint64 {
	if im.sp == nil {
		return im.table.pages
	}
	return im.sp.pages
}

// MarkUsed counts r, which was allocated since the snapshot, as used: these are
// the image's own pages. If r lies behind Pages the count grows and the pages
// between are free (behind unit 0 it grows by whole units).
func (im *Image) MarkUsed(r Run) {
	sp := im.settle()
	end := r.end()
	if up := uint64(sp.unitPages); end > up {
		end = (end + up - 1) / up * up
	}
	sp.extend(end)
	// A retired run with a page in r was due at the snapshot and has been freed
	// since, as a whole: else r could not have been allocated.
	im.entries = slices.DeleteFunc(im.entries, func(e Entry) bool {
		if e.overlaps(r) {
			im.free(e.Run)
			return true
		}
		return false
	})
	for p := range sp.parts(r) {
		sp.claim(p)
	}
}

// CutEnd is the number of pages that the file must have for this image: those up to the last one that is in use or retired.
func (im *Image) CutEnd() uint64 { return im.settle().cutEnd(im.g.SmallPages) }

// MarkFree counts r, which was in use at the snapshot, as free.
func (im *Image) MarkFree(r Run) {
	im.settle()
	im.free(r)
}

// free counts the pages of r as free.
func (im *Image) free(r Run) {
	for p := range im.sp.parts(r) {
		im.sp.give(p)
	}
}

// settle returns the image's space and does what Snapshot and DecodeImage left
// to do. Pages that were allocated and retired in one epoch are free in an
// image: after a crash no reader waits for them, and no meta page knows them.
func (im *Image) settle() *space {
	if im.sp == nil {
		im.sp = im.table.space(im.g.UnitPages)
		im.table = table{}
	}
	if im.unsettled {
		im.unsettled = false
		for _, e := range slices.Concat(im.shared[:]...) {
			if e.once {
				im.free(e.Run)
			} else {
				im.entries = append(im.entries, e)
			}
		}
		im.shared = [3][]Entry{}
		im.entries = sorted(im.entries)
	}
	return im.sp
}

// sorted sorts entries by page and joins pages that lie side by side and were
// retired in one epoch.
func sorted(entries []Entry) []Entry {
	slices.SortFunc(entries, func(x, y Entry) int { return cmp.Compare(x.Start, y.Start) })
	out := entries[:0]
	for _, e := range entries {
		if n := len(out); n > 0 && e.Kind == KindPage && out[n-1].Kind == KindPage &&
			out[n-1].Epoch == e.Epoch && out[n-1].end() == uint64(e.Start) {
			out[n-1].Pages += e.Pages
			continue
		}
		out = append(out, e)
	}
	return out
}

// FromImage makes the allocator of a file of filePages pages, not fewer than
// im.Pages: those behind the image's are free. The image stays as it is. The
// retired runs are pending, with generation 0, until Due is called.
func FromImage(g pager.Geometry, im *Image, filePages uint64) *Allocator {
	a := newAllocator(g, im.settle().clone())
	a.sp.extend(filePages)
	for _, e := range im.entries {
		a.pending.push(e)
	}
	return a
}
