package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
	"github.com/mapfile-db/mapfile/benchmarks/report"
	"github.com/mapfile-db/mapfile/benchmarks/worker"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

// run is one run of the suite.
type run struct {
	ctx       context.Context
	cfg       config
	engines   []engine.Engine
	workloads []workload.Workload
	dir       string // ours alone, removed at the end
	device    device
	progress  *progress
	report    *report.Report
	setting   *report.Setting
	size      engine.Sizing
}

func newRun(ctx context.Context, cfg config) (*run, error) {
	engines, err := pickEngines(cfg.engines)
	if err != nil {
		return nil, err
	}
	workloads, err := pickWorkloads(cfg)
	if err != nil {
		return nil, err
	}
	parent := cfg.dir
	if parent == "" {
		parent = cfg.out
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	r := &run{ctx: ctx, cfg: cfg, engines: engines, workloads: workloads, device: deviceOf(parent)}
	if err := checkRoom(parent, r.need()); err != nil {
		return nil, err
	}
	if r.dir, err = os.MkdirTemp(parent, "data-"); err != nil {
		return nil, err
	}
	r.report = &report.Report{
		Started: time.Now(), Commit: report.Commit(), Machine: report.ThisMachine(r.dir),
		Engines: report.Describe(engines), Command: "go run ./benchmarks/suite " + strings.Join(os.Args[1:], " "),
	}
	r.progress = newProgress(cfg.progress, r.estimate())
	return r, nil
}

// need is the room on disk for the largest setting.
func (r *run) need() uint64 {
	files := 0
	for _, e := range r.engines {
		if e.Can(engine.CanReopen) {
			files++
		}
	}
	largest := uint64(0)
	for _, size := range r.cfg.sizes() {
		largest = max(largest, size.Bytes())
	}
	return largest*spaceFactor*uint64(files) + 1<<30
}

// estimate adds up what the steps will say they have passed.
func (r *run) estimate() time.Duration {
	var sum time.Duration
	for _, size := range r.cfg.sizes() {
		keys := size.Keys
		for _, e := range r.engines {
			if e.Shares == "" && e.Can(engine.CanLoad) {
				sum += time.Duration(r.cfg.loadsOf(keys)) * loadTime(e, keys)
				if r.cfg.churns() && e.Can(engine.CanReopen|engine.CanPut) {
					sum += time.Duration(r.cfg.churn) * loadTime(e, keys)
				}
			}
			for _, w := range r.workloads {
				if w.For(e) {
					sum += time.Duration(r.cfg.rounds) * r.stepTime(w)
				}
			}
		}
	}
	return sum
}

func (r *run) stepTime(w workload.Workload) time.Duration {
	each := r.cfg.each + 100*time.Millisecond
	if w.Class == workload.Commit {
		return each
	}
	each += r.cfg.each / workload.WarmShare
	if w.Latency {
		each += r.cfg.each / 2
	}
	return each
}

// all measures every setting and cleans up.
func (r *run) all() (err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	for _, size := range r.cfg.sizes() {
		r.size = size
		r.setting = &report.Setting{Keys: size.Keys, KeyBytes: size.KeyBytes, ValueSize: size.ValueSize}
		r.report.Settings = append(r.report.Settings, r.setting)
		if err := r.sets(); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) sets() error {
	loaded := slices.DeleteFunc(slices.Clone(r.engines), func(e engine.Engine) bool {
		return e.Shares != "" || !e.Can(engine.CanLoad)
	})
	sets := groups(loaded, r.size)
	if len(sets) > 1 {
		r.setting.Notes = append(r.setting.Notes, "the stores do not fit the memory together: mapfile met one rival at a time, and its own figures are from all these meetings")
	}
	for i, set := range sets {
		dir := filepath.Join(r.dir, fmt.Sprintf("%d-%d-%d", r.size.Keys, r.size.ValueSize, i))
		if err := r.set(dir, set); err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// seat is an engine with its directory and, while it is open, its process.
type seat struct {
	engine engine.Engine
	dir    string
	p      *worker.Process
	failed bool
}

// set measures engines that are open side by side.
func (r *run) set(dir string, engines []engine.Engine) error {
	seats := make([]*seat, len(engines))
	for i, e := range engines {
		seats[i] = &seat{engine: e, dir: filepath.Join(dir, e.Name)}
	}
	defer killAll(seats)
	loads := r.cfg.loadsOf(r.size.Keys)
	for round := range loads {
		for _, s := range seats {
			r.load(s, round+1 == loads)
		}
	}
	r.syncDisk()
	r.openAll(seats)
	r.warm(seats)
	r.loops(seats, workload.Read)
	r.scans(seats)
	r.loops(seats, workload.Write)
	r.openAfterKill(seats)
	for _, s := range seats {
		r.close(s)
	}
	r.churns(seats)
	r.commits(dir, seats)
	return r.ctx.Err()
}

// turn rotates the seats, so that no engine always follows the same one.
func turn(seats []*seat, round int) []*seat {
	k := round % max(len(seats), 1)
	return append(slices.Clone(seats[k:]), seats[:k]...)
}

// loops runs the workloads of a class, the engines taking turns in each round.
func (r *run) loops(seats []*seat, class workload.Class) {
	for _, w := range r.workloads {
		if w.Class != class {
			continue
		}
		for round := range r.cfg.rounds {
			for _, s := range turn(seats, round) {
				if w.For(s.engine) {
					r.loop(w, s, round)
				}
			}
		}
	}
}

func (r *run) loop(w workload.Workload, s *seat, round int) {
	r.progress.at("%s: %s, round %d", w.Title, s.engine.Name, round+1)
	settle := time.Duration(0)
	if w.Class != workload.Read {
		settle = r.cfg.settle / 5
	}
	r.measure(s, w.Name, w.Title, func() (worker.Result, error) {
		before := r.device.written()
		res, err := s.p.Run(w.Name, r.cfg.each, rand.Uint64(), settle)
		if w.Class == workload.Commit {
			res.DiskBytes = r.device.written() - before
		}
		return res, err
	})
	r.progress.passed(r.stepTime(w))
}

// measure does one measurement and records it. A failure is a cell of the
// report; the engine takes no further part.
func (r *run) measure(s *seat, name, title string, do func() (worker.Result, error)) {
	if s.failed || s.p == nil || r.ctx.Err() != nil {
		return
	}
	cell := r.setting.Cell(name, title, s.engine)
	res, err := do()
	if err == nil {
		err = cell.Add(report.Round{Ops: max(res.Ops, 1), Elapsed: res.Elapsed, Replayed: res.Replayed, MajorFaults: res.MajorFaults, DiskBytes: res.DiskBytes}, res.Latency)
	}
	if res.Lost && s.engine.Durability >= engine.Kill && err == nil {
		// No rate makes up for that, but the engine goes on.
		cell.Err = s.engine.Name + ": " + name + ": a key that was acknowledged before SIGKILL is lost"
	} else if res.Lost {
		cell.Note = "the last key was lost"
	}
	r.fail(s, cell, err)
}

func (r *run) fail(s *seat, cell *report.Cell, err error) {
	if err == nil {
		return
	}
	cell.Err = err.Error()
	s.failed = true
	if s.p != nil {
		// The failure is reported; of the process nothing more is wanted.
		_ = s.p.Kill()
		s.p = nil
	}
}

// failures turns failed cells into an error.
func (r *run) failures() error {
	var errs []error
	for _, s := range r.report.Settings {
		for _, c := range s.Cells {
			if c.Err != "" {
				errs = append(errs, errors.New(c.Err))
			}
		}
	}
	return errors.Join(errs...)
}

func killAll(seats []*seat) {
	for _, s := range seats {
		if s.p != nil {
			// What is left over when a run ends early.
			_ = s.p.Kill()
			s.p = nil
		}
	}
}
