package balancer

import (
	"errors"
	"testing"

	"github.com/shard-io/shard-controller/ring"
)

func TestNobodyEligible(t *testing.T) {
	v, err := NewView(nil, []Shard{{ID: "a", Cordoned: true}, {ID: "b", Draining: true}, {ID: "c", Silent: true}, {ID: "d", Full: true}})
	if err != nil {
		t.Fatal(err)
	}
	registry := NewRegistry()
	for _, name := range registry.Names() {
		s, err := registry.New(name)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := s.Place(v, Object{Key: "x", Hash: ring.Hash("x")}); !errors.Is(err, ErrNoShard) {
			t.Errorf("%s: %v, %v; want ErrNoShard", name, d, err)
		}
	}
}

func TestConsistentHashFollowsTheRing(t *testing.T) {
	r, err := ring.New([]ring.Member{{ID: "a"}, {ID: "b"}, {ID: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	key := "/Secret/default/web"
	want := r.Lookup(key)
	for _, c := range []struct {
		name  string
		owner Shard
		has   string
		stays bool
	}{
		{"eligible", Shard{ID: want}, "", true},
		{"cordoned and has it", Shard{ID: want, Cordoned: true}, want, true},
		{"cordoned, new object", Shard{ID: want, Cordoned: true}, "", false},
		{"draining", Shard{ID: want, Draining: true}, want, false},
	} {
		shards := []Shard{c.owner}
		for _, m := range r.Members() {
			if m.ID != want {
				shards = append(shards, Shard{ID: m.ID})
			}
		}
		v, err := NewView(r, shards)
		if err != nil {
			t.Fatal(err)
		}
		d, err := consistentHash{}.Place(v, Object{key, ring.Hash(key), c.has})
		if err != nil || (d.Shard == want) != c.stays {
			t.Errorf("%s: placed on %v (%v), the ring says %s", c.name, d, err, want)
		}
	}
}
