package balancer_test

import (
	"fmt"
	"time"

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

// Shard a is busier than b: after two rounds, what evens that out moves. The memory goes from one round to the next.
func ExamplePlanner_Objects() {
	planner, _ := balancer.NewPlanner(balancer.PlannerOptions{})
	objects := []balancer.ObjectLoad{
		{Key: "/Secret/default/large", Shard: "a", Work: 30},
		{Key: "/Secret/default/small", Shard: "a", Work: 10},
		{Key: "/Secret/default/other", Shard: "b", Work: 20},
	}
	round := balancer.Round{Now: time.Unix(0, 0), Shards: []balancer.Shard{
		{ID: "a", Load: 0.8, LoadKnown: true}, {ID: "b", Load: 0.4, LoadKnown: true},
	}}
	var memory balancer.Memory
	for range 2 {
		var plan balancer.Plan
		plan, memory, _ = planner.Objects(memory, round, objects)
		fmt.Println(plan.Reason)
		for _, move := range plan.Moves {
			fmt.Println(move.Key, "goes from", move.From, "to", move.To)
		}
		round.Now = round.Now.Add(30 * time.Second)
	}
	// Output:
	// Confirming
	// Overloaded
	// /Secret/default/small goes from a to b
}

// With consistent hashing, slots move, and the plan has the next ring. A dry run explains without being taken for done.
func ExamplePlanner_Slots() {
	planner, _ := balancer.NewPlanner(balancer.PlannerOptions{Rounds: 1})
	r, _ := ring.New([]ring.Member{{ID: "a"}, {ID: "b"}}, ring.Slots(4))
	slots := []balancer.SlotLoad{{Objects: 10, Work: 6}, {Objects: 10, Work: 2}, {Objects: 10, Work: 2}, {Objects: 10, Work: 2}}
	plan, _, _ := planner.Slots(balancer.Memory{}, balancer.Round{DryRun: true, Shards: []balancer.Shard{
		{ID: "a", Load: 0.8, LoadKnown: true}, {ID: "b", Load: 0.4, LoadKnown: true},
	}}, r, slots)
	fmt.Println(plan.Text)
	fmt.Println(plan.Ring.Ranges("b"))
	fmt.Printf("the largest slot is %.0f %% of all load\n", 100*plan.Largest.Share)
	// Output:
	// 1 above the band and 1 below: moving 10 objects brings the largest load from 1.33 to 1 times the mean
	// [1073741824-4294967295]
	// the largest slot is 50 % of all load
}

// The planner has given b less, because it is slow. When c joins, that stays so: a and b give c its share in proportion.
func ExampleRegroup() {
	former, _ := ring.FromRanges([]ring.Claim{
		{Member: ring.Member{ID: "a"}, Ranges: []ring.Range{{Start: 0, End: 1<<31 + 1<<30 - 1}}},
		{Member: ring.Member{ID: "b"}, Ranges: []ring.Range{{Start: 1<<31 + 1<<30, End: 1<<32 - 1}}},
	})
	next, _ := balancer.Regroup(former, []ring.Member{{ID: "a"}, {ID: "b"}, {ID: "c"}}, nil)
	for _, m := range next.Members() {
		fmt.Printf("%s %.2f\n", m.ID, next.Share(m.ID))
	}
	// Output:
	// a 0.50
	// b 0.17
	// c 0.33
}
