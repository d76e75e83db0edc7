package balancer

import (
	"container/heap"
	"sync"
)

// roundRobin hands objects out in turn, in proportion to the weights: stride scheduling (Waldspurger and Weihl,
// "Stride scheduling: deterministic proportional-share resource management", MIT 1995). Each shard has a position; the
// one with the lowest gets the object and advances by 1/weight. A shard that is new starts where the others are, so
// nothing is made up for.
type roundRobin struct {
	mu     sync.Mutex
	view   *View
	turns  turns
	former map[string]float64 // positions of all shards of the view, relative to the lowest eligible one
}

// Place keeps an object where it is, and gives one without an owner to the shard whose turn it is. It takes time in
// proportion to the logarithm of the number of shards.
func (r *roundRobin) Place(v *View, o Object) (Decision, error) {
	if d, ok := stay(v, o); ok {
		return d, nil
	}
	if len(v.eligible) == 0 {
		return Decision{}, ErrNoShard
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.view != v {
		r.change(v)
	}
	next := &r.turns[0]
	s := v.eligible[next.shard]
	next.position += 1 / s.Weight
	heap.Fix(&r.turns, 0)
	return Decision{s.ID, "it is the turn of " + s.ID}, nil
}

// change goes on with another view. Shards that are in it, eligible or not, keep their position.
func (r *roundRobin) change(v *View) {
	positions := make(map[string]float64, len(v.shards))
	lowest := 0.0
	if len(r.turns) > 0 {
		lowest = r.turns[0].position
	}
	for _, s := range v.shards {
		if p, ok := r.former[s.ID]; ok && r.view != nil {
			positions[s.ID] = max(0, p-lowest)
		}
	}
	for _, t := range r.turns {
		id := r.view.eligible[t.shard].ID
		if _, still := v.Shard(id); still {
			positions[id] = t.position - lowest
		}
	}
	r.view, r.former = v, positions
	r.turns = r.turns[:0]
	for i, s := range v.eligible {
		r.turns = append(r.turns, turn{positions[s.ID], i})
	}
	heap.Init(&r.turns)
}

// turn is the position of an eligible shard.
type turn struct {
	position float64
	shard    int
}

// turns is a heap with the lowest position on top; of equal ones, the first by ID.
type turns []turn

func (t turns) Len() int { return len(t) }
func (t turns) Less(i, j int) bool {
	return t[i].position < t[j].position || t[i].position == t[j].position && t[i].shard < t[j].shard
}
func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *turns) Push(x any)   { *t = append(*t, x.(turn)) }
func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
