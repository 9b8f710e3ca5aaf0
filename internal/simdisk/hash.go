package simdisk

import (
	"github.com/cespare/xxhash/v2"
)

// The hash of an image is a sum over its sectors, so that the hash of a crash
// image follows from that of the durable one and the sectors that differ.

// Hash returns a hash of the durable image: names, lengths and bytes. Equal images
// have equal hashes, in every process.
func (d *Disk) Hash() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hashed {
		return d.hash
	}
	var sum uint64
	for _, e := range d.names {
		if n := e.durable; n != nil {
			sum += entryHash(e.name, fileHash(n.durable, n.sumDisk(n.durable)))
		}
	}
	d.hash, d.hashed = sum, !d.plain
	return sum
}

// sumDisk sums the sectors that the disk holds below length.
func (n *inode) sumDisk(length int64) (sum uint64) {
	for i := int64(0); i*sectorSize < min(length, n.disk.high); i++ {
		sum += sectorSum(i, cutSector(i, n.disk.sector(i), length))
	}
	return sum
}

// cutSector returns the bytes of sector i that lie below length, none if it is behind.
func cutSector(i int64, sector []byte, length int64) []byte {
	left := max(0, length-i*sectorSize)
	return sector[:min(int64(len(sector)), left)]
}

// sectorSum is what sector i adds to the sum of its file: nothing if it is zero,
// so that a hole and a sector not yet written are the same.
func sectorSum(i int64, sector []byte) uint64 {
	if isZero(sector) {
		return 0
	}
	return mix(xxhash.Sum64(sector) + uint64(i)*0x9e3779b97f4a7c15)
}

func fileHash(length int64, sum uint64) uint64 { return mix(sum ^ mix(uint64(length)+1)) }

func entryHash(name string, file uint64) uint64 { return mix(file + mix(xxhash.Sum64String(name))) }

// mix spreads every bit over the word (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hasher computes the hashes of crash images without making them.
type hasher struct {
	files []fileSums
	names []nameSums
	at    []int      // by unsynced sector: position in files
	sums  [][]uint64 // by unsynced sector: of its durable bytes, then of each version
}

// fileSums are the sums of a file's durable bytes under both lengths.
type fileSums struct {
	n      *inode
	sum    [2]uint64
	length [2]int64
	plan   uint64 // scratch: the sum under the plan
}

// nameSums say where in files a name leads with the durable entry and the current one, -1: nowhere.
type nameSums struct {
	name string
	file [2]int
}

// newHasher prepares for the images of d as it is.
func newHasher(d *Disk, unsynced []SectorState) hasher {
	d.mu.Lock()
	defer d.mu.Unlock()
	var h hasher
	for _, e := range d.names {
		h.names = append(h.names, nameSums{e.name, [2]int{h.file(e.durable), h.file(e.now)}})
	}
	for i := range unsynced {
		s := &unsynced[i]
		h.at = append(h.at, h.file(s.n))
		sums := []uint64{sectorSum(s.Sector, s.Durable)}
		for _, v := range s.Versions {
			sums = append(sums, sectorSum(s.Sector, v))
		}
		h.sums = append(h.sums, sums)
	}
	return h
}

// file returns the position of n in files, which it takes in if it is new; -1 for nil.
func (h *hasher) file(n *inode) int {
	if n == nil {
		return -1
	}
	for i := range h.files {
		if h.files[i].n == n {
			return i
		}
	}
	f := fileSums{n: n}
	for k, isNew := range []bool{false, true} {
		f.length[k] = n.lengthAfter(isNew)
		f.sum[k] = n.sumDisk(f.length[k])
	}
	h.files = append(h.files, f)
	return len(h.files) - 1
}

// hash returns what Hash answers for the image of the plan.
func (h *hasher) hash(unsynced []SectorState, p *Plan) (sum uint64) {
	length := index(p.LengthNew)
	for i := range h.files {
		h.files[i].plan = h.files[i].sum[length]
	}
	for i, choice := range p.Choices {
		if choice != Durable {
			f := &h.files[h.at[i]]
			f.plan += h.change(&unsynced[i], h.sums[i], i, p, f.length[length])
		}
	}
	for _, name := range h.names {
		if k := name.file[index(p.EntryNew)]; k >= 0 {
			f := &h.files[k]
			sum += entryHash(name.name, fileHash(f.length[length], f.plan))
		}
	}
	return sum
}

// change is what the choice for a sector adds to the sum of its file.
func (h *hasher) change(s *SectorState, sums []uint64, i int, p *Plan, length int64) uint64 {
	choice := p.Choices[i]
	switch {
	case s.Sector*sectorSize >= length:
		return 0
	case choice != Trashed && (s.Sector+1)*sectorSize <= length:
		return sums[1+choice] - sums[0]
	}
	value := append([]byte(nil), s.Durable...)
	copy(value, p.value(i, s))
	return sectorSum(s.Sector, cutSector(s.Sector, value, length)) -
		sectorSum(s.Sector, cutSector(s.Sector, s.Durable, length))
}

func index(isNew bool) int {
	if isNew {
		return 1
	}
	return 0
}
