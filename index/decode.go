package index

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/mapfile-db/mapfile/pager"
)

// What follows reads pages as bytes, for who looks into a file that may be damaged: nothing is believed, and
// any bytes of a page's length give an answer.

// Header is the common header of a page as it stands.
type Header struct {
	Sum    uint64
	Type   byte // TypeDirectory, TypeBucket, TypeImage, or anything
	Level  byte // of a directory
	Depth  byte // of a bucket
	Width  byte // of a directory
	Page   pager.PageNo
	Epoch  uint32
	Slots  int // of a bucket, dead ones included
	Dead   int
	Length uint64 // of images, in bytes
}

// ReadHeader reads the common header of a page.
func ReadHeader(b []byte) Header {
	le := binary.LittleEndian
	return Header{
		Sum: le.Uint64(b), Type: b[offType], Level: b[offLevel], Depth: b[offDepth], Width: b[offWidth],
		Page: pager.PageNo(le.Uint32(b[offPage:])), Epoch: pageEpoch(b),
		Slots: pageCount(b), Dead: pageDead(b), Length: le.Uint64(b[OffLength:]),
	}
}

// Entry is an entry of a directory page.
type Entry struct {
	Page pager.PageNo
	Tag  uint16 // the low bits of the child's epoch
}

// maxWidth is the widest directory that a page has room for.
const maxWidth = 9

// ReadEntries reads the entries of a directory page that its width says are in use, at most those a page has room for.
func ReadEntries(b []byte) []Entry {
	all := make([]Entry, 1<<min(uint(b[offWidth]), maxWidth))
	for i := range all {
		all[i] = Entry{childPage(b, i), childTag(b, i)}
	}
	return all
}

// Slot is a slot of a bucket that is not empty.
type Slot struct {
	Number   int
	Dead     bool
	Position uint64 // of its record, in bytes from the start of the file
	Tag      uint32 // the 23 hash bits below the top 16
	Top      uint16 // the top 16 hash bits
	Home     int    // the slot at which a probe for its hash begins
}

// ReadSlots reads the slots of a bucket page of so many lines that are not empty. lines is at most what a page has room for.
func ReadSlots(b []byte, lines int) (all []Slot) {
	for i := range min(lines, maxLines) * lineSlots {
		w, top := slotWord(b, i), slotTop(b, i)
		switch w {
		case wordEmpty:
		case wordDead:
			all = append(all, Slot{Number: i, Dead: true})
		default:
			all = append(all, Slot{
				Number: i, Position: w & positionMask << 3, Tag: uint32(w >> positionBits), Top: uint16(top),
				Home: int(home(storedBits(top, w), uint64(lines))) * lineSlots,
			})
		}
	}
	return all
}

// HomeSlot is the slot at which a probe for a hash begins in a bucket of so many lines.
func HomeSlot(hash uint64, lines int) int { return int(home(hash, uint64(lines))) * lineSlots }

// TagOf is the part of a hash that a slot's word keeps.
func TagOf(hash uint64) uint32 { return uint32(tagOf(hash)) }

// TopOf is the part of a hash that a slot keeps beside its word.
func TopOf(hash uint64) uint16 { return uint16(topOf(hash)) }

// SlotsOf is the number of slots of a bucket of so many lines.
func SlotsOf(lines int) int { return lines * lineSlots }

// LevelsOf is the number of directories that use the bits of one hash.
func LevelsOf(fanoutBits int) int { return hashBits / fanoutBits }

// SecondHash is the hash by which the trie goes on behind the bits of the first: the first 8 bytes of SHA-256 of the file's
// secret and the key.
func SecondHash(secret [16]byte, key []byte) uint64 {
	h := sha256.New()
	h.Write(secret[:])
	h.Write(key)
	var sum [sha256.Size]byte
	return binary.BigEndian.Uint64(h.Sum(sum[:0]))
}
