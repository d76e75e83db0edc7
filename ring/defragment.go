package ring

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Defragment returns the ring with fewer ranges per member. It gives short ranges to one of their neighbours, the shortest first, as
// long as they are not more than budget together: a part of the hash space (or of the load, with [Loads]) from 0 to 1.
// Nobody gets out of the [Tolerance] by it, nor above what [Ring.Assign] fills members up to.
//
// It is for the planner to call now and then, with what it may move in addition to what must move: 5 per cent of what
// joins and leaves have moved keep 100 members at 8 ranges each for ever. It uses the options [Tolerance] and [Loads].
func (r *Ring) Defragment(budget float64, opts ...Option) (*Ring, error) {
	if math.IsNaN(budget) || budget < 0 || budget > 1 {
		return nil, fmt.Errorf("ring: budget: %v, must be from 0 to 1", budget)
	}
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if r.Len() < 2 {
		return r, nil
	}
	ledger, err := newLedger(r.Slots(), o.loads)
	if err != nil {
		return nil, err
	}
	left := int64(float64(budget * float64(ledger.total())))
	for shift := false; ; {
		a := newAssigner(r.carryOver(r.members, r.Slots()), r.members, ledger, o.tolerance)
		spent := a.merge(left, shift)
		switch {
		case spent > 0:
			left -= spent
			r = a.ring(r.members)
		case shift:
			return r, nil
		default:
			shift = true // nothing is to be had cheaply any more
		}
	}
}

// merging is a short segment that could become part of a neighbour.
type merging struct {
	segment int32
	to      uint16
	units   int64
	gain    int64 // ranges that there are less afterwards
}

// merge gives short segments to their neighbours, the cheapest first, and returns how many units moved for it. With shift,
// a neighbour that has no room may hand on as much to somebody else at another boundary.
func (a *assigner) merge(budget int64, shift bool) int64 {
	spent := int64(0)
	touched := make([]bool, len(a.list))
	var owned [][]int32
	if shift {
		owned = a.segmentsByOwner()
	}
	for _, m := range a.mergings(budget) {
		s := a.list[m.segment]
		if a.anyTouched(touched, m.segment) || spent+m.units > budget {
			continue
		}
		cost := m.units
		if a.have[m.to]+m.units > a.aim[m.to] || a.have[s.owner]-m.units < a.low[s.owner] {
			if !shift || spent+2*m.units > budget || !a.handOn(m, owned[m.to], touched) {
				continue
			}
			cost += m.units
		}
		a.hand(m.segment, s.start, s.end, m.to)
		spent += cost
		a.touch(touched, m.segment)
	}
	return spent
}

// mergings returns what could be merged, the cheapest first.
func (a *assigner) mergings(budget int64) []merging {
	var list []merging
	for i, s := range a.list {
		units := a.units(s)
		if units > budget || s.owner == a.free {
			continue
		}
		prev, next := a.ownerOf(s.prev), a.ownerOf(s.next)
		if prev != a.free {
			m := merging{int32(i), prev, units, 1}
			if prev == next {
				m.gain = 2
			}
			list = append(list, m)
		}
		if next != a.free && next != prev {
			list = append(list, merging{int32(i), next, units, 1})
		}
	}
	slices.SortFunc(list, func(x, y merging) int {
		return cmp.Or(cmp.Compare(x.units*y.gain, y.units*x.gain), cmp.Compare(x.segment, y.segment), cmp.Compare(x.to, y.to))
	})
	return list
}

// handOn moves a boundary of the member that is to take the segment, so that it gets room: a neighbour elsewhere, which may be
// the one that loses the segment, takes as many units from it. It says whether that was possible.
func (a *assigner) handOn(m merging, owned []int32, touched []bool) bool {
	loser := a.list[m.segment].owner
	back := a.have[loser]-m.units < a.low[loser] // the loser has nothing to lose
	for _, i := range owned {
		s := a.list[i]
		if a.anyTouched(touched, i) || s.prev == m.segment || s.next == m.segment || a.units(s) <= m.units {
			continue
		}
		for _, side := range []int32{s.prev, s.next} {
			y := a.ownerOf(side)
			if y == a.free || y != loser && (back || a.have[y]+m.units > a.aim[y]) {
				continue
			}
			start, end := int(s.start), a.ledger.first(int(s.start), int(s.end), m.units)
			if side == s.next {
				start, end = a.ledger.last(int(s.start), int(s.end), m.units), int(s.end)
			}
			if a.ledger.of(start, end) < m.units {
				continue // slots are too coarse
			}
			a.hand(i, uint32(start), uint32(end), y)
			a.touch(touched, i)
			return true
		}
	}
	return false
}

func (a *assigner) segmentsByOwner() [][]int32 {
	owned := make([][]int32, len(a.share)+1)
	for i, s := range a.list {
		owned[s.owner] = append(owned[s.owner], int32(i))
	}
	return owned
}

// ownerOf returns the owner of a segment, or free if there is none.
func (a *assigner) ownerOf(i int32) uint16 {
	if i < 0 {
		return a.free
	}
	return a.list[i].owner
}

// touch marks a segment and its neighbours: what is known about them is no longer true. Segments that were split off since are
// not known, and count as touched.
func (a *assigner) touch(touched []bool, i int32) {
	for _, k := range []int32{i, a.list[i].prev, a.list[i].next} {
		if k >= 0 && int(k) < len(touched) {
			touched[k] = true
		}
	}
}

func (a *assigner) anyTouched(touched []bool, i int32) bool {
	for _, k := range []int32{i, a.list[i].prev, a.list[i].next} {
		if k >= 0 && (int(k) >= len(touched) || touched[k]) {
			return true
		}
	}
	return false
}
