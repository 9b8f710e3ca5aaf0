// Package backup is the form of a backup: a stream of frames, each with a number and a sum, between a frame that says whose
// backup it is and one that counts what came between. Streams may follow one another. FORMAT.md has the layout.
//
// Who writes or reads a stream holds one frame, and one entry, in memory.
package backup

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mapfile-db/mapfile/internal/errs"
)

// Magic opens every frame, behind its sum.
const Magic = "mapback\n"

// Version is the version of the form. Sum, magic, version, kind, length and number stand where they stand in every version.
const Version = 1

// Sizes in bytes.
const (
	FrameHeader = 32
	MaxPayload  = 256 << 10 // of a frame: large enough that a system call's cost vanishes
	beginBytes  = 56
	endBytes    = 48
	entryBytes  = 8 // of an entry, before its key
)

// maxSequence is the highest sequence of a map.
const maxSequence = 1<<48 - 1

// Kind is what a frame is.
type Kind uint16

const (
	KindBegin   Kind = 1 // begins a stream: a Begin
	KindEntries Kind = 2 // a part of the entries, which go on across frames
	KindEnd     Kind = 3 // ends a stream: an End
)

// Op is what an entry does to a map.
type Op uint8

const (
	OpPut    Op = 1 // key has value
	OpDelete Op = 2 // key is gone
	OpClear  Op = 3 // every key is gone; the first entry or none
)

// The layout of a frame. Numbers are little-endian:
//
//	0   8  sum: Sum64 of what follows, the payload included
//	8   8  magic
//	16  2  version    18  2  kind    20  4  length of the payload
//	24  8  number: 0, 1, 2 … within the stream
//	32     payload

// Begin says whose backup a stream is, and what it goes on from. Its layout:
//
//	0   16  UUID of the map
//	16  8   base          24  8  base identity
//	32  8   sequence      40  8  identity
//	48  1   increment     49  7  zero
type Begin struct {
	UUID         [16]byte
	Base         uint64 // sequence that an increment goes on from
	BaseIdentity uint64 // of the life that base belongs to: another history has another
	Sequence     uint64 // that the map is at behind the stream
	Identity     uint64 // of the life that it belongs to
	Increment    bool   // else all that the map holds
}

func (b *Begin) encode() []byte {
	out, le := make([]byte, beginBytes), binary.LittleEndian
	copy(out, b.UUID[:])
	le.PutUint64(out[16:], b.Base)
	le.PutUint64(out[24:], b.BaseIdentity)
	le.PutUint64(out[32:], b.Sequence)
	le.PutUint64(out[40:], b.Identity)
	if b.Increment {
		out[48] = 1
	}
	return out
}

func decodeBegin(b []byte) (begin Begin, err error) {
	if len(b) != beginBytes {
		return begin, fmt.Errorf("a begin of %d bytes", len(b))
	}
	le := binary.LittleEndian
	begin = Begin{
		UUID: [16]byte(b), Base: le.Uint64(b[16:]), BaseIdentity: le.Uint64(b[24:]),
		Sequence: le.Uint64(b[32:]), Identity: le.Uint64(b[40:]), Increment: b[48] == 1,
	}
	switch {
	case string(begin.encode()) != string(b):
		return begin, errors.New("its begin has bytes that say nothing")
	case begin.Base > begin.Sequence || begin.Sequence > maxSequence:
		return begin, fmt.Errorf("it goes from sequence %d to %d", begin.Base, begin.Sequence)
	case !begin.Increment && (begin.Base != 0 || begin.BaseIdentity != 0):
		return begin, fmt.Errorf("it is whole and goes on from sequence %d", begin.Base)
	}
	return begin, nil
}

// Follows answers why a stream cannot follow another one, nil if it can. Errors: ErrBackup.
func (b *Begin) Follows(before *Begin) error {
	var reason error
	switch {
	case !b.Increment:
		reason = errors.New("it is whole: only increments follow another stream")
	case b.UUID != before.UUID:
		reason = errors.New("it is of another map")
	case b.Base != before.Sequence:
		reason = fmt.Errorf("it goes on from sequence %d, and the stream before ends at %d", b.Base, before.Sequence)
	case b.BaseIdentity != before.Identity:
		reason = fmt.Errorf("it goes on from another history of the same map: they parted before sequence %d", b.Base)
	default:
		return nil
	}
	return errs.Join(errs.ErrBackup, reason)
}

// End counts what a stream has. Its layout:
//
//	0   8  puts    8   8  deletes   16  8  clears
//	24  8  bytes   32  8  keys      40  8  sum: Sum64 of all entries
type End struct {
	Puts, Deletes, Clears uint64 // entries
	Bytes                 uint64 // of their keys and values
	Keys                  uint64 // that the map has behind the stream
	sum                   uint64
}

func (e *End) encode() []byte {
	b := make([]byte, 0, endBytes)
	for _, n := range []uint64{e.Puts, e.Deletes, e.Clears, e.Bytes, e.Keys, e.sum} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

func decodeEnd(b []byte) (End, error) {
	if len(b) != endBytes {
		return End{}, fmt.Errorf("an end of %d bytes", len(b))
	}
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	return End{word(0), word(8), word(16), word(24), word(32), word(40)}, nil
}

// count counts an entry.
func (e *End) count(op Op, key int, value uint64) {
	switch op {
	case OpPut:
		e.Puts++
	case OpDelete:
		e.Deletes++
	case OpClear:
		e.Clears++
	}
	e.Bytes += uint64(key) + value
}

// An entry is its op, a zero byte, the lengths of key (2) and value (4), the key and the value.
func appendEntry(b []byte, op Op, key int, value uint64) []byte {
	b = append(b, byte(op), 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(key))
	return binary.LittleEndian.AppendUint32(b, uint32(value))
}
