//go:build linux

package main

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	recordFor   = 1500 * time.Millisecond // a load on a disk that records
	recordMost  = 96 << 20                // bytes of a log
	controlPart = 10                      // one of so many states is of a load that lies
)

// bench is a file system on a disk of ours, and who judges the maps on it.
type bench struct {
	*run
	kind  kind
	disk  *disk
	v     *volume
	judge *judge
	life  uint64
}

// fuse crashes and breaks a disk under each file system.
func (r *run) fuse() error {
	for _, k := range r.kinds {
		for _, part := range []func(*bench) error{(*bench).crashes, (*bench).breaks} {
			if err := r.onBench(k, part); err != nil {
				return fmt.Errorf("fuse %s --seed %d: %w", k.name, r.seed, err)
			}
		}
	}
	return nil
}

// onBench runs a part on a bench of its own.
func (r *run) onBench(k kind, part func(*bench) error) (err error) {
	was := len(r.place.undo)
	defer func() { err = errors.Join(err, r.place.back(was)) }()
	b := &bench{run: r, kind: k, disk: newDisk(k.size)}
	path, err := r.place.serve(b.disk)
	if err != nil {
		return err
	}
	if b.v, err = r.place.volumeOn(k, path, true); err != nil {
		return err
	}
	if b.judge, err = r.newJudge(); err != nil {
		return err
	}
	return part(b)
}

// recording is a load and what of it reached the disk.
type recording struct {
	*diskLog
	mu    sync.Mutex // protects acks while the load runs
	acks  []recordedAck
	lives []life
}

// recordedAck says that so many steps were durable when the log had so many operations.
type recordedAck struct {
	ops int
	counts
}

// need is what had been acknowledged when the log had so many operations.
func (rec *recording) need(ops int) (c counts) {
	for _, a := range rec.acks {
		if a.ops <= ops {
			c = c.atLeast(a.counts)
		}
	}
	return c
}

// record lets a load run, kills it, and lets another go on with the map, so that a recovery is in the log as well.
func (b *bench) record(mode string) (*recording, error) {
	if err := os.Remove(mapIn(b.v.dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := b.v.unmount(); err != nil {
		return nil, err
	}
	b.disk.record()
	if err := b.v.mount(); err != nil {
		return nil, err
	}
	rec, lives := &recording{}, 2
	if mode == modeLie {
		lives = 1 // a recovery would sync what the first left
	}
	for range lives {
		if err := b.recordLife(rec, mode); err != nil {
			return nil, err
		}
	}
	// Cut off here: unmounting is no part of it.
	ops, _ := b.disk.recorded()
	if err := b.v.unmount(); err != nil {
		return nil, err
	}
	rec.diskLog = b.disk.stop()
	rec.ops = rec.ops[:ops]
	return rec, nil
}

func (b *bench) recordLife(rec *recording, mode string) error {
	b.life++
	w, err := b.startLoad(mapIn(b.v.dir), mode, b.life, func(c counts) {
		ops, _ := b.disk.recorded()
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.acks = append(rec.acks, recordedAck{ops, c})
	})
	if err != nil {
		return err
	}
	select {
	case <-w.opened:
	case <-w.heard:
	}
	for end := time.Now().Add(recordFor); time.Now().Before(end) && b.ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if _, bytes := b.disk.recorded(); bytes > recordMost {
			break
		}
	}
	if err := w.kill(); err != nil {
		return err
	}
	if !w.begun || len(w.ends) > 0 {
		return fmt.Errorf("the load on a good disk: begun %v, ends %v", w.begun, w.ends)
	}
	rec.lives = append(rec.lives, life{b.life, w.began})
	return nil
}

// crashTally counts crash states.
type crashTally struct {
	states, missing, unmountable, acks, ops, flushes int
	losses                                           []string
}

// crashes records loads, and looks at what crashes leave of them.
func (b *bench) crashes() error {
	var t, control crashTally
	begin := time.Now()
	modes := []string{modeAlways, modeNever, modeMixed}
	for _, mode := range modes {
		if err := b.crashesOf(mode, (b.states+len(modes)-1)/len(modes), &t); err != nil {
			return err
		}
	}
	took := time.Since(begin)
	for range controlMost { // what the kernel writes out by itself may hide it
		if err := b.crashesOf(modeLie, max(20, b.states/controlPart), &control); err != nil {
			return err
		}
		if len(control.losses) > 0 {
			break
		}
	}
	fmt.Printf("fuse %-5s  %d crash states of %d operations with %d flushes, %d acknowledgements; %d before the map was there, %d not to be mounted, losses %d; %.1f states/s\n",
		b.kind.name, t.states, t.ops, t.flushes, t.acks, t.missing, t.unmountable, len(t.losses), float64(t.states)/took.Seconds())
	fmt.Printf("fuse %-5s  control: syncs left out, %d of %d states lost\n", b.kind.name, len(control.losses), control.states)
	switch {
	case len(t.losses) > 0:
		return fmt.Errorf("%d losses, the first: %s", len(t.losses), t.losses[0])
	case len(control.losses) == 0:
		return errors.New("a load that never syncs and says it does lost nothing: this run proves nothing")
	case t.unmountable*10 > t.states:
		return fmt.Errorf("%d of %d states could not be mounted", t.unmountable, t.states)
	}
	return nil
}

// crashesOf records a load in a mode and looks at n states. The disk moves on with them, and ends where the log does.
func (b *bench) crashesOf(mode string, n int, t *crashTally) error {
	rec, err := b.record(mode)
	if err != nil {
		return err
	}
	for _, op := range rec.ops {
		if op.data == nil {
			t.flushes++
		}
	}
	t.ops, t.acks = t.ops+len(rec.ops), t.acks+len(rec.acks)
	const each = 7
	settled, known, seed := 0, map[uint64]bool{}, maphash.MakeSeed() // states that are the same count once
	left := n
	for _, at := range pick(rec.points(), n/each) { // so that the last is reached
		b.disk.settle(rec.ops[settled:at.flushed])
		settled = at.flushed
		for _, o := range outcomes(at.end-at.flushed, b.rng) {
			sum := rec.sum(seed, at, o)
			if known[sum] || left == 0 {
				continue
			}
			known[sum], left = true, left-1
			if err := b.crash(rec, at, o, mode, t); err != nil {
				return err
			}
		}
	}
	b.disk.settle(rec.ops[settled:])
	b.disk.become(nil, nil)
	return b.v.mount()
}

// crash looks at one state.
func (b *bench) crash(rec *recording, at point, o outcome, mode string, t *crashTally) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	b.disk.become(rec.ops[at.flushed:at.end], o.keep)
	t.states++
	if err := b.v.mount(); err != nil {
		t.unmountable++ // the file system's own affair
		return nil
	}
	a, err := b.judge.ask(question{Path: mapIn(b.v.dir), Lives: rec.lives, Need: rec.need(at.end), Open: t.states%4 == 0})
	if err != nil {
		return err
	}
	if a.Missing {
		t.missing++
	}
	if a.Wrong != "" {
		t.losses = append(t.losses, fmt.Sprintf("%s, operations %d to %d of %d, %s kept: %s", mode, at.flushed, at.end, len(rec.ops), o.name, a.Wrong))
	}
	return b.v.unmount()
}

