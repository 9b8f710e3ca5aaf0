package recovery

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/mapfile-db/mapfile/tail"
)

// history is how far back the log tells what has changed, for incremental backups: what the map held at a sequence is known
// to be what a backup of it has, and all that has changed since is to be found in records.
//
// Readers load it behind the sequence that they see; it changes under the turn, before what it tells of is published.
type history struct {
	floor   atomic.Uint64               // below this sequence history has a hole
	cleared atomic.Uint64               // sequence of the last CLEAR, 0 if there was none
	lives   atomic.Pointer[[]lifeBegin] // ascending; never changed, but replaced
}

// lifeBegin is where a life begins: two files that bear the same identity at a sequence hold the same there.
type lifeBegin struct {
	first    uint64 // sequence of its first commit
	identity uint64 // salt of its first segment: random, and never 0
}

// maxLives is how many lives are remembered: a map opened for writing once a minute can be backed up from where it was 34 hours ago.
const maxLives = 2048

// historyImage is what a checkpoint keeps of the history, behind the segment table:
//
//	0   8  floor
//	8   8  cleared
//	16  8  number of lives; then for each, ascending
//	0   8  first sequence
//	8   8  identity
type historyImage struct {
	floor, cleared uint64
	lives          []lifeBegin
}

const (
	historyBytes = 24
	lifeBytes    = 16
)

// image is what a checkpoint that is sealed now keeps.
func (h *history) image() historyImage {
	return historyImage{floor: h.floor.Load(), cleared: h.cleared.Load(), lives: *h.lives.Load()}
}

// load takes over what a checkpoint kept, which ended at a sequence. One of a program that knew no history kept nothing: all up to
// there is a hole.
func (h *history) load(im historyImage, sequence uint64) {
	if len(im.lives) == 0 {
		im.floor = sequence
	}
	h.floor.Store(im.floor)
	h.cleared.Store(im.cleared)
	h.lives.Store(&im.lives)
}

func (im *historyImage) size() int { return historyBytes + lifeBytes*len(im.lives) }

func (im *historyImage) appendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, im.floor)
	b = le.AppendUint64(b, im.cleared)
	b = le.AppendUint64(b, uint64(len(im.lives)))
	for _, l := range im.lives {
		b = le.AppendUint64(b, l.first)
		b = le.AppendUint64(b, l.identity)
	}
	return b
}

// readHistory reads what appendTo wrote, or the zeros that stand there in a file of a program that knew no history.
func readHistory(b []byte) (im historyImage, err error) {
	if len(b) < historyBytes {
		return im, nil
	}
	le := binary.LittleEndian
	im.floor, im.cleared = le.Uint64(b), le.Uint64(b[8:])
	n := le.Uint64(b[16:])
	if n > maxLives || n*lifeBytes > uint64(len(b)-historyBytes) {
		return im, errors.New("the history of the map is cut short")
	}
	for i := range n {
		e := b[historyBytes+i*lifeBytes:]
		l := lifeBegin{le.Uint64(e), le.Uint64(e[8:])}
		if l.identity == 0 || i > 0 && l.first <= im.lives[i-1].first {
			return im, errors.New("the history of the map is out of order")
		}
		im.lives = append(im.lives, l)
	}
	return im, nil
}

// begin notes the life that begins with a commit of a sequence. What earlier lives had from there on was cut off. It answers how to take
// that back.
func (h *history) begin(first, identity uint64) (undo func()) {
	was, floor := h.lives.Load(), h.floor.Load()
	lives := slices.Clone(*was)
	for len(lives) > 0 && lives[len(lives)-1].first >= first {
		lives = lives[:len(lives)-1]
	}
	lives = append(lives, lifeBegin{first, identity})
	if over := len(lives) - maxLives; over > 0 {
		lives = lives[over:]
		h.raise(lives[0].first) // whose life is forgotten cannot be told from another map's
	}
	h.lives.Store(&lives)
	return func() {
		h.lives.Store(was)
		h.floor.Store(floor)
	}
}

// raise says that history below a sequence has a hole.
func (h *history) raise(floor uint64) { h.floor.Store(max(h.floor.Load(), floor)) }

// Dropped says that a DROP takes a tombstone: who has its key, by a backup of an older sequence, would not hear of the deletion. It comes
// before the slot goes.
func (s *State) Dropped(r *tail.Record) { s.history.raise(r.Visible()) }

// lost says that commits up to a sequence were lost, in part or all, and so many bytes of log behind it, in which there may have been as many
// commits as fit: their sequences will be used again.
func (h *history) lost(sequence, bytes uint64) {
	const least = (tail.HeaderBytes + 7) &^ 7 // bytes of the smallest commit
	h.raise(sequence + 1 + bytes/least)
}

// Since tells what a backup from a base to a sequence S, which the caller sees under a pin, has to hold.
type Since struct {
	Base, At uint64 // identities of the lives of base and S; 0: before the first
	Whole    bool   // the map was cleared in between: all that is there
}

// Since answers false where history behind base is gone.
func (s *State) Since(base, sequence uint64) (since Since, ok bool) {
	h := &s.history
	since = Since{Base: h.identity(base), At: h.identity(sequence), Whole: base < s.clearedAt(sequence)}
	floor := h.floor.Load()
	forgotten := since.Base == 0 && base < floor
	return since, base <= sequence && !forgotten && (since.Whole || base >= floor)
}

// Identity is that of the life that a sequence belongs to, 0 before the first.
func (s *State) Identity(sequence uint64) uint64 { return s.history.identity(sequence) }

func (h *history) identity(sequence uint64) uint64 {
	lives := *h.lives.Load()
	i, found := slices.BinarySearchFunc(lives, sequence, func(l lifeBegin, sequence uint64) int {
		switch {
		case l.first < sequence:
			return -1
		case l.first > sequence:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	if i < 0 {
		return 0
	}
	return lives[i].identity
}

// clearedAt is the sequence of the last CLEAR that a reader at a sequence sees, under its pin; 0 if there is none.
func (s *State) clearedAt(sequence uint64) uint64 {
	last := s.history.cleared.Load()
	for c := s.cleared.Load(); c != nil && sequence < last; c = c.before {
		last = c.last
	}
	return last
}

// EndHistory makes a new map, into which a copy of another one's commits up to a sequence was put, forget how: its sequences go on behind both, so
// that none that a backup of the other one, or of the copy half made, ended with is taken for one of this map's. The turn is held, the life
// has begun, and nobody else uses the map. It answers the sequence that the map is at now.
func (s *State) EndHistory(sequence uint64) uint64 {
	h := &s.history
	s.Tail.Sequence = max(s.Tail.Sequence, sequence) + 1
	h.lives.Store(&[]lifeBegin{{s.Tail.Sequence, h.identity(s.Tail.Sequence)}})
	h.raise(s.Tail.Sequence)
	h.cleared.Store(0)
	return s.Tail.Sequence
}
