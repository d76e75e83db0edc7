package sharding

import (
	"errors"
	"maps"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shard-io/shard-controller/balancer"
)

// errNotServed: there are shards that may receive objects, but none of them has a controller for this resource.
var errNotServed = errors.New("no shard serves the resource")

// servedSets is what each shard has controllers for. A shard that has not said so is not in it: it is taken to serve everything.
type servedSets map[string]map[schema.GroupResource]bool

func (s servedSets) serves(shard string, resource schema.GroupResource) bool {
	served, known := s[shard]
	return !known || served[resource]
}

func (s servedSets) equal(t servedSets) bool {
	return maps.EqualFunc(s, t, func(a, b map[schema.GroupResource]bool) bool { return maps.Equal(a, b) })
}

// servedViews returns a view of its own for each resource that some shard does not serve. There, such a shard is as one that is
// cordoned: it gets nothing. What it has stays, as it can't hand over what it does not see.
func servedViews(view *balancer.View, sets servedSets, resources []schema.GroupResource) (map[schema.GroupResource]*balancer.View, error) {
	views := map[schema.GroupResource]*balancer.View{}
	for _, resource := range resources {
		shards := append([]balancer.Shard(nil), view.Shards()...)
		differs := false
		for i := range shards {
			if !sets.serves(shards[i].ID, resource) {
				shards[i].Cordoned, differs = true, true
			}
		}
		if !differs {
			continue
		}
		narrow, err := balancer.NewView(view.Ring(), shards)
		if err != nil {
			return nil, err
		}
		views[resource] = narrow
	}
	return views, nil
}

// placeRoot is place for a root of the target: among the shards that serve it. The error is errNotServed if there are shards
// that could receive it, if only they had a controller for it.
func (p *placement) placeRoot(t *rootTarget, namespace, name, owner string) (balancer.Decision, error) {
	if p == nil || p.strategy == nil {
		return balancer.Decision{}, errNoStrategy
	}
	object := t.object(namespace, name, owner)
	narrow := p.views[t.resource.GroupResource()]
	if narrow == nil {
		return p.place(object)
	}
	d, err := p.placeIn(narrow, object)
	if errors.Is(err, balancer.ErrNoShard) && len(narrow.Eligible()) == 0 && p.canPlace() {
		return d, errNotServed
	}
	return d, err
}

// receives says whether the shard may receive roots of the target.
func (p *placement) receives(shard string, t *rootTarget) bool {
	return p.eligible(shard) && p.served.serves(shard, t.resource.GroupResource())
}
