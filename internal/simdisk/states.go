package simdisk

import (
	"math/rand/v2"
)

// The defaults of StateOptions.
const (
	defaultExhaustive = 16
	defaultPairs      = 2000
)

// All combinations of versions are made up to so many sectors of so many values.
const (
	comboSectors = 8
	comboValues  = 4
)

// StateOptions say which outcomes of a power cut States makes.
type StateOptions struct {
	Exhaustive int  // all subsets up to so many unsynced sectors; 0: 16
	Pairs      int  // most pairs, and most complements of pairs, above that; 0: 2,000
	Random     int  // random outcomes besides, with versions in between and trash
	Sample     int  // if above 0: the core, and so many random outcomes in place of all others
	TrashAll   bool // trash sectors with durable bytes too, as if commits were padded

	// Known, unless nil, is asked with the hash of each outcome (Disk.Hash) before its image is
	// made; true: it is neither made nor yielded.
	Known func(hash uint64) bool
}

// States makes the outcomes of a power cut at this point, each once by content, and
// yields an image of each until yield answers false. It returns how many it
// yielded. The images belong to the caller: Release them.
//
// The core comes first: none of the unsynced sectors, all, each alone, all but one.
// Then, unless o.Sample is set:
//
//   - all combinations of all versions for up to 8 sectors of up to 4 values, else all
//     subsets with the newest versions for up to o.Exhaustive sectors, else pairs
//     and their complements;
//   - prefixes in program order (store by store, with the versions of that time) and
//     by sector, ascending and descending;
//   - each version in between, with none and all of the other sectors;
//   - each sector that may be trashed so, in four ways, with none and all of the others;
//     and all of those at once;
//   - o.Random random outcomes.
//
// Each outcome comes with lengths and names, if unsynced, both old and new, but for
// the random ones, which choose. The sequence depends on the disk, o and r alone. The
// disk must not change meanwhile.
func (d *Disk) States(r *rand.Rand, o StateOptions, yield func(*Disk) bool) (yielded int) {
	if o.Exhaustive == 0 {
		o.Exhaustive = defaultExhaustive
	}
	if o.Pairs == 0 {
		o.Pairs = defaultPairs
	}
	w := newWalker(d, r, o, yield)
	w.core()
	if o.Sample > 0 {
		w.random(o.Sample)
		return w.yielded
	}
	switch {
	case w.fewValues():
		w.combos()
	case len(w.sectors) <= o.Exhaustive:
		w.subsets()
	default:
		w.pairs()
	}
	w.prefixes()
	w.between()
	w.trash()
	w.random(o.Random)
	return w.yielded
}

// walker goes through the outcomes at one point. Its plan is the scratch paper: each
// family fills in Choices and Trash and calls emit.
type walker struct {
	d       *Disk
	r       *rand.Rand
	o       StateOptions
	yield   func(*Disk) bool
	sectors []SectorState
	plan    Plan
	lengths []bool // the values of LengthNew to try
	entries []bool // the values of EntryNew to try
	hasher  hasher
	seen    map[uint64]struct{}
	stopped bool
	yielded int
}

func newWalker(d *Disk, r *rand.Rand, o StateOptions, yield func(*Disk) bool) *walker {
	w := &walker{d: d, r: r, o: o, yield: yield, sectors: d.Unsynced(), seen: make(map[uint64]struct{})}
	w.plan.Choices = make([]int, len(w.sectors))
	w.plan.Trash = make([][]byte, len(w.sectors))
	w.lengths = oldAndNew(d.LengthUnsynced())
	w.entries = oldAndNew(d.EntryUnsynced())
	w.hasher = newHasher(d, w.sectors)
	return w
}

func oldAndNew(both bool) []bool {
	if both {
		return []bool{false, true}
	}
	return []bool{true}
}

// emit yields the plan with each length and entry.
func (w *walker) emit() {
	for _, length := range w.lengths {
		for _, entry := range w.entries {
			w.emitOne(length, entry)
		}
	}
}

// emitOne yields the plan unless an equal image was yielded before.
func (w *walker) emitOne(length, entry bool) {
	if w.stopped {
		return
	}
	w.plan.LengthNew, w.plan.EntryNew = length, entry
	hash := w.hasher.hash(w.sectors, &w.plan)
	if _, ok := w.seen[hash]; ok {
		return
	}
	w.seen[hash] = struct{}{}
	if w.o.Known != nil && w.o.Known(hash) {
		return
	}
	img := w.d.crash(w.sectors, w.keep())
	img.hash, img.hashed = hash, true
	w.yielded++
	w.stopped = !w.yield(img)
}

