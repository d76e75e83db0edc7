package balancer

import (
	"math"
	"sync"
)

// leastLoaded places an object on the shard with the fewest objects for its weight.
type leastLoaded struct {
	mu     sync.Mutex
	view   *View
	placed map[string]int64 // since the view is the one above
}

func newLeastLoaded() *leastLoaded { return &leastLoaded{placed: map[string]int64{}} }

// Place keeps an object where it is, and gives one without an owner to the least loaded shard.
func (l *leastLoaded) Place(v *View, o Object) (Decision, error) {
	if d, ok := stay(v, o); ok {
		return d, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.view != v {
		l.view = v
		clear(l.placed)
	}
	best, least := "", math.Inf(1)
	for _, s := range v.eligible {
		if load := float64(s.Objects+l.placed[s.ID]) / s.Weight; load < least {
			best, least = s.ID, load
		}
	}
	if best == "" {
		return Decision{}, ErrNoShard
	}
	l.placed[best]++
	return Decision{best, best + " has the fewest objects for its weight"}, nil
}
