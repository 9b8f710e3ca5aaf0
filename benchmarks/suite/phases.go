package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
	"github.com/mapfile-db/mapfile/benchmarks/report"
	"github.com/mapfile-db/mapfile/benchmarks/worker"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

// syncDisk ends the write-back of what came before, which would run beside
// what comes next.
func (r *run) syncDisk() { unix.Sync() }

// start starts the worker of a seat and opens its store.
func (r *run) start(s *seat, find *uint64) (worker.Result, error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return worker.Result{}, err
	}
	p, err := worker.Start()
	if err != nil {
		return worker.Result{}, err
	}
	s.p = p
	return p.Open(s.engine, s.dir, r.size, find)
}

const (
	loadTitle = "Load, a key"
	scanTitle = "Scan, an entry"
	openTitle = "Open after a clean Close, and the first Get"
)

// load fills an empty store and measures what it takes. Files are closed,
// measured and opened again later; what lives in memory stays open after the
// last round.
func (r *run) load(s *seat, last bool) {
	if s.failed || r.ctx.Err() != nil {
		return
	}
	cell := r.setting.Cell(loadName, loadTitle, s.engine)
	if s.engine.LoadBatch > 1 {
		cell.Note = fmt.Sprintf("in commits of %d keys", s.engine.LoadBatch)
	}
	r.progress.at("%s: %s", loadTitle, s.engine.Name)
	if err := os.RemoveAll(s.dir); err != nil {
		r.fail(s, cell, err)
		return
	}
	before := r.device.written()
	if _, err := r.start(s, nil); err != nil {
		r.fail(s, cell, err)
		return
	}
	r.measure(s, loadName, loadTitle, func() (worker.Result, error) { return s.p.Load(r.cfg.settle) })
	r.progress.passed(loadTime(s.engine, r.size.Keys))
	if err := r.footprint(s, before, last); err != nil {
		r.fail(s, cell, err)
	}
}

func (r *run) footprint(s *seat, before uint64, last bool) error {
	if s.failed || s.p == nil {
		return nil
	}
	u, err := s.p.Usage()
	if err != nil {
		return err
	}
	f := report.Footprint{Engine: s.engine.Name, Data: r.size.Bytes(), Heap: u.Heap, Anon: u.Anon, FileRSS: u.FileRSS}
	if s.engine.Can(engine.CanReopen) || !last {
		_, err = s.p.Close()
		if s.p = nil; err != nil {
			return err
		}
	}
	if s.engine.Can(engine.CanReopen) {
		if f.Allocated, f.Apparent, err = diskUsage(s.dir); err != nil {
			return err
		}
		r.syncDisk()
		f.Written = r.device.written() - before
	}
	r.setFootprint(f)
	return nil
}

// setFootprint keeps the last figures of each engine.
func (r *run) setFootprint(f report.Footprint) {
	for i, old := range r.setting.Footprints {
		if old.Engine == f.Engine {
			r.setting.Footprints[i] = f
			return
		}
	}
	r.setting.Footprints = append(r.setting.Footprints, f)
}

// openAll opens the loaded stores in fresh processes: opening and finding one
// key is a measurement, and after its last round they stay open.
func (r *run) openAll(seats []*seat) {
	for round := range r.cfg.rounds {
		for _, s := range turn(seats, round) {
			if s.failed || !s.engine.Can(engine.CanReopen) || r.ctx.Err() != nil {
				continue
			}
			r.progress.at("Open: %s, round %d", s.engine.Name, round+1)
			r.close(s)
			key := rand.Uint64N(r.size.Keys)
			r.openMeasured(s, openClean, openTitle, key)
		}
	}
}

// openMeasured opens a store in a new process and records how long it took.
func (r *run) openMeasured(s *seat, name, title string, key uint64) {
	cell := r.setting.Cell(name, title, s.engine)
	res, err := r.start(s, &key)
	if err != nil {
		r.fail(s, cell, err)
		return
	}
	if name == openClean && !r.cfg.wants(name) { // every store is opened; it is killed only where that was asked for
		r.forget(cell)
		return
	}
	r.measure(s, name, title, func() (worker.Result, error) { return res, nil })
}

// forget takes an empty cell off the report.
func (r *run) forget(cell *report.Cell) {
	for i, c := range r.setting.Cells {
		if c == cell {
			r.setting.Cells = append(r.setting.Cells[:i], r.setting.Cells[i+1:]...)
			return
		}
	}
}

