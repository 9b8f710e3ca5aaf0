package pager

// PageSize is the size of a file page in bytes, whatever the kernel's is.
const PageSize = 4096

// SectorSize is the number of bytes that the disk replaces as one (assumption A1).
const SectorSize = 512

// PageNo numbers the pages of a file from 0. A file has at most 2^32 - 1 of them (16 TiB).
type PageNo uint32

// MaxPages is the largest number of pages in a file.
const MaxPages = 1<<32 - 1

// The fixed pages.
const (
	MetaPage0   PageNo = 0
	MetaPage1   PageNo = 1
	MarkPage    PageNo = 2
	ControlPage PageNo = 3
	FirstPage   PageNo = 4 // the first page that can be allocated
)

// Geometry holds the sizes that tests shrink. What shapes the file is in the meta
// page; the rest may differ from open to open.
type Geometry struct {
	// In the file.
	BucketLines uint8  // lines of eight slots in a bucket, 1 to 50
	FillPercent uint8  // a bucket splits when it would be fuller than this
	FanoutBits  uint8  // hash bits that one directory page resolves, 1 to 9
	UnitPages   uint32 // pages of a unit: segments and arenas are whole units, aligned (512: 2 MiB)
	SmallPages  uint32 // pages of the smallest segment, used inside the first unit only (4: 16 KiB)

	// Of one open.
	GrowPages       uint32 // the first step by which a file of one unit grows (8: 32 KiB)
	MaxGrowPages    uint32 // the largest step
	ReserveBytes    int64  // address space to reserve: this, or four times the file if that is more
	CheckpointBytes int64  // least tail that starts a checkpoint
	MaxCheckpoint   int64  // most tail before a checkpoint starts, however large the index is
}

// DefaultGeometry is what production uses. DESIGN.md's measurements behind each
// number are in docs/decisions.
func DefaultGeometry() Geometry {
	return Geometry{
		BucketLines: 50, FillPercent: 82, FanoutBits: 9, UnitPages: 512, SmallPages: 4,
		GrowPages: 8, MaxGrowPages: 16 * 512,
		ReserveBytes:    32 << 30,
		CheckpointBytes: 64 << 20, MaxCheckpoint: 1 << 30,
	}
}

// Within is the geometry of a new file that may have at most so many pages: units are at least a sixty-fourth of
// it where that is possible, for the reserve is counted in them.
func (g Geometry) Within(pages uint64) Geometry {
	for g.UnitPages > 16 && uint64(g.UnitPages)*64 > pages {
		g.UnitPages /= 2
	}
	return g
}

// UnitBytes is the size of a unit in bytes.
func (g Geometry) UnitBytes() int64 { return int64(g.UnitPages) * PageSize }
