package ring

import (
	"cmp"
	"slices"
)

// fillFree gives the free slots away: to members below their band, then to the neighbours of the free slots, then to
// those who have most room. The fewer members get some, the fewer ranges there are.
func (a *assigner) fillFree() {
	var gaps []int32
	for i := range a.list {
		if a.list[i].owner == a.free {
			gaps = append(gaps, int32(i))
		}
	}
	slices.SortFunc(gaps, func(x, y int32) int { // long ones first
		return cmp.Or(cmp.Compare(a.units(a.list[y]), a.units(a.list[x])), cmp.Compare(a.list[x].start, a.list[y].start))
	})
	a.fillTakers(gaps)
	for i, gap := range gaps {
		gaps[i] = a.fillFromNeighbours(gap)
	}
	a.fillRest(gaps)
}

// fillTakers gives to those below their band what they lack, but leaves enough to bring all the others into it: then nobody
// who was there before must give something up because others left.
func (a *assigner) fillTakers(gaps []int32) {
	takers := a.takers()
	reserve := int64(0)
	for _, t := range takers {
		reserve += a.low[t] - a.have[t]
	}
	for _, t := range takers {
		reserve -= a.low[t] - a.have[t]
		for i, gap := range gaps {
			want := min(a.below(t), a.have[a.free]-reserve)
			if want <= 0 {
				break
			}
			gaps[i] = a.fillGap(gap, t, want)
		}
	}
}

// fillGap gives the start of a free segment, at most so many units, to a member. It returns what is left of it.
func (a *assigner) fillGap(gap int32, to uint16, units int64) int32 {
	s := a.list[gap]
	if s.owner != a.free {
		return gap
	}
	end := uint32(a.ledger.first(int(s.start), int(s.end), units))
	if end == s.start {
		return gap
	}
	a.hand(gap, s.start, end, to)
	if end == s.end {
		return gap
	}
	return a.list[gap].next
}

// fillFromNeighbours lets the owners on both sides of a free segment extend into it as far as they have room. It returns
// what is left of it.
func (a *assigner) fillFromNeighbours(gap int32) int32 {
	if prev := a.list[gap].prev; prev >= 0 && a.list[gap].owner == a.free && a.list[prev].owner != a.free {
		m := a.list[prev].owner
		gap = a.fillGap(gap, m, a.aim[m]-a.have[m])
	}
	if next := a.list[gap].next; next >= 0 && a.list[gap].owner == a.free && a.list[next].owner != a.free {
		m, s := a.list[next].owner, a.list[gap]
		if start := uint32(a.ledger.last(int(s.start), int(s.end), a.aim[m]-a.have[m])); start < s.end {
			a.hand(gap, start, s.end, m)
		}
	}
	return gap
}

// fillRest gives what is still free to those who have most room, as much to each as it has. What is left of a gap goes to the
// one whom it fills best. When slots are so coarse that nobody has room for one, the one who has least takes it.
func (a *assigner) fillRest(gaps []int32) {
	room := make([]int64, len(a.share))
	for i := range room {
		room[i] = max(0, a.aim[i]-a.have[i])
	}
	for _, gap := range gaps {
		for a.list[gap].owner == a.free {
			s := a.list[gap]
			m := fit(room, a.units(s))
			units := min(room[m], a.units(s))
			if one := a.ledger.of(int(s.start), int(s.start)+1); units < one {
				room[m] = 0
				if room[fit(room, one)] >= one {
					continue
				}
				m, units = a.neediest(), one
			}
			before := a.have[m]
			gap = a.fillGap(gap, m, units)
			room[m] = max(0, room[m]-(a.have[m]-before))
		}
	}
}

// fit returns the member with the least room that is enough, or the one with most room.
func fit(room []int64, units int64) uint16 {
	best := 0
	for m, r := range room {
		switch b := room[best]; {
		case b >= units && r >= units && r < b, b < units && r > b:
			best = m
		}
	}
	return uint16(best)
}

// neediest returns the member that is farthest below its share.
func (a *assigner) neediest() uint16 {
	first := uint16(0)
	for m := range a.share {
		if a.below(uint16(m)) > a.below(first) {
			first = uint16(m)
		}
	}
	return first
}
