package sharding

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shard-io/shard-controller/balancer"
)

// placement says where objects belong at one moment. It is immutable.
type placement struct {
	view     *balancer.View
	strategy balancer.Strategy
	// live are the shards that own what their label is on. An object with another owner has none.
	live map[string]bool
	// unheard are shards of which it will soon be known whether they are alive. Nothing is given to them until then, nor to
	// others in their place.
	unheard map[string]bool
	// joined are the shards that the slot table gave slots to when it last changed, and that had none before.
	joined map[string]bool
	// errand moves objects that the strategy would leave where they are; nil for none.
	errand *errand
	// standings are those of all shards that anything is known of.
	standings map[string]standing
	// served says who has controllers for what, and views has a view for each resource that not everybody serves.
	served servedSets
	views  map[schema.GroupResource]*balancer.View
}

// errNoStrategy: the ShardConfig names a strategy that does not exist, and there has been no other.
var errNoStrategy = errors.New("no strategy")

// errUnheard: the object belongs on a shard that is not known yet to be alive.
var errUnheard = errors.New("the shard has yet to be seen alive")

// waitsForPlacement says whether only a change of the placement can help.
func waitsForPlacement(err error) bool {
	return errors.Is(err, balancer.ErrNoShard) || errors.Is(err, errNotServed) || errors.Is(err, errUnheard) || errors.Is(err, errNoStrategy)
}

// place answers with an eligible shard, or with the owner of the object if it stays, or with an error.
func (p *placement) place(o balancer.Object) (balancer.Decision, error) {
	if p == nil || p.strategy == nil {
		return balancer.Decision{}, errNoStrategy
	}
	return p.placeIn(p.view, o)
}

func (p *placement) placeIn(view *balancer.View, o balancer.Object) (balancer.Decision, error) {
	d, err := p.strategy.Place(view, o)
	if err != nil || d.Shard == o.Owner && d.Shard != "" {
		return d, err
	}
	if p.unheard[d.Shard] {
		return d, errUnheard
	}
	if s, ok := view.Shard(d.Shard); !ok || !s.Eligible() { // strategies can be anybody's
		return d, balancer.ErrNoShard
	}
	return d, nil
}

func (p *placement) eligible(shard string) bool {
	if p == nil {
		return false
	}
	s, ok := p.view.Shard(shard)
	return ok && s.Eligible() && !p.unheard[shard]
}

// draining says whether all objects of the shard are to move away.
func (p *placement) draining(shard string) bool {
	s, ok := p.view.Shard(shard)
	return ok && s.Draining
}

// isLive says whether the shard keeps what it owns: alive, or not known to be dead.
func (p *placement) isLive(shard string) bool { return p != nil && p.live[shard] }

// liveShards returns the shards that keep what they own, in order.
func (p *placement) liveShards() []string {
	if p == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(p.live))
}

// canPlace says whether anybody may receive objects.
func (p *placement) canPlace() bool {
	return p != nil && p.strategy != nil &&
		slices.ContainsFunc(p.view.Eligible(), func(s balancer.Shard) bool { return !p.unheard[s.ID] })
}

// placer holds the current placement and knows which writes are on their way to which shard: from the moment that a placement
// without a shard is in force and quiet has returned, no write of this manager makes that shard an owner.
type placer struct {
	mu      sync.Mutex
	current *placement
	writing map[string]int
	settled chan struct{} // closed and replaced when a shard's count falls to 0
	changed chan struct{} // closed and replaced when current is
	given   map[string]int64
}

func newPlacer() *placer {
	return &placer{
		writing: map[string]int{}, settled: make(chan struct{}), changed: make(chan struct{}), given: map[string]int64{},
	}
}

func (p *placer) load() *placement {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

func (p *placer) store(next *placement) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = next
	close(p.changed)
	p.changed = make(chan struct{})
}

// awaitPlace waits until some shard may receive objects.
func (p *placer) awaitPlace(ctx context.Context) error { return p.await(ctx, (*placement).canPlace) }

// pause waits for the next placement, for d, or for the end of ctx.
func (p *placer) pause(ctx context.Context, d time.Duration) {
	p.mu.Lock()
	changed := p.changed
	p.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// await waits for a placement with a property.
func (p *placer) await(ctx context.Context, has func(*placement) bool) error {
	for {
		p.mu.Lock()
		current, changed := p.current, p.changed
		p.mu.Unlock()
		if has(current) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// begin is called right before a write that makes shard an owner, and answers whether that shard may be one now. If so, end
// must be called when the write is over.
func (p *placer) begin(shard string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.current.eligible(shard) {
		return false
	}
	p.writing[shard]++
	return true
}

func (p *placer) end(shard string, written bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if written {
		p.given[shard]++
	}
	if p.writing[shard]--; p.writing[shard] == 0 {
		delete(p.writing, shard)
		close(p.settled)
		p.settled = make(chan struct{})
	}
}

// quiet waits until no write that makes shard an owner is on its way.
func (p *placer) quiet(ctx context.Context, shard string) error {
	for {
		p.mu.Lock()
		busy, settled := p.writing[shard] > 0, p.settled
		p.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-settled:
		}
	}
}

// givenSince returns how many objects the shard was given since the last reset of its count.
func (p *placer) givenSince(shard string, reset bool) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reset {
		delete(p.given, shard)
	}
	return p.given[shard]
}
