//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/mapfile-db/mapfile"
)

// filling is a process that uses a map on a disk that others fill and empty meanwhile. It knows what it put, and so what must
// be found. Whatever the disk does must come back as an error: the parent sees it if the process dies.
type filling struct {
	db      *mapfile.DB // nil: not to be opened while the disk is full
	options mapfile.Options
	path    string
	size    int  // of values
	strict  bool // the file system keeps its promise of blocks: only Put may find no room
	keys    int  // put at the begin
	in      *bufio.Scanner
	out     io.Writer
	version uint64
	// possible are the versions that each key may have, the last that returned at the end; 0 is none. One is
	// possible when it is known to be durable, or when the map has not failed since.
	possible [][]uint64
	tally    fillTally
}

// fillTally is what a filling reports at its end.
type fillTally struct {
	Puts, Full, Failed, Refused int // calls that succeeded, ErrFull, ErrFailed, opens without room
	Keys                        uint64
	Digest                      uint64
}

// fillMain is the process: fill PATH MODE SIZE KEYS STRICT. It says ready, full and done, and after the first two waits for a line.
func fillMain(args []string) error {
	size, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	keys, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	f := &filling{path: args[0], size: size, strict: args[4] == "true", keys: keys, in: bufio.NewScanner(os.Stdin), out: os.Stdout}
	if f.options.Sync = mapfile.SyncNever; args[1] == modeAlways {
		f.options.Sync = mapfile.SyncAlways
	}
	return f.script()
}

