package recovery

import (
	"encoding/binary"

	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Loss is one thing that was there once and is not any more.
type Loss struct {
	Structure string // log: bytes that nobody can read; commit: a record of a commit that is not whole; record: the value of a record; segment
	Offset    uint64 // in the file, in bytes; 0 of what is not in it
	LSN       uint64 // where in the log, 0 where that is not known
	Bytes     uint64
	Key       []byte // nil: not known. An empty key is not nil
	Older     uint64 // offset of the newest older version that can be read, 0: none
	Reason    string
}

// maxListed is how many losses are kept in a report; all are counted.
const maxListed = 1000

// Losses counts what was lost, and lists the first of it.
type Losses struct {
	Places uint64
	Bytes  uint64
	Keys   uint64 // places whose key is known
	List   []Loss // the first thousand

	// Tell, if not nil, hears of each.
	Tell func(Loss)
}

// Add counts a loss. Its key is copied.
func (l *Losses) Add(x Loss) {
	if x.Key != nil {
		x.Key = append([]byte{}, x.Key...)
		l.Keys++
	}
	l.Places++
	l.Bytes += x.Bytes
	if len(l.List) < maxListed {
		l.List = append(l.List, x)
	}
	if l.Tell != nil {
		l.Tell(x)
	}
}

// readRecords visits what can be read of a segment's use between two places, in order, and tells of the rest. A record
// may reach up to limit. What is visited is known by its header's sum alone. mend, if not nil, is asked to take back a
// flipped bit where no record is found; true: look again.
func readRecords(v *pager.View, salt, at, end, limit uint64, mend func(position, limit uint64) bool, visit func(*tail.Record) error, rotten func(from, to uint64) error) error {
	for at < end {
		var r tail.Record
		if tail.ParseHeader(v, at, salt, limit, &r) || mend != nil && mend(at, limit) && tail.ParseHeader(v, at, salt, limit, &r) {
			if err := visit(&r); err != nil {
				return err
			}
			at += r.Size()
			continue
		}
		next := tail.NextRecord(v, at, salt, end)
		if err := rotten(at, next); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// maxMendKey is the longest key, in bytes, of a header in which a scan looks for a flipped bit: where there is no record at
// all the length is anything, and the time grows with its square.
const maxMendKey = 4096

// mender takes back flipped bits in the records of a segment's use.
func mender(p *pager.Pager, salt uint64) func(position, limit uint64) bool {
	return func(position, limit uint64) bool {
		if position+tail.HeaderBytes > limit || binary.LittleEndian.Uint16(p.View().Bytes(position+8, 2)) > maxMendKey {
			return false
		}
		return tail.Mend(p, position, salt, limit)
	}
}

// addGaps tells what lies in the parts of the log that a walk went past.
func (l *Losses) addGaps(v *pager.View, w *tail.Walk) {
	for _, g := range w.Gaps {
		s := &w.Segments[g.Segment]
		_ = readRecords(v, s.Salt, g.From, g.To, s.End(), nil, func(r *tail.Record) error {
			switch r.Kind {
			case tail.KindLink, tail.KindPad:
			case tail.KindPut, tail.KindDelete, tail.KindDrop:
				l.Add(Loss{Structure: "commit", Offset: r.Position, LSN: g.LSN + r.Position - g.From, Bytes: r.Size(), Key: keyOf(r), Reason: "a part of its commit is lost"})
			default:
				l.Add(Loss{Structure: "commit", Offset: r.Position, LSN: g.LSN + r.Position - g.From, Bytes: r.Size(), Reason: "a part of its commit is lost"})
			}
			return nil
		}, func(from, to uint64) error {
			l.Add(Loss{Structure: "log", Offset: from, LSN: g.LSN + from - g.From, Bytes: to - from, Reason: "no record can be read here; its key is not known"})
			return nil
		})
	}
}

// keyOf is the key of a record, never nil.
func keyOf(r *tail.Record) []byte { return append([]byte{}, r.Key...) }
