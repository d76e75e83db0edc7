package main

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
	"github.com/shard-io/shard-controller/sharding"
)

// places says where objects belong, as a manager would that sees what is written in the API. It is a second opinion: the manager knows more,
// such as what is on its way, and its word counts.
type places struct {
	facts    *ringFacts
	table    *ring.Ring
	name     string            // of the strategy
	strategy balancer.Strategy // nil: this program does not know it
	views    map[schema.GroupResource]*balancer.View
}

func newPlaces(f *ringFacts) *places {
	p := &places{facts: f, name: f.config.Spec.LoadBalanceStrategy, views: map[schema.GroupResource]*balancer.View{}}
	if p.name == "" {
		p.name = shardv1.DefaultLoadBalanceStrategy
	}
	p.table, _ = tableOf(f)
	if strategy, err := balancer.NewRegistry().New(p.name); err == nil {
		p.strategy = strategy
	}
	return p
}

// unfit says why a shard gets no objects of a resource; "" if it does.
func (p *places) unfit(shard string, resource schema.GroupResource) string {
	instance := p.facts.instance(shard)
	switch {
	case instance == nil:
		return "it does not exist"
	case instance.Spec.Draining:
		return "it is being drained"
	case instance.Spec.Cordoned:
		return "it is cordoned"
	case phaseOf(instance) == shardv1.PhaseSilent:
		return "it has not been heard of lately"
	case phaseOf(instance) != shardv1.PhaseRunning:
		return "its phase is " + phaseOf(instance)
	case !serves(instance, resource):
		return "it has no controller for " + resource.String()
	}
	return ""
}

// serves says whether a shard has a controller for a resource. One that says nothing is taken to serve everything.
func serves(instance *shardv1.ShardInstance, resource schema.GroupResource) bool {
	for _, s := range instance.Status.Served {
		if s.Group == resource.Group && s.Resource == resource.Resource {
			return true
		}
	}
	return len(instance.Status.Served) == 0
}

// live says whether a shard keeps what it has.
func live(instance *shardv1.ShardInstance) bool {
	if instance == nil {
		return false
	}
	ready := meta.FindStatusCondition(instance.Status.Conditions, shardv1.ConditionReady)
	return ready != nil && ready.Status != metav1.ConditionFalse
}

// view is what the strategy sees.
func (p *places) view(resource schema.GroupResource) (*balancer.View, error) {
	if view := p.views[resource]; view != nil {
		return view, nil
	}
	var shards []balancer.Shard
	for i := range p.facts.instances {
		instance := &p.facts.instances[i]
		if !live(instance) {
			continue
		}
		s := balancer.Shard{
			ID: instance.Name, Weight: float64(max(1, instance.Spec.Weight)), Objects: instance.Status.AssignedResourceCount,
			Cordoned: instance.Spec.Cordoned || !serves(instance, resource), Draining: instance.Spec.Draining,
			Silent: phaseOf(instance) == shardv1.PhaseSilent,
		}
		if load := instance.Status.Load; load != nil {
			s.Load, s.LoadKnown = load.Float64(), true
		}
		shards = append(shards, s)
	}
	view, err := balancer.NewView(p.table, shards)
	p.views[resource] = view
	return view, err
}

// place is where a root belongs, and why.
type place struct {
	shard, why string
	pinned     bool
}

// unknowable is why only the manager knows where an object belongs.
type unknowable string

func (u unknowable) Error() string { return "only the manager knows: " + string(u) }

// of says where a root belongs. The error is unknowable, or wraps balancer.ErrNoShard.
func (p *places) of(t *target, root metav1.Object) (place, error) {
	config := p.facts.config
	owner, owned := sharding.OwnerOf(root, config.Name)
	resource := t.resource.GroupResource()
	if pin := root.GetLabels()[sharding.PinLabel(config.Name)]; pin != "" {
		instance := p.facts.instance(pin)
		stays := pin == owner && instance != nil && !instance.Spec.Draining
		if stays || p.unfit(pin, resource) == "" {
			return place{shard: pin, why: "it is pinned there", pinned: true}, nil
		}
	}
	if p.strategy == nil {
		return place{}, unknowable("the strategy " + p.name + " is its program's own")
	}
	if !owned && p.name != balancer.ConsistentHash {
		return place{}, unknowable(p.name + " goes by what it has placed before")
	}
	view, err := p.view(resource)
	if err != nil {
		return place{}, err
	}
	decision, err := p.strategy.Place(view, balancer.Object{
		Key: t.prefix.Key(root.GetNamespace(), root.GetName()), Hash: t.prefix.Hash(root.GetNamespace(), root.GetName()), Owner: owner,
	})
	return place{shard: decision.Shard, why: decision.Reason}, err
}
