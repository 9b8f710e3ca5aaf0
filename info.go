package mapfile

import (
	"errors"
	"fmt"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
)

// Info is what the meta pages of a file say, and how the file is used.
type Info struct {
	Path            string
	Size, Allocated int64  // bytes: length, and blocks on disk
	UUID            string // of the map; a copy of the file has the same
	FormatVersion   uint32
	Newest          int // which meta page an open would begin from, 0 or 1; -1: neither holds
	Metas           [2]MetaInfo
	ClosedCleanly   bool       // nothing was written since the last Close
	Space           *SpaceInfo // as of the newest checkpoint; nil if what it says of that does not hold, or was written over meanwhile
}

// SpaceInfo is how the file was used when its newest checkpoint was made, in bytes. What was written since is not in it.
type SpaceInfo struct {
	Live    int64 // records that are the newest of their key, with their headers; a close estimate
	Garbage int64 // records that are not
	Index   int64 // buckets and directories
	Free    int64 // pages that can be used again. The file system may have the blocks of them, and those at the end may be cut off
	Pending int64 // pages that wait for the next checkpoints
}

// MetaInfo is one meta page.
type MetaInfo struct {
	Valid         bool
	Reason        string // why it is not valid
	Number        uint64 // the higher of the two wins
	Epoch, Life   uint32
	Pages         uint64 // of the file, 4,096 bytes each
	Keys          uint64 // live keys at the checkpoint
	LSN, Sequence uint64 // end of the log, and last commit, at the checkpoint
	Clean         bool   // written by Close
}

// ReadInfo reads the meta pages of the map at path, and the free space and the table of segments that the newest names. It takes no lock and writes nothing: the
// file may be in use. Errors: ErrNotMapfile if neither page is one of a map, and those of the system.
func ReadInfo(path string) (*Info, error) {
	disk := pager.OS()
	path, err := disk.Resolve(path)
	if err != nil {
		return nil, errs.At(path, "info", err)
	}
	f, err := disk.Open(path, true)
	if err != nil {
		return nil, errs.At(path, "info", err)
	}
	metas, err := pager.ReadMetas(f)
	space := readSpace(f, metas)
	stat, statErr := f.Stat()
	if err := errors.Join(err, statErr, f.Close()); err != nil {
		return nil, errs.At(path, "info", err)
	}
	if errors.Is(metas.Reason[0], errs.ErrNotMapfile) && errors.Is(metas.Reason[1], errs.ErrNotMapfile) {
		return nil, errs.At(path, "info", errs.ErrNotMapfile)
	}
	out := &Info{Path: path, Size: stat.Size, Allocated: stat.Blocks, FormatVersion: pager.FormatVersion, Newest: -1, Space: space}
	for i, m := range metas.Meta {
		if m == nil {
			out.Metas[i] = MetaInfo{Reason: metas.Reason[i].Error()}
			continue
		}
		out.Metas[i] = MetaInfo{Valid: true, Number: m.Number, Epoch: m.Epoch, Life: m.Life, Pages: m.Pages, Keys: m.Keys, LSN: m.LSN, Sequence: m.Sequence, Clean: m.Clean}
	}
	if order := metas.Order(); len(order) > 0 {
		m := metas.Meta[order[0]]
		out.Newest, out.ClosedCleanly = order[0], m.Clean
		out.UUID = uuidString(m.UUID)
	}
	return out, nil
}

// readSpace reads what the newest meta page says of space, nil if that does not hold.
func readSpace(f pager.File, metas pager.MetaPair) *SpaceInfo {
	order := metas.Order()
	if len(order) == 0 {
		return nil
	}
	space, err := recovery.ReadSpace(f, metas.Meta[order[0]])
	if err != nil {
		return nil
	}
	return &SpaceInfo{Live: int64(space.Live), Garbage: int64(space.Garbage), Index: int64(space.Index), Free: int64(space.Free), Pending: int64(space.Pending)}
}

func uuidString(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
