package worker

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/mapfile-db/mapfile/benchmarks/engine"
)

// Process is the suite's end of a worker. It is for one goroutine.
type Process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// Start starts this same program as a worker, which has called [Main].
func Start() (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), Env+"=1")
	cmd.Stderr = os.Stderr
	p := &Process{cmd: cmd}
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	return p, cmd.Start()
}

func (p *Process) call(q request) (Result, error) {
	var res Result
	line, err := json.Marshal(q)
	if err != nil {
		return res, err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return res, fmt.Errorf("worker: %s: %w", q.Op, err)
	}
	answer, err := p.out.ReadBytes('\n')
	if err != nil {
		return res, fmt.Errorf("worker: the process ended during %s %s: %w", q.Op, q.Workload, err)
	}
	if err := json.Unmarshal(answer, &res); err != nil {
		return res, err
	}
	if res.Err != "" {
		return res, errors.New(res.Err)
	}
	return res, nil
}

// Open opens e in dir. With find, key number *find is read once, as part of
// the time; Lost says that it was not there.
func (p *Process) Open(e engine.Engine, dir string, size engine.Sizing, find *uint64) (Result, error) {
	q := request{Op: opOpen, Engine: e.Name, Dir: dir, Size: size}
	if find != nil {
		q.Expect = *find + 1
	}
	return p.call(q)
}

// Load stores all keys and waits up to settle for background work to end.
func (p *Process) Load(settle time.Duration) (Result, error) {
	return p.call(request{Op: opLoad, Settle: settle})
}

// Run measures a workload for about the time given.
func (p *Process) Run(workload string, about time.Duration, seed uint64, settle time.Duration) (Result, error) {
	return p.call(request{Op: opRun, Workload: workload, For: about, Seed: seed, Settle: settle})
}

// Scan reads everything once.
func (p *Process) Scan() (Result, error) { return p.call(request{Op: opScan}) }

// Tail stores n keys from number from on and returns while the store is open.
func (p *Process) Tail(from, n uint64) (Result, error) {
	return p.call(request{Op: opTail, From: from, N: n})
}

// Churn stores new values of n keys drawn at random from the loaded ones.
func (p *Process) Churn(n, seed uint64) (Result, error) {
	return p.call(request{Op: opChurn, N: n, Seed: seed})
}

// Usage reports the worker's memory.
func (p *Process) Usage() (Usage, error) {
	res, err := p.call(request{Op: opUsage})
	return res.Usage, err
}

// Close closes the store and ends the worker.
func (p *Process) Close() (Result, error) {
	res, err := p.call(request{Op: opClose})
	return res, errors.Join(err, p.end())
}

func (p *Process) end() error {
	return errors.Join(p.in.Close(), p.cmd.Wait())
}

// Kill ends the worker with SIGKILL, its store open, and waits until it is gone.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	// Wait reports the signal, which is what was asked for.
	_ = p.cmd.Wait()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
