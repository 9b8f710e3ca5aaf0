package pager

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
)

// Magic opens every meta page, behind its sum.
const Magic = "mapfile\n"

// FormatVersion is the version of the file format that this program writes. A
// meta page with a good sum and another version is refused (errs.ErrVersion):
// falling back to the other meta page would overwrite what a newer program wrote.
const FormatVersion = 1

// Feature bits. A program that does not know a bit of the first kind must not
// open the file; bits of the second kind may be ignored.
const (
	KnownFeatures uint32 = 0
	metaBytes            = SectorSize // a meta page says all within one sector
)

// Ref names a page together with the epoch in its header, so that a stale page is never taken for it.
type Ref struct {
	Page  PageNo
	Epoch uint32
}

// Meta is the content of a meta page: a state of the map that is whole on disk.
type Meta struct {
	MustKnow  uint32 // feature bits
	MayIgnore uint32
	UUID      [16]byte
	FileSalt  uint64   // salts the sums of index and image pages
	HashKey   [16]byte // key of the second hash

	Number uint64 // the higher of the two meta pages wins
	Epoch  uint32 // the epoch that began when this state was sealed
	Life   uint32
	Pages  uint64 // pages of the file

	Root       Ref
	Image      Ref
	ImageBytes uint64 // length of the images of free space and segment table, header included

	// Start of replay: the state holds all records below.
	Segment  PageNo // the segment that holds it
	Salt     uint64 // of that segment's use
	Position uint64 // byte offset in the file
	LSN      uint64
	Sequence uint64

	Keys        uint64 // live keys
	Tombstones  uint64 // slots that lead to a tombstone
	Buckets     uint32 // bucket pages
	Directories uint32 // directory pages
	Clean       bool   // written by Close: nothing was appended behind it

	BucketLines, FillPercent, FanoutBits uint8
	UnitPages, SmallPages                uint32
}

// metaSum is the sum of a meta page's bytes behind the sum itself; which is 0 or 1.
func metaSum(b []byte, which int) uint64 {
	return xxhash.Sum64(b[8:metaBytes]) ^ Mix(0x6d657461, uint64(which))
}

// Encode gives the bytes of meta page which (0 or 1). The layout; the first four never move, in any version:
//
//	0    8  sum of bytes 8 to 511, salted with the number of the page
//	8    8  magic "mapfile\n"
//	16   4  format version
//	20   4  page size
//	24   4  features that must be known     28  4  features that may be ignored
//	32  16  UUID                            48  8  file salt
//	56  16  hash key
//	72   8  number                          80  4  epoch     84  4  life
//	88   8  pages
//	96   4  root page     100  4  its epoch
//	104  4  image page    108  4  its epoch 112 8  image bytes
//	120  4  segment       124  4  zero      128 8  salt
//	136  8  position      144  8  LSN       152 8  sequence
//	160  8  live keys     168  8  zero
//	176  1  clean         177  1  bucket lines  178 1 fill percent  179 1 fan-out bits
//	180  4  unit pages    184  4  small pages
//	188 4  bucket pages   192  4  directory pages  196 4 zero
//	200 8  tombstones
//	208    zero up to 4,096
func (m *Meta) Encode(which int) []byte {
	b := make([]byte, PageSize)
	le := binary.LittleEndian
	copy(b[8:], Magic)
	le.PutUint32(b[16:], FormatVersion)
	le.PutUint32(b[20:], PageSize)
	le.PutUint32(b[24:], m.MustKnow)
	le.PutUint32(b[28:], m.MayIgnore)
	copy(b[32:], m.UUID[:])
	le.PutUint64(b[48:], m.FileSalt)
	copy(b[56:], m.HashKey[:])
	le.PutUint64(b[72:], m.Number)
	le.PutUint32(b[80:], m.Epoch)
	le.PutUint32(b[84:], m.Life)
	le.PutUint64(b[88:], m.Pages)
	le.PutUint32(b[96:], uint32(m.Root.Page))
	le.PutUint32(b[100:], m.Root.Epoch)
	le.PutUint32(b[104:], uint32(m.Image.Page))
	le.PutUint32(b[108:], m.Image.Epoch)
	le.PutUint64(b[112:], m.ImageBytes)
	le.PutUint32(b[120:], uint32(m.Segment))
	le.PutUint64(b[128:], m.Salt)
	le.PutUint64(b[136:], m.Position)
	le.PutUint64(b[144:], m.LSN)
	le.PutUint64(b[152:], m.Sequence)
	le.PutUint64(b[160:], m.Keys)
	if m.Clean {
		b[176] = 1
	}
	b[177], b[178], b[179] = m.BucketLines, m.FillPercent, m.FanoutBits
	le.PutUint32(b[180:], m.UnitPages)
	le.PutUint32(b[184:], m.SmallPages)
	le.PutUint32(b[188:], m.Buckets)
	le.PutUint32(b[192:], m.Directories)
	le.PutUint64(b[200:], m.Tombstones)
	le.PutUint64(b, metaSum(b, which))
	return b
}

