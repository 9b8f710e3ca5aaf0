package tail

import (
	"encoding/binary"
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
)

// The layout of a record, at a multiple of 8 bytes:
//
//	0   4  header sum: low half of H
//	4   4  sum: low half of Sum64(value), XORed with the high half of H
//	8   2  key length
//	10  1  kind          11  1  flags
//	12  4  value length
//	16  6  sequence
//	22  6  previous position
//	28  8  extra word, with FlagMark or FlagMoved only
//	..     key, value, zero bytes up to a multiple of 8
//
// where H is Sum64(bytes 8 up to the end of the key) XOR Mix(salt of the segment's
// use, file offset of the record).
const (
	HeaderBytes = 28
	extraBytes  = 8
)

// Limits of what a record can hold.
const (
	MaxKey      = math.MaxUint16
	MaxValue    = math.MaxUint32
	MaxSequence = 1<<48 - 1
	// MaxPosition is the largest byte offset that fits a slot (41 bits of 8-byte units).
	MaxPosition = 1<<44 - 8
)

// Kind says what a record does. Zero is no kind.
type Kind uint8

const (
	KindPut    Kind = 1 // key has value
	KindDelete Kind = 2 // a tombstone: key is deleted
	KindDrop   Kind = 3 // the tombstone's slot goes; previous is the tombstone's position
	KindRetire Kind = 4 // a segment leaves the table; value: page 8, salt 8
	KindLink   Kind = 5 // the log goes on in another segment; value: page 8, salt 8
	KindAbort  Kind = 6 // the records of this sequence do not count
	KindPad    Kind = 7 // fills a block
	KindClear  Kind = 8 // every key is gone, and every segment of the log before the record's own

	lastKind = KindClear
)

// Flags of a record.
const (
	FlagFirst = 1 << 0 // first of its commit
	FlagLast  = 1 << 1 // last of its commit
	FlagNew   = 1 << 2 // the key was absent
	FlagMark  = 1 << 3 // the extra word is a mark
	FlagMoved = 1 << 4 // the extra word is the visible sequence of the original

	knownFlags = FlagFirst | FlagLast | FlagNew | FlagMark | FlagMoved
)

// Record is a record as read. Key and Value alias the mapping.
type Record struct {
	Position uint64
	Kind     Kind
	Flags    uint8
	Sequence uint64
	Previous uint64
	Extra    uint64 // with FlagMark or FlagMoved
	Key      []byte
	Value    []byte
	sum      uint32 // as stored
	high     uint32 // high half of H
}

// Visible is the sequence from which on readers see the record.
func (r *Record) Visible() uint64 {
	if r.Flags&FlagMoved != 0 {
		return r.Extra
	}
	return r.Sequence
}

// Size is the length in the log, in bytes.
func (r *Record) Size() uint64 { return recordSize(r.Flags, len(r.Key), uint64(len(r.Value))) }

// ValueHolds reports whether the value that was copied from the record, or the
// record's own Value, is the one its sum was made of.
func (r *Record) ValueHolds(value []byte) bool {
	return !debug.Verify || r.sum == r.sumOf(value) || sabotage.Is(sabotage.ValueSumUnchecked)
}

func recordSize(flags uint8, key int, value uint64) uint64 {
	n := uint64(HeaderBytes) + uint64(key) + value
	if flags&(FlagMark|FlagMoved) != 0 {
		n += extraBytes
	}
	return (n + 7) &^ 7
}

// Size is the largest length in the log, in bytes, of a record with such a key and value.
func Size(key int, value uint64) uint64 { return recordSize(FlagMark, key, value) }

// ParseHeader reads the record at position whose segment's use has the salt, as far
// as the key, from a view of which limit bytes may be read. It answers false if
// the header sum does not hold; then nothing is known. The value's sum is not looked at.
// Every length is checked first: what is read may be anything.
func ParseHeader(v *pager.View, position, salt, limit uint64, r *Record) bool {
	if position&7 != 0 || position > limit || limit-position < HeaderBytes {
		return false
	}
	at, n, ok := parse(v.Bytes(position, limit-position), position, salt, limit, r)
	if ok {
		r.Value = v.Bytes(at, n)
	}
	return ok
}

