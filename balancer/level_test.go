package balancer

import (
	"math/rand/v2"
	"testing"
)

// TestLevelOfNearlyEqualLoads: the level is found where the largest units are as heavy as it, but for rounding, and so above it or not by chance.
func TestLevelOfNearlyEqualLoads(t *testing.T) {
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 0))
		load := r.Float64()
		s := &scene{parties: make([]party, 2+r.IntN(6))}
		for i := range s.parties {
			p := &s.parties[i]
			p.Weight = float64(1 + r.IntN(3))
			p.units, p.largest = []unit{{load: load * (1 + 2e-16*float64(r.IntN(5)-2))}}, 0
			s.active = append(s.active, i)
			s.weights += p.Weight
			s.mean += p.units[0].load * p.Weight
		}
		s.mean /= s.weights
		s.raiseLevel()
		for i, p := range s.parties {
			if p.fair < s.level || p.fair < p.units[0].load*(1-1e-9) || p.fair > load*(1+1e-9) {
				t.Fatalf("seed %d: party %d should have %v, the level is %v, its unit %v", seed, i, p.fair, s.level, p.units[0].load)
			}
		}
	}
}