// decodeMeta reads a meta page. Errors: plain ones with the reason for damage;
// errs.ErrNotMapfile where the magic is missing; errs.ErrVersion for a page that is
// whole and of another version or with features this program does not know.
func decodeMeta(b []byte, which int) (*Meta, error) {
	le := binary.LittleEndian
	if len(b) < metaBytes {
		return nil, errs.ErrNotMapfile
	}
	if string(b[8:16]) != Magic {
		return nil, errs.ErrNotMapfile
	}
	if le.Uint64(b) != metaSum(b, which) && !sabotage.Is(sabotage.MetaSumUnchecked) {
		return nil, fmt.Errorf("meta page %d: its sum does not hold", which)
	}
	if v := le.Uint32(b[16:]); v != FormatVersion {
		return nil, errs.Join(errs.ErrVersion, fmt.Errorf("format version %d, this program knows %d", v, FormatVersion))
	}
	m := MetaFields(b)
	if m.MustKnow&^KnownFeatures != 0 {
		return nil, errs.Join(errs.ErrVersion, fmt.Errorf("features %#x, this program knows %#x", m.MustKnow, KnownFeatures))
	}
	return m, m.plausible(le.Uint32(b[20:]))
}

// MetaFields reads the fields of a meta page as they stand, whatever its sum says: for who looks into a damaged file. b has
// a sector at least.
func MetaFields(b []byte) *Meta {
	le := binary.LittleEndian
	m := &Meta{
		MustKnow: le.Uint32(b[24:]), MayIgnore: le.Uint32(b[28:]), FileSalt: le.Uint64(b[48:]),
		Number: le.Uint64(b[72:]), Epoch: le.Uint32(b[80:]), Life: le.Uint32(b[84:]), Pages: le.Uint64(b[88:]),
		Root:       Ref{PageNo(le.Uint32(b[96:])), le.Uint32(b[100:])},
		Image:      Ref{PageNo(le.Uint32(b[104:])), le.Uint32(b[108:])},
		ImageBytes: le.Uint64(b[112:]),
		Segment:    PageNo(le.Uint32(b[120:])), Salt: le.Uint64(b[128:]),
		Position: le.Uint64(b[136:]), LSN: le.Uint64(b[144:]), Sequence: le.Uint64(b[152:]),
		Keys: le.Uint64(b[160:]), Clean: b[176] == 1,
		BucketLines: b[177], FillPercent: b[178], FanoutBits: b[179],
		UnitPages: le.Uint32(b[180:]), SmallPages: le.Uint32(b[184:]),
		Buckets: le.Uint32(b[188:]), Directories: le.Uint32(b[192:]), Tombstones: le.Uint64(b[200:]),
	}
	copy(m.UUID[:], b[32:])
	copy(m.HashKey[:], b[56:])
	return m
}

// maxUnits bounds the number of units, and with it the memory that opening a file takes.
const maxUnits = (MaxPages + 1) / 512