// ParseBytes is ParseHeader of a record that b, a copy of the file from position on, begins with. It answers false, too, if b ends
// before the record does. Key and value are parts of b.
func ParseBytes(b []byte, position, salt, limit uint64, r *Record) bool {
	if limit = min(limit, position+uint64(len(b))); position&7 != 0 || limit < position+HeaderBytes {
		return false
	}
	at, n, ok := parse(b, position, salt, limit, r)
	if ok {
		r.Value = b[at-position:][:n:n]
	}
	return ok
}

// parse is ParseHeader with the header, and the key behind it, taken from b, which has them whole if they end below the limit. It
// tells the byte offset and the length of the value, and leaves that alone.
func parse(b []byte, position, salt, limit uint64, r *Record) (at, n uint64, ok bool) {
	lengths := binary.LittleEndian.Uint64(b[8:])
	sequence := binary.LittleEndian.Uint64(b[16:])
	key, flags, value := uint64(uint16(lengths)), uint8(lengths>>24), lengths>>32
	keyAt := uint64(HeaderBytes)
	if flags&(FlagMark|FlagMoved) != 0 {
		keyAt += extraBytes
	}
	if position+keyAt+key+value > limit {
		return 0, 0, false
	}
	covered := b[8 : keyAt+key : keyAt+key]
	h := uint64(0)
	if debug.Verify {
		h = xxhash.Sum64(covered) ^ placeSalt(salt, position)
		if uint32(h) != binary.LittleEndian.Uint32(b) && !sabotage.Is(sabotage.HeaderSumUnchecked) {
			return 0, 0, false
		}
	}
	r.Position, r.Kind, r.Flags = position, Kind(lengths>>16), flags
	r.Sequence = sequence & MaxSequence
	r.Previous = sequence>>48 | uint64(binary.LittleEndian.Uint32(b[24:]))<<16
	r.Extra = 0
	if keyAt > HeaderBytes {
		r.Extra = binary.LittleEndian.Uint64(covered[HeaderBytes-8:])
	}
	r.Key = covered[keyAt-8:]
	r.sum, r.high = binary.LittleEndian.Uint32(b[4:]), uint32(h>>32)
	return position + keyAt + key, value, r.Kind >= KindPut && r.Kind <= lastKind && flags&^knownFlags == 0
}

// placeSalt is what the sums of a record at a position are XORed with.
func placeSalt(salt, position uint64) uint64 {
	if sabotage.Is(sabotage.RecordSumWithoutPlace) {
		position = 0
	}
	if sabotage.Is(sabotage.RecordSumWithoutSalt) {
		salt = 1
	}
	return pager.Mix(salt, position)
}

// put writes the record into b, which has recordSize bytes, zeroed or not.
func put(b []byte, r *Record, salt uint64) {
	le := binary.LittleEndian
	le.PutUint64(b[8:], uint64(len(r.Key))|uint64(r.Kind)<<16|uint64(r.Flags)<<24|uint64(len(r.Value))<<32)
	le.PutUint64(b[16:], r.Sequence|r.Previous<<48)
	le.PutUint32(b[24:], uint32(r.Previous>>16))
	at := HeaderBytes
	if r.Flags&(FlagMark|FlagMoved) != 0 {
		le.PutUint64(b[at:], r.Extra)
		at += extraBytes
	}
	at += copy(b[at:], r.Key)
	h := xxhash.Sum64(b[8:at]) ^ placeSalt(salt, r.Position)
	n := copy(b[at:], r.Value)
	le.PutUint32(b, uint32(h))
	le.PutUint32(b[4:], uint32(xxhash.Sum64(b[at:at+n]))^uint32(h>>32))
	clear(b[at+n:])
}
