package pager

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/sabotage"
)

// The mark page (page 2):
//
//	0     8  sum of bytes 8 to 31, salted with the file salt
//	8     8  mark: the LSN below which all of the tail is known to be synced
//	16    8  life
//	24    8  zero
//	2048 64  a note in words: who opened the file last for writing. Never trusted, in no sum.
const (
	markBytes  = 32
	noteOffset = int64(MarkPage)*PageSize + 2048
	noteBytes  = 64
)

func markSum(b []byte, fileSalt uint64) uint64 {
	return xxhash.Sum64(b[8:markBytes]) ^ Mix(fileSalt, uint64(MarkPage))
}

// WriteMark writes the mark page, into the page cache only: a killed process
// leaves it exact, and the kernel brings it out within seconds.
func (p *Pager) WriteMark(fileSalt, mark uint64, life uint32) error {
	var b [markBytes]byte
	binary.LittleEndian.PutUint64(b[8:], mark)
	binary.LittleEndian.PutUint64(b[16:], uint64(life))
	binary.LittleEndian.PutUint64(b[:], markSum(b[:], fileSalt))
	return p.file.WriteAt(b[:], int64(MarkPage)*PageSize)
}

// ReadMark reads the mark page, as it is without a flipped bit; ok is false if it says nothing.
func (p *Pager) ReadMark(fileSalt uint64) (mark uint64, life uint32, ok bool) {
	var b [markBytes]byte
	if _, err := p.file.ReadAt(b[:], int64(MarkPage)*PageSize); err != nil {
		return 0, 0, false
	}
	bit, ok := FlippedBit(b[:], func() bool {
		return binary.LittleEndian.Uint64(b[:]) == markSum(b[:], fileSalt) || sabotage.Is(sabotage.MarkSumUnchecked)
	})
	if !ok {
		return 0, 0, false
	}
	if bit >= 0 {
		p.MendLater(NewFlip(b[:], bit, uint64(MarkPage)*PageSize, "mark"))
	}
	return binary.LittleEndian.Uint64(b[8:]), uint32(binary.LittleEndian.Uint64(b[16:])), true
}

// Mark is a mark page as it stands.
type Mark struct {
	Sum, Want uint64 // the sum in the page, and what it should be
	Mark      uint64 // LSN
	Life      uint64
	Pid       int  // of who opened the file last for writing, as a note says that is never trusted; 0: no note
	Blank     bool // nothing was ever written there
}

// ReadMarkPage reads a mark page as bytes, for who looks into a file. b is the page.
func ReadMarkPage(b []byte, fileSalt uint64) Mark {
	le := binary.LittleEndian
	m := Mark{Sum: le.Uint64(b), Want: markSum(b, fileSalt), Mark: le.Uint64(b[8:]), Life: le.Uint64(b[16:])}
	note := b[noteOffset-int64(MarkPage)*PageSize:][:noteBytes]
	m.Pid = parseNote(note)
	m.Blank = m.Sum == 0 && m.Mark == 0 && m.Life == 0 && le.Uint64(b[24:]) == 0
	return m
}

// Sign leaves the process id for the message of who finds the file locked, once the map is known to open: an open that
// is refused changes nothing.
func (p *Pager) Sign() { writeNote(p.file, os.Getpid()) }

// writeNote writes the note. An error does not matter.
func writeNote(f File, pid int) {
	var b [noteBytes]byte
	copy(b[:], "pid "+strconv.Itoa(pid))
	_ = f.WriteAt(b[:], noteOffset)
}

// readNote reads the process id of the last read-write opener; 0 if there is none.
func readNote(f File) int {
	var b [noteBytes]byte
	if _, err := f.ReadAt(b[:], noteOffset); err != nil {
		return 0
	}
	return parseNote(b[:])
}

func parseNote(b []byte) int {
	s, ok := strings.CutPrefix(strings.TrimRight(string(b), "\x00"), "pid ")
	if !ok {
		return 0
	}
	pid, err := strconv.Atoi(s)
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
