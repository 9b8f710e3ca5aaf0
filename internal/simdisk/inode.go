package simdisk

import (
	"bytes"
	"io/fs"
	"slices"

	"github.com/mapfile-db/mapfile/pager"
)

// inode is one file: what the disk holds, what the page cache holds, and how they
// differ. Invariant: a sector that has no entry in sectors is the same in both,
// but for stores through a mapping that were not announced yet.
type inode struct {
	ino  uint64
	mode fs.FileMode
	pool *pool

	disk    *buffer // the durable bytes
	durable int64   // the durable length
	mem     *buffer // the page cache, as mappings show it; nil until somebody looks
	length  int64   // the current length
	sectors []*sector
	blocks  []bool // by page of the file: has a block on the disk
	open    []*file
	plain   bool // Disk.Untrack: mem is disk, and nothing is ever unsynced
}

// sector is one whose cached and durable values may differ. It has versions, or
// lost, or neither for a moment.
type sector struct {
	versions []version // since it was last durable, in program order, each unlike the one before
	lost     []byte    // what a failed sync left in the cache alone, clean: no later sync writes it
}

// version is a value that a sector had. The bytes never change.
type version struct {
	data  []byte
	order uint64 // the number of the store that made it
}

// cache returns the page cache, read in from the disk when it is first needed.
func (n *inode) cache() *buffer {
	if n.mem != nil {
		return n.mem
	}
	if n.plain {
		n.mem = n.disk
		return n.mem
	}
	n.mem = n.pool.get(n.length)
	copy(n.mem.mem[:n.length], n.disk.mem)
	for i := range n.sectors {
		if from := int64(i) * sectorSize; from < n.length && n.sectors[i] != nil {
			copy(n.mem.mem[from:n.length], n.cached(int64(i)))
		}
	}
	return n.mem
}

// at returns the state of sector i, nil for a clean one.
func (n *inode) at(i int64) *sector {
	if i >= int64(len(n.sectors)) {
		return nil
	}
	return n.sectors[i]
}

// newest returns the value that the next sync would write, or else the disk's.
func (n *inode) newest(i int64) []byte {
	if s := n.at(i); s != nil && len(s.versions) > 0 {
		return s.versions[len(s.versions)-1].data
	}
	return n.disk.sector(i)
}

// cached returns what the page cache holds as far as it was announced.
func (n *inode) cached(i int64) []byte {
	if s := n.at(i); s != nil && s.lost != nil {
		return s.lost
	}
	return n.newest(i)
}

// touch records that bytes [off, off+count) of the cache may have changed.
func (n *inode) touch(off, count int64, order uint64) {
	if n.plain {
		return
	}
	for i := off / sectorSize; i*sectorSize < min(off+count, n.length); i++ {
		n.record(i, order)
	}
}

// record gives sector i a version if its value is not the newest one already. A
// lost sector that is stored again, even with its own bytes, is dirty again.
func (n *inode) record(i int64, order uint64) {
	now := n.cache().sector(i)
	same := bytes.Equal(now, n.newest(i))
	s := n.at(i)
	if s == nil && same {
		return
	}
	if s == nil {
		s = n.enter(i)
	}
	s.lost = nil
	if !same {
		s.versions = append(s.versions, version{bytes.Clone(now), order})
	}
	n.settle(i)
}

// enter makes the entry of a sector.
func (n *inode) enter(i int64) *sector {
	if more := i + 1 - int64(len(n.sectors)); more > 0 {
		n.sectors = append(n.sectors, make([]*sector, more)...)
	}
	n.sectors[i] = &sector{}
	return n.sectors[i]
}

// settle forgets the entry of a sector that is the same in cache and disk.
func (n *inode) settle(i int64) {
	if s := n.sectors[i]; len(s.versions) == 0 && s.lost == nil {
		n.sectors[i] = nil
	}
}

// write puts p into the cache, growing the file.
func (n *inode) write(p []byte, off int64, order uint64) {
	n.extend(off + int64(len(p)))
	copy(n.cache().mem[off:], p)
	n.touch(off, int64(len(p)), order)
}

// zero makes [off, off+count) zeros, as far as the file reaches.
func (n *inode) zero(off, count int64, order uint64) {
	end := min(off+count, n.length)
	if off >= end {
		return
	}
	clear(n.cache().mem[off:end])
	n.touch(off, end-off, order)
}

// extend makes the file at least length bytes long.
func (n *inode) extend(length int64) {
	if length > n.length {
		n.cache().grow(length)
		n.setLength(length)
	}
}

// setLength notes the length, which is durable at once where nothing is tracked.
func (n *inode) setLength(length int64) {
	n.length = length
	if n.plain {
		n.durable = length
	}
}

// truncate sets the length. What is cut off reads as zero when the file grows again.
func (n *inode) truncate(length int64, order uint64) {
	if length >= n.length {
		n.extend(length)
		return
	}
	n.zero(length, n.length-length, order)
	n.mem.cut(length)
	n.setLength(length)
	n.dropBlocks(pageUp(length), int64(len(n.blocks))*pager.PageSize)
}

// sync makes the sectors that [off, off+count) touches durable, and the length:
// a range sync flushes what it takes to read the range back.
func (n *inode) sync(off, count int64) {
	n.syncBytes(off, count)
	n.durable = n.length
	n.disk.cut(n.length)
	first := int((n.length + sectorSize - 1) / sectorSize)
	if first < len(n.sectors) {
		clear(n.sectors[first:])
	}
}