func (r *run) close(s *seat) {
	if s.failed || s.p == nil {
		return
	}
	_, err := s.p.Close()
	s.p = nil
	if err != nil {
		r.fail(s, r.setting.Cell("close", "Close", s.engine), err)
	}
}

// warm reads everything once, so that no engine pays for pages that another
// found in memory.
func (r *run) warm(seats []*seat) {
	for _, s := range seats {
		if s.failed || s.p == nil || !s.engine.Can(engine.CanScan) {
			continue
		}
		r.progress.at("Reading everything once: %s", s.engine.Name)
		if _, err := s.p.Scan(); err != nil {
			r.fail(s, r.setting.Cell(scanName, scanTitle, s.engine), err)
		}
	}
}

func (r *run) scans(seats []*seat) {
	if !r.cfg.wants(scanName) {
		return
	}
	for round := range min(r.cfg.rounds, 3) {
		for _, s := range turn(seats, round) {
			if s.engine.Can(engine.CanScan) {
				r.progress.at("Scan: %s, round %d", s.engine.Name, round+1)
				r.measure(s, scanName, scanTitle, func() (worker.Result, error) { return s.p.Scan() })
			}
		}
	}
}

// openAfterKill writes a tail, kills the process while the store is open, and
// measures how long a new one takes to find the last key.
func (r *run) openAfterKill(seats []*seat) {
	if !r.cfg.wants(openKill) {
		return
	}
	from := uint64(1) << 32 // behind all other keys
	tails := r.cfg.tailsOf(r.setting.Keys, uint64(r.setting.ValueSize))
	for i, tail := range tails {
		name := openKill
		if i+1 < len(tails) {
			name = fmt.Sprintf("%s-%d", openKill, tail)
		}
		title := fmt.Sprintf("Open after SIGKILL with %s keys written since opening, and the first Get", humanize.Comma(int64(tail)))
		for round := range min(r.cfg.rounds, r.cfg.kills) {
			for _, s := range turn(seats, round) {
				r.kill(s, name, title, from, tail)
			}
			from += tail
		}
	}
}

func (r *run) kill(s *seat, name, title string, from, tail uint64) {
	if s.failed || s.p == nil || !s.engine.Can(engine.CanReopen) || r.ctx.Err() != nil {
		return
	}
	r.progress.at("SIGKILL: %s", s.engine.Name)
	r.close(s) // so that the tail is what was written since an opening
	if _, err := r.start(s, nil); err != nil {
		r.fail(s, r.setting.Cell(name, title, s.engine), err)
		return
	}
	if _, err := s.p.Tail(from, tail); err != nil {
		r.fail(s, r.setting.Cell(name, title, s.engine), err)
		return
	}
	err := s.p.Kill()
	s.p = nil
	if err != nil {
		r.fail(s, r.setting.Cell(name, title, s.engine), err)
		return
	}
	last := uint64(0)
	if tail > 0 {
		last = from + tail - 1
	}
	r.openMeasured(s, name, title, last)
}

// commits measures the engines that sync each commit, on the files that the
// others have loaded.
func (r *run) commits(dir string, loaded []*seat) {
	if !hasCommits(r.workloads) {
		return
	}
	var seats []*seat
	taken := map[string]bool{}
	defer func() { killAll(seats) }()
	for _, e := range r.engines {
		if e.Durability != engine.Commit {
			continue
		}
		s := &seat{engine: e, dir: filepath.Join(dir, e.Name)}
		ok, err := shared(s, loaded, taken)
		if err == nil && ok {
			seats = append(seats, s)
			_, err = r.start(s, nil)
		}
		if err != nil {
			r.fail(s, r.setting.Cell("commit-1", "Put with sync", e), err)
		}
	}
	r.syncDisk()
	r.loops(seats, workload.Commit)
	for _, s := range seats {
		r.close(s)
	}
}

func hasCommits(list []workload.Workload) bool {
	for _, w := range list {
		if w.Class == workload.Commit {
			return true
		}
	}
	return false
}

// shared finds the files that an engine is to open. The first takes them as
// they are, the next gets a copy.
func shared(s *seat, loaded []*seat, taken map[string]bool) (ok bool, err error) {
	if s.engine.Shares == "" {
		return true, nil
	}
	for _, l := range loaded {
		if l.engine.Name != s.engine.Shares || l.failed {
			continue
		}
		if !taken[l.dir] {
			taken[l.dir] = true
			s.dir = l.dir
			return true, nil
		}
		return true, copyTree(l.dir, s.dir)
	}
	return false, nil
}
