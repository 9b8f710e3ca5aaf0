package index

import (
	"encoding/binary"
	"errors"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
)

// step is a directory page on the way to a bucket and the entry taken there.
type step struct {
	page  pager.PageNo
	entry uint32
}

// cursor is where the last Lookup ended. There is one, the writer's.
type cursor struct {
	path   [2 * hashBits]step
	n      int // directory pages on the path
	bucket pager.PageNo
	hash   uint64 // in use in the bucket
	first  uint64
	key    []byte
	slot   int  // the slot found, or the empty one where the chain ends
	found  bool // slot holds the key
	count  int  // slots in use in the bucket, loaded early: its line is missed together with the first slots'
}

func (x *Index) view() *pager.View { return x.p.View() }

// bytes is a page in the writable view: the writer reads where it will store, so that one view's
// address translations serve both.
func (x *Index) bytes(page pager.PageNo) []byte { return x.p.View().WritablePage(page) }

// descend moves the cursor to the bucket of a key.
func (x *Index) descend(hash uint64, key []byte) error {
	c := &x.cur
	c.first, c.key, c.hash = hash, key, hash
	return x.down(hash, func() uint64 {
		c.hash = x.SecondHash(key)
		return c.hash
	})
}

// down moves the cursor along the bits of a first hash and, where they are used up, of a second.
func (x *Index) down(rest uint64, second func() uint64) error {
	c := &x.cur
	c.n = 0
	how, err := x.VerifyRoot(x.Root, true)
	if err != nil {
		return err
	}
	page := x.Root.Page
	for c.n < 2*x.levels {
		if c.n == x.levels {
			rest = second()
		}
		entry := rest >> (64 - width(how))
		c.path[c.n] = step{page, uint32(entry)}
		c.n++
		over := width(how)
		if page, how, err = x.child(page, c.n-1, over, entry, true); err != nil {
			return err
		}
		if how&isDirectory == 0 {
			c.bucket = page
			return x.fits(page, x.bytes(page), c.n, over, 0)
		}
		rest <<= x.fan
	}
	return x.corrupt(page, "the directory is deeper than it can be")
}

// Lookup finds the slot of a key, with the hash of which it must be called, and
// leaves the cursor there for Set. It belongs to the holder of the turn.
func (x *Index) Lookup(hash uint64, key []byte) (position uint64, found bool, err error) {
	if err := x.descend(hash, key); err != nil {
		return 0, false, err
	}
	return x.search(func(position uint64, _ int) (bool, error) { return x.Matches(position, key) })
}

// LookupPosition finds the slot that has a key's hash bits and leads to a position; 0
// finds the empty slot for a new one. Replay uses it: no old record is read.
func (x *Index) LookupPosition(hash uint64, key []byte, previous uint64) (found bool, err error) {
	if err := x.descend(hash, key); err != nil {
		return false, err
	}
	_, found, err = x.search(func(position uint64, slot int) (bool, error) {
		return previous != 0 && position == previous && slotTop(x.bytes(x.cur.bucket), slot) == topOf(x.cur.hash), nil
	})
	return found, err
}

// search probes the cursor's bucket. What is cannot tell of a slot matters only if no other one is it.
func (x *Index) search(is func(position uint64, slot int) (bool, error)) (uint64, bool, error) {
	c := &x.cur
	b := x.bytes(c.bucket)
	c.count = pageCount(b)
	tag, slot := tagOf(c.hash), int(home(c.hash, x.lines))*lineSlots
	var unknown error
	for range x.slots {
		w := slotWord(b, slot)
		if w == wordEmpty {
			break
		}
		if w>>positionBits == tag && w != wordDead {
			position := w & positionMask << 3
			ok, err := is(position, slot)
			if err != nil {
				unknown = err
			} else if ok {
				c.slot, c.found = slot, true
				return position, true, nil
			}
		}
		if slot++; slot == x.slots {
			slot = 0
		}
	}
	c.slot, c.found = slot, false
	return 0, false, unknown
}

// Set makes the slot at the cursor lead to position. It belongs to the same turn as
// the Lookup before it. An error in the middle leaves an index that must not be used.
func (x *Index) Set(position uint64) error { return x.set(position >> 3) }

