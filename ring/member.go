package ring

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Member is a shard that takes part in a ring.
type Member struct {
	// ID is the name of the shard. It must not be empty, and must be unique in its ring.
	ID string
	// Weight is the share of the ring that the member gets, relative to the weights of the others: twice the weight,
	// twice the slots. 0 means 1. Negative weights, infinities and NaN are refused. Weights are compared at a resolution
	// of 2^-32 of the largest one.
	Weight float64
}

// normalize returns the members sorted by ID with their effective weights, or an error that names the first wrong one.
func normalize(members []Member) ([]Member, error) {
	if len(members) > MaxMembers {
		return nil, fmt.Errorf("ring: Members: %d members, at most %d are possible", len(members), MaxMembers)
	}
	sorted := slices.Clone(members)
	for i := range sorted {
		m := &sorted[i]
		switch {
		case m.ID == "":
			return nil, fmt.Errorf("ring: Members[%d].ID: must not be empty", i)
		case math.IsNaN(m.Weight) || math.IsInf(m.Weight, 0) || m.Weight < 0:
			return nil, fmt.Errorf("ring: Members[%d].Weight (%s): %v, must be a positive number, or 0 for 1", i, m.ID, m.Weight)
		case m.Weight == 0:
			m.Weight = 1
		}
	}
	slices.SortFunc(sorted, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].ID == sorted[i-1].ID {
			return nil, fmt.Errorf("ring: Members: %q is there twice, IDs must be unique", sorted[i].ID)
		}
	}
	return sorted, nil
}
