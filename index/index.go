package index

import (
	"encoding/binary"
	"fmt"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
)

// Index is the index of one open map. The function fields are set once, before use.
type Index struct {
	p        *pager.Pager
	FileSalt uint64
	HashKey  [16]byte

	// Alloc gives a page to build a new index page in.
	Alloc func() (pager.PageNo, error)
	// Retire takes a page that no path leads to any more and the epoch it was built in.
	Retire func(page pager.PageNo, built uint32)
	// Matches reports whether the record at position has the key.
	Matches func(position uint64, key []byte) (bool, error)
	// KeyAt reads the key of the record at position.
	KeyAt func(position uint64) ([]byte, error)
	// FirstHash is the hash of a key with which Lookup and Find are called.
	FirstHash func(key []byte) uint64

	fan        uint   // hash bits a directory page resolves
	levels     int    // directory levels per hash
	lines      uint64 // of a bucket
	slots      int
	maxFill    int
	mergeShare int // of maxFill, that buckets are joined up to, in percent

	_ [pager.CacheLine]byte // each look-up uses what is above

	// The writer's state.
	Root        pager.Ref
	Epoch       uint32
	Buckets     uint32
	Directories uint32
	built       []pager.PageNo // pages built in this epoch
	retired     uint64         // how many pages were retired since the map was opened
	cur         cursor
	merge       merge
}

// New makes the index of an open file. Root, Epoch and the counts are the caller's to set.
func New(p *pager.Pager, fileSalt uint64, hashKey [16]byte) *Index {
	g := p.Geo
	x := &Index{p: p, FileSalt: fileSalt, HashKey: hashKey, fan: uint(g.FanoutBits), levels: hashBits / int(g.FanoutBits), lines: uint64(g.BucketLines), slots: int(g.BucketLines) * lineSlots, mergeShare: mergePercent}
	x.maxFill = max(1, min(x.slots*int(g.FillPercent)/100, x.slots-1))
	return x
}

// Pages is the number of pages of the index.
func (x *Index) Pages() uint64 { return uint64(x.Buckets) + uint64(x.Directories) }

// Bytes is the size of the index in bytes.
func (x *Index) Bytes() uint64 { return x.Pages() * pager.PageSize }

// SecondHash is the hash by which the trie goes on behind the bits of the first: the
// first 8 bytes of SHA-256 of the file's secret and the key.
func (x *Index) SecondHash(key []byte) uint64 { return SecondHash(x.HashKey, key) }

// corrupt describes damage of an index page.
func (x *Index) corrupt(page pager.PageNo, format string, args ...any) error {
	return &errs.CorruptError{Path: x.p.Path(), Page: uint64(page), Structure: "index", Reason: fmt.Sprintf(format, args...)}
}

// verify comes to trust a page that this process has not used yet: what the parent
// says of it must hold, and its sum, and it must fit its place: level directories lie above it,
// the last of which resolves width bits. It answers what Verified will say from now on. mend allows it to take
// back a flipped bit: the caller knows that the page is not reused meanwhile.
func (x *Index) verify(page pager.PageNo, tag uint16, wholeEpoch uint32, level int, width uint, mend bool) (uint32, error) {
	if page < pager.FirstPage || uint64(page) >= x.p.Pages() {
		return 0, x.corrupt(page, "an index entry leads outside the file")
	}
	b := x.p.View().Page(page)
	if sabotage.Is(sabotage.PageUnverified) {
		return trust(b), nil
	}
	err := x.judge(b, page, tag, wholeEpoch, level, width)
	if err != nil && mend && x.p.TryMend("index", uint64(page)*pager.PageSize, pager.PageSize, func(b []byte) (int, bool) {
		return Flipped(b, x.FileSalt, page, func() bool { return x.expected(b, page, tag, wholeEpoch) })
	}) {
		err = x.judge(b, page, tag, wholeEpoch, level, width)
	}
	if err != nil {
		return 0, err
	}
	how := trust(b)
	x.p.Trust(page, how)
	return how, nil
}