// Drop makes the slot at the cursor, which was found, dead.
func (x *Index) Drop() error {
	debug.Assert(x.cur.found, "drop of a slot that was not found")
	return x.set(wordDead)
}

// set stores a word in the cursor's slot: dead, or a position, which gets its tag here.
func (x *Index) set(word uint64) error {
	c := &x.cur
	for !c.found && c.count >= x.maxFill {
		if err := x.makeRoom(); err != nil {
			return err
		}
		if err := x.descend(c.first, c.key); err != nil {
			return err
		}
		if _, _, err := x.search(func(uint64, int) (bool, error) { return false, nil }); err != nil {
			return err
		}
	}
	if word != wordDead { // making room may have led on to the second hash
		word = tagOf(c.hash)<<positionBits | word&positionMask
	}
	if err := x.ownBucket(); err != nil {
		return err
	}
	v := x.view()
	base := uint64(c.bucket) * pager.PageSize
	b := v.WritablePage(c.bucket)
	switch {
	case word == wordDead:
		setPageDead(b, pageDead(b)+1)
		x.p.Stored(base+offDead, 2)
	case !c.found:
		binary.LittleEndian.PutUint16(b[offTops+2*c.slot:], uint16(topOf(c.hash)))
		setPageCount(b, pageCount(b)+1)
		x.p.Stored(base+offTops+2*uint64(c.slot), 2)
		x.p.Stored(base+offCount, 2)
	}
	x.p.Store64(v, base+offWords+8*uint64(c.slot), word)
	c.found = word != wordDead
	return nil
}

// fresh takes a page for a new index page and gives its writable bytes, zeroed, with the header filled in.
func (x *Index) fresh(kind byte) (pager.PageNo, []byte, error) {
	page, b, err := x.take(kind)
	if err == nil {
		clear(b[HeaderBytes:])
	}
	return page, b, err
}

// take is fresh without zeros: behind the header is what was there.
func (x *Index) take(kind byte) (pager.PageNo, []byte, error) {
	page, err := x.Alloc()
	if err != nil {
		return 0, nil, err
	}
	b := x.view().WritablePage(page)
	SetHeader(b, kind, page, x.Epoch)
	return page, b, nil
}

// publish says that the page is built: it is announced and trusted, and will be sealed with this epoch.
func (x *Index) publish(page pager.PageNo) {
	x.p.Stored(uint64(page)*pager.PageSize, pager.PageSize)
	x.p.SetVerified(page, trust(x.bytes(page)))
	x.built = append(x.built, page)
}

// retire gives up a page that no path leads to any more.
func (x *Index) retire(page pager.PageNo) {
	built := pageEpoch(x.bytes(page))
	x.retired++
	if built == x.Epoch {
		x.p.SetVerified(page, x.p.Verified(page)|isRetired)
	}
	x.Retire(page, built)
}

// point makes entries [from, from+n) of a directory of this epoch lead to a page. The tag
// goes first: who sees the new page number already trusts the page and needs no tag.
func (x *Index) point(dir pager.PageNo, from, n uint32, page pager.PageNo, epoch uint32) {
	v := x.view()
	base := uint64(dir) * pager.PageSize
	b := v.WritablePage(dir)
	for i := from; i < from+n; i++ {
		binary.LittleEndian.PutUint16(b[offTags+2*i:], uint16(epoch))
	}
	x.p.Stored(base+offTags+2*uint64(from), 2*uint64(n))
	for i := from; i < from+n; i++ {
		x.p.Store32(v, base+offChildren+4*uint64(i), uint32(page))
	}
}

// own copies a page into this epoch if it is of an earlier one, or if force is set,
// and retires the old one. The caller repoints the parent.
func (x *Index) own(page pager.PageNo, kind byte, force bool) (pager.PageNo, bool, error) {
	if pageEpoch(x.bytes(page)) == x.Epoch && !force {
		return page, false, nil
	}
	to, b, err := x.take(kind)
	if err != nil {
		return 0, false, err
	}
	old := x.bytes(page)
	if kind == TypeBucket && pageDead(old) > 0 {
		clear(b[HeaderBytes:])
		x.rebuild(b, old)
	} else {
		copy(b[HeaderBytes:], old[HeaderBytes:])
		copy(b[offCount:offCount+4], old[offCount:])
	}
	copy(b[offLevel:offPage], old[offLevel:]) // level, depth, width
	x.publish(to)
	return to, true, nil
}

