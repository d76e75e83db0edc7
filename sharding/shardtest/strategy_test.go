package shardtest

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/shard-io/shard-controller/balancer"
)

func TestBuiltIn(t *testing.T) {
	registry := balancer.NewRegistry()
	for _, name := range registry.Names() {
		t.Run(name, func(t *testing.T) {
			TestStrategy(t, func() balancer.Strategy {
				s, err := registry.New(name)
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

// placer is a strategy made of a function.
type placer func(v *balancer.View, o balancer.Object) (balancer.Decision, error)

func (p placer) Place(v *balancer.View, o balancer.Object) (balancer.Decision, error) { return p(v, o) }

// first is a correct strategy: what has an owner stays, everything else goes to the first eligible shard.
func first(v *balancer.View, o balancer.Object) (balancer.Decision, error) {
	if s, known := v.Shard(o.Owner); known && s.Keeps() {
		return balancer.Decision{Shard: o.Owner, Reason: "stays"}, nil
	}
	if len(v.Eligible()) == 0 {
		return balancer.Decision{}, balancer.ErrNoShard
	}
	return balancer.Decision{Shard: v.Eligible()[0].ID, Reason: "first"}, nil
}

// TestFaultyStrategies checks that each rule is checked.
func TestFaultyStrategies(t *testing.T) {
	if err := CheckStrategy(func() balancer.Strategy { return placer(first) }); err != nil {
		t.Errorf("a correct strategy is found faulty: %v", err)
	}
	anyone := func(v *balancer.View, o balancer.Object) (balancer.Decision, error) {
		if len(v.Shards()) == 0 {
			return balancer.Decision{}, balancer.ErrNoShard
		}
		return balancer.Decision{Shard: v.Shards()[0].ID, Reason: "any"}, nil
	}
	for name, c := range map[string]struct {
		place placer
		want  string
	}{
		"places on shards that may not receive": {anyone, ""},
		"gives up": {func(*balancer.View, balancer.Object) (balancer.Decision, error) {
			return balancer.Decision{}, balancer.ErrNoShard
		}, "there are eligible shards"},
		"another error": {func(v *balancer.View, o balancer.Object) (balancer.Decision, error) {
			d, err := first(v, o)
			if err != nil {
				err = errors.New("sorry")
			}
			return d, err
		}, "not ErrNoShard"},
		"no reason": {func(v *balancer.View, o balancer.Object) (balancer.Decision, error) {
			d, err := first(v, o)
			d.Reason = ""
			return d, err
		}, "no reason"},
		"never rests": {func(v *balancer.View, o balancer.Object) (balancer.Decision, error) {
			if e := v.Eligible(); len(e) > 1 && o.Owner == e[0].ID {
				return balancer.Decision{Shard: e[1].ID, Reason: "second"}, nil
			}
			return first(v, o)
		}, "never rest"},
		"panics": {func(v *balancer.View, o balancer.Object) (balancer.Decision, error) {
			return balancer.Decision{Shard: v.Eligible()[0].ID, Reason: "first"}, nil
		}, "panics"},
		"random": {func(v *balancer.View, o balancer.Object) (balancer.Decision, error) {
			if d, err := first(v, o); err != nil || d.Reason == "stays" {
				return d, err
			}
			return balancer.Decision{Shard: v.Eligible()[rand.IntN(len(v.Eligible()))].ID, Reason: "random"}, nil
		}, "asked the same"},
		"changes the view": {func(v *balancer.View, o balancer.Object) (balancer.Decision, error) {
			if len(v.Shards()) == 3 { // not while many goroutines place
				v.Shards()[0].Objects++
			}
			return first(v, o)
		}, "changed the shards"},
	} {
		err := CheckStrategy(func() balancer.Strategy { return c.place })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: found %v, want %q", name, err, c.want)
		}
	}
}
