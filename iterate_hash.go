package mapfile

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/tail"
)

func hashOf(key []byte) uint64 { return xxhash.Sum64(key) }

// hashOrder visits the entries of a range in the order of hashes, bucket by bucket. A bucket's slots hold enough bits
// of the hashes to sort them by; keys that agree in these are sorted by both hashes whole.
type hashOrder struct {
	scan   *Scan
	r      Range
	begun  bool
	at     spot       // the next bucket
	next   index.Path // the same
	last   bool       // there is none
	second bool       // of the bucket: slots hold bits of the second hash
	words  []uint64
	spare  []uint64
	all    []uint64 // positions of the bucket's records, in order
	places []uint64 // of them: still to be taken
	own    []ownWrite
}

// ownWrite is a key that the transaction has set, by its place.
type ownWrite struct {
	at spot
	op int
}

// fill is source.fill.
func (h *hashOrder) fill(at *snapshot, w *walker) (more bool, err error) {
	if !h.begun {
		h.begin(w)
	}
	h.scan.save()
	for !w.full() {
		if len(h.places) > 0 {
			if err := h.some(at, w); err != nil {
				return false, err
			}
			continue
		}
		if h.last {
			h.takeOwn(w, spot{})
			break
		}
		if err := h.bucket(at, w); err != nil {
			return false, err
		}
	}
	return len(h.places) > 0 || !h.last, nil
}

func (h *hashOrder) begin(w *walker) {
	h.begun, h.at = true, h.r.from
	h.next = index.Path{First: h.at.first, Second: h.at.second}
	h.last = h.r == emptyRange
	set := &w.tx.set
	for i := range w.writes {
		if o := &set.ops[i]; !o.deleted && set.asOf(o.key, w.writes) == o {
			if at := w.tx.placeOf(o.key); !at.before(h.r.from) && (h.r.to == spot{} || at.before(h.r.to)) {
				h.own = append(h.own, ownWrite{at, i})
			}
		}
	}
	slices.SortFunc(h.own, func(a, b ownWrite) int { return a.at.compare(b.at) })
}

func (p spot) compare(q spot) int {
	return cmp.Or(cmp.Compare(p.first, q.first), cmp.Compare(p.second, q.second))
}

// takeOwn takes the transaction's writes before a place; zero: all that are left.
func (h *hashOrder) takeOwn(w *walker, before spot) {
	for len(h.own) > 0 && (before == spot{} || h.own[0].at.before(before)) {
		w.takeOwn(&w.tx.set.ops[h.own[0].op])
		h.own = h.own[1:]
	}
}

// bucket lists the records of the next bucket, sorted.
func (h *hashOrder) bucket(at *snapshot, w *walker) error {
	x := at.s.Index
	b, err := x.BucketOf(at.root, h.next)
	if err != nil {
		return err
	}
	from := h.at
	h.second = b.Second
	h.words = x.Slots(h.words[:0], b.At)
	h.words, h.spare = sortWords(h.words, h.spare)
	h.all = h.all[:0]
	for _, word := range h.words {
		if p := x.Position(b.At, word&(1<<9-1)); p != 0 {
			h.all = append(h.all, p)
		}
	}
	h.places = h.all
	h.next, h.at, h.last = b.After, spot{b.After.First, b.After.Second}, b.End
	if h.r.to != (spot{}) && !h.at.before(h.r.to) {
		h.last = true
	}
	if !h.plain(x, from) {
		return h.resort(at, w, from)
	}
	return nil
}

// sortWords sorts the words of a bucket. Hashes are spread evenly, so it puts them into bins by the nine bits behind those that
// all of them share; what meets in a bin, which may be all if somebody chose the keys, is sorted there. It
// gives the sorted ones, and room for the next time.
func sortWords(words, spare []uint64) (sorted, room []uint64) {
	every, any := ^uint64(0), uint64(0)
	for _, w := range words {
		every, any = every&w, any|w
	}
	shared := bits.LeadingZeros64(every ^ any)
	var ends [512]uint16
	for _, w := range words {
		ends[w<<shared>>55]++
	}
	at := uint16(0)
	for i, n := range ends {
		ends[i] = at
		at += n
	}
	sorted = slices.Grow(spare[:0], len(words))[:len(words)]
	for _, w := range words {
		bin := w << shared >> 55
		sorted[ends[bin]] = w
		ends[bin]++
	}
	from := uint16(0)
	for _, end := range ends {
		if end > from+1 {
			slices.Sort(sorted[from:end])
		}
		from = end
	}
	return sorted, words[:0]
}

// plain reports whether the words alone tell the order of the bucket's keys, and that all of them lie in the range and were not shown: a
// bucket that was shown may have been joined with this one since.
func (h *hashOrder) plain(x *index.Index, from spot) bool {
	if h.second || len(h.own) > 0 || len(h.places) != len(h.words) || from.second != 0 {
		return false
	}
	mask := x.Mask()
	for i, word := range h.words {
		if first := word & mask; first < from.first && !sabotage.Is(sabotage.ScanRepeatsJoined) || h.r.to != (spot{}) && first >= h.r.to.first || i > 0 && first == h.words[i-1]&mask {
			return false
		}
	}
	return true
}

// resort sorts the bucket's keys by their whole hashes, drops those outside of the range, and brings in the transaction's writes.
// It takes the entries at once.
func (h *hashOrder) resort(at *snapshot, w *walker, from spot) error {
	type placed struct {
		at       spot
		position uint64
	}
	var all []placed
	var r tail.Record
	for _, position := range h.places {
		if err := at.s.Record(position, &r, at.mend); err != nil {
			return err
		}
		p := w.tx.placeOf(r.Key)
		if p.before(from) || h.r.to != (spot{}) && !p.before(h.r.to) {
			continue
		}
		all = append(all, placed{p, position})
	}
	slices.SortFunc(all, func(a, b placed) int { return a.at.compare(b.at) })
	h.places = nil
	for _, p := range all {
		h.takeOwn(w, p.at)
		if err := h.one(at, w, p.position); err != nil {
			return err
		}
	}
	if !h.last {
		h.takeOwn(w, h.at)
	}
	return nil
}

// some copies a stage of records, asking for the lines of all before reading the first.
func (h *hashOrder) some(at *snapshot, w *walker) error {
	n := min(stage, len(h.places))
	at.s.P.View().Prefetch(h.places[:n], recordLines)
	for ; n > 0 && !w.full(); n-- {
		p := h.places[0]
		h.places = h.places[1:]
		if err := h.one(at, w, p); err != nil {
			return err
		}
	}
	return nil
}

// one takes the entry behind a slot, if the transaction sees it there.
func (h *hashOrder) one(at *snapshot, w *walker, position uint64) error {
	var r tail.Record
	if err := at.s.Record(position, &r, at.mend); err != nil {
		return err
	}
	if err := at.visible(&r); err != nil {
		if err == errs.ErrNotFound {
			return nil
		}
		return err
	}
	if w.own(r.Key) {
		return nil // shown with the writes
	}
	return w.take(at, &r)
}
