package balancer

import "sync"

// roundRobin hands objects out in turn: smooth weighted round-robin, as in nginx since 1.3.1.
type roundRobin struct {
	mu     sync.Mutex
	credit map[string]float64
}

func newRoundRobin() *roundRobin { return &roundRobin{credit: map[string]float64{}} }

// Place keeps an object where it is, and gives one without an owner to the shard whose turn it is.
func (r *roundRobin) Place(v *View, o Object) (Decision, error) {
	if d, ok := stay(v, o); ok {
		return d, nil
	}
	if len(v.eligible) == 0 {
		return Decision{}, ErrNoShard
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	total, turn := 0.0, 0
	for i, s := range v.eligible {
		r.credit[s.ID] += s.Weight
		total += s.Weight
		if r.credit[s.ID] > r.credit[v.eligible[turn].ID] {
			turn = i
		}
	}
	id := v.eligible[turn].ID
	r.credit[id] -= total
	return Decision{id, "it is the turn of " + id}, nil
}

// stay answers with the owner of the object if it may keep it.
func stay(v *View, o Object) (Decision, bool) {
	if s, known := v.Shard(o.Owner); known && s.Keeps() {
		return Decision{o.Owner, o.Owner + " has it and may keep it"}, true
	}
	return Decision{}, false
}
