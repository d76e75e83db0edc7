package ring

import (
	"cmp"
	"math"
	"slices"
)

// segment is a sequence of slots of one owner in a doubly linked list.
type segment struct {
	start, end uint32
	prev, next int32 // -1: none
	owner      uint16
}

// assigner moves slots between members. Everything is counted in units of the ledger.
type assigner struct {
	ledger ledger
	list   []segment // linked, the first one is the first, all others are in any order
	free   uint16    // the owner of slots that nobody owns
	have   []int64   // what each member has; the last is what is free
	share  []int64   // what each should have
	low    []int64   // the tolerance band around share
	high   []int64
	aim    []int64 // what members are filled up to, and donors come down to where it is cheap; inside the band
}

// aimPart is the part of the upper half of the tolerance band that gets filled. The rest is for joins that would
// otherwise have to take a slot or two from everybody.
const aimPart = 0.2

func newAssigner(list []segment, members []Member, ledger ledger, tolerance float64) *assigner {
	n := len(members)
	a := &assigner{
		ledger: ledger, list: list, free: uint16(n), have: make([]int64, n+1),
		low: make([]int64, n), high: make([]int64, n), aim: make([]int64, n),
	}
	for _, s := range list {
		a.have[s.owner] += a.units(s)
	}
	scaled := weights(members)
	a.share = fairShares(ledger.total(), scaled, a.have)
	all := float64(sum(scaled))
	for i, share := range a.share {
		// The band is around the exact quota, or a ring would leave it because its rounding changes.
		quota := float64(float64(ledger.total()) * float64(float64(scaled[i])/all))
		a.low[i] = max(1, min(share, int64(math.Floor(float64(quota*max(0, 1-tolerance))))))
		a.high[i] = max(share, above(quota, tolerance))
		a.aim[i] = max(share, above(quota, tolerance*aimPart))
	}
	return a
}

// above returns the quota and a part of it more, rounded up.
func above(quota, part float64) int64 {
	return int64(math.Ceil(min(float64(quota*(1+part)), 1<<50)))
}

func (a *assigner) units(s segment) int64 { return a.ledger.of(int(s.start), int(s.end)) }

// below says how far a member is below its share.
func (a *assigner) below(member uint16) int64 { return a.share[member] - a.have[member] }

// byRoom sorts members by how far they are below their shares, the neediest first.
func (a *assigner) byRoom(members []uint16) {
	slices.SortFunc(members, func(x, y uint16) int {
		return cmp.Or(cmp.Compare(a.below(y), a.below(x)), cmp.Compare(x, y))
	})
}

// takers returns the members below their band, the neediest first.
func (a *assigner) takers() []uint16 {
	var takers []uint16
	for i := range a.share {
		if a.have[i] < a.low[i] {
			takers = append(takers, uint16(i))
		}
	}
	a.byRoom(takers)
	return takers
}

// ring writes the list out.
func (a *assigner) ring(members []Member) *Ring {
	table := make([]uint16, a.ledger.slots)
	runs := make([]run, 0, len(a.list))
	for i := int32(0); i >= 0; i = a.list[i].next {
		s := a.list[i]
		fill(table[s.start:s.end], s.owner)
		if last := len(runs) - 1; last < 0 || runs[last].owner != s.owner {
			runs = append(runs, run{s.start, s.owner})
		}
	}
	return newRing(members, table, slices.Clip(runs))
}

// fill writes the owner to all slots; copying what is written already is many times faster than one by one.
func fill(slots []uint16, owner uint16) {
	if len(slots) == 0 {
		return
	}
	slots[0] = owner
	for done := 1; done < len(slots); done *= 2 {
		copy(slots[done:], slots[:done])
	}
}

// hand gives the slots from start up to end, all of which are in segment i, to a member, and returns the segment they
// are in then.
func (a *assigner) hand(i int32, start, end uint32, to uint16) int32 {
	units := a.ledger.of(int(start), int(end))
	a.have[a.list[i].owner] -= units
	a.have[to] += units
	if a.list[i].start < start {
		i = a.split(i, start)
	}
	if end < a.list[i].end {
		a.split(i, end)
	}
	a.list[i].owner = to
	return i
}

// split cuts segment i at a slot and returns the new segment behind the cut.
func (a *assigner) split(i int32, at uint32) int32 {
	n, s := int32(len(a.list)), a.list[i]
	a.list = append(a.list, segment{at, s.end, i, s.next, s.owner})
	a.list[i].end, a.list[i].next = at, n
	if s.next >= 0 {
		a.list[s.next].prev = n
	}
	return n
}
