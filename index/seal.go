package index

import "github.com/mapfile-db/mapfile/pager"

// Seal ends the epoch: pages built in it are from now on copied before a change. It
// returns them for StoreSums.
func (x *Index) Seal(next uint32) []pager.PageNo {
	sealed := x.built
	x.built = nil
	x.Epoch = next
	return sealed
}

// StoreSums stores the sums of the pages that a seal returned, whose epoch was epoch. It
// runs beside writers: sealed pages do not change, and are not reused before two checkpoints.
func (x *Index) StoreSums(sealed []pager.PageNo, epoch uint32) {
	v := x.view()
	for _, page := range sealed {
		how := x.p.Verified(page)
		if how&isRetired != 0 || how&isTrusted == 0 || how&epochMask != epoch&epochMask {
			continue // retired within its own epoch: no path leads to it
		}
		b := v.Page(page)
		x.p.Store64(v, uint64(page)*pager.PageSize, Sum(b, x.FileSalt, page, epoch))
	}
}

// Distrust forgets that pages were verified which were built before an epoch, all of which have their sums. Their next use
// verifies them again. It is for any goroutine, but not for two at once.
func (x *Index) Distrust(before uint32) {
	for page := pager.FirstPage; uint64(page) < x.p.Pages(); page++ {
		how := x.p.Verified(page)
		age := (before - how) & epochMask // modulo the bits that are kept
		if how&isTrusted != 0 && how&isRetired == 0 && age > 0 && age <= epochMask/2 {
			x.p.Distrust(page, how)
		}
	}
}