// syncBytes is sync without the length.
func (n *inode) syncBytes(off, count int64) {
	n.eachDirty(off, count, func(i int64, s *sector) {
		n.disk.grow((i + 1) * sectorSize)
		copy(n.disk.sector(i), n.newest(i))
		s.versions = nil
	})
}

// lose is what a failed sync leaves behind: the cache keeps the newest values and
// counts as clean, the disk keeps what it had. The length stays unsynced.
func (n *inode) lose(off, count int64) {
	n.eachDirty(off, count, func(i int64, s *sector) {
		s.lost = n.newest(i)
		s.versions = nil
	})
}

// eachDirty visits the sectors in the range that have versions, ascending.
func (n *inode) eachDirty(off, count int64, visit func(i int64, s *sector)) {
	end := min(off+count, int64(len(n.sectors))*sectorSize)
	for i := off / sectorSize; i*sectorSize < end; i++ {
		if s := n.sectors[i]; s != nil && len(s.versions) > 0 {
			visit(i, s)
			n.settle(i)
		}
	}
}

// evict lets the cache go of what the disk does not have.
func (n *inode) evict() {
	for i, s := range n.sectors {
		if s == nil || s.lost == nil {
			continue
		}
		s.lost = nil
		n.settle(int64(i))
		if n.mem != nil && int64(i)*sectorSize < n.length {
			copy(n.mem.mem[int64(i)*sectorSize:n.length], n.disk.sector(int64(i)))
		}
	}
}

// notice records what was stored through a mapping without an announcement.
func (n *inode) notice(order uint64) (sectors int) {
	if n.mem == nil || n.plain {
		return 0
	}
	for i := int64(0); i*sectorSize < n.length; i++ {
		if !bytes.Equal(n.mem.sector(i), n.cached(i)) {
			n.record(i, order)
			sectors++
		}
	}
	return sectors
}

// clone copies cache and disk, without the descriptions. What was stored through a
// mapping and not announced is not in the copy.
func (n *inode) clone() *inode {
	c := &inode{ino: n.ino, mode: n.mode, pool: n.pool, durable: n.durable, length: n.length}
	c.disk = n.pool.get(n.disk.high)
	copy(c.disk.mem, n.disk.mem[:n.disk.high])
	c.blocks = slices.Clone(n.blocks)
	c.sectors = make([]*sector, len(n.sectors))
	for i, s := range n.sectors {
		if s != nil {
			c.sectors[i] = &sector{slices.Clone(s.versions), s.lost}
		}
	}
	return c
}

// untrack makes what the cache holds durable, and cache and disk one.
func (n *inode) untrack() {
	n.disk.grow(n.length)
	for i, s := range n.sectors {
		if from := int64(i) * sectorSize; s != nil && from < n.length {
			copy(n.disk.mem[from:n.length], n.cached(int64(i)))
		}
	}
	n.disk.cut(n.length)
	n.pool.put(n.mem)
	n.mem, n.sectors, n.durable, n.plain = nil, nil, n.length, true
}

// crashed copies what the disk holds, with one of the two lengths.
func (n *inode) crashed(lengthNew bool) *inode {
	length := n.lengthAfter(lengthNew)
	c := &inode{ino: n.ino, mode: n.mode, pool: n.pool, durable: length, length: length}
	c.disk = n.pool.get(length)
	copy(c.disk.mem[:length], n.disk.mem)
	pages := min(int64(len(n.blocks)), pageUp(length)/pager.PageSize)
	c.blocks = slices.Clone(n.blocks[:pages])
	return c
}

// lengthAfter returns the length that a crash leaves.
func (n *inode) lengthAfter(isNew bool) int64 {
	if isNew {
		return n.length
	}
	return n.durable
}

// release gives the buffers back.
func (n *inode) release() {
	n.pool.put(n.disk)
	if !n.plain {
		n.pool.put(n.mem)
	}
	n.disk, n.mem = nil, nil
}

// missing counts the bytes of blocks that [off, off+count) lacks.
func (n *inode) missing(off, count int64) (bytes int64) {
	for page := off / pager.PageSize; page*pager.PageSize < off+count; page++ {
		if page >= int64(len(n.blocks)) || !n.blocks[page] {
			bytes += pager.PageSize
		}
	}
	return bytes
}

// takeBlocks gives [off, off+count) blocks on the disk.
func (n *inode) takeBlocks(off, count int64) {
	if count <= 0 {
		return
	}
	if more := pageUp(off+count)/pager.PageSize - int64(len(n.blocks)); more > 0 {
		n.blocks = append(n.blocks, make([]bool, more)...)
	}
	for page := off / pager.PageSize; page*pager.PageSize < off+count; page++ {
		n.blocks[page] = true
	}
}

// dropBlocks gives the blocks of the whole pages in [from, to) back.
func (n *inode) dropBlocks(from, to int64) {
	for page := pageUp(from) / pager.PageSize; (page+1)*pager.PageSize <= to; page++ {
		if page < int64(len(n.blocks)) {
			n.blocks[page] = false
		}
	}
}

// used counts the bytes of the blocks that the file has.
func (n *inode) used() (bytes int64) {
	for _, has := range n.blocks {
		if has {
			bytes += pager.PageSize
		}
	}
	return bytes
}

// pageUp rounds up to a page.
func pageUp(bytes int64) int64 {
	return (bytes + pager.PageSize - 1) / pager.PageSize * pager.PageSize
}