// plausible refuses what no program of ours writes, so that nothing later divides by zero or allocates without bound.
func (m *Meta) plausible(pageSize uint32) error {
	switch {
	case pageSize != PageSize:
		return fmt.Errorf("page size %d", pageSize)
	case m.BucketLines < 1 || m.BucketLines > 50 || m.FillPercent < 1 || m.FillPercent > 99 || m.FanoutBits < 1 || m.FanoutBits > 9:
		return fmt.Errorf("bucket of %d lines, %d %% full, fan-out of %d bits", m.BucketLines, m.FillPercent, m.FanoutBits)
	case m.SmallPages < 1 || m.UnitPages < max(m.SmallPages, uint32(FirstPage)) || m.UnitPages%m.SmallPages != 0 || m.UnitPages > 1<<20:
		return fmt.Errorf("units of %d and %d pages", m.UnitPages, m.SmallPages)
	case m.Pages < uint64(FirstPage) || m.Pages > MaxPages || m.Pages/uint64(m.UnitPages) > maxUnits:
		return fmt.Errorf("file of %d pages", m.Pages)
	case uint64(m.Root.Page) >= m.Pages || uint64(m.Image.Page) >= m.Pages || m.ImageBytes > (m.Pages-uint64(m.Image.Page))*PageSize:
		return fmt.Errorf("root %d or image %d outside the file", m.Root.Page, m.Image.Page)
	case m.Position > m.Pages*PageSize || m.Epoch == 0 || m.Epoch >= 1<<31:
		return fmt.Errorf("start of replay %d, epoch %d", m.Position, m.Epoch)
	}
	return nil
}

// Geometry puts what the file fixes into g.
func (m *Meta) Geometry(g Geometry) Geometry {
	g.BucketLines, g.FillPercent, g.FanoutBits = m.BucketLines, m.FillPercent, m.FanoutBits
	g.UnitPages, g.SmallPages = m.UnitPages, m.SmallPages
	return g
}

// SetGeometry notes what the file fixes.
func (m *Meta) SetGeometry(g Geometry) {
	m.BucketLines, m.FillPercent, m.FanoutBits = g.BucketLines, g.FillPercent, g.FanoutBits
	m.UnitPages, m.SmallPages = g.UnitPages, g.SmallPages
}

// MetaPair is what the two meta pages say. A page that cannot be believed is nil and has its reason.
type MetaPair struct {
	Meta   [2]*Meta
	Reason [2]error
	Flips  []Flip // single bits that had to be taken back for a page to hold; in the file they are still wrong
}

// ReadMetas reads both meta pages of an open file.
func ReadMetas(f File) (MetaPair, error) {
	var pair MetaPair
	b := make([]byte, PageSize)
	for i := range 2 {
		clear(b)
		if n, err := f.ReadAt(b, int64(i)*PageSize); n < metaBytes && err != nil && !isEOF(err) {
			return pair, err
		}
		pair.Meta[i], pair.Reason[i] = decodeMeta(b, i)
		if pair.Reason[i] != nil && !errors.Is(pair.Reason[i], errs.ErrVersion) {
			pair.mend(b, i)
		}
		if pair.Reason[i] != nil {
			pair.Meta[i] = nil
		}
	}
	return pair, nil
}

// DecodeMeta reads meta page which (0 or 1) and says what is wrong with it, without a look for a flipped bit. b is the page.
func DecodeMeta(b []byte, which int) (*Meta, error) { return decodeMeta(b, which) }

// MetaSum is the sum that meta page which (0 or 1) should have. b has a sector at least.
func MetaSum(b []byte, which int) uint64 { return metaSum(b, which) }

// mend looks for a flipped bit in meta page i, which does not hold.
func (p *MetaPair) mend(b []byte, i int) {
	bit, ok := FlippedBit(b[:metaBytes], func() bool {
		return string(b[8:16]) == Magic && binary.LittleEndian.Uint64(b) == metaSum(b, i)
	})
	if !ok || bit < 0 {
		return
	}
	p.Meta[i], p.Reason[i] = decodeMeta(b, i)
	p.Flips = append(p.Flips, NewFlip(b, bit, uint64(i)*PageSize, "meta"))
}

// Order returns the numbers of the meta pages that hold, the newer one first.
func (p *MetaPair) Order() []int {
	a, b := p.Meta[0], p.Meta[1]
	switch {
	case a == nil && b == nil:
		return nil
	case a == nil:
		return []int{1}
	case b == nil:
		return []int{0}
	case b.Number > a.Number:
		return []int{1, 0}
	}
	return []int{0, 1}
}