func (f *filling) script() error {
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"begin", f.begin}, {"fill", f.untilFull}, {"read", f.verify}, {"overwrite", f.overwrite}, {"a large transaction", f.large},
		{"read", f.verify}, {"thin out", f.thinOut}, {"fill again", f.untilFull}, {"read again", f.verify}, {"wait for room", f.awaitRoom},
		{"go on", f.goOn}, {"end", f.end},
	} {
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// ask says a word and waits for the parent.
func (f *filling) ask(what ...any) error {
	if _, err := fmt.Fprintln(f.out, what...); err != nil {
		return err
	}
	if !f.in.Scan() {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// begin opens the map and puts the first keys while there is room; some stay in the log, some are checkpointed.
func (f *filling) begin() (err error) {
	if f.db, err = mapfile.Open(f.path, &f.options); err != nil {
		return err
	}
	for key := range f.keys {
		if err := f.put(key); err != nil {
			return err
		}
		if key == f.keys/2 {
			if err := f.db.Checkpoint(); err != nil {
				return err
			}
		}
	}
	if err := f.sync(); err != nil {
		return err
	}
	_, digest, err := digestOf(f.db)
	if err != nil {
		return err
	}
	if f.tally.Full+f.tally.Failed > 0 {
		return errors.New("the disk was full already")
	}
	return f.ask("ready", digest)
}

func fillKey(key int) []byte { return fmt.Appendf(nil, "key %07d", key) }

// fillValue names key and version, and fills its size.
func fillValue(key int, version uint64, size int) []byte {
	v := bytes.Repeat(fmt.Appendf(nil, "%d.%d ", key, version), size/4)
	return v[:size]
}

// put sets a key to a new version. A full disk is no error.
func (f *filling) put(key int) error {
	f.version++
	version := f.version
	return f.change(key, version, func() error { return f.db.Put(fillKey(key), fillValue(key, version, f.size)) })
}

// change makes a commit that gives a key a version.
func (f *filling) change(key int, version uint64, commit func() error) error {
	if f.db == nil {
		return nil
	}
	for len(f.possible) <= key {
		f.possible = append(f.possible, []uint64{0})
	}
	err := commit()
	switch {
	case err == nil && f.options.Sync == mapfile.SyncAlways:
		f.possible[key] = []uint64{version}
		f.tally.Puts++
	case err == nil:
		f.possible[key] = append(f.possible[key], version)
		f.tally.Puts++
	case errors.Is(err, mapfile.ErrFull):
		f.tally.Full++
	case errors.Is(err, mapfile.ErrFailed):
		f.possible[key] = append(f.possible[key], version)
		return f.failed(err)
	default:
		return err
	}
	return nil
}

// failed opens the map again after ErrFailed. If the disk has no room for that, it is read only, and stays closed.
func (f *filling) failed(cause error) (err error) {
	if f.strict {
		return cause
	}
	f.tally.Failed++
	if _, err := f.db.Get(fillKey(0)); !errors.Is(err, mapfile.ErrFailed) {
		return fmt.Errorf("a read of a failed map: %w", err)
	}
	if err := f.db.Close(); err != nil {
		return fmt.Errorf("close of a failed map: %w", err)
	}
	f.db, err = mapfile.Open(f.path, &f.options)
	if err != nil && !errors.Is(err, mapfile.ErrCorrupt) { // a page that cannot be stored to is an I/O error
		f.tally.Refused++
		f.db, err = nil, f.whileClosed()
	} else if err == nil {
		err = f.settle(f.db)
	}
	return err
}

// whileClosed reads the map read-only.
func (f *filling) whileClosed() error {
	db, err := mapfile.Open(f.path, &mapfile.Options{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("read-only, on a full disk: %w", err)
	}
	return errors.Join(f.settle(db), db.Close())
}

// settle finds each key at one of its possible versions, which from then on is the one.
func (f *filling) settle(db *mapfile.DB) error {
	for key, versions := range f.possible {
		found, err := f.find(db, key, versions)
		if err != nil {
			return err
		}
		f.possible[key] = []uint64{found}
	}
	return nil
}

// find looks which of its versions a key has.
func (f *filling) find(db *mapfile.DB, key int, versions []uint64) (uint64, error) {
	value, err := db.Get(fillKey(key))
	if err != nil && !errors.Is(err, mapfile.ErrNotFound) {
		return 0, err
	}
	for _, version := range versions {
		if version == 0 && err != nil || version > 0 && err == nil && bytes.Equal(value, fillValue(key, version, f.size)) {
			return version, nil
		}
	}
	return 0, fmt.Errorf("key %d: %.20q, %w, where one of the versions %v must be", key, value, err, versions)
}

// verify finds each key at its newest version.
func (f *filling) verify() error {
	if f.db == nil {
		return nil
	}
	keys := uint64(0)
	for key, versions := range f.possible {
		found, err := f.find(f.db, key, versions[len(versions)-1:])
		if err != nil {
			return err
		}
		if found > 0 {
			keys++
		}
	}
	if n := f.db.Len(); n != keys {
		return fmt.Errorf("Len is %d of %d", n, keys)
	}
	return nil
}

func (f *filling) sync() error { return f.upkeep(f.db.Sync, true) }

// upkeep runs a call that is no commit. Where blocks are promised it has no reason to fail, if it must work on a full disk.
func (f *filling) upkeep(call func() error, must bool) error {
	err := call()
	switch {
	case err == nil:
		for key, versions := range f.possible {
			f.possible[key] = versions[len(versions)-1:]
		}
	case errors.Is(err, mapfile.ErrFailed):
		return f.failed(err)
	case errors.Is(err, mapfile.ErrFull) && !(must && f.strict):
		f.tally.Full++
	default:
		return err
	}
	return nil
}

// untilFull puts new keys until there is no room, and then a few more.
func (f *filling) untilFull() error {
	was := f.tally.Full + f.tally.Failed
	for key := len(f.possible); f.db != nil && f.tally.Full+f.tally.Failed < was+3; key++ {
		if key > 1<<20 {
			return errors.New("the disk does not become full")
		}
		if err := f.put(key); err != nil {
			return err
		}
	}
	return nil
}

// overwrite stores known keys twice, synced in between: on btrfs a page that was written out needs new room at its next store.
func (f *filling) overwrite() error {
	for range 2 {
		for key := 0; key < min(len(f.possible), 40); key++ {
			if err := f.put(key); err != nil {
				return err
			}
			if f.db == nil {
				return nil
			}
			if err := f.sync(); err != nil {
				return err
			}
		}
	}
	return nil
}

// large commits more than the disk can take: it must change nothing.
func (f *filling) large() error {
	if f.db == nil {
		return nil
	}
	err := f.db.Update(func(tx *mapfile.Tx) error { return tx.Put([]byte("large"), make([]byte, 64<<20)) })
	switch {
	case errors.Is(err, mapfile.ErrFailed):
		return f.failed(err)
	case !errors.Is(err, mapfile.ErrFull):
		return fmt.Errorf("64 MiB on a full disk: %w", err)
	}
	f.tally.Full++
	return nil
}

// thinOut deletes every other key, and lets the map take back the room. Deletions have a reserve.
func (f *filling) thinOut() error {
	for key := 0; key < len(f.possible) && f.db != nil; key += 2 {
		was := f.tally.Full
		if err := f.change(key, 0, func() error { return f.db.Delete(fillKey(key)) }); err != nil {
			return err
		}
		if f.strict && f.tally.Full > was {
			return fmt.Errorf("key %d could not be deleted", key)
		}
	}
	for _, call := range []struct {
		run  func(db *mapfile.DB) error
		must bool
	}{
		{(*mapfile.DB).Sync, true},
		{(*mapfile.DB).Checkpoint, true},
		{func(db *mapfile.DB) error { return db.Compact(context.Background()) }, false},
		{(*mapfile.DB).Checkpoint, true},
	} {
		if f.db == nil {
			return nil
		}
		if err := f.upkeep(func() error { return call.run(f.db) }, call.must); err != nil {
			return err
		}
	}
	return nil
}

func (f *filling) awaitRoom() error {
	if f.tally.Full+f.tally.Failed == 0 {
		return errors.New("the disk was never full: this run proves nothing")
	}
	return f.ask("full")
}

// goOn uses the map as if nothing had been: there is room now.
func (f *filling) goOn() (err error) {
	if f.db == nil {
		if f.db, err = mapfile.Open(f.path, &f.options); err != nil {
			return err
		}
		if err := f.settle(f.db); err != nil {
			return err
		}
	}
	f.strict = true
	was := f.tally.Full
	for range 50 {
		if err := f.put(len(f.possible)); err != nil {
			return err
		}
	}
	if f.tally.Full > was {
		return errors.New("there is room, and Put finds none")
	}
	return errors.Join(f.verify(), f.sync())
}

// end closes the map, opens it again, and says what it holds.
func (f *filling) end() (err error) {
	if err := f.db.Close(); err != nil {
		return err
	}
	report, err := mapfile.Check(context.Background(), f.path, nil)
	if err != nil {
		return err
	}
	if !report.OK {
		return fmt.Errorf("check: %v", report.Findings)
	}
	if f.db, err = mapfile.Open(f.path, &f.options); err != nil {
		return err
	}
	if err := f.verify(); err != nil {
		return err
	}
	if f.tally.Keys, f.tally.Digest, err = digestOf(f.db); err != nil {
		return err
	}
	if err := f.db.Close(); err != nil {
		return err
	}
	said, err := json.Marshal(f.tally)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f.out, "done", string(said))
	return err
}

// digestOf is a number that two maps share if they hold the same.
func digestOf(db *mapfile.DB) (keys, digest uint64, err error) {
	err = db.View(func(tx *mapfile.Tx) error {
		for key, value := range tx.All() {
			h := sha256.New()
			_ = binary.Write(h, binary.LittleEndian, uint64(len(key))) // a hash takes everything
			h.Write(key)
			h.Write(value)
			digest += binary.LittleEndian.Uint64(h.Sum(nil))
			keys++
		}
		return tx.Err()
	})
	return keys, digest, err
}
