package sharding

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
)

// TestErrandDestinations goes through a script: who comes by, in order, and where it is sent.
func TestErrandDestinations(t *testing.T) {
	moves := []balancer.Move{
		{Key: "big", From: "a", To: "c", Objects: 1}, {From: "a", To: "b", Objects: 1}, {From: "a", To: "b", Objects: 1}, {From: "a", To: "c", Objects: 2},
	}
	for _, c := range []struct{ name, script, want string }{
		{"as many as planned", "1@a 2@a 3@a 4@a 5@a 6@a", "b b c c - -"},
		{"once sent, always sent", "1@a 1@a 2@a 3@a 1@a", "b b b c b"},
		{"one that has arrived stays", "1@a 1@b", "b -"},
		{"one that has gone elsewhere stays", "1@a 1@d", "b -"},
		{"a shard that gives nothing", "1@d 2@b 3@", "- - -"},
		{"by name", "big@a big@c 1@a", "c - b"},
		{"by name, from elsewhere", "big@b", "-"},
		{"not to be chosen", "listed@a moved@a 1@a", "- - b"},
		{"where the first destination does not take it", "nob@a 1@a 2@a 3@a 4@a", "c b b c -"},
		{"where nobody takes it", "nobnoc@a big@a", "- c"},
		{"when it is over", "1@a end 1@a 2@a big@a", "b - - -"},
	} {
		e := newErrand(moves, map[string]bool{"big": true, "listed": true, "moved": true})
		var got []string
		for _, step := range strings.Fields(c.script) {
			key, owner, _ := strings.Cut(step, "@")
			if key == "end" {
				e.end()
				continue
			}
			to := e.destination(key, owner, func(to string) bool { return !strings.Contains(key, "no"+to) })
			if to == "" {
				to = "-"
			}
			got = append(got, to)
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
	}
	var none *errand
	if none.end(); none.underway() || none.gives("a") {
		t.Error("no errand moves something")
	}
}

// TestWantedForAnErrand is about roots on a, of which one is to go to b.
func TestWantedForAnErrand(t *testing.T) {
	target := &rootTarget{prefix: ring.NewPrefix("", "Secret"), objects: labels.Everything()}
	keeps, err := balancer.NewRegistry().New(balancer.RoundRobin)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		shards   []string
		strategy balancer.Strategy
		labels   map[string]string
		want     wanted
		to       string
	}{
		{"sent", []string{"a", "b"}, keeps, nil, drain, "b"},
		{"on its way", []string{"a", "b"}, keeps, map[string]string{DrainLabel("r"): "b"}, keep, ""},
		{"on its way elsewhere", []string{"a", "b", "c"}, keeps, map[string]string{DrainLabel("r"): "c"}, drain, "b"},
		{"pinned", []string{"a", "b"}, keeps, map[string]string{PinLabel("r"): "a"}, keep, ""},
		{"refused", []string{"a", "b"}, keeps, map[string]string{RefusedLabel("r"): "b"}, keep, ""},
		{"the destination is cordoned", []string{"a", "b:cordoned"}, keeps, nil, keep, ""},
		{"on its way to where nobody receives any more", []string{"a", "b:cordoned"}, keeps, map[string]string{DrainLabel("r"): "b"}, abort, ""},
		{"the owner is drained", []string{"a:draining", "b:cordoned", "c"}, keeps, nil, drain, "c"},
		{"the strategy would bring it back", []string{"a", "b"}, stubborn("a"), nil, keep, ""},
		{"the strategy wants it elsewhere anyway", []string{"a", "b", "c"}, stubborn("c"), nil, drain, "c"},
	} {
		p := aPlacement(t, c.shards...)
		p.strategy = c.strategy
		p.errand = newErrand([]balancer.Move{{From: "a", To: "b", Objects: 1}}, nil)
		root := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "o", Labels: map[string]string{OwnerLabel("r"): "a"}}}
		for key, value := range c.labels {
			root.Labels[key] = value
		}
		what, to, err := wantedFor(p, target, "r", true, root)
		if err != nil || what != c.want || to != c.to {
			t.Errorf("%s: wantedFor = %d to %q, %v; want %d to %q", c.name, what, to, err, c.want, c.to)
		}
	}
	p := aPlacement(t, "a", "b")
	p.strategy, p.served = keeps, servedSets{"b": {}}
	p.errand = newErrand([]balancer.Move{{From: "a", To: "b", Objects: 1}}, nil)
	root := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "o", Labels: map[string]string{OwnerLabel("r"): "a"}}}
	if what, to, err := wantedFor(p, target, "r", true, root); err != nil || what != keep {
		t.Errorf("where nobody has a controller for it: wantedFor = %d to %q, %v", what, to, err)
	}
	p = aPlacement(t, "a", "new")
	p.errand = newErrand([]balancer.Move{{From: "a", To: "new", Objects: 1}}, nil)
	if got := causeOf(p, "a", "new"); got != causeRebalance {
		t.Errorf("the cause is %s, want %s", got, causeRebalance)
	}
}

