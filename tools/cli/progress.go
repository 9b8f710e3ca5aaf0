package cli

import (
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// unit is what a progress counts.
type unit int

const (
	unitEntries unit = iota
	unitBytes
)

// progress is a bar with rate and time left on the error output while long work
// goes on, if that is a terminal; elsewhere it does nothing. For one goroutine.
type progress struct {
	bar    *progressbar.ProgressBar // nil: not shown
	unseen int64                    // added and not yet told to bar
	step   int64                    // tell bar when so many are unseen
}

// newProgress begins a bar. total may be 0 where it is not known.
func (a *app) newProgress(cmd *cobra.Command, what string, u unit, total int64) *progress {
	w := cmd.ErrOrStderr()
	if !a.isTerminal(w) {
		return &progress{}
	}
	if total <= 0 {
		total = -1
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionShowCount(),
		progressbar.OptionClearOnFinish(),
	}
	if u == unitBytes {
		options = append(options, progressbar.OptionShowBytes(true))
	} else {
		options = append(options, progressbar.OptionShowIts())
	}
	step := int64(1 << 8) // a call costs as much as a look-up
	if u == unitBytes {
		step = 1 << 18
	}
	return &progress{bar: progressbar.NewOptions64(total, options...), step: step}
}

// add says that n more are done.
func (p *progress) add(n int64) {
	if p.bar == nil {
		return
	}
	if p.unseen += n; p.unseen >= p.step {
		p.show()
	}
}

// set says that done of total are done.
func (p *progress) set(done, total uint64) {
	if p.bar == nil {
		return
	}
	if p.bar.GetMax64() != int64(total) {
		p.bar.ChangeMax64(int64(total))
	}
	_ = p.bar.Set64(int64(done))
}

// finish takes the bar away.
func (p *progress) finish() {
	if p.bar != nil {
		p.show()
		_ = p.bar.Finish()
	}
}

// show tells the bar what it has not seen. A bar that cannot be drawn is no
// reason to stop the work.
func (p *progress) show() {
	_ = p.bar.Add64(p.unseen)
	p.unseen = 0
}
