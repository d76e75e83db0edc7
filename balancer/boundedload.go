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
	load  float64 // a shard that is busier than that gets nothing
	// weights is the sum of the weights of the others.
	weights float64
}

// NewBoundedLoad returns the strategy of consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam,
// "Consistent hashing with bounded loads", SODA 2018): an object goes to the owner of its slot unless that shard is at
// its bound, which is its fair share of all objects by weight, times 1 + slack, rounded up. A shard that reports a load
// above 0.5 and above 1 + slack times the mean of all that report gets nothing, and the others share among themselves.
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
		b.change(v)
	}
	want := v.ring.Owner(o.Hash)
	if i, ok := v.eligibleAt(want); ok && b.accepts(i) {
		b.tally.add(i)
		return Decision{want, "the ring gives its slot to " + want + ", which is below its bound"}, nil
	}
	winner, ok := v.best(o.Hash, b.accepts)
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

// accepts says whether a shard is below its bound. Somebody always is: not all are busier than their mean, and the bounds of the
// others together are more than all objects.
func (b *boundedLoad) accepts(i int) bool {
	s := b.tally.view.eligible[i]
	if b.tooBusy(s) {
		return false
	}
	fair := float64(b.tally.total+1) * (s.Weight / b.weights)
	return float64(b.tally.objects[i]) < math.Ceil((1+b.slack)*fair)
}

func (b *boundedLoad) tooBusy(s Shard) bool { return s.LoadKnown && s.Load > b.load }

// change goes on with another view.
func (b *boundedLoad) change(v *View) {
	sum, n := 0.0, 0
	for _, s := range v.eligible {
		if s.LoadKnown {
			sum += s.Load
			n++
		}
	}
	b.load = max(busy, (1+b.slack)*sum/float64(max(1, n)))
	b.weights = 0
	for _, s := range v.eligible {
		if !b.tooBusy(s) {
			b.weights += s.Weight
		}
	}
}
