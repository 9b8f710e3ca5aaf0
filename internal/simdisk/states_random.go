package simdisk

import "slices"

// sortedOnce sorts numbers and drops repetitions.
func sortedOnce(all []uint64) []uint64 {
	slices.Sort(all)
	return slices.Compact(all)
}

// The ways of trashing a sector.
const (
	garbageRandom = iota
	garbageZeros
	garbageOnes
	garbageCopy // of another sector of the same file
	garbageKinds
)

// mayTrash tells whether sector i may end up as anything.
func (w *walker) mayTrash(i int) bool { return w.sectors[i].Fresh || w.o.TrashAll }

// trashOne chooses trash for sector i.
func (w *walker) trashOne(i, kind int) {
	w.plan.Choices[i] = Trashed
	w.plan.Trash[i] = w.garbage(i, kind)
}

// garbage makes a sector of trash.
func (w *walker) garbage(i, kind int) []byte {
	g := make([]byte, sectorSize)
	switch kind {
	case garbageRandom:
		for k := range g {
			g[k] = byte(w.r.Uint32())
		}
	case garbageOnes:
		for k := range g {
			g[k] = 0xff
		}
	case garbageCopy:
		n := w.sectors[i].n
		copy(g, n.newest(w.r.Int64N(max(1, n.length/sectorSize))))
	}
	return g
}

// trash emits each sector trashed, with none and all of the others, and all at once.
func (w *walker) trash() {
	w.both(func(all bool) {
		for i := range w.sectors {
			for kind := 0; kind < garbageKinds && w.mayTrash(i); kind++ {
				w.trashOne(i, kind)
				w.emit()
			}
			w.choose(i, all)
		}
	})
	w.both(func(bool) {
		for i := range w.sectors {
			if w.mayTrash(i) {
				w.trashOne(i, garbageRandom)
			}
		}
		w.emit()
	})
}

// random emits up to count random outcomes; fewer if hardly any are left.
func (w *walker) random(count int) {
	last := w.yielded + count
	for tries := 8 * count; tries > 0 && w.yielded < last && !w.stopped; tries-- {
		w.draw()
		w.emitOne(w.oneOf(w.lengths), w.oneOf(w.entries))
	}
}

func (w *walker) oneOf(values []bool) bool { return values[w.r.IntN(len(values))] }

// draw fills the plan: some share of the sectors in, a quarter of those with a version
// before the newest; in one plan of four a quarter of what may be trashed is.
func (w *walker) draw() {
	const scale = 1000
	share := w.r.IntN(scale + 1)
	trash := w.r.IntN(4) == 0
	for i := range w.sectors {
		w.choose(i, w.r.IntN(scale) < share)
		if w.plan.Choices[i] > 0 && w.r.IntN(4) == 0 {
			w.plan.Choices[i] = w.r.IntN(w.plan.Choices[i])
		}
		if trash && w.mayTrash(i) && w.r.IntN(4) == 0 {
			w.trashOne(i, w.r.IntN(garbageKinds))
		}
	}
}
