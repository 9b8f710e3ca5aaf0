package cli

import (
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// locateReport is the way to a key: through the index of the checkpoint, and through the log behind it.
type locateReport struct {
	Path       string       `json:"path"`
	Key        string       `json:"key"`
	State      string       `json:"state"`
	Hash       string       `json:"hash"`
	SecondHash string       `json:"second_hash,omitempty"` // where the first is used up
	Tag        uint32       `json:"tag"`
	Top        uint16       `json:"top"`
	Way        []stepReport `json:"way"` // directories, then the bucket
	Probe      *probeReport `json:"probe,omitempty"`
	InTail     int          `json:"versions_behind_the_checkpoint"` // in whole commits
	Versions   []keyVersion `json:"versions"`                       // the newest first, as far as links and log lead
	Verdict    string       `json:"verdict"`
	damaged    bool
	found      bool
}

type stepReport struct {
	Kind  string `json:"kind"`
	Page  uint64 `json:"page"`
	Level int    `json:"level"`
	Width uint   `json:"width"`           // bits that a directory resolves
	Depth int    `json:"depth"`           // of a bucket
	Entry uint64 `json:"entry"`           // taken
	Wrong string `json:"wrong,omitempty"` // why the way ends here
}

// probeReport is the walk over the bucket's slots.
type probeReport struct {
	Home   int `json:"home"`
	Slot   int `json:"slot"`   // that leads to the key, -1: none
	Length int `json:"length"` // slots looked at
}

// keyVersion is a record of the key.
type keyVersion struct {
	Position uint64 `json:"position"`
	Segment  uint64 `json:"segment"`
	LSN      uint64 `json:"lsn"`
	Kind     string `json:"kind"`
	Sequence uint64 `json:"sequence"`
	Value    uint64 `json:"value_bytes"`
	Sum      string `json:"sum"`
	Previous uint64 `json:"previous"`
	Where    string `json:"where"` // log, index or link: what led to it
}

func (a *app) locateCmd() *cobra.Command {
	var form keyForm
	cmd := &cobra.Command{
		Use:   "locate FILE KEY",
		Short: "Print the way to a key: hashes, directories, bucket, slot, record and its older versions",
		Long: "Print how a key is found: its hash, the directories on the way with the entry taken, the bucket, the slot and\n" +
			"how many were looked at, then the record and the versions before it, as far as they can be read. The index\n" +
			"is that of the checkpoint; records of the log behind it, which an open replays, come first. It works on\n" +
			"damaged files, too, and says where the way ends. Exit code 1: no such key; 3: damage on the way.",
		Example: "  mapfile locate fruit.map apple\n  mapfile locate --hex --json fruit.map 6170706c65",
		Args:    cobra.ExactArgs(2),
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = a.onRaw(func(cmd *cobra.Command, m *rawMap, args []string) error {
		key, err := form.parse(cmd, args[1])
		if err != nil {
			return err
		}
		r, err := m.locate(cmd, key)
		if err != nil {
			return err
		}
		r.Path = args[0]
		if err := printReport(cmd, *asJSON, r); err != nil {
			return err
		}
		switch {
		case r.damaged:
			return damageError(args[0], "key "+shorten(args[1]), r.Verdict)
		case !r.found:
			return keyError(args, mapfile.ErrNotFound)
		}
		return nil
	})
	form.addFlags(cmd)
	return cmd
}

func (m *rawMap) locate(cmd *cobra.Command, key []byte) (*locateReport, error) {
	hash := xxhash.Sum64(key)
	r := &locateReport{Key: shorten(string(key)), State: m.stateText(), Hash: fmt.Sprintf("%016x", hash), Tag: index.TagOf(hash), Top: index.TopOf(hash), Way: []stepReport{}, Versions: []keyVersion{}}
	position := uint64(0)
	if m.Meta != nil {
		position = m.descend(r, key, hash)
	}
	newest, err := m.inLog(cmd, r, key)
	if err != nil {
		return nil, err
	}
	if newest == 0 {
		newest = position
	}
	m.chain(r, key, newest)
	r.judge(m)
	return r, nil
}

// descend goes down the index and probes the bucket. It answers the position of the key's record, 0 if there is none.
func (m *rawMap) descend(r *locateReport, key []byte, hash uint64) uint64 {
	fan, lines := uint(m.Meta.FanoutBits), int(m.Meta.BucketLines)
	levels := index.LevelsOf(int(fan))
	page, tag, rest := m.Meta.Root.Page, uint16(m.Meta.Root.Epoch), hash
	for level := 0; level <= 2*levels; level++ {
		p := m.readIndex(page, tag)
		step := stepReport{Kind: kindDirectory, Page: uint64(page), Level: level, Wrong: p.reason}
		if p.Type == index.TypeBucket {
			step.Kind, step.Depth = kindBucket, int(p.Depth)
		}
		if p.reason != "" || p.Type == index.TypeBucket || level == 2*levels {
			r.Way = append(r.Way, step)
			if p.reason != "" || level == 2*levels {
				r.damaged = true
				return 0
			}
			return m.probe(r, p.bytes, key, hash, lines)
		}
		if level == levels {
			hash = index.SecondHash(m.Meta.HashKey, key)
			r.SecondHash, r.Tag, r.Top = fmt.Sprintf("%016x", hash), index.TagOf(hash), index.TopOf(hash)
			rest = hash
		}
		step.Width = min(uint(p.Width), 9)
		step.Entry = rest >> (64 - step.Width)
		r.Way = append(r.Way, step)
		e := index.ReadEntries(p.bytes)[step.Entry]
		page, tag, rest = e.Page, e.Tag, rest<<fan
	}
	return 0
}

// probe looks through a bucket.
func (m *rawMap) probe(r *locateReport, b []byte, key []byte, hash uint64, lines int) uint64 {
	slots := map[int]index.Slot{}
	for _, s := range index.ReadSlots(b, lines) {
		slots[s.Number] = s
	}
	all := index.SlotsOf(lines)
	r.Probe = &probeReport{Home: index.HomeSlot(hash, lines), Slot: -1}
	for at := r.Probe.Home; r.Probe.Length < all; at = (at + 1) % all {
		s, used := slots[at]
		r.Probe.Length++
		if !used {
			return 0
		}
		if s.Dead || s.Tag != index.TagOf(hash) {
			continue
		}
		var rec tail.Record
		switch _, reason := m.record(s.Position, &rec); {
		case reason != "":
			r.damaged = true // it may be the key's
		case string(rec.Key) == string(key):
			r.Probe.Slot = at
			return s.Position
		}
	}
	return 0
}

// inLog looks for the key in what an open replays, or, without a meta page, in every segment. It answers the position of its
// newest record there, 0 if there is none.
func (m *rawMap) inLog(cmd *cobra.Command, r *locateReport, key []byte) (newest uint64, err error) {
	var last uint64
	visit := func(rec *tail.Record) {
		if string(rec.Key) == string(key) && (rec.Kind == tail.KindPut || rec.Kind == tail.KindDelete || rec.Kind == tail.KindDrop) && rec.Sequence >= last {
			newest, last = rec.Position, rec.Sequence
			r.InTail++
		}
	}
	if m.walk != nil {
		_, err := m.walk.Each(m.View, func(rec *tail.Record) error {
			if !m.walk.Aborted[rec.Sequence] {
				visit(rec)
			}
			return cmd.Context().Err()
		})
		return newest, err
	}
	for i := range m.segments {
		u := &m.segments[i]
		end := min(u.Base()+u.Used, m.Size)
		for at := u.Base() + tail.SegmentHeader; at < end; {
			var rec tail.Record
			if err := cmd.Context().Err(); err != nil {
				return 0, err
			}
			if !tail.ParseHeader(m.View, at, u.Salt, min(u.End(), m.Size), &rec) {
				at = tail.NextRecord(m.View, at, u.Salt, end)
				continue
			}
			visit(&rec)
			at += rec.Size()
		}
	}
	return newest, nil
}

// maxVersions bounds the versions that are shown.
const maxVersions = 100

// chain follows the links to older versions, as far as they can be read: where compaction has taken a segment back, or the
// bytes are of another use by now, the chain ends.
func (m *rawMap) chain(r *locateReport, key []byte, position uint64) {
	where := "index"
	if r.InTail > 0 {
		where = "log"
	}
	for seen := map[uint64]bool{}; position != 0 && !seen[position] && len(r.Versions) < maxVersions; {
		seen[position] = true
		var rec tail.Record
		u, reason := m.record(position, &rec)
		if reason != "" || string(rec.Key) != string(key) {
			return
		}
		v := keyVersion{position, uint64(u.Start), u.lsn(position), kindName(rec.Kind), rec.Sequence, uint64(len(rec.Value)), "right", rec.Previous, where}
		if !rec.ValueHolds(rec.Value) {
			v.Sum = "wrong"
			r.damaged = r.damaged || len(r.Versions) == 0
		}
		r.Versions = append(r.Versions, v)
		position, where = rec.Previous, "link"
	}
}

// judge says it in words.
func (r *locateReport) judge(m *rawMap) {
	switch {
	case len(r.Way) > 0 && r.Way[len(r.Way)-1].Wrong != "" && r.InTail == 0:
		last := r.Way[len(r.Way)-1]
		r.Verdict = fmt.Sprintf("the way ends at page %d: %s", last.Page, last.Wrong)
	case len(r.Versions) == 0 && r.damaged:
		r.Verdict = "it may be the key of a record that cannot be read"
	case m.Meta == nil && (len(r.Versions) == 0 || r.Versions[0].Kind != "put"):
		r.Verdict = "no record that can be read sets it; without a meta page it is not known whether there is another"
		r.damaged = true
	case len(r.Versions) == 0 || r.Versions[0].Kind == "drop":
		r.Verdict = "not there"
	case r.Versions[0].Kind == "delete":
		r.Verdict = "deleted"
	case r.Versions[0].Sum != "right":
		r.Verdict = "there, and its value is damaged"
	case m.Meta == nil:
		r.Verdict = "a record of it is there; which is the newest is not known"
	default:
		r.Verdict = "there"
		r.damaged = r.damaged && r.InTail == 0
	}
	r.found = len(r.Versions) > 0 && r.Versions[0].Kind == "put"
}

func (r *locateReport) lines() []line {
	lines := []line{{"file", r.Path}, {"key", r.Key}, {"state", r.State}, {"hash", r.Hash}}
	if r.SecondHash != "" {
		lines = append(lines, line{"second hash", r.SecondHash})
	}
	lines = append(lines, line{"tag, top", fmt.Sprintf("%06x, %04x", r.Tag, r.Top)})
	for _, s := range r.Way {
		lines = append(lines, line{s.Kind, s.text()})
	}
	if p := r.Probe; p != nil {
		slot := fmt.Sprintf("slot %d", p.Slot)
		if p.Slot < 0 {
			slot = "no slot leads to it"
		}
		lines = append(lines, line{"probe", fmt.Sprintf("from slot %d, %d looked at: %s", p.Home, p.Length, slot)})
	}
	lines = append(lines, line{"behind the checkpoint", fmt.Sprintf("%d records of it", r.InTail)})
	for _, v := range r.Versions {
		lines = append(lines, line{"version", fmt.Sprintf("%s, sequence %d, LSN %d, position %d (page %d, segment %d), %d bytes, sum %s, by the %s",
			v.Kind, v.Sequence, v.LSN, v.Position, v.Position/pager.PageSize, v.Segment, v.Value, v.Sum, v.Where)})
	}
	return append(lines, line{"verdict", r.Verdict})
}

func (s stepReport) text() string {
	text := fmt.Sprintf("page %d, level %d", s.Page, s.Level)
	switch {
	case s.Wrong != "":
		return text + ": " + s.Wrong
	case s.Kind == kindBucket:
		return text + fmt.Sprintf(", depth %d", s.Depth)
	}
	return text + fmt.Sprintf(", width %d, entry %d", s.Width, s.Entry)
}