// rebuild brings the slots of another bucket into one, leaving dead slots out.
func (x *Index) rebuild(b, old []byte) {
	n := pageCount(b)
	for i := range x.slots {
		if w := slotWord(old, i); w != wordEmpty && w != wordDead {
			x.place(b, storedBits(slotTop(old, i), w), w)
			n++
		}
	}
	setPageCount(b, n)
}

// place puts a word into the first empty slot of its chain, in a page that nobody reads yet.
func (x *Index) place(b []byte, hash, word uint64) {
	slot := int(home(hash, x.lines)) * lineSlots
	for slotWord(b, slot) != wordEmpty {
		if slot++; slot == x.slots {
			slot = 0
		}
	}
	setSlot(b, slot, word, topOf(hash))
}

// ownPath copies the directories on the cursor's path into this epoch, from the root down.
func (x *Index) ownPath(force func(pager.PageNo) bool) error {
	c := &x.cur
	for i := range c.n {
		s := &c.path[i]
		old := s.page
		page, copied, err := x.own(old, TypeDirectory, force != nil && force(old))
		if err != nil {
			return err
		}
		if !copied {
			continue
		}
		if i == 0 {
			x.Root = pager.Ref{Page: page, Epoch: x.Epoch}
		} else {
			x.point(c.path[i-1].page, c.path[i-1].entry, 1, page, x.Epoch)
		}
		s.page = page
		x.retire(old)
	}
	return nil
}

// span is the range of its parent's entries that lead to the cursor's bucket.
func (x *Index) span() (from, n uint32) {
	c := &x.cur
	last := c.path[c.n-1]
	depth := uint(x.bytes(c.bucket)[offDepth])
	n = 1 << (uint(c.n-1)*x.fan + uint(x.bytes(last.page)[offWidth]) - depth)
	return last.entry &^ (n - 1), n
}

// ownBucket copies the cursor's bucket, and the directories above it, into this epoch.
func (x *Index) ownBucket() error {
	c := &x.cur
	if pageEpoch(x.bytes(c.bucket)) == x.Epoch {
		return nil
	}
	return x.moveBucket(nil)
}

func (x *Index) moveBucket(force func(pager.PageNo) bool) error {
	c := &x.cur
	if err := x.ownPath(force); err != nil {
		return err
	}
	old := c.bucket
	from, n := x.span()
	word := slotWord(x.bytes(old), c.slot)
	page, copied, err := x.own(old, TypeBucket, force != nil && force(old))
	if err != nil || !copied {
		return err
	}
	if pageDead(x.bytes(old)) > 0 {
		x.relocate(x.bytes(page), word)
	}
	x.point(c.path[c.n-1].page, from, n, page, x.Epoch)
	c.bucket = page
	x.retire(old)
	return nil
}

// relocate finds the cursor's slot again in a bucket that was rebuilt.
func (x *Index) relocate(b []byte, word uint64) {
	c := &x.cur
	slot := int(home(c.hash, x.lines)) * lineSlots
	for w := slotWord(b, slot); w != wordEmpty && !(c.found && w == word); w = slotWord(b, slot) {
		if slot++; slot == x.slots {
			slot = 0
		}
	}
	c.slot = slot
}

// makeRoom splits the cursor's full bucket, or first makes the directory above it wider, or puts
// one more between them. The cursor is stale afterwards.
func (x *Index) makeRoom() error {
	c := &x.cur
	if b := x.bytes(c.bucket); pageDead(b) > 0 && pageEpoch(b) != x.Epoch || pageDead(b) > x.maxFill/2 {
		return x.moveBucket(func(page pager.PageNo) bool { return page == c.bucket }) // the copy leaves dead slots out
	}
	if err := x.ownPath(nil); err != nil {
		return err
	}
	if _, n := x.span(); n > 1 {
		return x.split()
	}
	if uint(x.bytes(c.path[c.n-1].page)[offWidth]) < x.fan {
		return x.widen()
	}
	if c.n == 2*x.levels {
		return errs.Join(errs.ErrHashExhausted, errors.New("a bucket cannot be split any more"))
	}
	return x.pushDown()
}

