package worker

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
	"github.com/mapfile-db/mapfile/benchmarks/workload"
)

// Main serves requests from stdin until it ends, and exits. It returns at once
// in a process that is no worker.
func Main() {
	if os.Getenv(Env) == "" {
		return
	}
	w := worker{lines: make(chan []byte)}
	go w.read(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for line := range w.lines {
		if err := out.Encode(w.answer(line)); err != nil {
			os.Exit(1)
		}
	}
	os.Exit(0)
}

type worker struct {
	lines  chan []byte
	engine engine.Engine
	target *workload.Target
}

// read passes lines on. At the end of input the suite is gone: whatever is
// being measured, nobody waits for it.
func (w *worker) read(in io.Reader) {
	s := bufio.NewScanner(in)
	for s.Scan() {
		w.lines <- append([]byte(nil), s.Bytes()...)
	}
	os.Exit(0)
}

func (w *worker) answer(line []byte) Result {
	var q request
	if err := json.Unmarshal(line, &q); err != nil {
		return Result{Err: err.Error()}
	}
	before := majorFaults()
	res, err := w.do(q)
	res.MajorFaults = majorFaults() - before
	if err != nil {
		res.Err = fmt.Sprintf("%s: %s %s: %v", w.engine.Name, q.Op, q.Workload, err)
	}
	if q.Settle > 0 {
		res.Settled = settle(q.Settle)
	}
	return res
}

var errNotOpen = errors.New("worker: nothing is open")

func (w *worker) do(q request) (Result, error) {
	if q.Op == opOpen {
		return w.open(q)
	}
	if w.target == nil {
		return Result{}, errNotOpen
	}
	switch q.Op {
	case opLoad:
		s, err := workload.Load(w.target, w.engine.LoadBatch)
		if err == nil && w.engine.Can(engine.CanGet) {
			err = workload.Verify(w.target, 2000)
		}
		return sample(s, err)
	case opRun:
		wl, err := workload.ByName(q.Workload)
		if err != nil {
			return Result{}, err
		}
		return sample(workload.Run(wl, w.target, q.For, q.Seed))
	case opScan:
		return sample(workload.Scan(w.target))
	case opTail:
		return sample(workload.Tail(w.target, q.From, q.N, w.engine.LoadBatch))
	case opChurn:
		return sample(workload.Churn(w.target, q.N, w.engine.LoadBatch, q.Seed))
	case opUsage:
		return Result{Usage: usage()}, nil
	case opClose:
		start := time.Now()
		err := w.target.Store.Close()
		w.target = nil
		return Result{Elapsed: time.Since(start)}, err
	}
	return Result{}, fmt.Errorf("worker: what is %q", q.Op)
}

// open opens the store and finds one key, if one is expected: the two together
// are what a program waits for when it starts.
func (w *worker) open(q request) (Result, error) {
	e, err := engine.ByName(q.Engine)
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	s, err := e.Open(q.Dir, q.Size)
	if err != nil {
		return Result{}, err
	}
	var res Result
	if q.Expect > 0 {
		_, err = s.AppendGet(nil, workload.AppendKey(nil, q.Expect-1))
		if res.Lost = errors.Is(err, engine.ErrNotFound); res.Lost {
			err = nil
		}
	}
	res.Elapsed = time.Since(start)
	if r, ok := s.(engine.Replayer); ok {
		res.Replayed = r.Replayed()
	}
	w.engine = e
	w.target = workload.NewTarget(s, workload.NewValues(q.Size.ValueSize), q.Size.Keys)
	return res, err
}

func sample(s workload.Sample, err error) (Result, error) {
	res := Result{Ops: s.Ops, Elapsed: s.Elapsed}
	if err != nil || s.Latency == nil {
		return res, err
	}
	res.Latency, err = s.Latency.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	return res, err
}
