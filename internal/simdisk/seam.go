package simdisk

import (
	"io/fs"
	"path"
	"syscall"

	"github.com/mapfile-db/mapfile/pager"
)

// fakeDev is the device number of every simulated disk.
const fakeDev = 0x51

// Open opens an existing file. There are no directories and no permissions.
func (d *Disk) Open(name string, readOnly bool) (pager.File, error) {
	name = clean(name)
	if err := d.ask("Open", name, 0, 0); err != nil {
		return nil, pathError("open", name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.lookup(name)
	if n == nil {
		return nil, pathError("open", name, syscall.ENOENT)
	}
	return d.describe(n, name, readOnly), nil
}

// CreateTemp makes a file without a name, which a crash takes away unless Link
// gave it one.
func (d *Disk) CreateTemp(name string, mode fs.FileMode) (pager.File, error) {
	name = clean(name)
	if err := d.ask("CreateTemp", name, 0, 0); err != nil {
		return nil, pathError("create", name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.newInode()
	n.mode = mode
	return d.describe(n, "", false), nil
}

// Link gives the file of f a name, in the cache: SyncDir makes it durable.
func (d *Disk) Link(f pager.File, name string, replace bool) error {
	name = clean(name)
	if err := d.ask("Link", name, 0, 0); err != nil {
		return pathError("link", name, err)
	}
	own, ok := f.(*file)
	if !ok || own.d != d {
		return pathError("link", name, syscall.EXDEV)
	}
	if !replace && d.exists(name) {
		return pathError("link", name, syscall.EEXIST)
	}
	d.announce(EventName, name, 0, 0)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.setName(name, own.n)
	own.path = name
	d.collect()
	return nil
}

// SyncDir makes the entries of the directory of name durable. A failure leaves
// them as they were.
func (d *Disk) SyncDir(name string) error {
	name = clean(name)
	err := d.ask("SyncDir", name, 0, 0)
	d.announce(EventSync, path.Dir(name), 0, 0)
	if err != nil {
		return pathError("sync", path.Dir(name), err)
	}
	if d.lies() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hashed = false
	for i := range d.names {
		if e := &d.names[i]; path.Dir(e.name) == path.Dir(name) {
			e.durable = e.now
		}
	}
	d.collect()
	return nil
}

// Stat tells what name names now.
func (d *Disk) Stat(name string) (pager.Info, error) {
	name = clean(name)
	if err := d.ask("Stat", name, 0, 0); err != nil {
		return pager.Info{}, pathError("stat", name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.lookup(name)
	if n == nil {
		return pager.Info{}, pathError("stat", name, syscall.ENOENT)
	}
	return d.info(n), nil
}

// Network answers that the disk is a local one.
func (d *Disk) Network(name string) (string, error) {
	name = clean(name)
	return "", pathError("statfs", name, d.ask("Network", name, 0, 0))
}

// Resolve makes the path absolute. There are no symbolic links.
func (d *Disk) Resolve(name string) (string, error) {
	name = clean(name)
	if err := d.ask("Resolve", name, 0, 0); err != nil {
		return "", pathError("resolve", name, err)
	}
	return name, nil
}

func (d *Disk) exists(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lookup(name) != nil
}

// describe makes an open file description.
func (d *Disk) describe(n *inode, name string, readOnly bool) *file {
	f := &file{d: d, n: n, path: name, readOnly: readOnly, lock: unlocked}
	n.open = append(n.open, f)
	return f
}

// info describes a file.
func (d *Disk) info(n *inode) pager.Info {
	i := pager.Info{Dev: fakeDev, Ino: n.ino, Size: n.length, Blocks: n.used(), Mode: n.mode}
	for _, e := range d.names {
		if e.now == n {
			i.Links++
		}
	}
	return i
}
