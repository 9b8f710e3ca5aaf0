// Package simdisk is the second medium behind the storage seam: a page cache and
// the disk behind it, both in memory. It knows, for every sector, the durable
// bytes and each value that the sector had since, so that it can play a power cut
// with any outcome that assumptions A1 to A5 allow, a killed process, failing
// calls, a failed sync that the cache survives, a sync that lies, and rot.
//
// It tracks dirt by sectors, where a kernel does by pages: a sector that a failed
// sync lost stays lost until it is stored again itself.
//
// The seam's methods are safe for concurrent use. Hooks run in the goroutine of
// the call, with no lock held, so that they may make crash images or panic. What
// makes or inspects images needs a disk that nobody else changes meanwhile.
//
// Part of mapfile's implementation, no stable API.
package simdisk

import (
	"path"
	"slices"
	"sync"

	"github.com/mapfile-db/mapfile/pager"
)

var _ pager.Disk = (*Disk)(nil)

// minCapacity makes the runtime align buffers to pages.
const minCapacity = 64 << 10

// Disk is one simulated disk with its page cache. Set the hooks before use.
type Disk struct {
	// OnEvent, unless nil, is called before every store is recorded and before
	// every sync, change of length and change of a name.
	OnEvent func(Event)
	// Fail, unless nil, is asked at each call of the seam; an error makes that call
	// fail. A Short lets part of it happen first. A failed sync is final for what
	// it should have written: see Disk.Evict.
	Fail func(Call) error
	// Lie, unless nil, is asked at each sync that does not fail; true: it answers
	// success and makes nothing durable.
	Lie func() bool
	// Limit is how many bytes of blocks the disk has, 0: as many as files can hold.
	// Behind it a call is ENOSPC.
	Limit int64

	pool *pool

	mu     sync.Mutex // protects what follows and the inodes; before pool.mu
	names  []entry    // sorted by name
	inodes []*inode   // by number
	last   uint64     // the last inode number given
	mapped int        // mappings not yet unmapped
	order  uint64     // stores so far
	calls  int
	events int
	hash   uint64 // of the durable image, if hashed
	hashed bool
	plan   *Plan // how a crash made this disk
	plain  bool  // Untrack
}

// entry is one name of the directory: what it names now, and what it names on the
// disk. nil: nothing.
type entry struct {
	name         string
	now, durable *inode
}

// after returns what the name names after a crash.
func (e *entry) after(isNew bool) *inode {
	if isNew {
		return e.now
	}
	return e.durable
}

// New makes an empty disk on which a file can have capacity bytes, rounded up to
// pages and at least 64 KiB.
func New(capacity int64) *Disk {
	return &Disk{pool: &pool{capacity: pageUp(max(capacity, minCapacity))}}
}

// Capacity returns the number of bytes that one file can have.
func (d *Disk) Capacity() int64 { return d.pool.capacity }

// Calls returns how many calls of the seam there were.
func (d *Disk) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Events returns how many events there were.
func (d *Disk) Events() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.events
}

// Held returns how many descriptions are open and how many mappings are mapped: none of
// either when all that was opened is closed. An Unmap that was made to fail leaves its mapping.
func (d *Disk) Held() (descriptions, mappings int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.inodes {
		descriptions += len(n.open)
	}
	return descriptions, d.mapped
}

// Clone copies the disk with its cache, unsynced values and Limit. The copy has no
// open files, locks, pending errors or hooks; a file without a name is not in it,
// nor is a store that was not announced. Release gives the copy's memory back.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.child()
	for i := range d.names {
		e := &d.names[i]
		c.names = append(c.names, entry{e.name, c.copyOnce(e.now), c.copyOnce(e.durable)})
	}
	c.sortInodes()
	c.order = d.order
	return c
}

// Kill returns the disk as the death of the process leaves it: the cache lives on,
// descriptions with their locks and pending errors are gone, and nothing became durable.
func (d *Disk) Kill() *Disk { return d.Clone() }

// Release gives the memory of a disk back, for the next image. Nothing of the disk may
// be used afterwards, its mappings neither.
func (d *Disk) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.inodes {
		n.release()
	}
	d.inodes, d.names = nil, nil
}

// Evict drops clean pages from the cache, as a kernel may at any moment: sectors that
// a failed sync lost read as the disk has them. Not while the file is being stored to.
func (d *Disk) Evict() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.inodes {
		n.evict()
	}
}

