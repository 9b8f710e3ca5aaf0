package freelist

import "github.com/mapfile-db/mapfile/pager"

// list is a list of entries that snapshots share. A snapshot sees the entries
// that were there; push writes behind them, and everything that changes or
// removes one copies the list first.
type list struct {
	all    []Entry
	pages  uint64 // of all the entries
	shared bool   // a snapshot may be reading all
}

// share returns the entries of this moment.
func (l *list) share() []Entry {
	l.shared = true
	return l.all[:len(l.all):len(l.all)]
}

// push appends an entry.
func (l *list) push(e Entry) {
	l.all = append(l.all, e)
	l.pages += uint64(e.Pages)
}

// dropFirst removes the first entry.
func (l *list) dropFirst() {
	l.pages -= uint64(l.all[0].Pages)
	l.all = l.all[1:]
	if len(l.all) == 0 {
		l.all, l.shared = nil, false
	}
}

// keep is an empty slice for the entries that stay: the list's own memory, if no snapshot reads it.
func (l *list) keep() []Entry {
	if l.shared {
		l.shared = false
		return make([]Entry, 0, len(l.all))
	}
	return l.all[:0]
}

// move takes the entries out for which leaves is true, which asks nothing but
// the entry, and appends them to another list in their order. It returns them as
// part of that list. What leaves together is copied together: most often
// thousands of neighbours do.
func (l *list) move(leaves func(*Entry) bool, to *list) []Entry {
	stays := func(e *Entry) bool { return !leaves(e) }
	k, _ := stretch(l.all, stays)
	if k == len(l.all) {
		return nil
	}
	n, rest := len(to.all), l.all[k:]
	stay := append(l.keep(), l.all[:k]...)
	for len(rest) > 0 {
		k, pages := stretch(rest, leaves)
		to.all = append(to.all, rest[:k]...)
		to.pages += pages
		l.pages -= pages
		rest = rest[k:]
		k, _ = stretch(rest, stays)
		stay = append(stay, rest[:k]...)
		rest = rest[k:]
	}
	l.all = stay
	return to.all[n:]
}

// stretch counts the leading entries for which is holds, and their pages.
func stretch(entries []Entry, is func(*Entry) bool) (n int, pages uint64) {
	for n < len(entries) && is(&entries[n]) {
		pages += uint64(entries[n].Pages)
		n++
	}
	return n, pages
}

// cut takes the pages of r out of the entries, of which two pieces may stay, and
// returns how many there were.
func (l *list) cut(r Run) (n uint32) {
	var touched list
	for _, e := range l.move(func(e *Entry) bool { return e.overlaps(r) }, &touched) {
		n += e.Pages
		for _, piece := range e.without(r) {
			n -= piece.Pages
			e.Run = piece
			l.push(e)
		}
	}
	return n
}

// without is what is left of a run that o overlaps: at most a piece on either side.
func (r Run) without(o Run) (pieces []Run) {
	if r.Start < o.Start {
		pieces = append(pieces, Run{r.Start, uint32(o.Start - r.Start)})
	}
	if r.end() > o.end() {
		pieces = append(pieces, Run{pager.PageNo(o.end()), uint32(r.end() - o.end())})
	}
	return pieces
}
