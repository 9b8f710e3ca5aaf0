package recovery

import (
	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Space is how a file is used, in bytes, as of a checkpoint.
type Space struct {
	Live    uint64 // records that are the newest of their key: a hint
	Garbage uint64 // records that are not
	Index   uint64 // pages of the index
	Free    uint64 // pages that can be used again; those at the end may have been cut off since, and of others the blocks be gone
	Pending uint64 // pages that wait for checkpoints or readers
}

// ReadSpace reads what the images of a meta page say. The error is the reason why they do not hold.
func ReadSpace(f pager.File, m *pager.Meta) (*Space, error) {
	im, err := readImages(f, m)
	if err != nil {
		return nil, err
	}
	st := freelist.FromImage(m.Geometry(pager.DefaultGeometry()), im.free, im.free.Pages()).Stats()
	out := &Space{Index: (uint64(m.Buckets) + uint64(m.Directories)) * pager.PageSize, Free: st.Free * pager.PageSize, Pending: st.Pending * pager.PageSize}
	for _, e := range im.segments {
		used := e.Used - min(e.Used, tail.SegmentHeader)
		live := min(e.Live, used)
		out.Live, out.Garbage = out.Live+live, out.Garbage+used-live
	}
	return out, nil
}
