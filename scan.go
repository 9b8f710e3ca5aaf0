package mapfile

import (
	"encoding/binary"
	"errors"
	"iter"

	"github.com/mapfile-db/mapfile/internal/errs"
)

// Range is a part of the order of hashes, in which each key has one place for good, whatever the map's size and
// whatever was split, moved or compacted. The zero Range is all of it. A Range holds no reference to a map.
type Range struct {
	from spot
	to   spot // behind the last; zero: there is no end
}

// spot is a place in the order of hashes: the bits of the first hash that lead the trie, then the whole second hash, as
// for the keys below it.
type spot struct{ first, second uint64 }

func (p spot) before(q spot) bool {
	return p.first < q.first || p.first == q.first && p.second < q.second
}

// next is the place behind p; zero if there is none.
func (p spot) next(mask uint64) spot {
	if p.second++; p.second == 0 {
		p.first += -mask // the lowest bit of the mask
	}
	return p
}

// Split cuts a range into n parts, for n goroutines or processes: about equally many keys are in each, every key of the range in
// exactly one. The same range cut into as many parts gives the same parts. n below 1 counts as 1; a range
// can be too small for n: then some parts are empty.
func (r Range) Split(n int) []Range {
	parts := make([]Range, max(n, 1))
	size := r.to.first - r.from.first // modulo 2^64: right where there is no end, too
	if size == 0 && r.to == (spot{}) {
		size = ^uint64(0)
	}
	step, at := size/uint64(len(parts)), r.from
	for i := range parts {
		to := r.to
		if i < len(parts)-1 {
			to = spot{first: r.from.first + uint64(i+1)*step}
		}
		parts[i] = Range{at, to}
		if r == emptyRange || step == 0 && i < len(parts)-1 {
			parts[i] = emptyRange
			continue
		}
		at = to
	}
	return parts
}

// emptyRange has no place in it.
var emptyRange = Range{spot{1, 0}, spot{1, 0}}

// tokenBytes is the length of a token: a byte that says whether anything is left, and the place where the rest begins.
const tokenBytes = 17

// After is what is left of a range when a scan of it was stopped, by the scan's token. Error: ErrToken if the bytes are no token,
// or one of another range.
func (r Range) After(token []byte) (Range, error) {
	bad := func(reason string) (Range, error) {
		return Range{}, errs.Join(errs.ErrToken, errors.New(reason))
	}
	if len(token) != tokenBytes || token[0] > 1 {
		return bad("17 bytes of a token were expected")
	}
	if token[0] == 1 {
		return emptyRange, nil
	}
	at := spot{binary.BigEndian.Uint64(token[1:]), binary.BigEndian.Uint64(token[9:])}
	if at.before(r.from) || r.to != (spot{}) && r.to.before(at) {
		return bad("it lies outside of the range")
	}
	if at == r.to && at != (spot{}) { // zero: the begin of a range without an end
		return emptyRange, nil
	}
	return Range{at, r.to}, nil
}

// Scan is a loop over the keys of a range in the order of hashes, which can be stopped and resumed.
type Scan struct {
	tx      *Tx
	r       Range
	key     []byte // the last shown: in the walker's buffer until that is filled again, then in saved
	saved   []byte
	shown   bool
	ended   bool
	started bool
}

// Scan makes a scan of a range as the transaction sees it when the loop over All begins.
func (tx *Tx) Scan(r Range) *Scan { return &Scan{tx: tx, r: r} }

// All is the loop: every key of the range and its value, each once, in the order of hashes. Key and value are valid until the
// loop moves on. It runs once. An error ends it; Tx.Err tells it.
func (s *Scan) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		if s.started {
			return
		}
		s.started = true
		w := &walker{tx: s.tx, writes: s.tx.set.n, keys: true, values: true}
		s.ended = w.walk(&hashOrder{scan: s, r: s.r}, func(key, value []byte) bool {
			s.shown, s.key = true, key
			if s.tx.db.opts.Debug.Poison {
				s.save() // what is lent goes when the loop moves on
			}
			return yield(key, value)
		})
	}
}

// Token says where the scan stands: behind the last entry that the loop's body was given. A few bytes, to be kept for as long as
// one likes. Tx.Scan of Range.After(token), in this transaction, a later one, or another process, shows what is left: a key
// that is there all the time is shown exactly once by the parts together, whatever writers, splits and compaction
// do in between; one that is set or deleted in between is shown at most once.
func (s *Scan) Token() []byte {
	token := make([]byte, tokenBytes)
	at := s.r.from
	switch {
	case s.ended || s.r == emptyRange:
		at = s.r.to
	case s.shown:
		at = s.tx.placeOf(s.key).next(s.tx.db.s.Index.Mask())
	}
	if at == (spot{}) && (s.shown || s.ended) || s.r == emptyRange {
		token[0] = 1
	}
	binary.BigEndian.PutUint64(token[1:], at.first)
	binary.BigEndian.PutUint64(token[9:], at.second)
	return token
}

// save copies the key that was shown last, before its bytes are overwritten.
func (s *Scan) save() {
	s.saved = append(s.saved[:0], s.key...)
	s.key = s.saved
}

// placeOf is the place of a key.
func (tx *Tx) placeOf(key []byte) spot {
	x := tx.db.s.Index
	return spot{hashOf(key) & x.Mask(), x.SecondHash(key)}
}
