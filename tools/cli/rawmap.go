package cli

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/recovery"
	"github.com/mapfile-db/mapfile/tail"
)

// rawMap is a file as the verbs for experts look at it: as bytes, whether a map opens in it or not. It shows the state of the
// checkpoint that an open would begin from, and the log behind it.
type rawMap struct {
	*recovery.Raw
	walk     *tail.Walk // from the start of replay; nil without a meta page
	segments []useOf    // in the order of the log
	loose    bool       // the segments are those that headers tell of: no table leads to them
}

// useOf is a use of a segment, and what is known of it.
type useOf struct {
	tail.Segment
	live   uint64 // bytes, a hint
	inTail bool   // part of the log behind the checkpoint
	open   bool   // where its records end is not known
}

// onRaw makes a RunE of look for a verb that reads the file of its first argument as bytes.
func (a *app) onRaw(look func(cmd *cobra.Command, m *rawMap, args []string) error) func(*cobra.Command, []string) error {
	return a.onFile(0, func(cmd *cobra.Command, args []string) (err error) {
		o := a.options(cmd)
		raw, err := recovery.OpenRaw(pager.OpenOptions{
			Disk: pager.OS(), Path: args[0], ReadOnly: true, LockTimeout: o.LockTimeout, AllowNetwork: a.allowNetwork, Geometry: pager.DefaultGeometry(),
		})
		if err != nil {
			return err
		}
		defer func() { err = first(err, raw.Close()) }()
		return raw.Guard(func() error {
			m := &rawMap{Raw: raw}
			if err := m.findLog(cmd); err != nil {
				return err
			}
			return look(cmd, m, args)
		})
	})
}

// findLog lists the segments: those of the table and of the walk, or, where there is no table, those whose headers hold.
func (m *rawMap) findLog(cmd *cobra.Command) error {
	for _, e := range m.Segments {
		m.segments = append(m.segments, useOf{Segment: e.Segment, live: e.Live})
	}
	if m.Segments == nil {
		m.loose = true
		found, err := m.FindSegments(func(pager.PageNo) error { return cmd.Context().Err() })
		if err != nil {
			return err
		}
		for _, s := range found {
			s.Used = s.End() - s.Base()
			m.segments = append(m.segments, useOf{Segment: s, open: true})
		}
	}
	m.walkLog()
	slices.SortFunc(m.segments, func(a, b useOf) int {
		return cmp.Or(cmp.Compare(a.FirstLSN, b.FirstLSN), cmp.Compare(a.Start, b.Start))
	})
	return nil
}

// walkLog walks the log behind the checkpoint, as an open does.
func (m *rawMap) walkLog() {
	if m.Meta == nil {
		return
	}
	var known *tail.Segment
	for i := range m.segments {
		s := &m.segments[i]
		if s.Start == m.Meta.Segment && s.Salt == m.Meta.Salt && m.Meta.Position >= s.Base()+tail.SegmentHeader && m.Meta.Position <= s.End() && m.Meta.Position%8 == 0 {
			known = &s.Segment
		}
	}
	from := tail.Start{Segment: m.Meta.Segment, Salt: m.Meta.Salt, Position: m.Meta.Position, LSN: m.Meta.LSN, Sequence: m.Meta.Sequence}
	m.walk = tail.NewWalk(m.View, m.Size/pager.PageSize*pager.PageSize, m.Meta.UUID, from, m.mark(), known, func(_, _, _ uint64) bool { return false })
	for i, s := range m.walk.Segments {
		at := slices.IndexFunc(m.segments, func(u useOf) bool { return u.Start == s.Start && u.Salt == s.Salt })
		if at < 0 {
			m.segments = append(m.segments, useOf{Segment: s})
			at = len(m.segments) - 1
		}
		u := &m.segments[at]
		u.inTail, u.open, u.Used = true, i == len(m.walk.Segments)-1, max(s.Used, tail.SegmentHeader)
	}
}

