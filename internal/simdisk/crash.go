package simdisk

import (
	"fmt"
	"strings"
)

// SectorState is a sector whose durable bytes are not its newest ones.
type SectorState struct {
	Name   string // of its file, the one that a crash keeps if it has two
	Ino    uint64
	Sector int64 // in sectors of 512 bytes from the start of the file

	Durable  []byte   // what the disk holds; valid until the disk changes
	Versions [][]byte // since then in program order, each unlike the one before; the last is the newest
	Orders   []uint64 // the number of the store that made each version, rising over the whole disk

	// Fresh: there is no durable byte in the sector, so that A1 lets a power cut leave
	// anything in it. It lies behind the durable length, or all that the disk holds
	// in it are the zeros of a block that was allocated or punched.
	Fresh bool

	n *inode
}

// Choices of a Plan other than the number of a version.
const (
	Durable = -1 // the sector keeps its durable bytes
	Trashed = -2 // the sector ends up as the plan's Trash
)

// Plan is one outcome of a power cut.
type Plan struct {
	Choices   []int    // by position in Unsynced: Durable, Trashed, or the number of a version
	Trash     [][]byte // by position, where the choice is Trashed; nil if none is
	LengthNew bool     // files have their current length, else the durable one
	EntryNew  bool     // names name what they do now, else what they do on the disk
}

// String describes the plan for the report of a failure: position and version of
// each sector that is not durable.
func (p *Plan) String() string {
	var b strings.Builder
	for i, c := range p.Choices {
		switch c {
		case Durable:
		case Trashed:
			fmt.Fprintf(&b, "%d:trash ", i)
		default:
			fmt.Fprintf(&b, "%d:v%d ", i, c)
		}
	}
	fmt.Fprintf(&b, "of %d; length new %t, entry new %t", len(p.Choices), p.LengthNew, p.EntryNew)
	return b.String()
}

// clone copies what the walker changes from plan to plan.
func (p *Plan) clone() *Plan {
	c := *p
	c.Choices = append([]int(nil), p.Choices...)
	if p.Trash != nil {
		c.Trash = append([][]byte(nil), p.Trash...)
	}
	return &c
}

// Unsynced returns the sectors that a power cut now may leave in more than one state,
// by file and sector. Files that no name could lead to afterwards are left out.
func (d *Disk) Unsynced() []SectorState {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []SectorState
	for _, n := range d.inodes {
		name, ok := d.nameOf(n)
		if !ok {
			continue
		}
		for i, s := range n.sectors {
			if s != nil && len(s.versions) > 0 {
				all = append(all, n.state(name, int64(i)))
			}
		}
	}
	return all
}

// nameOf finds a name that leads to n before or after a crash.
func (d *Disk) nameOf(n *inode) (string, bool) {
	for _, e := range d.names {
		if e.now == n || e.durable == n {
			return e.name, true
		}
	}
	return "", false
}

func (n *inode) state(name string, i int64) SectorState {
	durable := n.disk.sector(i)
	s := SectorState{
		Name: name, Ino: n.ino, Sector: i, Durable: durable, n: n,
		Fresh: isZero(durable), // as it is behind the durable length
	}
	for _, v := range n.sectors[i].versions {
		s.Versions = append(s.Versions, v.data)
		s.Orders = append(s.Orders, v.order)
	}
	return s
}

// LengthUnsynced tells whether a file has a length that a power cut may take back.
func (d *Disk) LengthUnsynced() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.inodes {
		if _, ok := d.nameOf(n); ok && n.length != n.durable {
			return true
		}
	}
	return false
}

// EntryUnsynced tells whether a name is changed and its directory not synced.
func (d *Disk) EntryUnsynced() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.names {
		if e.now != e.durable {
			return true
		}
	}
	return false
}

// Crash returns what a power cut leaves: a disk of its own on which everything is
// durable and nothing open or locked. For sector i of Unsynced choice answers
// Durable or the number of a version (nil: all Durable); if trash is not nil and
// answers bytes for it, those, at most 512, are what the sector starts with. Files have their
// current lengths with lengthNew, and names are as they are now with entryNew.
func (d *Disk) Crash(choice func(i int, s *SectorState) int, trash func(i int) []byte, lengthNew, entryNew bool) *Disk {
	unsynced := d.Unsynced()
	p := &Plan{Choices: make([]int, len(unsynced)), LengthNew: lengthNew, EntryNew: entryNew}
	for i := range unsynced {
		p.Choices[i] = Durable
		if choice != nil {
			p.Choices[i] = choice(i, &unsynced[i])
		}
		if trash == nil {
			continue
		}
		if bytes := trash(i); bytes != nil {
			p.setTrash(i, bytes)
		}
	}
	return d.crash(unsynced, p)
}

// CrashWith is Crash with a plan, which must have been made at this point.
func (d *Disk) CrashWith(p *Plan) *Disk { return d.crash(d.Unsynced(), p.clone()) }

// Plan returns how Crash, CrashWith or States made this disk, nil for any other.
func (d *Disk) Plan() *Plan { return d.plan }

// setTrash chooses trash for sector i.
func (p *Plan) setTrash(i int, bytes []byte) {
	if p.Trash == nil {
		p.Trash = make([][]byte, len(p.Choices))
	}
	p.Choices[i] = Trashed
	p.Trash[i] = bytes[:min(len(bytes), sectorSize)]
}

// value returns what the plan leaves in sector i.
func (p *Plan) value(i int, s *SectorState) []byte {
	switch c := p.Choices[i]; c {
	case Durable:
		return s.Durable
	case Trashed:
		return p.Trash[i]
	default:
		return s.Versions[c]
	}
}

// crash builds the image of a plan and keeps the plan.
func (d *Disk) crash(unsynced []SectorState, p *Plan) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	img := d.child()
	img.plan = p
	for i := range d.names {
		e := &d.names[i]
		if n := e.after(p.EntryNew); n != nil {
			c := img.crashOnce(n, p.LengthNew)
			img.names = append(img.names, entry{e.name, c, c})
		}
	}
	img.sortInodes()
	for i := range unsynced {
		s := &unsynced[i]
		if p.Choices[i] == Durable {
			continue
		}
		if c := img.byNumber(s.Ino); c != nil && s.Sector*sectorSize < c.length {
			copy(c.disk.mem[s.Sector*sectorSize:c.length], p.value(i, s))
		}
	}
	return img
}

// crashOnce puts the image of n on the disk if it is not there yet.
func (d *Disk) crashOnce(n *inode, lengthNew bool) *inode {
	if c := d.byNumber(n.ino); c != nil {
		return c
	}
	c := n.crashed(lengthNew)
	d.inodes = append(d.inodes, c)
	return c
}
