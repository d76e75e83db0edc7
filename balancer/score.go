package balancer

import (
	"math"

	"github.com/shard-io/shard-controller/ring"
)

// score is the draw of a shard for a hash in weighted rendezvous hashing.
func score(hash uint64, id string, weight float64) float64 {
	u := (float64(mix(hash^ring.Hash(id))>>11) + 0.5) / (1 << 53)
	return -weight / math.Log(u)
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
