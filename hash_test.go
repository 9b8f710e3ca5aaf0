package mapfile

import (
	"encoding/binary"
	"math/bits"
)

// The primes of XXH64.
const (
	prime1 = 11400714785074694791
	prime2 = 14029467366897019727
	prime3 = 1609587929392839161
	prime4 = 9650029242287828579
	prime5 = 2870177450012600261
)

// inverse is the inverse of an odd number modulo 2^64, by Newton's iteration.
func inverse(x uint64) uint64 {
	y := x
	for range 6 {
		y *= 2 - x*y
	}
	return y
}

// KeyWithHash is the 16-byte key that begins with prefix and has the given XXH64: every step of the
// hash of a short input is a bijection of the running value and of the last word, so it can be run backwards. The tests of
// both packages here need such keys.
func KeyWithHash(prefix, hash uint64) []byte {
	mul := func(x uint64, prime uint64) uint64 { return x * inverse(prime) }
	h := hash
	h ^= h >> 32
	h = mul(h, prime3)
	h ^= h>>29 ^ h>>58
	h = mul(h, prime2)
	h ^= h >> 33 // the finish is undone
	h = bits.RotateLeft64(mul(h-prime4, prime1), -27)

	round := func(x uint64) uint64 { return bits.RotateLeft64(x*prime2, 31) * prime1 }
	before := uint64(prime5) + 16 // the length
	before = bits.RotateLeft64(before^round(prefix), 27)*prime1 + prime4
	last := mul(bits.RotateLeft64(mul(h^before, prime1), -31), prime2)
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, prefix), last)
}
