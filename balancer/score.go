package balancer

import "math"

// best returns the position of the eligible shard with the highest score for the hash among those that are accepted; false
// if none is. This is weighted rendezvous hashing: highest random weight by Thaler and Ravishankar ("Using name-based
// mappings to increase hit rates", 1998), with the logarithmic weights of Schindelhauer and Schomaker ("Weighted
// distributed hash tables", 2005, section 4): each shard wins in proportion to its weight, and when one is not accepted, only what it
// would have won goes to others. It takes time in proportion to the number of eligible shards.
func (v *View) best(hash uint64, accept func(i int) bool) (int, bool) {
	highest, winner := math.Inf(-1), -1
	for i, s := range v.eligible {
		if accept != nil && !accept(i) {
			continue
		}
		// u is uniform in (0, 1), and -ln(u)/weight is exponential with the weight as its rate: the first one wins.
		u := (float64(mix(hash^v.seeds[i])>>11) + 0.5) / (1 << 53)
		if score := math.Log(u) / s.Weight; score > highest {
			highest, winner = score, i
		}
	}
	return winner, winner >= 0
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