// keep copies the plan for the image.
func (w *walker) keep() *Plan {
	p := w.plan
	p.Trash = nil
	c := p.clone()
	for i, choice := range c.Choices {
		if choice == Trashed {
			c.setTrash(i, w.plan.Trash[i])
		}
	}
	return c
}

// newest is the choice of the newest version of sector i.
func (w *walker) newest(i int) int { return len(w.sectors[i].Versions) - 1 }

// fill chooses the newest version of every sector, or none.
func (w *walker) fill(all bool) {
	for i := range w.plan.Choices {
		w.choose(i, all)
	}
}

// choose chooses the newest version of sector i, or the durable bytes.
func (w *walker) choose(i int, in bool) {
	w.plan.Choices[i] = Durable
	if in {
		w.plan.Choices[i] = w.newest(i)
	}
}

// both calls visit with none of the sectors chosen and with all.
func (w *walker) both(visit func(all bool)) {
	for _, all := range []bool{false, true} {
		w.fill(all)
		visit(all)
	}
}

// core emits none, all, each alone, all but one.
func (w *walker) core() {
	w.both(func(bool) { w.emit() })
	w.both(func(all bool) {
		for i := range w.sectors {
			w.choose(i, !all)
			w.emit()
			w.choose(i, all)
		}
	})
}

// fewValues tells whether combos is small enough.
func (w *walker) fewValues() bool {
	for i := range w.sectors {
		if len(w.sectors[i].Versions)+1 > comboValues {
			return false
		}
	}
	return len(w.sectors) <= comboSectors
}

// combos emits every combination of every value, counting like an odometer.
func (w *walker) combos() {
	w.fill(false)
	for !w.stopped {
		w.emit()
		i := 0
		for ; i < len(w.sectors) && w.plan.Choices[i] == w.newest(i); i++ {
			w.plan.Choices[i] = Durable
		}
		if i == len(w.sectors) {
			return
		}
		w.plan.Choices[i]++
	}
}

// subsets emits every subset of the newest versions.
func (w *walker) subsets() {
	for set := uint64(0); set < 1<<len(w.sectors) && !w.stopped; set++ {
		for i := range w.sectors {
			w.choose(i, set>>i&1 == 1)
		}
		w.emit()
	}
}

// pairs emits pairs and complements of pairs: all, or random ones if there are too many.
func (w *walker) pairs() {
	count := len(w.sectors)
	all := count*(count-1)/2 <= w.o.Pairs
	w.both(func(rest bool) {
		if !all {
			for range w.o.Pairs {
				w.pair(w.r.IntN(count), w.r.IntN(count), rest)
			}
			return
		}
		for i := range count {
			for j := range i {
				w.pair(i, j, rest)
			}
		}
	})
}

// pair emits sectors i and j unlike the rest.
func (w *walker) pair(i, j int, rest bool) {
	w.choose(i, !rest)
	w.choose(j, !rest)
	w.emit()
	w.choose(i, rest)
	w.choose(j, rest)
}

// prefixes emits what a medium leaves that writes in an order of its own until the cut.
func (w *walker) prefixes() {
	for _, upTo := range w.orders() {
		for i := range w.sectors {
			w.plan.Choices[i] = w.atOrder(i, upTo)
		}
		w.emit()
	}
	w.both(func(all bool) {
		for i := range w.sectors {
			w.choose(i, !all)
			w.emit()
		}
	})
}

// orders returns the numbers of the stores that made versions, rising.
func (w *walker) orders() []uint64 {
	var all []uint64
	for i := range w.sectors {
		all = append(all, w.sectors[i].Orders...)
	}
	return sortedOnce(all)
}

// atOrder is the choice of the value that sector i had after a store.
func (w *walker) atOrder(i int, order uint64) int {
	choice := Durable
	for v, o := range w.sectors[i].Orders {
		if o <= order {
			choice = v
		}
	}
	return choice
}

// between emits each version but the newest, with none and all of the others.
func (w *walker) between() {
	w.both(func(all bool) {
		for i := range w.sectors {
			for v := range w.newest(i) {
				w.plan.Choices[i] = v
				w.emit()
			}
			w.choose(i, all)
		}
	})
}