// expected reports whether a page's header names the page and an epoch that the parent's tag stands for.
func (x *Index) expected(b []byte, page pager.PageNo, tag uint16, wholeEpoch uint32) bool {
	epoch := pageEpoch(b)
	return HeaderNames(b, b[offType], page, epoch) && uint16(epoch) == tag && (wholeEpoch == 0 || epoch == wholeEpoch)
}

func (x *Index) sumHolds(b []byte, page pager.PageNo) bool {
	return !debug.Verify || binary.LittleEndian.Uint64(b) == Sum(b, x.FileSalt, page, pageEpoch(b)) || sabotage.Is(sabotage.PageSumUnchecked)
}

// judge tells what is wrong with a page.
func (x *Index) judge(b []byte, page pager.PageNo, tag uint16, wholeEpoch uint32, level int, width uint) error {
	epoch := pageEpoch(b)
	kind := b[offType]
	switch {
	case kind != TypeDirectory && kind != TypeBucket:
		return x.corrupt(page, "not an index page (type %d)", kind)
	case !x.expected(b, page, tag, wholeEpoch) && !(sabotage.Is(sabotage.EpochTagUnchecked) && HeaderNames(b, kind, page, epoch)):
		return x.corrupt(page, "index page of epoch %d stands where another was expected", epoch)
	case !x.sumHolds(b, page):
		return x.corrupt(page, "the sum of the index page does not hold")
	case kind == TypeBucket && !x.plausible(b, level, width):
		return x.corrupt(page, "bucket of %d slots, %d dead, at depth %d below %d directories", pageCount(b), pageDead(b), b[offDepth], level)
	case kind == TypeDirectory && (uint(b[offWidth]) > x.fan || int(b[offLevel]) != level || level > 0 && width != x.fan):
		return x.corrupt(page, "directory page of level %d that resolves %d bits below %d directories", b[offLevel], b[offWidth], level)
	}
	return nil
}

// plausible reports whether a bucket can stand below so many directories, the last of which resolves width
// bits, and whether its slots are what its header says: loops over chains rely on an empty one.
func (x *Index) plausible(b []byte, level int, width uint) bool {
	if level == 0 {
		return false
	}
	least := uint(level-1) * x.fan
	if depth := uint(b[offDepth]); depth < least || depth > least+width {
		return false
	}
	used, dead := 0, 0
	for i := range x.slots {
		switch slotWord(b, i) {
		case wordEmpty:
			continue
		case wordDead:
			dead++
		}
		used++
	}
	return used == pageCount(b) && dead == pageDead(b) && used < x.slots
}

// VerifyRoot makes sure that the root is a directory that can be trusted, and tells how. mend is as in Find.
func (x *Index) VerifyRoot(root pager.Ref, mend bool) (how uint32, err error) {
	if how = x.p.Verified(root.Page); how == 0 {
		if how, err = x.verify(root.Page, uint16(root.Epoch), root.Epoch, 0, 0, mend); err != nil {
			return 0, err
		}
	}
	if how&isDirectory == 0 {
		return 0, x.corrupt(root.Page, "the root is not a directory page")
	}
	return how, nil
}

// child loads entry i of a directory and trusts the page behind it. The view is loaded after each page
// number, so that it is never too small for the page: the file may have been mapped anew, larger. The directory
// is of a level and resolves width bits.
func (x *Index) child(dir pager.PageNo, level int, width uint, i uint64, mend bool) (page pager.PageNo, how uint32, err error) {
	at := uint64(dir)*pager.PageSize + offChildren + 4*i
	for {
		v := x.p.View()
		page = pager.PageNo(v.Load32(at))
		if uint64(page) < x.p.Pages() {
			if how = x.p.Verified(page); how != 0 {
				return page, how, nil
			}
		}
		tag := childTag(v.Page(dir), int(i))
		how, err = x.verify(page, tag, 0, level+1, width, mend)
		if err != nil && uint64(page) < x.p.Pages() && x.p.Verified(page) != 0 {
			continue // a writer came between, and trusts it
		}
		if err == nil || pager.PageNo(v.Load32(at)) == page {
			return page, how, err
		}
		// The entry changed between the two loads: a writer was here.
	}
}

