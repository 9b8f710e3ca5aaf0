package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/tail"
)

// logRecord is a record of the log, or bytes in which none can be read.
type logRecord struct {
	LSN      uint64   `json:"lsn"`
	Position uint64   `json:"position"` // byte offset in the file
	Segment  uint64   `json:"segment"`  // its first page
	Kind     string   `json:"kind"`     // put, delete, drop, retire, link, abort, pad, clear; damaged where the header does not hold
	Flags    []string `json:"flags"`
	Sequence uint64   `json:"sequence"`
	Previous uint64   `json:"previous"`        // position of the version before, 0: none
	Extra    uint64   `json:"extra,omitempty"` // a mark (LSN), or the sequence from which a moved record is seen
	Key      string   `json:"key"`
	Value    uint64   `json:"value_bytes"`
	Header   string   `json:"header_sum"` // right or wrong
	Sum      string   `json:"sum"`        // right or wrong; "" where the header's is wrong
	Size     uint64   `json:"size"`       // bytes in the log
}

// logEnd is the last line of a log: where it ends, and why.
type logEnd struct {
	LSN      uint64 `json:"end_lsn"`
	Position uint64 `json:"end_position"`
	Mark     uint64 `json:"mark"` // all of the log below is known to be synced
	Reason   string `json:"reason"`
	Records  uint64 `json:"records"` // shown
	Damaged  uint64 `json:"damaged"` // of these
}

