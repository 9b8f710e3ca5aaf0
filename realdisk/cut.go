//go:build linux

package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"
)

const (
	freshEvery   = 40 // cuts after which a new map begins
	controlCuts  = 20 // cuts of a load that lies; more on a slow machine, until a loss is seen
	controlMost  = 10 // times that
	longestDelay = 40 * time.Millisecond
	longestEnd   = 20 * time.Second // for a load whose disk has failed
)

// cutter cuts the power of one volume.
type cutter struct {
	*run
	v     *volume
	judge *judge
	path  string
	life  uint64 // the last
	lives []life // of this map
	held  counts // steps that the map is known to hold
	off   int64  // moment of the last cut
	tally cutTally
}

// cutTally counts what happened.
type cutTally struct {
	cuts, maps, acks, ended, early int
	late                           int // cuts behind which something was acknowledged that was not there
	steps                          uint64
	losses                         []string
}

// cut runs the power cuts on each file system that has them.
func (r *run) cut() error {
	for _, k := range r.kinds {
		if !k.cuttable {
			fmt.Printf("cut  %-5s  left out: it has no FS_IOC_SHUTDOWN\n", k.name)
			continue
		}
		if err := r.cutOn(k); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) cutOn(k kind) (err error) {
	was := len(r.place.undo)
	defer func() { err = errors.Join(err, r.place.back(was)) }()
	v, err := r.place.newVolume(k)
	if err != nil {
		return err
	}
	j, err := r.newJudge()
	if err != nil {
		return err
	}
	control := &cutter{run: r, v: v, judge: j, path: mapIn(v.dir)}
	for range controlMost {
		if err := control.attack(controlCuts, []string{modeLie}); err != nil {
			return err
		}
		if len(control.tally.losses) > 0 {
			break
		}
	}
	if len(control.tally.losses) == 0 {
		return fmt.Errorf("cut %s: %d cuts of a load that never syncs and says it does, and no loss was seen: this run proves nothing", k.name, control.tally.cuts)
	}
	begin := time.Now()
	c := &cutter{run: r, v: v, judge: j, path: mapIn(v.dir)}
	if err := c.attack(r.cuts, []string{modeAlways, modeNever, modeMixed}); err != nil {
		return err
	}
	return c.report(control, time.Since(begin))
}

func (c *cutter) report(control *cutter, took time.Duration) error {
	t := c.tally
	fmt.Printf("cut  %-5s  %d cuts, %d maps, %d steps, %d acknowledgements, %d loads ended by themselves, %d cut before they had opened, %d went on to acknowledge behind the cut, losses %d; %.1f cuts/s\n",
		c.v.name, t.cuts, t.maps, t.steps, t.acks, t.ended, t.early, t.late, len(t.losses), float64(t.cuts)/took.Seconds())
	fmt.Printf("cut  %-5s  control: syncs left out, %d of %d cuts lost\n", c.v.name, len(control.tally.losses), control.tally.cuts)
	if len(t.losses) > 0 {
		return fmt.Errorf("cut %s --seed %d: %d losses, the first: %s", c.v.name, c.seed, len(t.losses), t.losses[0])
	}
	return nil
}

// attack cuts the power so many times. A loss ends the map, not the attack.
func (c *cutter) attack(cuts int, modes []string) error {
	for i := range cuts {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if i%freshEvery == 0 {
			if err := c.fresh(); err != nil {
				return err
			}
		}
		wrong, err := c.one(modes[c.rng.IntN(len(modes))])
		if err != nil {
			return fmt.Errorf("cut %s, cut %d: %w", c.v.name, i, err)
		}
		c.tally.cuts++
		if wrong != "" {
			c.tally.losses = append(c.tally.losses, fmt.Sprintf("cut %d: %s", i, wrong))
			c.keep(modes)
			if err := c.fresh(); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep saves a map that was judged wrong, unless a loss was expected.
func (c *cutter) keep(modes []string) {
	if modes[0] == modeLie {
		return
	}
	name := fmt.Sprintf("lost-%s-%d.map", c.v.name, c.life)
	fmt.Printf("cut  %-5s  %s\n", c.v.name, c.tally.losses[len(c.tally.losses)-1])
	if err := command("cp", c.path, name); err == nil {
		fmt.Println("the map is kept in", name)
	}
}

// fresh begins a new map.
func (c *cutter) fresh() error {
	if err := os.Remove(c.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	c.lives, c.held = nil, counts{}
	c.tally.maps++
	return c.v.sync() // else a cut could bring back the old one
}

// one is one cut: load, cut, look. It answers what is wrong with the map.
func (c *cutter) one(mode string) (wrong string, err error) {
	c.life++
	w, err := c.startLoad(c.path, mode, c.life, nil)
	if err != nil {
		return "", err
	}
	orderly, err := c.loadAndCut(w)
	if err != nil {
		if errors.Is(err, errDied) {
			return err.Error(), errors.Join(c.v.remount())
		}
		return "", err
	}
	if err := c.v.remount(); err != nil {
		return "", err
	}
	if orderly {
		c.tally.ended++
	}
	return c.look(w)
}

// loadAndCut lets the load run for a moment and cuts the power: mostly while it writes, at times while it opens.
// Either it is killed then, or it must notice and end.
//
// What is acknowledged behind the cut does not count: a machine without power acknowledges nothing, but ext4
// that is being shut down lets some fdatasync succeed whose blocks it no longer records (any program sees that).
func (c *cutter) loadAndCut(w *writer) (orderly bool, err error) {
	if c.rng.IntN(8) > 0 {
		select {
		case <-w.opened:
		case <-w.heard:
		}
	}
	time.Sleep(time.Duration(c.rng.Int64N(int64(longestDelay))))
	c.off = monotonic()
	if err := c.v.shutdown(); err != nil {
		return false, errors.Join(err, w.kill())
	}
	if c.rng.IntN(8) > 0 {
		time.Sleep(time.Duration(c.rng.Int64N(int64(2 * time.Millisecond))))
		return false, w.kill()
	}
	return true, w.finish(longestEnd)
}

// look asks what the map holds, and goes on from there.
func (c *cutter) look(w *writer) (wrong string, err error) {
	durable := w.durableAt(c.off)
	c.tally.acks += len(w.acks)
	if w.begun {
		if c.lives != nil && w.began != c.held {
			return fmt.Sprintf("the load began with steps %v, of %v", w.began, c.held), nil
		}
		c.lives = append(c.lives, life{c.life, w.began})
	} else {
		c.tally.early++
	}
	q := question{Path: c.path, Lives: c.lives, Need: c.held.atLeast(durable), Open: c.rng.IntN(4) == 0}
	a, err := c.judge.ask(q)
	if err != nil {
		return "", err
	}
	if a.Wrong == "" {
		for i := range a.Found {
			c.tally.steps += a.Found[i] - min(a.Found[i], c.held[i])
		}
		if !a.Missing && !a.Found.covers(w.durableAt(math.MaxInt64)) {
			c.tally.late++
		}
		c.held = a.Found
	}
	if a.Wrong != "" {
		a.Wrong += fmt.Sprintf("; the load: begun %v, held %v, acknowledged %v, ended %v %s", w.begun, c.held, durable, w.ends, w.after)
	}
	return a.Wrong, nil
}
