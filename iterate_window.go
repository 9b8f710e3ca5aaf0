package mapfile

import "github.com/mapfile-db/mapfile/pager"

// logWindow is a part of the file that was read by a system call, in the order of the file. A map that is larger than memory is scanned
// through it: to touch each of its pages in the mapping, and to have it taken away again, costs several times what the copy does.
// (To read the next part meanwhile, in a goroutine, gained nothing.)
type logWindow struct {
	at  uint64 // byte offset in the file of what it holds
	n   uint64 // bytes that it holds
	buf []byte
}

// windowBytes is how much a window reads at once.
const windowBytes = 1 << 20

// from is what the window holds from a byte offset on.
func (w *logWindow) from(off uint64) []byte {
	if off < w.at || off-w.at > w.n {
		return nil
	}
	return w.buf[off-w.at : w.n]
}

// move lets the window begin at a byte offset and end before another. Of what cannot be read it holds nothing: the mapping tells why.
// Nothing that points into it may be in use.
func (w *logWindow) move(p *pager.Pager, off, end uint64) {
	w.at, w.n = off, min(uint64(len(w.buf)), end-off)
	if p.ReadAt(w.buf[:w.n], off) != nil {
		w.n = 0
	}
}
