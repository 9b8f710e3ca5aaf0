package main

import (
	"math/rand/v2"
	"time"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
	"github.com/mapfile-db/mapfile/benchmarks/report"
	"github.com/mapfile-db/mapfile/benchmarks/worker"
)

const (
	churnTitle = "Overwriting everything at random, a key"
	lookEvery  = 100 * time.Millisecond
)

// churns tells whether the run overwrites everything; the quick form does where it is asked to by name.
func (cfg config) churns() bool {
	return cfg.wants(churnName) && (!cfg.quick || cfg.workloads != "")
}

// churns overwrites each store at random, so many keys as -churn times its own, alone, and looks meanwhile how much room its files take.
func (r *run) churns(seats []*seat) {
	if !r.cfg.churns() {
		return
	}
	for _, s := range seats {
		if s.failed || !s.engine.Can(engine.CanReopen|engine.CanPut) || r.ctx.Err() != nil {
			continue
		}
		r.progress.at("%s: %s", churnTitle, s.engine.Name)
		r.churn(s)
		r.progress.passed(time.Duration(r.cfg.churn) * loadTime(s.engine, r.size.Keys))
	}
}

func (r *run) churn(s *seat) {
	r.syncDisk()
	times := uint64(r.cfg.churn)
	c := report.Churn{Engine: s.engine.Name, Data: r.size.Bytes(), Put: times * r.size.Bytes()}
	before := r.device.written()
	cell := r.setting.Cell(churnName, churnTitle, s.engine)
	_, err := r.start(s, nil)
	if err == nil {
		stop, most := make(chan struct{}), make(chan uint64)
		go look(s.dir, stop, most)
		r.measure(s, churnName, churnTitle, func() (worker.Result, error) { return s.p.Churn(times*r.size.Keys, rand.Uint64()) })
		close(stop)
		c.Most = <-most
		r.close(s)
		r.syncDisk()
		c.Written = r.device.written() - before
		c.After, _, err = diskUsage(s.dir)
	}
	r.fail(s, cell, err)
	c.Err = cell.Err
	r.setting.Churns = append(r.setting.Churns, c)
}

// look finds the most blocks that the files below dir have at any time.
func look(dir string, stop <-chan struct{}, most chan<- uint64) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for greatest := uint64(0); ; {
		if allocated, _, err := diskUsage(dir); err == nil { // else the look behind Close tells
			greatest = max(greatest, allocated)
		}
		select {
		case <-stop:
			most <- greatest
			return
		case <-tick.C:
		}
	}
}
