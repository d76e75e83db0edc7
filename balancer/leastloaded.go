package balancer

import (
	"sort"
	"sync"
)

const (
	// scanUpTo is the number of eligible shards up to which all of them are compared. With more, two are drawn, and the
	// better one gets the object.
	scanUpTo = 16
	// herdFactor is how much of its fair share of the latest placements a shard gets at most. Without it, a shard that
	// has just joined would get every new object until it has caught up, and all that work at once.
	herdFactor = 1.5
	// herdMemory is how many placements per shard are remembered for it; when there are more, all counts are halved.
	herdMemory = 32
)

// leastLoaded places an object on the least loaded shard.
type leastLoaded struct {
	mu      sync.Mutex
	tally   tally
	loads   []float64 // of eligible shards, including what was placed; nil if not all of them have reported
	perItem float64   // mean load of an object on a shard of weight 1
	upTo    []float64 // sums of the weights, for drawing
	given   map[string]float64
	all     float64 // sum of given
}

func newLeastLoaded() *leastLoaded { return &leastLoaded{given: map[string]float64{}} }

// Place keeps an object where it is, and gives one without an owner to the least loaded shard: by reported load if all
// eligible shards have reported one, else by objects for their weight. Up to 16 eligible shards are compared;
// of more, two are drawn by the hash of the object, in proportion to their weights, and compared (Mitzenmacher, "The power of two
// choices in randomized load balancing", 1996). No shard gets more than one and a half times its share of the
// latest placements.
func (l *leastLoaded) Place(v *View, o Object) (Decision, error) {
	if d, ok := stay(v, o); ok {
		return d, nil
	}
	if len(v.eligible) == 0 {
		return Decision{}, ErrNoShard
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tally.begin(v) {
		l.change(v)
	}
	winner := 0
	if len(v.eligible) <= scanUpTo {
		for i := range v.eligible {
			winner = l.better(winner, i)
		}
	} else {
		winner = l.better(l.draw(mix(o.Hash+1)), l.draw(mix(o.Hash+2)))
	}
	s := v.eligible[winner]
	l.place(winner, s)
	if l.loads != nil {
		return Decision{s.ID, s.ID + " reports the least load of those compared"}, nil
	}
	return Decision{s.ID, s.ID + " has the fewest objects for its weight of those compared"}, nil
}

// better returns the less loaded of two shards. One that has got too much lately loses against one that has not.
func (l *leastLoaded) better(i, j int) int {
	i, j = min(i, j), max(i, j)
	switch a, b := l.glut(i), l.glut(j); {
	case a != b && a:
		return j
	case a != b:
		return i
	case l.load(j) < l.load(i):
		return j
	}
	return i
}

func (l *leastLoaded) load(i int) float64 {
	if l.loads != nil {
		return l.loads[i]
	}
	return float64(l.tally.objects[i]) / l.tally.view.eligible[i].Weight
}

// glut says whether a shard has had its part of the latest placements.
func (l *leastLoaded) glut(i int) bool {
	s := l.tally.view.eligible[i]
	return l.given[s.ID] >= 1+herdFactor*l.all*(s.Weight/l.tally.weights)
}

// draw returns a shard with a probability in proportion to its weight.
func (l *leastLoaded) draw(random uint64) int {
	point := float64(random>>11) / (1 << 53) * l.tally.weights
	return min(sort.Search(len(l.upTo), func(i int) bool { return l.upTo[i] > point }), len(l.upTo)-1)
}

func (l *leastLoaded) place(i int, s Shard) {
	l.tally.add(i)
	if l.loads != nil {
		l.loads[i] += l.perItem / s.Weight
	}
	l.given[s.ID]++
	if l.all++; l.all > float64(herdMemory*len(l.tally.objects)) {
		l.all = 0
		for id, n := range l.given {
			l.given[id] = n / 2
		}
		l.all = l.sumGiven()
	}
}

func (l *leastLoaded) sumGiven() float64 {
	sum := 0.0
	for _, s := range l.tally.view.eligible {
		sum += l.given[s.ID]
	}
	return sum
}

// change goes on with another view: a shard that is not in it is forgotten.
func (l *leastLoaded) change(v *View) {
	for id := range l.given {
		if _, known := v.Shard(id); !known {
			delete(l.given, id)
		}
	}
	l.all = l.sumGiven()
	l.upTo = l.upTo[:0]
	sum, work := 0.0, 0.0
	l.loads = make([]float64, 0, len(v.eligible))
	for _, s := range v.eligible {
		sum += s.Weight
		l.upTo = append(l.upTo, sum)
		work += s.Load * s.Weight
		if s.LoadKnown {
			l.loads = append(l.loads, s.Load)
		}
	}
	if len(l.loads) < len(v.eligible) {
		l.loads = nil
	}
	l.perItem = work / float64(max(1, l.tally.total))
}
