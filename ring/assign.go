package ring

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
)

// Assign returns the next ring: the members own slots in proportion to their weights, and as few as possible change
// their owner.
//
//   - Who joins takes slots from those who have most, and nothing else moves.
//   - Slots of those who leave, and free ones, go to those who have least, and nothing else moves.
//   - Who is above its share by more than the [Tolerance], or below, gives or takes what brings it back.
//
// Rings with the same members within tolerance are returned as they are. Assign uses the options [Slots], [Tolerance] and
// [Loads].
func (r *Ring) Assign(members []Member, opts ...Option) (*Ring, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if members, err = normalize(members); err != nil {
		return nil, err
	}
	slots, err := o.slotsFor(len(members), r.Slots())
	if err != nil {
		return nil, err
	}
	if o.loads != nil && len(o.loads) != slots {
		return nil, fmt.Errorf("ring: Loads: %d loads for %d slots, there must be one for each", len(o.loads), slots)
	}
	table := r.carryOver(members, slots)
	if len(members) > 0 {
		balance(table, members, o.tolerance)
	}
	return newRing(members, table), nil
}

// carryOver returns a table of the wanted members and slots in which each slot has the owner it has in r. Slots of
// members that are no more are free.
func (r *Ring) carryOver(members []Member, slots int) []uint16 {
	table := freeTable(slots, len(members))
	if r.Slots() == 0 {
		return table
	}
	next := make([]uint16, len(r.members)+1)
	for i := range next {
		next[i] = uint16(len(members))
	}
	for i, j := 0, 0; i < len(r.members) && j < len(members); {
		switch c := cmp.Compare(r.members[i].ID, members[j].ID); {
		case c < 0:
			i++
		case c > 0:
			j++
		default:
			next[i] = uint16(j)
			i, j = i+1, j+1
		}
	}
	factor := slots / len(r.table)
	for i, run := range r.runs {
		for slot := int(run.start) * factor; slot < r.end(i)*factor; slot++ {
			table[slot] = next[run.owner]
		}
	}
	return table
}

// fairShares divides slots by the weights. Each gets the whole part of its quota; what is left goes one by one to those with the
// largest remainder, then to those who have more already, then in order.
func fairShares(slots int, weights []uint64, have []int) []int {
	total := uint64(0)
	for _, w := range weights {
		total += w
	}
	shares := make([]int, len(weights))
	rest := make([]uint64, len(weights))
	order := make([]int, len(weights))
	left := slots
	for i, w := range weights {
		hi, lo := bits.Mul64(uint64(slots), w)
		quo, rem := bits.Div64(hi, lo, total)
		shares[i], rest[i], order[i] = int(quo), rem, i
		left -= int(quo)
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(rest[b], rest[a]), cmp.Compare(have[b], have[a]), cmp.Compare(a, b))
	})
	for _, i := range order[:left] {
		shares[i]++
	}
	return shares
}

func balance(table []uint16, members []Member, tolerance float64) {
	have := make([]int, len(members))
	free := uint16(len(members))
	for _, owner := range table {
		if owner != free {
			have[owner]++
		}
	}
	shares := fairShares(len(table), weights(members), have)
	for slot, owner := range table {
		if owner != free && have[owner] > shares[owner] {
			have[owner]--
			table[slot] = free
		}
	}
	taker := 0
	for slot, owner := range table {
		if owner != free {
			continue
		}
		for have[taker] >= shares[taker] {
			taker++
		}
		have[taker]++
		table[slot] = uint16(taker)
	}
}