func (a *app) logCmd() *cobra.Command {
	var from uint64
	var limit int
	var all, asHex bool
	cmd := &cobra.Command{
		Use:   "log FILE",
		Short: "Print the records of the log in order, and where and why it ends",
		Long: "Print the records that an open replays, in the order of the log: LSN, position in the file, segment, kind, flags,\n" +
			"sequence, position of the version before, key, length of the value, and whether its sums are right. The last\n" +
			"line says where the log ends, and why: at its end, at a torn tail, or at damage. With --all every\n" +
			"segment is read; where no meta page holds, those whose headers do. Exit code 3 on damage, and where no\n" +
			"meta page holds.",
		Example: "  mapfile log fruit.map\n  mapfile log --all --limit 20 fruit.map\n  mapfile log --from 4096 --json fruit.map",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := cmd.Flags().Bool("json", false, "print an object a line")
	cmd.Flags().Uint64Var(&from, "from", 0, "leave out the records before this LSN; one before the start of replay reads every segment")
	cmd.Flags().IntVar(&limit, "limit", 0, "stop after so many records; 0: never")
	cmd.Flags().BoolVar(&all, "all", false, "every segment, not the part that an open replays alone")
	cmd.Flags().BoolVar(&asHex, "hex", false, "print keys whole and in hexadecimal")
	cmd.RunE = a.onRaw(func(cmd *cobra.Command, m *rawMap, args []string) error {
		if m.noMap() {
			return fmt.Errorf("mapfile: %s: %w", args[0], unprefixed{mapfile.ErrNotMapfile})
		}
		p := &logPrinter{m: m, from: from, limit: limit, hex: asHex, end: logEnd{Mark: m.syncedTo()}}
		if all || m.walk == nil || cmd.Flags().Changed("from") && from < m.Meta.LSN {
			p.all = true
		}
		if *asJSON {
			p.json = json.NewEncoder(cmd.OutOrStdout())
		} else {
			p.text = newLogTable(cmd.OutOrStdout())
		}
		return p.run(cmd, args[0])
	})
	return cmd
}

// noMap reports whether there is not a trace of a map in the file.
func (m *rawMap) noMap() bool {
	for _, reason := range m.Metas.Reason {
		if !errors.Is(reason, mapfile.ErrNotMapfile) {
			return false
		}
	}
	return len(m.segments) == 0
}

// syncedTo is the highest mark that is known.
func (m *rawMap) syncedTo() uint64 {
	if m.walk == nil {
		return 0
	}
	return m.walk.Mark
}

// readRecord reads what stands at a position of a segment. Size 0: no record can be read there.
func (m *rawMap) readRecord(u *useOf, at uint64, wholeKey bool) logRecord {
	out := logRecord{LSN: u.lsn(at), Position: at, Segment: uint64(u.Start), Flags: []string{}, Kind: "damaged", Header: "wrong"}
	var r tail.Record
	if !tail.ParseHeader(m.View, at, u.Salt, min(u.End(), m.Size), &r) {
		return out
	}
	out.Kind, out.Flags, out.Sequence, out.Previous, out.Extra = kindName(r.Kind), flagNames(r.Flags), r.Sequence, r.Previous, r.Extra
	out.Value, out.Size, out.Header, out.Sum = uint64(len(r.Value)), r.Size(), "right", "wrong"
	if out.Key = shorten(string(r.Key)); wholeKey {
		out.Key = hexKey(r.Key, true)
	}
	if r.ValueHolds(r.Value) {
		out.Sum = "right"
	}
	return out
}

func (r *logRecord) damaged() bool { return r.Header != "right" || r.Sum != "right" }

func kindName(k tail.Kind) string {
	names := []string{"?", "put", "delete", "drop", "retire", "link", "abort", "pad", "clear"}
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

func flagNames(flags uint8) []string {
	out := []string{}
	for i, name := range []string{"first", "last", "new", "mark", "moved"} {
		if flags&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

func (r *logRecord) text() string {
	if r.Size == 0 {
		return "no record can be read here: the header sum is wrong"
	}
	text := fmt.Sprintf("LSN %d, %s %s, sequence %d, %d bytes", r.LSN, r.Kind, r.Key, r.Sequence, r.Value)
	if r.Sum != "right" {
		text += ": the sum of the value is WRONG"
	}
	return text
}

// logPrinter prints records in the order of the log.
type logPrinter struct {
	m     *rawMap
	from  uint64
	limit int
	all   bool
	hex   bool
	json  *json.Encoder // or
	text  *tabwriter.Writer
	shown int
	end   logEnd
}

func newLogTable(w io.Writer) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "LSN\tposition\tsegment\tkind\tflags\tsequence\tprevious\tkey\tvalue bytes\tsums")
	return t
}

func (p *logPrinter) run(cmd *cobra.Command, path string) error {
	err := p.segments(cmd)
	if err == nil || err == errLimit {
		err = p.finish(err == errLimit)
	}
	if p.text != nil {
		err = first(err, p.text.Flush())
	}
	switch {
	case err != nil:
		return err
	case p.m.Meta == nil:
		return damageError(path, "log", "no meta page holds: where it ends is not known")
	case p.end.Damaged > 0:
		return damageError(path, "log", fmt.Sprintf("%d places in the log do not hold", p.end.Damaged))
	}
	return nil
}

var errLimit = fmt.Errorf("as many records as were asked for")

// segments prints the part of the log that was asked for.
func (p *logPrinter) segments(cmd *cobra.Command) error {
	for i := range p.m.segments {
		u := &p.m.segments[i]
		at, end := u.Base()+tail.SegmentHeader, min(u.Base()+u.Used, p.m.Size)
		if u.open && p.m.walk != nil && u.inTail {
			end = min(p.m.walk.RefPos, p.m.Size)
		}
		if !p.all {
			if !u.inTail {
				continue
			}
			if u.Start == p.m.Meta.Segment && u.Salt == p.m.Meta.Salt {
				at = p.m.Meta.Position
			}
		}
		if err := p.segment(cmd, u, at, end); err != nil {
			return err
		}
	}
	return nil
}

// segment prints the records of a segment between two places.
func (p *logPrinter) segment(cmd *cobra.Command, u *useOf, at, end uint64) error {
	for at < end {
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		r := p.m.readRecord(u, at, p.hex)
		next := at + r.Size
		if r.Size == 0 {
			if next = tail.NextRecord(p.m.View, at, u.Salt, end); next == end && u.open {
				return nil // the unused end
			}
		}
		if r.LSN >= p.from {
			if err := p.show(&r); err != nil {
				return err
			}
		}
		at = next
	}
	return nil
}

func (p *logPrinter) show(r *logRecord) error {
	if p.limit > 0 && p.shown == p.limit {
		return errLimit
	}
	p.shown++
	if r.damaged() {
		p.end.Damaged++
	}
	if p.json != nil {
		return p.json.Encode(r)
	}
	flags := "-"
	for i, f := range r.Flags {
		if i == 0 {
			flags = f
		} else {
			flags += "," + f
		}
	}
	if r.Size == 0 {
		_, err := fmt.Fprintf(p.text, "%d\t%d\t%d\t-\t-\t-\t-\t-\t-\tWRONG: no record can be read here\n", r.LSN, r.Position, r.Segment)
		return err
	}
	sums := "right"
	if r.Sum != "right" {
		sums = "WRONG: the value is damaged"
	}
	_, err := fmt.Fprintf(p.text, "%d\t%d\t%d\t%s\t%s\t%d\t%d\t%s\t%d\t%s\n", r.LSN, r.Position, r.Segment, r.Kind, flags, r.Sequence, r.Previous, r.Key, r.Value, sums)
	return err
}

// finish says where the log ends, and why.
func (p *logPrinter) finish(limited bool) error {
	w := p.m.walk
	p.end.Records = uint64(p.shown)
	switch {
	case limited:
		p.end.Reason = "stopped: as many records as were asked for"
	case w == nil:
		p.end.Reason = "no meta page holds: where the log ends is not known"
	default:
		p.end.LSN, p.end.Position = w.Refused, w.RefPos
		p.end.Reason = p.m.whyEnds()
		if w.Refused < w.Mark {
			p.end.Damaged++
		}
	}
	if p.json != nil {
		return p.json.Encode(p.end)
	}
	where := ""
	if w != nil && !limited {
		where = fmt.Sprintf("the log ends at LSN %d, position %d, ", p.end.LSN, p.end.Position)
	}
	if err := p.text.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.text, "%d records; %s%s; synced up to %d\n", p.end.Records, where, p.end.Reason, p.end.Mark)
	return err
}

// whyEnds says why the walk ended where it did.
func (m *rawMap) whyEnds() string {
	w := m.walk
	switch {
	case w.Refused < w.Mark:
		return fmt.Sprintf("by damage: the record there does not hold, and the log is known to have been synced up to %d", w.Mark)
	case w.End.LSN < w.Refused:
		return fmt.Sprintf("in a torn tail: the last commit is not whole, an open cuts the log at LSN %d", w.End.LSN)
	case w.RefPos+8 <= m.Size && m.beginsRecord(w.RefPos):
		return "at bytes that are no whole record of this log: a torn tail, or what stood there before"
	}
	return "where nothing more was written"
}

// beginsRecord reports whether something was written at a position.
func (m *rawMap) beginsRecord(at uint64) bool {
	u := m.segmentOf(at)
	return u != nil && u.inTail && at+tail.HeaderBytes <= min(u.End(), m.Size) && !allZero(m.View.Bytes(at, tail.HeaderBytes))
}
