package pager

import (
	"encoding/binary"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// The primes and constants of XXH64 (Yann Collet, xxHash).
const (
	xxPrime1 uint64 = 11400714785074694791
	xxPrime2 uint64 = 14029467366897019727
	xxPrime3 uint64 = 1609587929392839161
	xxPrime4 uint64 = 9650029242287828579
	xxPrime5 uint64 = 2870177450012600261
	xxStripe        = 32
)

// FlippedSum looks for the one bit of b that, flipped, makes Sum64 of b want, and leaves b like that. bit counts from the
// lowest of the first byte.
//
// XXH64 takes stripes of four words into four lanes that do not know one another before the end. A flip changes one
// lane only, and that from its word on: what is before, and the other lanes, need not be hashed again. For a page this
// takes a twentieth of the time that trying each bit takes.
func FlippedSum(b []byte, want uint64) (bit int, ok bool) {
	stripes := len(b) / xxStripe
	for lane := range min(4, 4*stripes) {
		if bit, ok = flippedLane(b, stripes, lane, want); ok {
			return bit, true
		}
	}
	for bit := stripes * xxStripe * 8; bit < len(b)*8; bit++ { // the rest, in which all depends on all
		b[bit/8] ^= 1 << (bit % 8)
		if xxhash.Sum64(b) == want {
			return bit, true
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	return 0, false
}

func xxRound(acc, word uint64) uint64 { return bits.RotateLeft64(acc+word*xxPrime2, 31) * xxPrime1 }

// xxStart is what the lanes begin with.
func xxStart() [4]uint64 {
	p1, p2 := xxPrime1, xxPrime2
	return [4]uint64{p1 + p2, p2, 0, -p1}
}

// flippedLane looks for the bit in the words of one lane.
func flippedLane(b []byte, stripes, lane int, want uint64) (int, bool) {
	words := make([]uint64, stripes) // times the prime: that is how a round takes them
	before := make([]uint64, stripes)
	ends := xxStart()
	for i := range stripes {
		for k := range ends {
			word := binary.LittleEndian.Uint64(b[i*xxStripe+8*k:])
			if k == lane {
				words[i], before[i] = word*xxPrime2, ends[k]
			}
			ends[k] = xxRound(ends[k], word)
		}
	}
	behind := b[stripes*xxStripe:]
	for i := range stripes {
		word := binary.LittleEndian.Uint64(b[i*xxStripe+8*lane:])
		for bit := 0; bit < 64; bit += 8 {
			for k, end := range flippedEight(before[i], word, bit, words[i+1:]) {
				ends[lane] = end
				if xxFinish(xxMerge(&ends)+uint64(len(b)), behind) == want {
					binary.LittleEndian.PutUint64(b[i*xxStripe+8*lane:], word^1<<(bit+k))
					return (i*xxStripe+8*lane)*8 + bit + k, true
				}
			}
		}
	}
	return 0, false
}

// flippedEight runs a lane on from a word with each of eight bits flipped, side by side: one run alone would wait for each
// multiplication.
func flippedEight(acc, word uint64, bit int, words []uint64) [8]uint64 {
	step := func(acc, word uint64) uint64 { return bits.RotateLeft64(acc+word, 31) * xxPrime1 }
	a0, a1, a2, a3 := xxRound(acc, word^1<<bit), xxRound(acc, word^2<<bit), xxRound(acc, word^4<<bit), xxRound(acc, word^8<<bit)
	a4, a5, a6, a7 := xxRound(acc, word^16<<bit), xxRound(acc, word^32<<bit), xxRound(acc, word^64<<bit), xxRound(acc, word^128<<bit)
	for _, w := range words {
		a0, a1, a2, a3 = step(a0, w), step(a1, w), step(a2, w), step(a3, w)
		a4, a5, a6, a7 = step(a4, w), step(a5, w), step(a6, w), step(a7, w)
	}
	return [8]uint64{a0, a1, a2, a3, a4, a5, a6, a7}
}

// xxMerge makes one word of the lanes.
func xxMerge(v *[4]uint64) uint64 {
	h := bits.RotateLeft64(v[0], 1) + bits.RotateLeft64(v[1], 7) + bits.RotateLeft64(v[2], 12) + bits.RotateLeft64(v[3], 18)
	for _, lane := range v {
		h = (h^xxRound(0, lane))*xxPrime1 + xxPrime4
	}
	return h
}

// xxFinish takes in what is behind the last stripe, and mixes.
func xxFinish(h uint64, b []byte) uint64 {
	for ; len(b) >= 8; b = b[8:] {
		h ^= xxRound(0, binary.LittleEndian.Uint64(b))
		h = bits.RotateLeft64(h, 27)*xxPrime1 + xxPrime4
	}
	if len(b) >= 4 {
		h ^= uint64(binary.LittleEndian.Uint32(b)) * xxPrime1
		h = bits.RotateLeft64(h, 23)*xxPrime2 + xxPrime3
		b = b[4:]
	}
	for _, c := range b {
		h ^= uint64(c) * xxPrime5
		h = bits.RotateLeft64(h, 11) * xxPrime1
	}
	h = (h ^ h>>33) * xxPrime2
	h = (h ^ h>>29) * xxPrime3
	return h ^ h>>32
}
