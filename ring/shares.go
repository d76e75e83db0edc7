package ring

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// weights returns the weights as integers relative to the largest, which becomes 2^32; none is below 1. Integers make
// the shares the same on every architecture: compilers may fuse floating point operations on some.
func weights(members []Member) []uint64 {
	largest := 0.0
	for _, m := range members {
		largest = max(largest, m.Weight)
	}
	scaled := make([]uint64, len(members))
	for i, m := range members {
		scaled[i] = max(1, uint64(math.Round(float64(m.Weight/largest)*(1<<32))))
	}
	return scaled
}

func sum(weights []uint64) uint64 {
	total := uint64(0)
	for _, w := range weights {
		total += w
	}
	return total
}

// fairShares divides units by the weights. Each gets the whole part of its quota; what is left goes one by one to those with the
// largest remainder (Hamilton's method), then to those who have more already, then in order. Nobody gets less than one unit.
func fairShares(units int64, weights []uint64, have []int64) []int64 {
	total := sum(weights)
	shares := make([]int64, len(weights))
	rest := make([]uint64, len(weights))
	order := make([]int, len(weights))
	left := units
	for i, w := range weights {
		hi, lo := bits.Mul64(uint64(units), w)
		quo, rem := bits.Div64(hi, lo, total)
		shares[i], rest[i], order[i] = int64(quo), rem, i
		left -= int64(quo)
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(rest[b], rest[a]), cmp.Compare(have[b], have[a]), cmp.Compare(a, b))
	})
	for _, i := range order[:left] {
		shares[i]++
	}
	raise(shares, 1)
	return shares
}

// raise lifts those below least to it, at the cost of those who have most.
func raise(shares []int64, least int64) {
	missing := int64(0)
	for i, s := range shares {
		if s < least {
			missing += least - s
			shares[i] = least
		}
	}
	if missing == 0 {
		return
	}
	order := make([]int, len(shares))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(shares[b], shares[a]), cmp.Compare(a, b)) })
	for missing > 0 {
		before := missing
		for _, i := range order {
			if cut := min(missing, max(1, shares[i]/64)); shares[i]-cut >= least && cut > 0 {
				shares[i] -= cut
				missing -= cut
			}
		}
		if missing == before {
			return
		}
	}
}
