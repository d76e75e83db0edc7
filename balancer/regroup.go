package balancer

import (
	"fmt"
	"math"

	"github.com/shard-io/shard-controller/ring"
)

// regroupTolerance is how exactly newcomers get their share, and leavers' shares are divided: a wider band leaves fewer ranges. What is left
// over is the planner's.
const regroupTolerance = 0.05

// Regroup returns the ring of other members: what [ring.Ring.Assign] is for a ring that nobody balances by load. Assign goes by the weights,
// and would undo what a [Planner] has done. Regroup takes for granted that everybody has what it can take: newcomers take their shares, by weight,
// from all others in proportion to what these have, and what leavers had is divided in the same way. Nothing moves between members that stay, and
// a shard that the planner has given less, because it is slow, keeps less. If only weights change, shares change by as much.
//
// What slots carry is in slots: their work, or the numbers of their objects where no work is known at all, or else each counts the same. There must be
// one for each slot of the former ring, or none. The ring that is returned is the former one if its members and weights are those that are wanted, and
// all its slots have owners. Wrong input is an error that names the field.
func Regroup(former *ring.Ring, members []ring.Member, slots []SlotLoad) (*ring.Ring, error) {
	if len(slots) != 0 && len(slots) != former.Slots() {
		return nil, fmt.Errorf("balancer: Slots: %d loads for %d slots, there must be one for each, or none", len(slots), former.Slots())
	}
	wanted, err := ring.New(members, ring.Slots(max(ring.DefaultSlots, former.Slots())))
	if err != nil {
		return nil, err
	}
	loads, err := slotLoads(former, slots)
	if err != nil {
		return nil, err
	}
	has, free := holdings(former, loads)
	if former.Len() == 0 || wanted.Len() == 0 {
		return former.Assign(members, options(loads)...)
	}
	if !free && sameMembers(former, wanted) {
		return former, nil
	}
	next, err := former.Assign(effective(former, wanted.Members(), has), options(loads)...)
	if err != nil {
		return nil, err
	}
	return withMembers(next, wanted.Members())
}

func options(loads []float64) []ring.Option {
	list := []ring.Option{ring.Tolerance(regroupTolerance)}
	if loads != nil {
		list = append(list, ring.Loads(loads))
	}
	return list
}

// slotLoads returns what each slot of a ring counts, nil when all count the same.
func slotLoads(r *ring.Ring, slots []SlotLoad) ([]float64, error) {
	work, objects := 0.0, int64(0)
	loads := make([]float64, len(slots))
	for i, s := range slots {
		switch {
		case !(s.Work >= 0) || math.IsInf(s.Work, 1):
			return nil, fmt.Errorf("balancer: Slots[%d].Work: %v, must be a number from 0", i, s.Work)
		case s.Objects < 0 || s.Objects > 1<<40:
			return nil, fmt.Errorf("balancer: Slots[%d].Objects: %d, must be from 0 to 2^40", i, s.Objects)
		}
		loads[i] = s.Work
		work = max(work, s.Work)
		objects = max(objects, s.Objects)
	}
	switch {
	case work > 0:
		for i := range loads {
			loads[i] /= work
		}
		return loads, nil
	case objects > 0:
		for i, s := range slots {
			loads[i] = float64(s.Objects)
		}
		return loads, nil
	}
	return nil, nil
}

// holdings returns what each member has, and whether there are slots that nobody owns.
func holdings(r *ring.Ring, loads []float64) (has map[string]float64, free bool) {
	has, owned := make(map[string]float64, r.Len()), 0
	for _, claim := range r.Claims() {
		for _, g := range claim.Ranges {
			for slot := r.Slot(uint64(g.Start) << 32); slot <= r.Slot(uint64(g.End)<<32); slot++ {
				owned++
				if loads == nil {
					has[claim.ID]++
				} else {
					has[claim.ID] += loads[slot]
				}
			}
		}
	}
	return has, owned < r.Slots()
}

func sameMembers(a, b *ring.Ring) bool {
	x, y := a.Members(), b.Members()
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i] != y[i] {
			return false
		}
	}
	return true
}

// leastPart is the least weight that a member may have by what it has, as a part of what it should have by its weight: or one with hardly any
// load would hardly get some of a leaver's.
const leastPart = 0.05

// effective returns the members with weights by what they have. That of a newcomer, and of one that has nothing, is what those who stay have on
// average for their weight.
func effective(former *ring.Ring, members []ring.Member, has map[string]float64) []ring.Member {
	before := make(map[string]float64, former.Len())
	for _, m := range former.Members() {
		before[m.ID] = m.Weight
	}
	sum, weights := 0.0, 0.0
	for _, m := range members {
		if weight, stays := before[m.ID]; stays && has[m.ID] > 0 {
			sum += has[m.ID]
			weights += weight
		}
	}
	if !(sum > 0) {
		return members
	}
	perWeight := sum / weights
	list := make([]ring.Member, len(members))
	for i, m := range members {
		list[i] = ring.Member{ID: m.ID, Weight: m.Weight * perWeight}
		if weight, stays := before[m.ID]; stays && has[m.ID] > 0 {
			list[i].Weight = max(has[m.ID]/weight, leastPart*perWeight) * m.Weight
		}
	}
	return list
}

// withMembers returns the ring with the weights of the members, which are those that it has.
func withMembers(r *ring.Ring, members []ring.Member) (*ring.Ring, error) {
	claims := r.Claims()
	for i := range claims {
		claims[i].Member = members[i]
	}
	return ring.FromRanges(claims, ring.Slots(r.Slots()))
}
