// Package worker runs one store in a process of its own, so that its heap, its
// resident memory and its garbage collector are its own, and so that it can be
// killed. The suite speaks to its workers in lines of JSON, one at a time.
package worker

import (
	"time"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
)

// Env is the variable that makes a program of this module a worker: [Main]
// runs when it is set.
const Env = "MAPFILE_BENCH_WORKER"

// The things a worker does.
const (
	opOpen  = "open"
	opLoad  = "load"
	opRun   = "run"
	opScan  = "scan"
	opTail  = "tail"
	opChurn = "churn"
	opUsage = "usage"
	opClose = "close"
)

// request is one line to a worker.
type request struct {
	Op       string
	Engine   string        `json:",omitempty"`
	Dir      string        `json:",omitempty"`
	Size     engine.Sizing `json:",omitzero"`
	Expect   uint64        `json:",omitempty"` // a key to find after opening, plus one
	Workload string        `json:",omitempty"`
	For      time.Duration `json:",omitempty"`
	Seed     uint64        `json:",omitempty"`
	From     uint64        `json:",omitempty"` // first key of a tail
	N        uint64        `json:",omitempty"` // keys of a tail, or of a churn
	Settle   time.Duration `json:",omitempty"` // how long to wait for background work
}

// Result is what a worker answers; which fields are set depends on the request.
type Result struct {
	Err     string        `json:",omitempty"`
	Ops     uint64        `json:",omitempty"`
	Elapsed time.Duration `json:",omitempty"`
	// Latency is an encoded histogram of nanoseconds.
	Latency []byte `json:",omitempty"`
	// Lost tells that the expected key was not there after opening.
	Lost bool `json:",omitempty"`
	// Replayed counts the records that opening replayed, of stores that tell.
	Replayed uint64 `json:",omitempty"`
	// Settled is how long background work went on after the work itself.
	Settled time.Duration `json:",omitempty"`
	// MajorFaults counts pages read from disk by this process during the work.
	MajorFaults int64 `json:",omitempty"`
	// DiskBytes is filled in by the suite.
	DiskBytes uint64 `json:"-"`
	Usage     Usage  `json:",omitzero"`
}

// Usage is the memory of a worker, in bytes, after a garbage collection.
type Usage struct {
	Heap       uint64 // Go's heap in use
	Anon       uint64 // resident, not backed by a file
	FileRSS    uint64 // resident, pages of mapped files (the page cache, shared)
	Goroutines int
}
