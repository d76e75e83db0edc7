package balancer

import (
	"fmt"
	"math"
	"sync"
)

// DefaultSlack is the slack of the strategy that is registered as bounded-load.
const DefaultSlack = 0.25

// busy is the load from which a shard can be above the bound: below it, nobody is helped by placing elsewhere.
const busy = 0.5

// boundedLoad is consistent hashing with bounded loads.
type boundedLoad struct {
	slack float64
	mu    sync.Mutex
	tally tally
	load  float64 // above it a shard gets nothing while others are below
}

// NewBoundedLoad returns the strategy of consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam,
// "Consistent hashing with bounded loads", SODA 2018): an object goes to the owner of its slot unless that shard is at
// its bound, which is its fair share of all objects by weight, times 1 + slack, rounded up. A shard is also at its bound
// when it reports a load of at least 0.5 and more than 1 + slack times the mean of all that report.
//
// An object whose owner is at its bound goes to the next one below by rendezvous hashing, not to the neighbour on the ring:
// with contiguous ranges, the neighbour would get everything (as Chen, Coleman and Shrivastava show for rings in
// "Revisiting consistent hashing with bounded loads", AAAI 2021). Objects stay where they are as long as
// their owner may keep them.
//
// Slack must be above 0 and finite. The smaller it is, the closer are the shares, and the more objects are not on the shard
// that the ring says.
func NewBoundedLoad(slack float64) (Strategy, error) {
	if !(slack > 0) || math.IsInf(slack, 1) {
		return nil, fmt.Errorf("balancer: slack: %v, must be a number above 0", slack)
	}
	return &boundedLoad{slack: slack}, nil
}

// Place implements Strategy.
func (b *boundedLoad) Place(v *View, o Object) (Decision, error) {
	if d, ok := stay(v, o); ok {
		return d, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tally.begin(v) {
		b.load = b.loadBound(v)
	}
	want := v.ring.Owner(o.Hash)
	if i, ok := v.eligibleAt(want); ok && b.accepts(i) {
		b.tally.add(i)
		return Decision{want, "the ring gives its slot to " + want + ", which is below its bound"}, nil
	}
	winner, ok := v.best(o.Hash, b.accepts)
	if !ok { // those with few objects are the busy ones: objects alone decide
		winner, ok = v.best(o.Hash, b.hasRoom)
	}
	if !ok {
		return Decision{}, ErrNoShard
	}
	b.tally.add(winner)
	id := v.eligible[winner].ID
	if want == "" {
		return Decision{id, "nobody owns its slot; " + id + " wins by rendezvous among those below their bound"}, nil
	}
	return Decision{id, want + " owns its slot but is at its bound or may not receive objects; " + id +
		" wins by rendezvous among those below their bound"}, nil
}

func (b *boundedLoad) accepts(i int) bool {
	s := b.tally.view.eligible[i]
	return b.hasRoom(i) && !(s.LoadKnown && s.Load > b.load)
}

// hasRoom says whether a shard has fewer objects than its bound. Somebody always has: the bounds together are more than
// the objects.
func (b *boundedLoad) hasRoom(i int) bool {
	s := b.tally.view.eligible[i]
	fair := float64(b.tally.total+1) * (s.Weight / b.tally.weights)
	return float64(b.tally.objects[i]) < math.Ceil((1+b.slack)*fair)
}

func (b *boundedLoad) loadBound(v *View) float64 {
	sum, n := 0.0, 0
	for _, s := range v.eligible {
		if s.LoadKnown {
			sum += s.Load
			n++
		}
	}
	return max(busy, (1+b.slack)*sum/float64(max(1, n)))
}