// Untrack makes what the cache holds durable, names too, and from here on each change at once:
// for an image that is to be opened and looked at, and not to be cut again. It costs
// half the memory and less time: stores through a mapping are no events either. Before any
// description is open.
func (d *Disk) Untrack() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hashed, d.plain = false, true
	for i := range d.names {
		d.names[i].durable = d.names[i].now
	}
	d.collect()
	for _, n := range d.inodes {
		n.untrack()
	}
}

// FailWriteback is a writing back by the kernel itself that fails: whatever is unsynced is lost to the disk and stays
// in the cache, as clean; each open description reports the error at its next sync. It answers whether anything was lost.
func (d *Disk) FailWriteback(err error) (lost bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.inodes {
		dirty := false
		n.eachDirty(0, d.pool.capacity, func(int64, *sector) { dirty = true })
		if !dirty {
			continue
		}
		lost = true
		n.lose(0, d.pool.capacity)
		for _, f := range n.open {
			f.pending = err
		}
	}
	return lost
}

// Notice records, as one store, what was stored through mappings without File.Stored,
// and returns how many sectors that were. In a build that announces its stores
// it is 0 between two of them; elsewhere a harness calls it from OnEvent.
func (d *Disk) Notice() (sectors int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.order++
	for _, n := range d.inodes {
		sectors += n.notice(d.order)
	}
	return sectors
}

// child makes an empty disk of the same size.
func (d *Disk) child() *Disk {
	return &Disk{pool: d.pool, Limit: d.Limit, last: d.last}
}

// copyOnce puts a copy of n on the disk if it is not there yet. nil gives nil.
func (d *Disk) copyOnce(n *inode) *inode {
	if n == nil {
		return nil
	}
	if c := d.byNumber(n.ino); c != nil {
		return c
	}
	c := n.clone()
	d.inodes = append(d.inodes, c)
	return c
}

// byNumber finds an inode, nil if there is none.
func (d *Disk) byNumber(ino uint64) *inode {
	for _, n := range d.inodes {
		if n.ino == ino {
			return n
		}
	}
	return nil
}

func (d *Disk) sortInodes() {
	slices.SortFunc(d.inodes, func(a, b *inode) int { return int(int64(a.ino) - int64(b.ino)) })
}

// entry returns the entry of name, nil if it never had one.
func (d *Disk) entry(name string) *entry {
	i, ok := d.search(name)
	if !ok {
		return nil
	}
	return &d.names[i]
}

// lookup returns what name names now, nil if nothing.
func (d *Disk) lookup(name string) *inode {
	if e := d.entry(name); e != nil {
		return e.now
	}
	return nil
}

// setName makes name name n now.
func (d *Disk) setName(name string, n *inode) *entry {
	i, ok := d.search(name)
	if !ok {
		d.names = slices.Insert(d.names, i, entry{name: name})
	}
	d.names[i].now = n
	return &d.names[i]
}

func (d *Disk) search(name string) (int, bool) {
	return slices.BinarySearchFunc(d.names, name, func(e entry, name string) int {
		switch {
		case e.name < name:
			return -1
		case e.name > name:
			return 1
		}
		return 0
	})
}

// newInode makes an empty file without a name.
func (d *Disk) newInode() *inode {
	d.last++
	n := &inode{ino: d.last, mode: 0o600, pool: d.pool, disk: d.pool.get(0)}
	d.inodes = append(d.inodes, n)
	return n
}

// collect drops the files that have neither a name nor a description.
func (d *Disk) collect() {
	d.inodes = slices.DeleteFunc(d.inodes, func(n *inode) bool {
		return len(n.open) == 0 && !slices.ContainsFunc(d.names, func(e entry) bool {
			return e.now == n || e.durable == n
		})
	})
}

// room tells whether n may take blocks for [off, off+count).
func (d *Disk) room(n *inode, off, count int64) bool {
	if off+count > d.pool.capacity {
		return false
	}
	if d.Limit == 0 {
		return true
	}
	used := n.missing(off, count)
	for _, each := range d.inodes {
		used += each.used()
	}
	return used <= d.Limit
}

// nextOrder numbers a store.
func (d *Disk) nextOrder() uint64 {
	d.order++
	return d.order
}

// clean makes the path a key of the name table.
func clean(name string) string { return path.Clean("/" + name) }
