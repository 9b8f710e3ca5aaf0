package tail

// What the longer of the planted bugs do (internal/sabotage). Nothing of it is in a production build.

// Resume makes the next record follow the end of a walk, in a segment of an earlier life.
func (t *Tail) Resume(end Start) {
	t.cur, t.pos, t.last = t.segments[end.Segment], end.Position, end.Sequence
	delete(t.shelf.past, t.cur)
	t.pieces = []piece{{end.LSN, end.Position}}
}
