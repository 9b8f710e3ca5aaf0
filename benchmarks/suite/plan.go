package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
	"github.com/mapfile-db/mapfile/benchmarks/report"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

// The measurements that are no loops over a store that stays open.
const (
	loadName  = "load"
	scanName  = "scan"
	churnName = "churn"
	openClean = "open-clean"
	openKill  = "open-kill"
)

// wanted tells whether a list asks for a name: by that name, or by its
// beginning up to a dash where nothing is called exactly so. An empty list asks
// for everything.
func wanted(list, name string, all []string) bool {
	if list == "" {
		return true
	}
	return slices.ContainsFunc(strings.Split(list, ","), func(w string) bool {
		return name == w || strings.HasPrefix(name, w+"-") && !slices.Contains(all, w)
	})
}

// workloadNames are all that -workloads can ask for.
func workloadNames() []string {
	names := []string{loadName, scanName, openClean, openKill, churnName}
	for _, w := range workload.All() {
		names = append(names, w.Name)
	}
	return names
}

// wants tells whether the run is to measure what is so called.
func (cfg config) wants(name string) bool { return wanted(cfg.workloads, name, workloadNames()) }

// pickEngines returns those asked for, and those that load files for them.
func pickEngines(list string) ([]engine.Engine, error) {
	var picked []engine.Engine
	var all []string
	for _, e := range engine.All() {
		all = append(all, e.Name)
	}
	names := map[string]bool{}
	for _, e := range engine.All() {
		if wanted(list, e.Name, all) {
			names[e.Name], names[e.Shares] = true, true
		}
	}
	for _, e := range engine.All() {
		if names[e.Name] {
			picked = append(picked, e)
		}
	}
	if len(picked) == 0 {
		return nil, fmt.Errorf("-engines %s names none", list)
	}
	return picked, nil
}

func pickWorkloads(cfg config) ([]workload.Workload, error) {
	var picked []workload.Workload
	for _, w := range workload.All() {
		if cfg.wants(w.Name) && (cfg.workloads != "" || !cfg.quick || w.Quick) {
			picked = append(picked, w)
		}
	}
	if len(picked) == 0 && !slices.ContainsFunc(workloadNames(), cfg.wants) {
		return nil, fmt.Errorf("-workloads %s names none", cfg.workloads)
	}
	return picked, nil
}

// spaceFactor is how much room a store takes beside its keys and values while
// it is loaded and changed: the log-structured ones keep old files for a while.
const spaceFactor = 4

// groups cuts the engines that are loaded into sets that fit the memory
// together. Where not all do, mapfile meets one rival at a time.
func groups(engines []engine.Engine, size engine.Sizing) [][]engine.Engine {
	one := size.Bytes() * 2
	memory := report.AvailableBytes() / 10 * 8
	if memory == 0 || one*uint64(len(engines)) <= memory {
		return [][]engine.Engine{engines}
	}
	var sets [][]engine.Engine
	base := engines[:1]
	if base[0].Name != "mapfile-never" {
		base = nil
	}
	for _, e := range engines[len(base):] {
		sets = append(sets, append(slices.Clone(base), e))
	}
	return sets
}

// sizes returns what the stores hold in one setting after another: each number of keys with each size of value, cut to -most.
func (cfg config) sizes() []engine.Sizing {
	var all []engine.Sizing
	for _, keys := range cfg.keys {
		for _, value := range cfg.values {
			size := engine.Sizing{Keys: keys, KeyBytes: workload.KeyBytes, ValueSize: int(value)}
			if cfg.most > 0 && size.Bytes() > cfg.most {
				size.Keys = max(cfg.most/(workload.KeyBytes+value), leastKeys)
			}
			if !slices.Contains(all, size) {
				all = append(all, size)
			}
		}
	}
	return all
}

// leastKeys is what the workloads need.
const leastKeys = 1000

// estimates: what loading a key takes, for the time left.
var loadCost = map[string]time.Duration{
	"bbolt-nosync": 9 * time.Microsecond, "pogreb-nosync": 6 * time.Microsecond, "badger-nosync": 3 * time.Microsecond,
}

func loadTime(e engine.Engine, keys uint64) time.Duration {
	cost, ok := loadCost[e.Name]
	if !ok {
		cost = 1500 * time.Nanosecond
	}
	return time.Duration(keys) * cost
}
