package index

import (
	"encoding/binary"

	"github.com/mapfile-db/mapfile/pager"
)

// Path is a place in the order of hashes: the bits that lead the trie, first hash
// then second, each aligned to the top of its word. The zero Path is the first place.
type Path struct {
	First, Second uint64
	buckets       uint64 // between the first place and this one
}

// bits is the number of trie bits per hash.
func (x *Index) bits() uint { return uint(x.levels) * x.fan }

// next is the place behind all that share the first depth bits of p; end says that there is none.
func (x *Index) next(p Path, depth uint) (after Path, end bool) {
	carry := false
	p.buckets++
	if depth > x.bits() {
		d := depth - x.bits()
		p.Second, carry = addTop(p.Second, d)
		if !carry {
			return p, false
		}
		depth = x.bits()
	}
	p.First, carry = addTop(p.First, depth)
	p.Second = 0
	return p, carry
}

// addTop clears all but the top depth bits of w and adds one to them.
func addTop(w uint64, depth uint) (uint64, bool) {
	if depth == 0 {
		return 0, true
	}
	one := uint64(1) << (64 - depth)
	w = w&^(one-1) + one
	return w, w == 0
}

// Bucket is a bucket as a walk in the order of hashes meets it.
type Bucket struct {
	At     uint64 // byte offset in the file
	Second bool   // its slots hold bits of the second hash
	After  Path   // the place behind it
	End    bool   // there is none
}

// BucketAt finds the bucket that holds a place: its byte offset, and the place
// behind it. end says that it is the last. The caller has a pin, or the turn.
func (x *Index) BucketAt(root pager.Ref, at Path) (bucket uint64, after Path, end bool, err error) {
	b, err := x.BucketOf(root, at)
	return b.At, b.After, b.End, err
}

// BucketOf is BucketAt, telling more.
func (x *Index) BucketOf(root pager.Ref, at Path) (b Bucket, err error) {
	how, err := x.VerifyRoot(root, true)
	if err != nil {
		return b, err
	}
	page, rest := root.Page, at.First
	for level := 0; level < 2*x.levels; level++ {
		if level == x.levels {
			rest = at.Second
		}
		over := width(how)
		if page, how, err = x.child(page, level, over, rest>>(64-over), true); err != nil {
			return b, err
		}
		if how&isDirectory == 0 {
			if err := x.fits(page, x.p.View().Page(page), level+1, over, at.buckets); err != nil {
				return b, err
			}
			b.At, b.Second = uint64(page)*pager.PageSize, level >= x.levels
			b.After, b.End = x.next(at, uint(x.p.View().Page(page)[offDepth]))
			return b, nil
		}
		rest <<= x.fan
	}
	return b, x.corrupt(page, "the directory is deeper than it can be")
}

// Mask keeps the bits of a first hash that lead the trie.
func (x *Index) Mask() uint64 { return ^uint64(0) << (64 - x.bits()) }

// SlotBits is how many bits of its hash a slot holds; below them Slots puts the slot's number.
const SlotBits = 39

// Slots appends a word for each slot of a bucket that leads to a record: the 39 bits of the hash in use that it holds, at the
// top, and the number of the slot in the lowest 9 bits.
func (x *Index) Slots(dst []uint64, bucket uint64) []uint64 {
	v := x.p.View()
	tops := v.Bytes(bucket+offTops, 2*uint64(x.slots))
	for i := range x.slots {
		if w := v.Load64(bucket + offWords + 8*uint64(i)); w != wordEmpty && w != wordDead {
			dst = append(dst, storedBits(uint64(binary.LittleEndian.Uint16(tops[2*i:])), w)|uint64(i))
		}
	}
	return dst
}

// Position is where slot number i of a bucket leads now; 0 if to nothing any more.
func (x *Index) Position(bucket uint64, i uint64) uint64 {
	w := x.p.View().Load64(bucket + offWords + 8*i)
	if w == wordDead {
		return 0
	}
	return w & positionMask << 3
}

// fits reports as damage a bucket that cannot stand below so many directories, the last of which resolves width bits, behind so
// many buckets. That was verified where this process first met it; an index that leads to one bucket along several ways, with
// sums that hold, meets it in other places too.
func (x *Index) fits(bucket pager.PageNo, b []byte, level int, width uint, buckets uint64) error {
	least := uint(level-1) * x.fan
	if depth := uint(b[offDepth]); depth < least || depth > least+width {
		return x.corrupt(bucket, "bucket at depth %d below %d directories, the last of which resolves %d bits", depth, level, width)
	}
	if buckets > x.p.Pages() {
		return x.corrupt(bucket, "more buckets than the file has pages")
	}
	return nil
}

// Positions appends the positions in a bucket's slots to dst.
func (x *Index) Positions(dst []uint64, bucket uint64) []uint64 {
	v := x.p.View()
	for i := range x.slots {
		if w := v.Load64(bucket + offWords + 8*uint64(i)); w != wordEmpty && w != wordDead {
			dst = append(dst, w&positionMask<<3)
		}
	}
	return dst
}

// Visit calls visit for every page that the root leads to, directories before what
// is below them, each once. It verifies each page as a reader would. The caller has a pin, or the turn.
func (x *Index) Visit(root pager.Ref, visit func(page pager.PageNo, directory bool, level int, path Path) error) error {
	how, err := x.VerifyRoot(root, true)
	if err != nil {
		return err
	}
	return x.visit(root.Page, how, 0, Path{}, visit)
}

func (x *Index) visit(dir pager.PageNo, trusted uint32, level int, path Path, visit func(pager.PageNo, bool, int, Path) error) error {
	if err := visit(dir, true, level, path); err != nil {
		return err
	}
	if level >= 2*x.levels {
		return x.corrupt(dir, "the directory is deeper than it can be")
	}
	last := dir
	for i := range uint64(1) << width(trusted) {
		page, how, err := x.child(dir, level, width(trusted), i, true)
		if err != nil {
			return err
		}
		if page == last {
			continue // a bucket that several entries lead to
		}
		last = page
		below := x.below(path, level, width(trusted), i)
		if how&isDirectory != 0 {
			err = x.visit(page, how, level+1, below, visit)
		} else {
			err = visit(page, false, level+1, below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// below is the first place behind entry i of a directory of a width at a level.
func (x *Index) below(path Path, level int, width uint, i uint64) Path {
	if level < x.levels {
		path.First |= i << (64 - x.fan*uint(level) - width)
	} else {
		path.Second |= i << (64 - x.fan*uint(level-x.levels) - width)
	}
	return path
}

// Evacuate copies the bucket at a place, and the directories above it, if sparse says
// so of their pages, and returns the place of the next bucket. It is how arenas that hold
// little are emptied. It belongs to the turn; Alloc must not give sparse pages.
func (x *Index) Evacuate(at Path, sparse func(pager.PageNo) bool) (after Path, end bool, err error) {
	c := &x.cur
	c.found, c.slot = false, 0
	if err := x.down(at.First, func() uint64 { return at.Second }); err != nil {
		return at, false, err
	}
	if at.buckets > x.p.Pages() {
		return at, false, x.corrupt(c.bucket, "more buckets than the file has pages")
	}
	after, end = x.next(at, uint(x.view().Page(c.bucket)[offDepth]))
	move := sparse(c.bucket)
	for i := range c.n {
		move = move || sparse(c.path[i].page)
	}
	if !move {
		return after, end, nil
	}
	// Only what lies in sparse arenas moves; a directory above it of an older epoch is copied to be repointed.
	if !sparse(c.bucket) {
		return after, end, x.ownPath(sparse)
	}
	return after, end, x.moveBucket(sparse)
}
