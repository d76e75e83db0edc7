package balancer_test

import (
	"fmt"

	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
)

// A manager places a new object, and learns that it stays while its shard is cordoned.
func ExampleRegistry_New() {
	r, _ := ring.New([]ring.Member{{ID: "shard-a"}, {ID: "shard-b"}})
	strategy, _ := balancer.NewRegistry().New(balancer.ConsistentHash)

	key := ring.NewPrefix("", "Secret").Key("default", "tls")
	o := balancer.Object{Key: key, Hash: ring.Hash(key)}
	v, _ := balancer.NewView(r, []balancer.Shard{{ID: "shard-a"}, {ID: "shard-b"}})
	d, _ := strategy.Place(v, o)
	fmt.Println(d.Shard, "-", d.Reason)

	o.Owner = d.Shard
	v, _ = balancer.NewView(r, []balancer.Shard{{ID: "shard-a"}, {ID: "shard-b", Cordoned: true}})
	d, _ = strategy.Place(v, o)
	fmt.Println(d.Shard)
	// Output:
	// shard-b - the ring gives its slot to shard-b
	// shard-b
}

// byNamespace keeps all objects of a namespace together.
type byNamespace struct{}

func (byNamespace) Place(v *balancer.View, o balancer.Object) (balancer.Decision, error) {
	if s, known := v.Shard(o.Owner); known && s.Keeps() {
		return balancer.Decision{Shard: o.Owner, Reason: "stays"}, nil
	}
	eligible := v.Eligible()
	if len(eligible) == 0 {
		return balancer.Decision{}, balancer.ErrNoShard
	}
	var group, kind, namespace string
	_, _ = fmt.Sscanf(o.Key, "%s/%s/%s/", &group, &kind, &namespace)
	id := eligible[ring.Hash(namespace)%uint64(len(eligible))].ID
	return balancer.Decision{Shard: id, Reason: "namespace " + namespace}, nil
}

// A strategy of one's own is registered under a name for spec.loadBalanceStrategy.
func ExampleRegistry_Register() {
	registry := balancer.NewRegistry()
	fmt.Println(registry.Register("by-namespace", func() balancer.Strategy { return byNamespace{} }))
	fmt.Println(registry.Names())
	// Output:
	// <nil>
	// [bounded-load by-namespace consistent-hash least-loaded round-robin]
}
