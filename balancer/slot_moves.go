package balancer

import (
	"fmt"

	"github.com/shard-io/shard-controller/ring"
)

const (
	// manyRanges is how many ranges a member may have on average before some are joined.
	manyRanges = 512
	// tidyPart is which part of the budget (one in so many) may be spent on that in a round.
	tidyPart = 10
)

// finishSlots adds to the plan the ring that it leads to.
func (s *scene) finishSlots(plan *Plan) error {
	if !plan.Acts() || plan.Ring != nil {
		return nil
	}
	claims := s.ring.Claims()
	index := make(map[string]int, len(claims))
	for i := range claims {
		index[claims[i].ID], claims[i].Ranges = i, nil
	}
	width := uint64(1<<32) / uint64(len(s.owner))
	for start := 0; start < len(s.owner); {
		end := start + 1
		for end < len(s.owner) && s.owner[end] == s.owner[start] {
			end++
		}
		if owner := s.ownerOf(start); owner != "" {
			c := &claims[index[owner]]
			c.Ranges = append(c.Ranges, ring.Range{Start: uint32(uint64(start) * width), End: uint32(uint64(end)*width - 1)})
		}
		start = end
	}
	next, _, err := ring.Recover(claims, ring.Slots(len(s.owner))) // a ring may have slots that nobody owns
	plan.Ring = next
	return err
}

// defragment turns a plan that has nothing to do into one that joins ranges, if they are many. Each slot that moves to even out loads may
// make two more of them.
func (s *scene) defragment(plan *Plan, slots []SlotLoad, tolerance float64, budget int64) {
	ranges := 0
	for _, claim := range s.ring.Claims() {
		ranges += len(claim.Ranges)
	}
	if ranges <= manyRanges*s.ring.Len() || s.objects == 0 {
		return
	}
	budget = max(1, budget/tidyPart)
	part := min(1, float64(budget)/float64(s.objects))
	for range 4 {
		next, err := s.ring.Defragment(part, ring.Loads(s.loads()), ring.Tolerance(tolerance*aimPart))
		if err != nil {
			return
		}
		moves, objects, allowed := s.between(next, slots)
		if allowed && objects <= budget {
			if !next.Equal(s.ring) {
				plan.Reason, plan.Moves, plan.Objects, plan.Ring, plan.Expected = PlanDefragmenting, moves, objects, next, plan.Imbalance
				plan.Text = fmt.Sprintf("everybody is in the band, but the ring has %d ranges: joining some moves %d objects", ranges, objects)
			}
			return
		}
		part /= 4
	}
}

// loads returns the load that each slot causes where it is.
func (s *scene) loads() []float64 {
	loads := make([]float64, len(s.owner))
	for _, i := range s.active {
		for _, u := range s.parties[i].units {
			loads[u.id] = u.load
		}
	}
	return loads
}

// between returns the moves that make the ring into another one, and whether all of them are allowed. Empty slots are not moves.
func (s *scene) between(next *ring.Ring, slots []SlotLoad) (moves []Move, objects int64, allowed bool) {
	for _, d := range ring.Diff(s.ring, next) {
		to, known := s.index[d.To]
		for slot := s.ring.Slot(uint64(d.Range.Start) << 32); slot <= s.ring.Slot(uint64(d.Range.End)<<32); slot++ {
			if slots[slot].Objects == 0 {
				continue
			}
			if !known || !s.parties[to].Eligible() || s.cooling(int32(slot)) {
				return nil, 0, false
			}
			moves = append(moves, Move{From: d.From, To: d.To, Slot: slot, Objects: slots[slot].Objects})
			objects += slots[slot].Objects
		}
	}
	return moves, objects, true
}