// breakTally counts faults.
type breakTally struct{ faults, met, acks int }

// breaks lets the disk fail under loads: once at a write of a value, once at a flush, or from a moment on for good. The map must
// notice, and be right when it is opened on a disk that is well again.
func (b *bench) breaks() error {
	var t breakTally
	modes := []string{modeAlways, modeNever, modeMixed}
	for i := range b.faults {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		wrong, err := b.breakOne(i, modes[b.rng.IntN(len(modes))], &t)
		if err == nil && wrong != "" {
			err = fmt.Errorf("fault %d: %s", i, wrong)
		}
		if err != nil {
			return err
		}
	}
	fmt.Printf("fuse %-5s  %d times EIO at a write, a flush or all of them, met by %d loads, each ErrFailed and orderly; %d acknowledgements, losses 0\n",
		b.kind.name, t.faults, t.met, t.acks)
	if t.met == 0 && t.faults > 0 {
		return errors.New("no fault was met: this run proves nothing")
	}
	return nil
}

// fault is the i-th way to fail, after a number of operations of its sort.
func fault(i, after int) func(data []byte, flush bool) bool {
	count := 0
	return func(data []byte, flush bool) bool {
		hit := false
		switch i % 3 {
		case 0:
			hit = !flush && strings.Contains(string(data), mark)
		case 1:
			hit = flush
		case 2:
			hit = true
		}
		if hit {
			count++
		}
		return hit && (count == after || i%3 == 2 && count > after)
	}
}

// breakOne lets the disk fail once, on a new map.
func (b *bench) breakOne(i int, mode string, t *breakTally) (wrong string, err error) {
	path := mapIn(b.v.dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := b.v.sync(); err != nil {
		return "", err
	}
	b.life++
	w, err := b.startLoad(path, mode, b.life, nil)
	if err != nil {
		return "", err
	}
	select {
	case <-w.opened:
	case <-w.heard:
	}
	b.disk.failing(fault(i, 1+b.rng.IntN(200)))
	err = w.finish(longestEnd)
	b.disk.failing(nil)
	t.faults++
	t.acks += len(w.acks)
	if err != nil {
		return err.Error(), nil
	}
	if word, _, _ := strings.Cut(w.after, " "); word != "failed" {
		return fmt.Sprintf("the map has not failed: %v %s", w.ends, w.after), nil
	}
	t.met++
	if err := b.v.remount(); err != nil {
		return "", err
	}
	a, err := b.judge.ask(question{
		Path: path, Lives: []life{{b.life, w.began}}, Need: w.durableAt(monotonic()), Open: true,
	})
	return a.Wrong, err
}
