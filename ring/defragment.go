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
	list := r.carryOver(r.members, r.Slots())
	for {
		a := newAssigner(list, r.members, ledger, o.tolerance)
		spent := a.mergeShort(left)
		left -= spent
		if spent == 0 {
			return newRing(r.members, a.table()), nil
		}
		list = newRing(r.members, a.table()).carryOver(r.members, r.Slots())
	}
}

// mergeShort gives short segments to their neighbours and returns how many units that were.
func (a *assigner) mergeShort(budget int64) int64 {
	type option struct {
		segment int32
		to      uint16
		units   int64
		gain    int64
	}
	var options []option
	for i, s := range a.list {
		units := a.units(s)
		if units > budget || s.owner == a.free {
			continue
		}
		if s.prev >= 0 && a.list[s.prev].owner != a.free {
			gain := int64(1)
			if s.next >= 0 && a.list[s.prev].owner == a.list[s.next].owner {
				gain = 2
			}
			options = append(options, option{int32(i), a.list[s.prev].owner, units, gain})
		}
		if s.next >= 0 && a.list[s.next].owner != a.free {
			options = append(options, option{int32(i), a.list[s.next].owner, units, 1})
		}
	}
	slices.SortFunc(options, func(x, y option) int {
		return cmp.Or(cmp.Compare(x.units*y.gain, y.units*x.gain), cmp.Compare(x.segment, y.segment), cmp.Compare(x.to, y.to))
	})
	spent := int64(0)
	touched := make([]bool, len(a.list))
	for _, o := range options {
		s := a.list[o.segment]
		if touched[o.segment] || spent+o.units > budget || a.have[o.to]+o.units > a.aim[o.to] || a.have[s.owner]-o.units < a.low[s.owner] {
			continue
		}
		a.hand(o.segment, s.start, s.end, o.to)
		spent += o.units
		touched[o.segment] = true
		if s.prev >= 0 {
			touched[s.prev] = true
		}
		if s.next >= 0 {
			touched[s.next] = true
		}
	}
	return spent
}
