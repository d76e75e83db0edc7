package balancer

import "math"

// consistentHash places an object on the owner of its slot.
type consistentHash struct{}

// Place answers with the owner of the object's slot. When that shard may not receive objects, the object
// stays where it is; one that has no owner, or whose owner may not keep it, goes to the eligible shard that wins by
// weighted rendezvous hashing, so that such objects spread over all others.
func (consistentHash) Place(v *View, o Object) (Decision, error) {
	want := v.ring.Owner(o.Hash)
	s, known := v.Shard(want)
	switch {
	case known && s.Eligible():
		return Decision{want, "the ring assigns its slot to " + want}, nil
	case known && s.Keeps() && o.Owner == want:
		return Decision{want, "the ring assigns its slot to " + want + ", which keeps what it has"}, nil
	}
	if d, ok := stay(v, o); ok {
		return d, nil
	}
	winner, ok := rendezvous(v, o.Hash)
	if !ok {
		return Decision{}, ErrNoShard
	}
	if want == "" {
		return Decision{winner, "no shard owns its slot; " + winner + " is next by rendezvous"}, nil
	}
	return Decision{winner, want + " owns its slot but may not receive; " + winner + " is next by rendezvous"}, nil
}

// rendezvous returns the eligible shard with the highest score for the hash: weighted highest random weight (Thaler and
// Ravishankar 1998; weights as by Schindelhauer and Schomaker 2005: -w/ln(u)).
func rendezvous(v *View, hash uint64) (string, bool) {
	best, winner := math.Inf(-1), -1
	for i, s := range v.eligible {
		if score := score(hash, s.ID, s.Weight); score > best {
			best, winner = score, i
		}
	}
	if winner < 0 {
		return "", false
	}
	return v.eligible[winner].ID, true
}
