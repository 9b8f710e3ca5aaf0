package recovery

import (
	"runtime/debug"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Standing is what the map's own index says of the last record of a key that the log has.
type Standing int

const (
	Unjudged  Standing = iota // nothing: it cannot be followed to the key
	Newest                    // it leads there
	Outdated                  // it leads to a record that cannot be read, which may be a newer one of the key: the key answers ErrCorrupt
	NotInside                 // the key is not in the map
)

// OpenIndex opens the map, between OpenSalvage and Survey and with the options of that one, read-only, for the index after replay, which
// is in private memory. A map that does not open has none, and Unopened says why.
func (s *Salvage) OpenIndex(o pager.OpenOptions) {
	o.ReadOnly = true
	if s.state, s.Unopened = Open(Options{OpenOptions: o}); s.Unopened != nil {
		return
	}
	if s.Unopened = s.p.CheckPath(); s.Unopened != nil { // it is another file by now
		_ = s.state.Close() // nothing was written
		s.state = nil
	}
}

// Behind reports whether a record lies behind the end that an open gives the log: the index cannot know of it.
func (s *Salvage) Behind(r *tail.Record) bool {
	return s.state == nil || r.Sequence > s.state.Published.Load()
}

// Judge says what the index has of a key whose last record in the log, one that is not Behind, lies at position. at is where the record
// lies, or lay, that makes it Outdated.
func (s *Salvage) Judge(key []byte, position uint64) (standing Standing, at uint64) {
	if s.state == nil {
		return Unjudged, 0
	}
	err := guard(s.state.P, func() error {
		bucket, hash, err := s.state.Index.Find(s.state.Root(), xxhash.Sum64(key), key, true)
		if err == nil {
			standing, at = s.judgeSlots(bucket, hash, key, position)
		}
		return err
	})
	if err != nil {
		return Unjudged, 0
	}
	return standing, at
}

// judgeSlots is Judge in the bucket of the key. As in a read, a record that cannot be read costs a key only if no other slot has it.
func (s *Salvage) judgeSlots(bucket, hash uint64, key []byte, position uint64) (standing Standing, at uint64) {
	standing = NotInside
	for seen := 0; ; {
		var p uint64
		if p, seen = s.state.Index.Next(bucket, hash, seen); p == 0 {
			return standing, at
		}
		if p == position {
			return Newest, 0
		}
		var r tail.Record
		switch err := guard(s.state.P, func() error { return s.state.Record(p, &r, true) }); {
		case err != nil:
			standing, at = Outdated, p
		case string(r.Key) == string(key) && r.Kind == tail.KindPut:
			return Unjudged, 0 // the log's order and the index differ
		case string(r.Key) == string(key):
			return NotInside, 0
		}
	}
}

// guard runs f under the fault guard of a pager. A page that the system cannot give is a *pager.FaultError.
func guard(p *pager.Pager, f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = p.Fault(r)
		}
	}()
	return f()
}
