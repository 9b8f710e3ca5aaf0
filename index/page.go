package index

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
)

// Types of the pages that carry the common header. Zero is no type.
const (
	TypeDirectory = 1
	TypeBucket    = 2
	TypeImage     = 3
)

// The common header of directory, bucket and image pages:
//
//	0   8  sum of bytes 8 to the end, salted with file salt, page number and epoch
//	8   1  type   9  1  level (directory)   10  1  depth (bucket)   11  1  width (directory)
//	12  4  page number
//	16  4  epoch
//	20  2  slots in use, dead ones included   22  2  dead slots   (bucket)
//	24  8  length in bytes, header included (image)
//	32     zero up to 64
//
// Directory: 64: 512 x 2 bytes, the children's epochs (low 16 bits); 1088: 512 x 4
// bytes, their page numbers; 3136: zero. Of both arrays the first 2^width entries are in use, one for each value
// of the next width hash bits: a directory is no wider than its deepest bucket needs, so that a look-up
// touches few cache lines of it. Bucket: 64: 400 x 8 bytes, slot words;
// 3264: 400 x 2 bytes, the top 16 bits of the hashes; 4064: zero.
const (
	HeaderBytes = 64

	offType  = 8
	offLevel = 9
	offDepth = 10
	offWidth = 11
	offPage  = 12
	offEpoch = 16
	offCount = 20
	offDead  = 22

	// OffLength is where an image page has its length.
	OffLength = 24

	offTags     = 64
	offChildren = 1088
	offWords    = 64
	offTops     = 3264
	lineSlots   = 8
	maxLines    = 50
)

// Slot words.
const (
	positionBits = 41
	positionMask = 1<<positionBits - 1
	wordEmpty    = 0
	wordDead     = 1 // tag zero, position 8: no record lies there
	hashBits     = 36
)

// How a page is trusted (pager.Verified): the low bits of its epoch, and these.
const (
	isTrusted   = 1 << 25
	widthShift  = 26      // of a directory: its width, four bits
	isRetired   = 1 << 30 // allocated and retired in one epoch: gets no sum
	isDirectory = 1 << 31
	epochMask   = isTrusted - 1
)

// trust is how a whole page is trusted.
func trust(b []byte) uint32 {
	how := isTrusted | pageEpoch(b)&epochMask
	if b[offType] == TypeDirectory {
		how |= isDirectory | uint32(b[offWidth])<<widthShift
	}
	return how
}

// width is the number of hash bits that a trusted directory resolves.
func width(how uint32) uint { return uint(how >> widthShift & 15) }

// Sum is the sum of a page, or of an image of several, whose header names page and epoch.
func Sum(b []byte, fileSalt uint64, page pager.PageNo, epoch uint32) uint64 {
	if sabotage.Is(sabotage.PageWithoutPlace) {
		page = 0
	}
	return xxhash.Sum64(b[8:]) ^ salt(fileSalt, page, epoch)
}

func salt(fileSalt uint64, page pager.PageNo, epoch uint32) uint64 {
	return pager.Mix(pager.Mix(fileSalt, uint64(page)), uint64(epoch))
}

// Flipped looks for the one flipped bit in a page, or in an image of several, whose sum does not hold, and leaves b without it.
// expected judges what the header says. bit is -1 if b holds as it is.
func Flipped(b []byte, fileSalt uint64, page pager.PageNo, expected func() bool) (bit int, ok bool) {
	bit, ok = pager.FlippedBit(b[:HeaderBytes], func() bool {
		return expected() && binary.LittleEndian.Uint64(b) == Sum(b, fileSalt, page, pageEpoch(b))
	})
	if ok || !expected() {
		return bit, ok
	}
	bit, ok = pager.FlippedSum(b[8:], binary.LittleEndian.Uint64(b)^salt(fileSalt, page, pageEpoch(b)))
	return 64 + bit, ok && expected()
}

// SetHeader fills the common header of a page but for its sum.
func SetHeader(b []byte, kind byte, page pager.PageNo, epoch uint32) {
	clear(b[:HeaderBytes])
	b[offType] = kind
	binary.LittleEndian.PutUint32(b[offPage:], uint32(page))
	binary.LittleEndian.PutUint32(b[offEpoch:], epoch)
}

// HeaderNames reports whether a page's header has the type and names page and epoch.
func HeaderNames(b []byte, kind byte, page pager.PageNo, epoch uint32) bool {
	if sabotage.Is(sabotage.PageWithoutPlace) {
		page = pager.PageNo(binary.LittleEndian.Uint32(b[offPage:]))
	}
	return b[offType] == kind && binary.LittleEndian.Uint32(b[offPage:]) == uint32(page) && binary.LittleEndian.Uint32(b[offEpoch:]) == epoch
}

func pageEpoch(b []byte) uint32 { return binary.LittleEndian.Uint32(b[offEpoch:]) }
func pageCount(b []byte) int    { return int(binary.LittleEndian.Uint16(b[offCount:])) }
func pageDead(b []byte) int     { return int(binary.LittleEndian.Uint16(b[offDead:])) }

func setPageCount(b []byte, n int) { binary.LittleEndian.PutUint16(b[offCount:], uint16(n)) }
func setPageDead(b []byte, n int)  { binary.LittleEndian.PutUint16(b[offDead:], uint16(n)) }

func slotWord(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[offWords+8*i:]) }
func slotTop(b []byte, i int) uint64  { return uint64(binary.LittleEndian.Uint16(b[offTops+2*i:])) }

func setSlot(b []byte, i int, word, top uint64) {
	binary.LittleEndian.PutUint64(b[offWords+8*i:], word)
	binary.LittleEndian.PutUint16(b[offTops+2*i:], uint16(top))
}

func childTag(b []byte, i int) uint16 { return binary.LittleEndian.Uint16(b[offTags+2*i:]) }
func childPage(b []byte, i int) pager.PageNo {
	return pager.PageNo(binary.LittleEndian.Uint32(b[offChildren+4*i:]))
}

// A slot stores 39 bits of the hash in use: its top 16 beside the word, the next 23 as
// the word's tag.
func tagOf(hash uint64) uint64        { return hash << 16 >> positionBits }
func topOf(hash uint64) uint64        { return hash >> 48 }
func storedBits(top, w uint64) uint64 { return top<<48 | w>>positionBits<<25 }

// home is the line at which probing for a hash begins. It is mixed from the 39
// stored bits alone, so that a split knows it, and so that constant low or high bits do no harm.
func home(hash uint64, lines uint64) uint64 {
	x := hash >> 25 * 0x9E3779B97F4A7C15 >> 32
	return x * lines >> 32
}

// BuildEmpty writes an empty index, a root directory and one bucket behind it, into
// two pages of a new file, with their sums.
func BuildEmpty(b []byte, g pager.Geometry, root, bucket pager.PageNo, epoch uint32, fileSalt uint64) {
	dir, empty := b[:pager.PageSize], b[pager.PageSize:2*pager.PageSize]
	SetHeader(dir, TypeDirectory, root, epoch)
	binary.LittleEndian.PutUint16(dir[offTags:], uint16(epoch))
	binary.LittleEndian.PutUint32(dir[offChildren:], uint32(bucket))
	SetHeader(empty, TypeBucket, bucket, epoch)
	binary.LittleEndian.PutUint64(dir, Sum(dir, fileSalt, root, epoch))
	binary.LittleEndian.PutUint64(empty, Sum(empty, fileSalt, bucket, epoch))
}
