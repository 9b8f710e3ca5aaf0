package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// lossesReport is what is lost of a map.
type lossesReport struct {
	LostPlaces uint64       `json:"lost_places"`
	LostBytes  uint64       `json:"lost_bytes"`
	LostKeys   uint64       `json:"lost_keys"` // places whose key is known
	Lost       []lossReport `json:"lost"`      // the first thousand; [] where nothing is
}

// lossReport is one thing that is lost.
type lossReport struct {
	Structure string  `json:"structure"` // log, commit, record, or segment
	Offset    int64   `json:"offset"`    // of the file, 0: not in the file
	LSN       uint64  `json:"lsn"`       // 0 where it is not known
	Bytes     int64   `json:"bytes"`
	Key       *[]byte `json:"key"`   // in base64; null where it is not known
	Older     int64   `json:"older"` // offset of an older version, 0: none
	Reason    string  `json:"reason"`
}

func newLossReport(l mapfile.Loss) lossReport {
	r := lossReport{Structure: l.Structure, Offset: l.Offset, LSN: l.LSN, Bytes: l.Bytes, Older: l.Older, Reason: l.Reason}
	if l.Key != nil {
		r.Key = &l.Key
	}
	return r
}

func newLossesReport(l mapfile.Losses) lossesReport {
	r := lossesReport{LostPlaces: l.Places, LostBytes: l.Bytes, LostKeys: l.Keys, Lost: []lossReport{}}
	for _, x := range l.List {
		r.Lost = append(r.Lost, newLossReport(x))
	}
	return r
}

func (r *lossesReport) lines() []line {
	if r.LostPlaces == 0 {
		return []line{{"lost", "nothing"}}
	}
	lines := []line{{"lost", fmt.Sprintf("%s bytes in %s places, keys known of %s", formatCount(r.LostBytes), formatCount(r.LostPlaces), formatCount(r.LostKeys))}}
	for _, l := range r.Lost {
		lines = append(lines, line{"lost " + l.Structure, l.text(60)})
	}
	if more := r.LostPlaces - uint64(len(r.Lost)); more > 0 {
		lines = append(lines, line{"lost", formatCount(more) + " places more; --report FILE lists all"})
	}
	return lines
}

// text describes a loss, its key cut to most bytes.
func (l *lossReport) text(most int) string {
	s := fmt.Sprintf("%d bytes", l.Bytes)
	if l.Offset != 0 {
		s = fmt.Sprintf("offset %d, ", l.Offset) + s
	}
	if l.LSN != 0 {
		s += fmt.Sprintf(", LSN %d", l.LSN)
	}
	if l.Key != nil {
		if key := string(*l.Key); len(key) > most {
			s += fmt.Sprintf(", key %q… (%d bytes)", key[:most], len(key))
		} else {
			s += fmt.Sprintf(", key %q", key)
		}
	}
	return s + ": " + l.Reason
}

func addReportFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "report", "", "write every loss into a new file, one a line, in JSON with --json")
}

// lossFile is the file of --report. Without a name it takes nothing.
type lossFile struct {
	f    *os.File
	w    *bufio.Writer
	json bool
	err  error // the first of a write
}

func newLossFile(name string, asJSON bool) (*lossFile, error) {
	l := &lossFile{json: asJSON}
	if name == "" {
		return l, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("mapfile: report: %w", err)
	}
	l.f, l.w = f, bufio.NewWriterSize(f, 1<<16)
	return l, nil
}

// add writes a loss. An error of the file is told by close: it does not stop what is being saved.
func (l *lossFile) add(x mapfile.Loss) {
	if l.w == nil || l.err != nil {
		return
	}
	r := newLossReport(x)
	text := []byte(r.Structure + ": " + r.text(mapfile.MaxKeySize))
	if l.json {
		text, l.err = json.Marshal(r)
	}
	if l.err == nil {
		_, l.err = l.w.Write(append(text, '\n'))
	}
}

func (l *lossFile) close() error {
	if l.w == nil {
		return nil
	}
	err := first(l.err, l.w.Flush())
	if err := first(err, l.f.Close()); err != nil {
		return fmt.Errorf("mapfile: report: %w", err)
	}
	return nil
}
