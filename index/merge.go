package index

import (
	"encoding/binary"
	"math/bits"

	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
)

// What deletes leave empty is taken back place by place, in the order of hashes: buckets that share a parent and fit into one
// are joined, a directory becomes as narrow as its deepest bucket allows, and one that has come down to a bucket
// gives way to it. Every change is a fresh page and an entry of the parent that leads to it, like a split: readers who are in
// the old pages find there what they look for, as long as their pin or generation keeps the pages. No slot changes, so the log
// needs no record of it; a crash leaves the index as it was at the checkpoint, and replay does not merge.
const (
	// mergePercent is how full a joined bucket may be, of the fill at which it splits: the distance is what keeps a map that
	// grows and shrinks around one size from splitting and joining for ever.
	mergePercent = 80
	// mostJoined is how many buckets become one in a step.
	mostJoined = 16
	// deadPercent is how many of its slots may be dead for a bucket that is not joined to be left as it is.
	deadPercent = 12
)

// merge is what Sparse found to be done at the cursor's place.
type merge struct {
	do      func() error
	gain    int            // pages fewer
	from, n uint32         // entries of the last directory on the path that will lead to one bucket
	joined  []pager.PageNo // that those entries lead to now
	tried   []pager.PageNo // the same of the last attempt
	width   uint           // that the directory needs
	slots   []hashedWord   // of a bucket that goes back to the first hash
}

// hashedWord is a slot's word and the hash that its key has by then.
type hashedWord struct{ hash, word uint64 }

// Sparse looks at a place for something to be taken back, and answers how many pages Merge would take for it at most; 0 says
// that there is nothing, or nothing that can be read, and that after is the place to go on at. Behind a Merge the same
// place is looked at again. It belongs to the turn.
func (x *Index) Sparse(at Path) (pages int, after Path, end bool) {
	c := &x.cur
	c.found, c.slot, c.n = false, 0, 0
	x.merge.do = nil
	if err := x.down(at.First, func() uint64 { return at.Second }); err != nil || at.buckets > x.p.Pages() {
		after, end = x.Skip(at)
		return 0, after, end
	}
	after, end = x.next(at, uint(x.bytes(c.bucket)[offDepth]))
	if x.findLift() || x.findJoin() || x.findNarrow() {
		return c.n + 1, at, false
	}
	return 0, after, end
}

// Skip is the place behind the directory entry at which the last Sparse ended, or was interrupted.
func (x *Index) Skip(at Path) (after Path, end bool) {
	c := &x.cur
	if c.n == 0 || at.buckets > x.p.Pages() {
		return at, true
	}
	return x.next(at, uint(c.n-1)*x.fan+x.widthOf(c.n-1))
}

// widthOf is the width of a directory on the cursor's path.
func (x *Index) widthOf(level int) uint {
	return min(uint(x.bytes(x.cur.path[level].page)[offWidth]), x.fan)
}

// Merge does what Sparse has found, in the same turn. An error leaves an index that must not be used.
func (x *Index) Merge() error {
	if err := x.ownPath(nil); err != nil {
		return err
	}
	return x.merge.do()
}

// Gain is how many pages fewer the index has when Merge has done what Sparse has found.
func (x *Index) Gain() int { return x.merge.gain }

// mergeFill is how many slots a joined bucket may hold.
func (x *Index) mergeFill() int { return x.maxFill * x.mergeShare / 100 }

// liveSlots is the number of slots of a bucket that are not dead.
func liveSlots(b []byte) int { return pageCount(b) - pageDead(b) }

// findJoin looks for buckets around the cursor's that fit into one: as many as may be.
func (x *Index) findJoin() bool {
	c, m := &x.cur, &x.merge
	entry, wide := c.path[c.n-1].entry, uint32(1)<<x.widthOf(c.n-1)
	_, n := x.span()
	m.joined = m.joined[:0]
	for n *= 2; n <= wide && n > 0; n *= 2 {
		if !x.fit(entry&^(n-1), n) {
			break
		}
		m.from, m.n = entry&^(n-1), n
		m.joined, m.tried = m.tried, m.joined
	}
	if len(m.joined) == 0 && pageDead(x.bytes(c.bucket))*100 > x.slots*deadPercent {
		m.from, m.n = x.span()
		m.joined = append(m.joined, c.bucket)
	}
	m.do, m.gain = x.join, max(len(m.joined)-1, 0)
	return len(m.joined) > 0
}

// fit reports whether the buckets that entries [from, from+n) of the cursor's last directory lead to fit into one, and lists them.
func (x *Index) fit(from, n uint32) bool {
	m := &x.merge
	m.tried = m.tried[:0]
	live := 0
	for i := from; i < from+n; {
		page, span, ok := x.run(i)
		if !ok || i+span > from+n || len(m.tried) == mostJoined {
			return false
		}
		if live += liveSlots(x.bytes(page)); live > x.mergeFill() {
			return false
		}
		m.tried = append(m.tried, page)
		i += span
	}
	return true
}

// run is the bucket that an entry of the cursor's last directory leads to, if all the entries that its depth says, and which begin
// with this one, do.
func (x *Index) run(i uint32) (page pager.PageNo, n uint32, ok bool) {
	c := &x.cur
	dir, level, over := c.path[c.n-1].page, c.n-1, x.widthOf(c.n-1)
	page, how, err := x.child(dir, level, over, uint64(i), true)
	if err != nil || how&isDirectory != 0 || x.fits(page, x.bytes(page), c.n, over, 0) != nil {
		return 0, 0, false
	}
	n = 1 << (uint(level)*x.fan + over - uint(x.bytes(page)[offDepth]))
	if i&(n-1) != 0 {
		return 0, 0, false
	}
	b := x.bytes(dir)
	for j := i + 1; j < i+n; j++ {
		if childPage(b, int(j)) != page {
			return 0, 0, false
		}
	}
	return page, n, true
}

