package tail

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/pager"
)

// MaxMendValue is the longest value, in bytes, in which a flipped bit is looked for. The sum of a value has 32 bits, so of
// the 8n flips of a value with worse damage one fits by chance once in 2^29/n times: a wrong value, returned as a
// right one. In a header and a key, whose flips both sums must fit, that does not happen.
const MaxMendValue = 4096

// MaxMendKey is the longest key, in bytes, in which a flipped bit is looked for: the time grows with the square, to a
// few seconds for the longest. In a longer one the header is mended, but not the key.
const MaxMendKey = 4096

// Mend looks for a single flipped bit in the record at position, whose segment's use has the salt and of which
// limit bytes of the file may be read, and takes it back. It answers true if it is worth reading the record
// again. The caller's pin, or turn, keeps the segment from being reused meanwhile.
func Mend(p *pager.Pager, position, salt, limit uint64) bool {
	if position&7 != 0 || position > limit || limit-position < HeaderBytes {
		return false
	}
	var r Record
	if !ParseHeader(p.View(), position, salt, limit, &r) {
		return mendHeader(p, position, salt, limit)
	}
	const sumAt = 4
	if len(r.Value) > MaxMendValue {
		want := r.sumOf(r.Value)
		return p.TryMend("record", position+sumAt, 4, func(b []byte) (int, bool) {
			return pager.FlippedBit(b, func() bool { return binary.LittleEndian.Uint32(b) == want })
		})
	}
	valueAt := r.valueAt() - sumAt
	return p.TryMend("record", position+sumAt, valueAt+uint64(len(r.Value)), func(b []byte) (int, bool) {
		return pager.FlippedBit(b, func() bool { return binary.LittleEndian.Uint32(b) == r.sumOf(b[valueAt:]) })
	})
}

// mendHeader looks for the bit in header, extra word and key, either sum included.
func mendHeader(p *pager.Pager, position, salt, limit uint64) bool {
	v := p.View()
	whole := bytes.Clone(v.Bytes(position, min(limit-position, HeaderBytes+extraBytes+MaxKey))) // a flipped length may say anything
	n := uint64(HeaderBytes + extraBytes)
	if key := uint64(binary.LittleEndian.Uint16(whole[8:])); key <= MaxMendKey {
		n += key
	}
	n = min(n, uint64(len(whole)))
	var r Record
	return p.TryMend("record", position, n, func(b []byte) (int, bool) {
		return pager.FlippedBit(b, func() bool {
			copy(whole, b)
			at, n, ok := parse(whole, position, salt, limit, &r)
			return ok && r.ValueHolds(v.Bytes(at, n))
		})
	})
}

// valueAt is where the value begins, in bytes from the position.
func (r *Record) valueAt() uint64 {
	if r.Flags&(FlagMark|FlagMoved) != 0 {
		return HeaderBytes + extraBytes + uint64(len(r.Key))
	}
	return HeaderBytes + uint64(len(r.Key))
}

// sumOf is the sum that the record has if this is its value.
func (r *Record) sumOf(value []byte) uint32 { return uint32(xxhash.Sum64(value)) ^ r.high }
