// Package workload holds what is asked of a store: the keys and values, the
// distributions they are drawn from, and the loops that measure.
package workload

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// KeyBytes is the length of every key.
const KeyBytes = 16

// mix scatters an integer over 64 bits.
func mix(x uint64) uint64 {
	x *= 0x9E3779B97F4A7C15
	x ^= x >> 29
	return x
}

// AppendKey appends the i-th key, 16 bytes. Neighbouring keys lie far apart in
// every order, and no two are equal.
func AppendKey(dst []byte, i uint64) []byte {
	dst = binary.BigEndian.AppendUint64(dst, mix(i))
	return binary.BigEndian.AppendUint64(dst, i)
}

// Values hands out values of one size, cut from a pool of random bytes: a
// value costs nothing to make, does not compress, and can be checked later.
type Values struct {
	pool []byte
	size int
}

const valuePool = 1 << 20

// NewValues makes values of size bytes.
func NewValues(size int) *Values {
	src := rand.NewChaCha8([32]byte{1})
	pool := make([]byte, valuePool+size)
	// ChaCha8's Read never fails.
	_, _ = src.Read(pool)
	return &Values{pool, size}
}

// At returns the value that version gives to the i-th key; borrowed for ever,
// not to be written to.
func (v *Values) At(i, version uint64) []byte {
	at := mix(i+version<<40) % valuePool
	return v.pool[at : at+uint64(v.size)]
}

// Draw picks which key is next.
type Draw func() uint64

// Uniform draws from [0, n).
func Uniform(r *rand.Rand, n uint64) Draw {
	return func() uint64 { return r.Uint64N(n) }
}

// zipfTheta is the skew that YCSB uses.
const zipfTheta = 0.99

// zipfDraws is how many draws are made ahead; then they repeat.
const zipfDraws = 1 << 20

// Zipfian draws ranks from [0, n) with skew 0.99, most often rank 0, made
// ahead so that drawing costs one load (the method of Gray and others,
// "Quickly Generating Billion-Record Synthetic Databases", 1994).
func Zipfian(r *rand.Rand, n uint64) Draw {
	zetaN, zeta2 := zeta(n), 1+math.Pow(0.5, zipfTheta)
	alpha := 1 / (1 - zipfTheta)
	eta := (1 - math.Pow(2/float64(n), 1-zipfTheta)) / (1 - zeta2/zetaN)
	ranks := make([]uint64, zipfDraws)
	for i := range ranks {
		u := r.Float64()
		switch uz := u * zetaN; {
		case uz < 1:
		case uz < zeta2:
			ranks[i] = min(1, n-1)
		default:
			ranks[i] = min(uint64(float64(n)*math.Pow(eta*u-eta+1, alpha)), n-1)
		}
	}
	at := 0
	return func() uint64 {
		at = (at + 1) % zipfDraws
		return ranks[at]
	}
}

// zeta is the sum of i to the minus theta for i in [1, n]; past a million
// terms the integral stands for the rest.
func zeta(n uint64) float64 {
	const exact = 1_000_000
	sum := 0.0
	for i := uint64(1); i <= min(n, exact); i++ {
		sum += math.Pow(float64(i), -zipfTheta)
	}
	if n > exact {
		p := 1 - zipfTheta
		sum += (math.Pow(float64(n), p) - math.Pow(exact, p)) / p
	}
	return sum
}

// Scatter spreads the ranks of a skewed draw over all n keys, so that keys
// asked for often do not lie beside each other because they were loaded together.
func Scatter(d Draw, n uint64) Draw {
	return func() uint64 { return mix(d()+0x5851F42D4C957F2D) % n }
}
