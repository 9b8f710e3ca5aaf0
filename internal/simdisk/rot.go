package simdisk

import (
	"bytes"
	"fmt"

	"github.com/mapfile-db/mapfile/pager"
)

// What follows changes a file at rest, in cache and disk at once: it is meant for
// the image that a crash left or Load made, before it is opened. A name that names
// nothing, and an offset behind the end, is the caller's mistake and panics.

// Load makes name a durable file with these bytes, a new one or the one it names.
// A file with unsynced stores loses them.
func (d *Disk) Load(name string, content []byte) {
	name = clean(name)
	if int64(len(content)) > d.Capacity() {
		panic(fmt.Sprintf("simdisk: %d bytes for %s are more than a file can have", len(content), name))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.lookup(name)
	if n == nil {
		n = d.newInode()
		e := d.setName(name, n)
		e.durable = n
	}
	n.resize(int64(len(content)))
	n.takeBlocks(0, n.length)
	n.put(content, 0)
	d.hashed = false
}

// Bytes returns a copy of what a reader of the file finds now.
func (d *Disk) Bytes(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.must(name)
	return bytes.Clone(n.cache().mem[:n.length])
}

// Holds reports whether a reader of the file finds these bytes now, no more and no less.
func (d *Disk) Holds(name string, content []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.must(name)
	return bytes.Equal(n.cache().mem[:n.length], content)
}

// DurableBytes returns a copy of what the disk holds of the file that name names now:
// what a power cut leaves that takes back all that it can.
func (d *Disk) DurableBytes(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.must(name)
	return bytes.Clone(n.disk.mem[:n.durable])
}

// FlipBit flips one bit; bit 0 is the lowest of the first byte.
func (d *Disk) FlipBit(name string, bit int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.must(name)
	n.bounds(bit/8, 1)
	was := n.disk.mem[bit/8]
	n.put([]byte{was ^ 1<<(bit%8)}, bit/8)
	d.hashed = false
}

// SetSector replaces sector i, counted in sectors of 512 bytes, by these bytes: at
// most 512, cut at the file's end.
func (d *Disk) SetSector(name string, i int64, content []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.must(name)
	n.bounds(i*sectorSize, 1)
	n.put(cutSector(i, content[:min(len(content), sectorSize)], n.length), i*sectorSize)
	d.hashed = false
}

// Truncate cuts the file to size bytes, or adds zeros.
func (d *Disk) Truncate(name string, size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.must(name).resize(size)
	d.hashed = false
}

func (d *Disk) must(name string) *inode {
	n := d.lookup(clean(name))
	if n == nil {
		panic("simdisk: no file " + name)
	}
	return n
}

func (n *inode) bounds(off, count int64) {
	if off < 0 || off+count > n.length {
		panic(fmt.Sprintf("simdisk: [%d, %d) is not in a file of %d bytes", off, off+count, n.length))
	}
}

// put sets bytes of cache and disk and forgets what was unsynced in their sectors.
func (n *inode) put(content []byte, off int64) {
	end := off + int64(len(content))
	n.disk.grow(end)
	copy(n.disk.mem[off:], content)
	for i := off / sectorSize; i*sectorSize < end; i++ {
		if n.at(i) != nil {
			n.sectors[i] = nil
		}
		if n.mem != nil {
			copy(n.mem.mem[i*sectorSize:n.length], n.disk.sector(i))
		}
	}
}

// resize sets both lengths and forgets all that was unsynced.
func (n *inode) resize(size int64) {
	n.sectors = nil
	n.disk.cut(size)
	if n.mem != nil {
		n.mem.cut(size)
		n.mem.grow(size)
		copy(n.mem.mem[:size], n.disk.mem)
	}
	n.length, n.durable = size, size
	n.dropBlocks(size, int64(len(n.blocks))*pager.PageSize)
}