// mark is what the mark page and the meta page say of how far the log is synced.
func (m *rawMap) mark() uint64 {
	mark := pager.ReadMarkPage(m.Page(pager.MarkPage), m.Meta.FileSalt)
	if mark.Sum == mark.Want {
		return max(mark.Mark, m.Meta.LSN)
	}
	return m.Meta.LSN
}

// segmentOf is the use that holds a byte of the file.
func (m *rawMap) segmentOf(position uint64) *useOf {
	for i := len(m.segments) - 1; i >= 0; i-- { // the newest use first
		if s := &m.segments[i]; position >= s.Base() && position < min(s.End(), m.Size) {
			return s
		}
	}
	return nil
}

// lsn is the place in the log of a byte of a segment.
func (u *useOf) lsn(position uint64) uint64 { return u.FirstLSN + position - u.Base() }

// record reads the record at a position; reason says why it cannot.
func (m *rawMap) record(position uint64, r *tail.Record) (u *useOf, reason string) {
	u = m.segmentOf(position)
	switch {
	case u == nil:
		return nil, "it lies in no segment"
	case position%8 != 0 || position < u.Base()+tail.SegmentHeader || !tail.ParseHeader(m.View, position, u.Salt, min(u.End(), m.Size), r):
		return u, "the header sum of the record does not hold"
	}
	return u, ""
}

// indexPage is a page of the index, and what is wrong with it.
type indexPage struct {
	index.Header
	bytes  []byte
	reason string // "" if it holds
}

// readIndex reads an index page that its parent says has an epoch with a tag.
func (m *rawMap) readIndex(n pager.PageNo, tag uint16) indexPage {
	if uint64(n) >= m.Size/pager.PageSize || n < pager.FirstPage {
		return indexPage{reason: fmt.Sprintf("page %d lies outside the file", n), bytes: make([]byte, pager.PageSize)}
	}
	b := m.Page(n)
	p := indexPage{Header: index.ReadHeader(b), bytes: b}
	switch {
	case p.Type != index.TypeDirectory && p.Type != index.TypeBucket:
		p.reason = fmt.Sprintf("not an index page (type %d)", p.Type)
	case p.Header.Page != n || uint16(p.Epoch) != tag:
		p.reason = fmt.Sprintf("the header names page %d and epoch %d: another page was expected", p.Header.Page, p.Epoch)
	case m.Meta == nil:
		p.reason = "no meta page tells the salt of its sum"
	case p.Sum != index.Sum(b, m.Meta.FileSalt, n, p.Epoch):
		p.reason = "its sum does not hold"
	}
	return p
}

// eachIndexPage visits the pages that the root of the checkpoint leads to, each once, damaged ones too; below those it does not go.
func (m *rawMap) eachIndexPage(visit func(n pager.PageNo, level int, p indexPage) error) error {
	if m.Meta == nil {
		return nil
	}
	t := &trie{m: m, visit: visit, seen: make([]bool, m.Size/pager.PageSize)}
	return t.below(m.Meta.Root.Page, uint16(m.Meta.Root.Epoch), 0)
}

// trie is a walk over the index.
type trie struct {
	m     *rawMap
	visit func(n pager.PageNo, level int, p indexPage) error
	seen  []bool // by page: what leads back to itself must end
}

func (t *trie) below(n pager.PageNo, tag uint16, level int) error {
	if uint64(n) < uint64(len(t.seen)) {
		if t.seen[n] {
			return nil
		}
		t.seen[n] = true
	}
	p := t.m.readIndex(n, tag)
	if p.reason == "" && p.Type == index.TypeDirectory && int(p.Level) != level {
		p.reason = fmt.Sprintf("a directory of level %d below %d others", p.Level, level)
	}
	if err := t.visit(n, level, p); err != nil || p.reason != "" || p.Type != index.TypeDirectory {
		return err
	}
	for _, e := range index.ReadEntries(p.bytes) {
		if err := t.below(e.Page, e.Tag, level+1); err != nil {
			return err
		}
	}
	return nil
}
