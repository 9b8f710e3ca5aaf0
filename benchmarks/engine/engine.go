// Package engine puts every store of the comparison behind one interface, each
// with the settings a careful user of it would choose and a label that says
// what its writes survive.
//
// A [Store] may be used by any number of goroutines at once, except where an
// adapter's comment says otherwise.
package engine

import (
	"errors"
	"fmt"
	"slices"
)

// ErrNotFound is what [Store.AppendGet] returns for a key that is not there.
var ErrNotFound = errors.New("engine: key not found")

// Durability says what a write that returned survives. Rates of writes are
// compared within one level only.
type Durability int

// The levels, weakest first.
const (
	Memory   Durability = iota // nothing: the data ends with the process
	Buffered                   // a killed process may lose its last writes
	Kill                       // a killed process loses nothing, power loss may cost the last writes
	Timed                      // as Kill, and power loss costs at most the last second
	Commit                     // each commit is on the disk when it returns
)

// String returns the label that stands in tables.
func (d Durability) String() string {
	return [...]string{
		"none: lost at exit",
		"a kill may lose the last writes",
		"survives a process kill",
		"survives a kill; synced each second",
		"synced at each commit",
	}[d]
}

// Slug returns a short name for files.
func (d Durability) Slug() string {
	return [...]string{"memory", "buffered", "kill", "timed", "commit"}[d]
}

// Caps is the set of things a store can do.
type Caps uint

// What a store can do; a workload runs on the engines that have all it needs.
const (
	CanGet Caps = 1 << iota
	CanPut
	CanBatch // more than one key in a commit is worth a row of its own
	CanDelete
	CanScan
	CanReopen // the data can be found again by another process
	CanLoad   // loaded with all keys before the workloads
	CanUpkeep // a [Keeper]
)

// full is what a persistent map offers.
const full = CanGet | CanPut | CanDelete | CanScan | CanReopen | CanLoad

// Sizing tells an engine what it is going to hold, so that caches and tables
// can be chosen as its user would.
type Sizing struct {
	Keys      uint64
	KeyBytes  int
	ValueSize int
}

// Bytes returns the bytes of all keys and values.
func (s Sizing) Bytes() uint64 { return s.Keys * uint64(s.KeyBytes+s.ValueSize) }

// Store is one open map.
type Store interface {
	// AppendGet appends a copy of key's value to dst, or returns the copy that
	// the engine itself made; ErrNotFound where there is none.
	AppendGet(dst, key []byte) ([]byte, error)
	// GetMany appends copies of the values of keys to dst, one after another,
	// and counts those found. Engines without such a call loop, inside one
	// read transaction where they have one.
	GetMany(dst []byte, keys [][]byte) (out []byte, found int, err error)
	// Put stores one pair as a commit of its own.
	Put(key, value []byte) error
	// PutBatch stores all pairs, in one commit where the engine has commits.
	PutBatch(keys, values [][]byte) error
	// Delete removes key.
	Delete(key []byte) error
	// Scan calls fn for every pair, in any order; the slices end with the call.
	Scan(fn func(key, value []byte) error) error
	// Close ends the use of the store.
	Close() error
}

// Keeper is a store whose upkeep can be asked for while others use it.
type Keeper interface {
	Checkpoint() error
	Compact() error
}

// Replayer is a store that tells how many records of its log were replayed when it was opened.
type Replayer interface{ Replayed() uint64 }

// Engine is one row of the tables: a store in one mode.
type Engine struct {
	Name       string     // what tables call it
	Module     string     // the module whose version is recorded; empty for our own code and Go's
	Settings   string     // what was set, in one line
	Durability Durability // what its writes survive
	Caps       Caps
	// LoadBatch is the number of keys in a commit while loading.
	LoadBatch int
	// Shares names the engine that loads the files this one opens. A store in
	// which each commit is synced is loaded in the mode that does not.
	Shares string
	// Rail marks a bound that no store can pass.
	Rail bool
	// Open opens the store in dir, a directory of its own, and creates it.
	Open func(dir string, size Sizing) (Store, error)
}

// Can tells whether the engine has all of caps.
func (e Engine) Can(caps Caps) bool { return e.Caps&caps == caps }

// All returns every engine, mapfile first, rails last.
func All() []Engine {
	all := []Engine{mapfileNever, mapfileInterval, mapfileAlways}
	all = append(all, bboltEngines...)
	all = append(all, badgerEngines...)
	all = append(all, pebbleEngines...)
	all = append(all, pogrebEngines...)
	all = append(all, cgoEngines...)
	return append(append(all, goMap, syncMap), rails...)
}

// ByName finds an engine.
func ByName(name string) (Engine, error) {
	all := All()
	i := slices.IndexFunc(all, func(e Engine) bool { return e.Name == name })
	if i < 0 {
		return Engine{}, fmt.Errorf("engine: no engine is called %q", name)
	}
	return all[i], nil
}

// getLoop is GetMany for stores that have nothing better than Get.
func getLoop(s Store, dst []byte, keys [][]byte) ([]byte, int, error) {
	found := 0
	for _, key := range keys {
		out, err := s.AppendGet(dst, key)
		switch {
		case err == nil:
			dst = out
			found++
		case !errors.Is(err, ErrNotFound):
			return dst, found, err
		}
	}
	return dst, found, nil
}

// putLoop is PutBatch for stores without commits.
func putLoop(s Store, keys, values [][]byte) error {
	for i, key := range keys {
		if err := s.Put(key, values[i]); err != nil {
			return err
		}
	}
	return nil
}
