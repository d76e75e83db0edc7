package balancer

// consistentHash places an object on the owner of its slot. It has no state.
type consistentHash struct{}

// Place answers with the owner of the object's slot in the ring. When that shard may not receive objects, the object
// stays where it is; one that has no owner, or whose owner may not keep it, goes to the eligible shard that wins by
// rendezvous hashing, so that such objects spread over all others in proportion to their weights.
func (consistentHash) Place(v *View, o Object) (Decision, error) {
	want := v.ring.Owner(o.Hash)
	s, known := v.Shard(want)
	if known && (s.Eligible() || o.Owner == want && s.Keeps()) {
		return Decision{want, "the ring gives its slot to " + want}, nil
	}
	if d, ok := stay(v, o); ok {
		return d, nil
	}
	winner, ok := v.best(o.Hash, nil)
	if !ok {
		return Decision{}, ErrNoShard
	}
	id := v.eligible[winner].ID
	if want == "" {
		return Decision{id, "nobody owns its slot; " + id + " wins by rendezvous"}, nil
	}
	return Decision{id, want + " owns its slot but may not receive objects; " + id + " wins by rendezvous"}, nil
}

// stay answers with the owner of the object if it may keep it.
func stay(v *View, o Object) (Decision, bool) {
	if s, known := v.Shard(o.Owner); known && s.Keeps() {
		return Decision{o.Owner, o.Owner + " has it and may keep it"}, true
	}
	return Decision{}, false
}