// Find descends to the bucket of a key. hash is the key's first hash. It returns the
// bucket's byte offset in the file and the hash in use there. mend says that what the root leads to is not reused meanwhile,
// because of a pin or the turn, so that a flipped bit in a page on the way may be taken back.
func (x *Index) Find(root pager.Ref, hash uint64, key []byte, mend bool) (bucket, inUse uint64, err error) {
	page, rest := root.Page, hash
	how, err := x.VerifyRoot(root, mend)
	if err != nil {
		return 0, 0, err
	}
	for level := 0; level < 2*x.levels; level++ {
		if level == x.levels {
			hash = x.SecondHash(key)
			rest = hash
		}
		if page, how, err = x.child(page, level, width(how), rest>>(64-width(how)), mend); err != nil {
			return 0, 0, err
		}
		if how&isDirectory == 0 {
			return uint64(page) * pager.PageSize, hash, nil
		}
		rest <<= x.fan
	}
	return 0, 0, x.corrupt(page, "the directory is deeper than it can be")
}

// Next goes along the chain of a hash in a bucket, from its home line on and past the slots that were seen already, to the next slot
// with the hash's tag. It tells the position in that, 0 where the chain ends, and how many slots have been seen now, that one included. A slot never
// gives 0: the meta page lies there, and of a damaged word that says so Next tells 8, where no record lies either.
//
// The state of a look-up is a number, and not a struct, so that it stays in a register: a struct that was just written field by field, and is
// then copied by wider loads, holds the processor up until all that it began before is done, the cache misses of the look-up before included.
func (x *Index) Next(bucket, hash uint64, seen int) (position uint64, seenNow int) {
	v, words, tag := x.p.View(), bucket+offWords, tagOf(hash)
	slot := int(home(hash, x.lines))*lineSlots + seen
	if slot >= x.slots {
		slot -= x.slots
	}
	for seen < x.slots {
		w := v.Load64(words + 8*uint64(slot))
		if w == wordEmpty {
			break
		}
		seen++
		if w>>positionBits == tag && w != wordDead {
			return max(w&positionMask<<3, 8), seen
		}
		if slot++; slot == x.slots {
			slot = 0
		}
	}
	return 0, seen
}

// LeadsTo reports whether a slot on the chain of a hash, in a bucket, leads to a position: what Next would come to, found by one
// comparison a slot.
func (x *Index) LeadsTo(bucket, hash, position uint64) bool {
	v, want := x.p.View(), tagOf(hash)<<positionBits|position>>3
	slot := int(home(hash, x.lines)) * lineSlots
	for range x.slots {
		switch v.Load64(bucket + offWords + 8*uint64(slot)) {
		case want:
			return true
		case wordEmpty:
			return false
		}
		if slot++; slot == x.slots {
			slot = 0
		}
	}
	return false
}

// HomeLine is the byte offset in the file of the line in a bucket at which a probe for a hash begins.
func (x *Index) HomeLine(bucket, hash uint64) uint64 {
	return bucket + offWords + home(hash, x.lines)*(8*lineSlots)
}

// AppendLines appends the byte offsets in the file of the cache lines that a writer's look-up of a hash in a bucket, and a change, will meet: of the
// header, of the home line, and of the tops of its slots.
func (x *Index) AppendLines(lines []uint64, bucket, hash uint64) []uint64 {
	return append(lines, bucket, x.HomeLine(bucket, hash), bucket+offTops+home(hash, x.lines)*(2*lineSlots))
}

// PrefetchSlots loads what of a bucket a look-up by the holder of the turn, and a change, will meet: the header, the home line, and the tops of its
// slots. A load brings in a page that is not mapped; a prefetch would leave it out. The result is of no use but that the compiler keeps the loads.
func (x *Index) PrefetchSlots(bucket, hash uint64) uint64 {
	v, slot := x.p.View(), home(hash, x.lines)*lineSlots
	return v.Load64(bucket+offType) + v.Load64(bucket+offWords+8*slot) + v.Load64(bucket+offTops+2*slot)
}