// split replaces the cursor's bucket by two that each have one more bit of depth.
func (x *Index) split() error {
	c := &x.cur
	lo, lob, err := x.fresh(TypeBucket)
	if err != nil {
		return err
	}
	hi, hib, err := x.fresh(TypeBucket)
	if err != nil {
		return err
	}
	old := x.bytes(c.bucket)
	depth := uint(old[offDepth])
	bit := uint64(1) << (63 - depth%uint(x.levels*int(x.fan)))
	half, count := [2][]byte{lob, hib}, [2]int{}
	for i := range x.slots {
		w := slotWord(old, i)
		if w == wordEmpty || w == wordDead {
			continue
		}
		hash, to := storedBits(slotTop(old, i), w), 0
		if hash&bit != 0 {
			to = 1
		}
		x.place(half[to], hash, w)
		count[to]++
	}
	for i, b := range half {
		setPageCount(b, count[i])
		b[offDepth] = byte(depth + 1)
	}
	from, n := x.span()
	dir := c.path[c.n-1].page
	if sabotage.Is(sabotage.PointBeforePublish) {
		x.point(dir, from, n/2, lo, x.Epoch)
	}
	x.publish(lo)
	x.publish(hi)
	x.point(dir, from, n/2, lo, x.Epoch)
	x.point(dir, from+n/2, n/2, hi, x.Epoch)
	x.Buckets++
	x.retire(c.bucket)
	return nil
}

// widen replaces the last directory on the cursor's path by one that resolves a bit more. It is a fresh page: readers
// may be in the old one.
func (x *Index) widen() error {
	c := &x.cur
	old := c.path[c.n-1].page
	page, b, err := x.fresh(TypeDirectory)
	if err != nil {
		return err
	}
	from := x.bytes(old)
	b[offLevel], b[offWidth] = from[offLevel], from[offWidth]+1
	for i := range 1 << b[offWidth] {
		binary.LittleEndian.PutUint16(b[offTags+2*i:], childTag(from, i/2))
		binary.LittleEndian.PutUint32(b[offChildren+4*i:], uint32(childPage(from, i/2)))
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

// pushDown puts a new directory page between the cursor's bucket and its parent. Where
// the first hash ends, the bucket is built anew with the bits of the second.
func (x *Index) pushDown() error {
	c := &x.cur
	old, bucket := c.bucket, c.bucket
	if c.n == x.levels {
		var err error
		if bucket, err = x.secondHashBucket(old); err != nil {
			return err
		}
	}
	epoch := pageEpoch(x.bytes(bucket))
	dir, b, err := x.fresh(TypeDirectory)
	if err != nil {
		return err
	}
	b[offLevel] = byte(c.n)
	binary.LittleEndian.PutUint16(b[offTags:], uint16(epoch))
	binary.LittleEndian.PutUint32(b[offChildren:], uint32(bucket))
	x.publish(dir)
	x.point(c.path[c.n-1].page, c.path[c.n-1].entry, 1, dir, x.Epoch)
	x.Directories++
	if bucket != old {
		x.retire(old)
	}
	return nil
}

// secondHashBucket copies a bucket with every slot's bits taken from the second hash.
func (x *Index) secondHashBucket(page pager.PageNo) (pager.PageNo, error) {
	to, b, err := x.fresh(TypeBucket)
	if err != nil {
		return 0, err
	}
	old := x.bytes(page)
	n := 0
	for i := range x.slots {
		w := slotWord(old, i)
		if w == wordEmpty || w == wordDead || n == 5 && sabotage.Is(sabotage.SecondHashLosesKey) {
			continue
		}
		key, err := x.KeyAt(w & positionMask << 3)
		if err != nil {
			return 0, err
		}
		hash := x.SecondHash(key)
		x.place(b, hash, tagOf(hash)<<positionBits|w&positionMask)
		n++
	}
	setPageCount(b, n)
	b[offDepth] = old[offDepth]
	x.publish(to)
	return to, nil
}
