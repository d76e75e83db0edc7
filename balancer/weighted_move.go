package balancer

import (
	"cmp"
	"slices"
)

const (
	// rangeCost is what a range more counts in objects.
	rangeCost = 0.5
	// maxRanges is how many ranges a shard may have before it gets no more: half of what fits into a ShardInstance.
	maxRanges = 2048
	// farthest is how much of the difference between two shards a unit may be, on both together: 2 would swap their loads, 1 levels them.
	farthest = 1.5
	// enough is which part of the best possible gain ends the search for a better one.
	enough = 0.95
	// longestSearch is how many units that could move are compared.
	longestSearch = 4096
	// leastWorth is which part of the difference between two shards must be in what the giver may give. Or everything else would leave a shard
	// whose only heavy units are pinned or cooling, for next to no gain.
	leastWorth = 0.05
)

// move makes moves until everybody is within aim of what it should have, or nothing more helps, or the budget is spent. The same two shards go
// on for as long as both need it, so that slots that are neighbours move together.
func (s *scene) move(aim float64, budget int64, plan *Plan) {
	from, to := -1, -1
	for plan.Objects < budget {
		if again := from >= 0 && s.bothNeed(from, to, aim); !again {
			to = s.coldest()
			from = s.hottest(aim, to)
		}
		if from < 0 || to < 0 || from == to {
			return
		}
		u := s.best(from, to, budget-plan.Objects)
		if u < 0 {
			s.parties[from].stuck = to == s.coldest() // nobody has more room
			from = -1
			continue
		}
		plan.Moves = append(plan.Moves, s.carry(from, to, u))
		plan.Objects += s.parties[from].units[u].cost
	}
}

// bothNeed says whether one shard is still above what it should have by more than aim, and the other one below the level.
func (s *scene) bothNeed(from, to int, aim float64) bool {
	a, b := &s.parties[from], &s.parties[to]
	return a.load > float64(a.fair*(1+aim)) && b.load < s.level
}

// coldest returns the shard with the least load among those that may receive, -1 if none may.
func (s *scene) coldest() int {
	coldest := -1
	for _, i := range s.active {
		if p := &s.parties[i]; p.Eligible() && (coldest < 0 || p.load < s.parties[coldest].load) {
			coldest = i
		}
	}
	return coldest
}

// hottest returns the shard that is to give next: the one that is most above what it should have, if anybody is above by more than aim. If nobody
// is, but the coldest one is below, it is the one with most. -1 if nobody is to give.
func (s *scene) hottest(aim float64, coldest int) int {
	hottest, most := -1, 1.0
	for _, i := range s.active {
		if p := &s.parties[i]; !p.stuck && p.fair > 0 {
			if excess := p.load / p.fair; excess > most {
				hottest, most = i, excess
			}
		}
	}
	cold := coldest >= 0 && s.parties[coldest].load < float64(s.level*(1-aim))
	if most <= 1+aim && !cold {
		return -1
	}
	return hottest
}

// best returns the unit whose move from one shard to another gains most for its cost, -1 if none gains anything.
//
// Balance is the sum of the squares of the loads, by weight. A unit that is y on one shard and z on the other changes it by
// w·y·(2(a-b) - y - z), where a and b are the loads and w the weight of the first: most when it levels them.
func (s *scene) best(from, to int, budget int64) int {
	a, b := &s.parties[from], &s.parties[to]
	s.sortUnits(a)
	gap, ratio := a.load-b.load, a.Weight/b.Weight
	winner, highest, compared := -1, 0.0, 0
	for i := a.head; i < len(a.units) && compared < longestSearch; i++ {
		u := &a.units[i]
		if u.gone {
			if i == a.head {
				a.head++
			}
			continue
		}
		if u.stays {
			continue
		}
		cost := float64(u.cost)
		if highest >= enough*2*gap*u.load/cost {
			break
		}
		both := float64(u.load * (1 + ratio))
		if both > farthest*gap || float64(u.load*ratio) > gap {
			continue // the receiver would have more than the giver had
		}
		ranges, fits := s.ranges(u, from, to)
		switch {
		case s.cooling(u.id):
			s.skipped.cooling++
			continue
		case u.cost > budget:
			s.skipped.budget++
			continue
		case !fits:
			s.skipped.ranges++
			continue
		}
		compared++
		score := float64(u.load*(2*gap-both)) / (cost + float64(rangeCost*float64(max(0, ranges))))
		if score > highest {
			winner, highest = i, score
		}
	}
	if a.movable < leastWorth*gap {
		return -1
	}
	return winner
}

// sortUnits sorts those with the highest load for their cost to the front, and adds up what may move.
func (s *scene) sortUnits(p *party) {
	if p.sorted {
		return
	}
	p.sorted = true
	for _, u := range p.units {
		if !u.stays && !s.cooling(u.id) {
			p.movable += u.load
		}
	}
	largest := int32(-1)
	if p.largest >= 0 {
		largest = p.units[p.largest].id
	}
	slices.SortFunc(p.units, func(a, b unit) int {
		return cmp.Or(cmp.Compare(b.load*float64(a.cost), a.load*float64(b.cost)), cmp.Compare(a.id, b.id))
	})
	p.largest = slices.IndexFunc(p.units, func(u unit) bool { return u.id == largest })
}

// ranges returns how many ranges more there are when a slot moves, from -2 to 2, and whether both shards may have theirs.
func (s *scene) ranges(u *unit, from, to int) (more int, fits bool) {
	if s.owner == nil {
		return 0, true
	}
	gives, takes := s.rangesOf(u, from, to)
	fits = (gives <= 0 || s.parties[from].ranges < maxRanges) && (takes <= 0 || s.parties[to].ranges < maxRanges)
	return gives + takes, fits
}

// rangesOf returns how many ranges more both shards have when a slot moves.
func (s *scene) rangesOf(u *unit, from, to int) (gives, takes int) {
	gives, takes = -1, 1
	for _, neighbour := range [2]int32{u.first - 1, u.last + 1} {
		if neighbour < 0 || int(neighbour) >= len(s.owner) {
			continue
		}
		switch int(s.owner[neighbour]) {
		case from:
			gives++
		case to:
			takes--
		}
	}
	return gives, takes
}

// carry moves a unit in the calculation.
func (s *scene) carry(from, to, i int) Move {
	a, b := &s.parties[from], &s.parties[to]
	u := &a.units[i]
	load := u.load * a.Weight / b.Weight
	a.load -= u.load
	b.load += load
	u.gone = true
	b.fair = max(b.fair, load)
	if i == a.largest {
		a.fair, a.largest = s.level, -1
		for n := range a.units {
			if v := &a.units[n]; !v.gone && (a.largest < 0 || v.load > a.units[a.largest].load) {
				a.largest = n
			}
		}
		if a.largest >= 0 {
			a.fair = max(s.level, a.units[a.largest].load)
		}
	}
	if s.owner != nil {
		gives, takes := s.rangesOf(u, from, to)
		a.ranges += gives
		b.ranges += takes
		for slot := u.first; slot <= u.last; slot++ {
			s.owner[slot] = int32(to)
		}
	}
	return Move{From: a.ID, To: b.ID, Slot: int(u.id), Objects: u.cost, Load: u.load}
}