// TestConcludeErrand checks what is remembered of an errand, and for how long.
func TestConcludeErrand(t *testing.T) {
	start, cooldown := time.Unix(1e9, 0), 10*time.Minute
	e := errands{current: newErrand([]balancer.Move{{From: "a", To: "b", Objects: 2}}, nil)}
	yes := func(string) bool { return true }
	e.current.destination("x", "a", yes)
	e.conclude(start, cooldown)
	if e.current == nil || len(e.moved) > 0 {
		t.Fatalf("an errand that is under way is concluded: %+v", e)
	}
	e.current.end()
	e.conclude(start, cooldown)
	if e.current != nil || len(e.moved) != 1 || e.moved["x"] != (movedObject{"b", start}) || !e.fruitless.IsZero() {
		t.Errorf("after the first errand: %+v", e)
	}
	e.current = newErrand([]balancer.Move{{From: "a", To: "b", Objects: 2}}, nil)
	e.current.end()
	e.conclude(start.Add(cooldown/2), cooldown)
	if e.current != nil || len(e.moved) != 1 || e.fruitless != start.Add(cooldown/2) {
		t.Errorf("after one that moved nothing: %+v", e)
	}
	e.forget(start.Add(cooldown), cooldown)
	if len(e.moved) != 0 || e.fruitless.IsZero() {
		t.Errorf("a cool-down later: %+v", e)
	}
	if e.forget(start.Add(2*cooldown), cooldown); !e.fruitless.IsZero() {
		t.Errorf("two cool-downs later: %+v", e)
	}
}

// TestObjectLoadsOf renders loads as "key@shard×objects/work in thousandths", with ! for what is pinned and * for what has moved lately.
func TestObjectLoadsOf(t *testing.T) {
	shard := func(id string, objects int64, costs ...shardv1.ObjectCost) shardFact {
		instance := &shardv1.ShardInstance{}
		instance.Status.CostliestObjects = costs
		return shardFact{id: id, objects: objects, instance: instance}
	}
	cost := func(key string, share int32) shardv1.ObjectCost {
		return shardv1.ObjectCost{Key: key, Share: milli(share)}
	}
	pinned := shardv1.ObjectCost{Key: "p", Share: milli(300), Pinned: true}
	lately := map[string]movedObject{"m": {"b", time.Unix(9, 0)}, "x": {"b", time.Unix(9, 0)}}
	for _, c := range []struct {
		name  string
		facts []shardFact
		moved map[string]movedObject
		want  string
	}{
		{"nothing", nil, nil, ""},
		{"no objects", []shardFact{shard("a", 0), {id: "b"}, shard("c", -3)}, nil, ""},
		{"all alike", []shardFact{shard("b", 2), shard("a", 1)}, nil, "@a×1/1000 @b×1/500 @b×1/500"},
		{"only known by its Lease", []shardFact{{id: "a", objects: 2}}, nil, "@a×1/500 @a×1/500"},
		{"some by name", []shardFact{shard("a", 3, cost("x", 800), cost("y", 100))}, nil, "x@a×0/800 y@a×0/100 @a×1/100"},
		{"pinned", []shardFact{shard("a", 2, pinned)}, nil, "p@a×0/300! @a×1/700"},
		{"moved lately", []shardFact{shard("a", 1), shard("b", 4, cost("x", 400))}, lately, "x@b×0/400* @a×1/1000 m@b×0/200* @b×1/200 @b×1/200"},
		{"moved lately, more than there are", []shardFact{shard("b", 1)}, lately, "m@b×0/1000*"},
		{"reported twice", []shardFact{shard("a", 1, cost("x", 900)), shard("b", 1, cost("x", 500))}, nil, "x@a×0/900 @b×1/1000"},
		{"more by name than there are", []shardFact{shard("a", 1, cost("x", 600), cost("y", 400))}, nil, "x@a×0/600 y@a×0/400"},
		{"more than the whole", []shardFact{shard("a", 3, cost("x", 900), cost("y", 900))}, nil, "x@a×0/900 y@a×0/900 @a×1/0"},
	} {
		var got []string
		loads, named := objectLoadsOf(c.facts, c.moved)
		for _, l := range loads {
			text := fmt.Sprintf("%s@%s×%d/%.0f", l.Key, l.Shard, l.Objects, 1000*l.Work)
			if l.Pinned {
				text += "!"
			}
			if !l.Moved.IsZero() {
				text += "*"
			}
			got = append(got, text)
			if l.Key != "" && !named[l.Key] {
				t.Errorf("%s: %s may be chosen", c.name, l.Key)
			}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
	}
	loads, _ := objectLoadsOf([]shardFact{shard("a", 9*planUnits), shard("b", 5)}, nil)
	sum := int64(0)
	for _, l := range loads {
		sum += l.Objects
	}
	if len(loads) > planUnits+2 || sum != 9*planUnits+5 {
		t.Errorf("%d parts with %d objects", len(loads), sum)
	}
}