// join makes one bucket of several.
func (x *Index) join() error {
	c, m := &x.cur, &x.merge
	to, b, err := x.fresh(TypeBucket)
	if err != nil {
		return err
	}
	for i, page := range m.joined {
		if i >= 7 && sabotage.Is(sabotage.JoinLosesBuddy) {
			break
		}
		x.rebuild(b, x.bytes(page))
	}
	b[offDepth] = byte(uint(c.n-1)*x.fan + x.widthOf(c.n-1) - uint(bits.TrailingZeros32(m.n)))
	if len(m.joined) >= 8 && sabotage.Is(sabotage.JoinKeepsDepth) {
		b[offDepth] = x.bytes(c.bucket)[offDepth]
	}
	x.publish(to)
	x.point(c.path[c.n-1].page, m.from, m.n, to, x.Epoch)
	x.Buckets -= uint32(len(m.joined) - 1)
	for _, page := range m.joined {
		x.retire(page)
	}
	return nil
}

// findNarrow looks, at the last bucket of a directory, for bits that none of its buckets needs.
func (x *Index) findNarrow() bool {
	c, m := &x.cur, &x.merge
	over := x.widthOf(c.n - 1)
	if from, n := x.span(); from+n != 1<<over {
		return false // its other buckets come first
	}
	need := uint(0)
	for i := uint32(0); i < 1<<over; {
		_, n, ok := x.run(i)
		if !ok || n == 1 {
			return false
		}
		need = max(need, over-uint(bits.TrailingZeros32(n)))
		i += n
	}
	m.width, m.do, m.gain = need, x.narrow, 0
	return need < over
}

// narrow replaces the last directory on the path by one that resolves fewer bits.
func (x *Index) narrow() error {
	c, m := &x.cur, &x.merge
	old := c.path[c.n-1].page
	page, b, err := x.fresh(TypeDirectory)
	if err != nil {
		return err
	}
	from := x.bytes(old)
	step := 1 << (uint(from[offWidth]) - m.width)
	b[offLevel], b[offWidth] = from[offLevel], byte(m.width)
	for i := range 1 << m.width {
		binary.LittleEndian.PutUint16(b[offTags+2*i:], childTag(from, i*step))
		binary.LittleEndian.PutUint32(b[offChildren+4*i:], uint32(childPage(from, i*step)))
	}
	x.publish(page)
	if c.n == 1 {
		x.Root = pager.Ref{Page: page, Epoch: x.Epoch}
	} else {
		x.point(c.path[c.n-2].page, c.path[c.n-2].entry, 1, page, x.Epoch)
	}
	x.retire(old)
	return nil
}

// findLift looks for a directory that has come down to one bucket, not the root.
func (x *Index) findLift() bool {
	c, m := &x.cur, &x.merge
	if c.n == 1 || x.widthOf(c.n-1) > 0 || liveSlots(x.bytes(c.bucket)) > x.mergeFill() {
		return false
	}
	m.do, m.gain = x.lift, 1
	return c.n-1 != x.levels || x.firstHashes()
}

// firstHashes finds the first hashes of the keys in the cursor's bucket, whose slots have bits of the second. What cannot be read
// stays where it is.
func (x *Index) firstHashes() bool {
	b := x.bytes(x.cur.bucket)
	x.merge.slots = x.merge.slots[:0]
	for i := range x.slots {
		w := slotWord(b, i)
		if w == wordEmpty || w == wordDead {
			continue
		}
		key, err := x.KeyAt(w & positionMask << 3)
		if err != nil {
			return false
		}
		if second := x.SecondHash(key); tagOf(second) != w>>positionBits || topOf(second) != slotTop(b, i) {
			return false
		}
		hash := x.FirstHash(key)
		x.merge.slots = append(x.merge.slots, hashedWord{hash, tagOf(hash)<<positionBits | w&positionMask})
	}
	return true
}

// lift puts the cursor's bucket into the place of the directory above it.
func (x *Index) lift() error {
	c := &x.cur
	bucket := c.bucket
	if c.n-1 == x.levels && !sabotage.Is(sabotage.LiftKeepsSecondHash) {
		to, b, err := x.fresh(TypeBucket)
		if err != nil {
			return err
		}
		for _, s := range x.merge.slots {
			x.place(b, s.hash, s.word)
		}
		setPageCount(b, len(x.merge.slots))
		b[offDepth] = x.bytes(bucket)[offDepth]
		x.publish(to)
		bucket = to
	}
	x.point(c.path[c.n-2].page, c.path[c.n-2].entry, 1, bucket, pageEpoch(x.bytes(bucket)))
	x.Directories--
	x.retire(c.path[c.n-1].page)
	if bucket != c.bucket {
		x.retire(c.bucket)
	}
	return nil
}

// Sparsely reports whether an index of so many slots in use, dead ones not counted, has buckets that fit into one another, if hashes are
// spread evenly.
func (x *Index) Sparsely(slots uint64) bool {
	return x.Buckets > 1 && 2*slots < uint64(x.Buckets)*uint64(x.mergeFill())
}
