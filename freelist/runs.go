package freelist

import "slices"

// unitRun is a run of wholly free units.
type unitRun struct{ start, n uint32 }

// unitRuns holds the wholly free units of the file as runs: ascending, disjoint
// and never touching each other. Its operations cost what the number of runs
// costs, whatever the length of the file.
type unitRuns []unitRun

// after is the index of the first run that starts above u.
func (r unitRuns) after(u uint32) int {
	i, _ := slices.BinarySearchFunc(r, u, func(x unitRun, u uint32) int {
		if x.start <= u {
			return -1
		}
		return 1
	})
	return i
}

// add adds n units from u on, none of which is in a run.
func (r *unitRuns) add(u, n uint32) {
	s, i := *r, r.after(u)
	joinsLeft := i > 0 && s[i-1].start+s[i-1].n == u
	joinsRight := i < len(s) && u+n == s[i].start
	switch {
	case joinsLeft && joinsRight:
		s[i-1].n += n + s[i].n
		*r = slices.Delete(s, i, i+1)
	case joinsLeft:
		s[i-1].n += n
	case joinsRight:
		s[i] = unitRun{u, n + s[i].n}
	default:
		*r = slices.Insert(s, i, unitRun{u, n})
	}
}

// remove takes n units from u on, all of one run, out of it.
func (r *unitRuns) remove(u, n uint32) {
	s, i := *r, r.after(u)-1
	left, right := u-s[i].start, s[i].start+s[i].n-(u+n)
	switch {
	case left == 0 && right == 0:
		*r = slices.Delete(s, i, i+1)
	case left == 0:
		s[i] = unitRun{u + n, right}
	case right == 0:
		s[i].n = left
	default:
		s[i].n = left
		*r = slices.Insert(s, i+1, unitRun{u + n, right})
	}
}

// best finds k units: in the smallest run that has them, the lowest among equals.
func (r unitRuns) best(k uint32) (start uint32, ok bool) {
	size := uint32(0)
	for _, x := range r {
		if x.n == k {
			return x.start, true
		}
		if x.n > k && (!ok || x.n < size) {
			start, size, ok = x.start, x.n, true
		}
	}
	return start, ok
}
