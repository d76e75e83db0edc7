package sharding

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A take-over gives children away before their roots. Whoever goes on with one that has stopped in between has to know of the children that are gone.

// family is what the tests below look at: roots with a child each, on shards a and b.
func (s *sim) family() (a *simWorker, m *simManager) {
	s.config()
	for i, root := range s.secrets(20) {
		s.child(fmt.Sprintf("c%02d", i), "", root)
	}
	m = s.runManager("m")
	a = s.process("first", "a", nil)
	s.worker("b", nil)
	s.settle(time.Minute)
	return a, m
}

// knowOfTheirChildren checks that everything is on b, and that b waited for the children of the roots that it has taken over.
func (s *sim) knowOfTheirChildren(from map[types.UID]bool) {
	s.Helper()
	wants(s, "roots", s.counts(secrets)["b"], 20)
	wants(s, "children", s.counts(configMaps)["b"], 20)
	roots := map[types.UID]metav1.Object{}
	for _, root := range s.server.List(secrets, "ns", nil) {
		roots[root.GetUID()] = root
	}
	for _, child := range s.server.List(configMaps, "ns", nil) {
		uid := metav1.GetControllerOf(child).UID
		if awaited := awaitedChildren(roots[uid], simRing)["configmaps"]; from[uid] && awaited != child.GetResourceVersion() {
			s.Errorf("%s: its owner waited for children of version %q, and %s has %s", roots[uid].GetName(), awaited, child.GetName(), child.GetResourceVersion())
		}
	}
}

// ownedNow returns the roots of a shard.
func (s *sim) ownedNow(shard string) map[types.UID]bool {
	uids := map[types.UID]bool{}
	for _, root := range s.server.List(secrets, "ns", ShardSelector(simRing, shard)) {
		uids[root.GetUID()] = true
	}
	return uids
}

// TestTakeOverIsRepeatedWhenTheChildrenHaveGone: the writes of roots fail for a while.
func TestTakeOverIsRepeatedWhenTheChildrenHaveGone(t *testing.T) {
	simulate(t, func(s *sim) {
		var failing atomic.Bool
		s.wrap = func(who string, next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if failing.Load() && who == "m" && r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/secrets/") {
					return nil, errors.New("no way")
				}
				return next.RoundTrip(r)
			})
		}
		a, _ := s.family()
		from := s.ownedNow("a")
		failing.Store(true)
		a.kill()
		s.settle(3 * simLease)
		wants(s, "roots that are still on a", len(s.ownedNow("a")), len(from))
		wants(s, "children that are still on a", s.counts(configMaps)["a"], 0)
		failing.Store(false)
		s.settle(2 * time.Minute)
		s.knowOfTheirChildren(from)
	})
}

// endsInTheTakeOver lets shard a die, and the manager when it has given the first children away.
func (s *sim) endsInTheTakeOver() (from map[types.UID]bool) {
	var m *simManager
	var watching atomic.Bool
	s.wrap = func(who string, next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			answer, err := next.RoundTrip(r)
			if who == "m" && watching.Load() && r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/configmaps/") {
				m.client.Crash()
				m.stop()
			}
			return answer, err
		})
	}
	var a *simWorker
	a, m = s.family()
	from = s.ownedNow("a")
	watching.Store(true)
	a.kill()
	s.settle(2 * simLease)
	if n := s.counts(configMaps)["a"]; n == 0 || n >= len(from) {
		s.Errorf("%d of %d children are still on a, want some", n, len(from))
	}
	wants(s, "roots that are still on a", len(s.ownedNow("a")), len(from))
	return from
}

// TestNextManagerGoesOnWithATakeOver: the manager ends in the middle.
func TestNextManagerGoesOnWithATakeOver(t *testing.T) {
	simulate(t, func(s *sim) {
		from := s.endsInTheTakeOver()
		s.runManager("n")
		s.settle(3 * time.Minute)
		s.knowOfTheirChildren(from)
	})
}

// TestShardComesBackFromATakeOver: the manager ends in the middle, and the shard is back before there is another one. Roots rest until their children are
// back, also when its process ends and another one begins.
func TestShardComesBackFromATakeOver(t *testing.T) {
	simulate(t, func(s *sim) {
		s.endsInTheTakeOver()
		for _, name := range []string{"second", "third"} {
			p := s.process(name, "a", nil)
			s.settle(4 * simLease)
			wants(s, "acts", p.Active(), true)
			reconciled := strings.Fields(strings.ReplaceAll(s.took(), ",", ""))
			away, here := 0, 0
			for _, child := range s.server.List(configMaps, "ns", nil) {
				root := metav1.GetControllerOf(child)
				if !s.ownedNow("a")[root.UID] {
					continue
				}
				rested := true
				for i := 0; i+1 < len(reconciled); i += 2 {
					rested = rested && !(reconciled[i] == name && reconciled[i+1] == root.Name)
				}
				owner, _ := OwnerOf(child, simRing)
				if owner == "a" {
					here++
				} else {
					away++
				}
				if rested != (owner != "a") {
					t.Errorf("%s, whose child is on %s: rested %t", root.Name, owner, rested)
				}
			}
			if away == 0 || here == 0 {
				t.Errorf("%d children are away, and %d here; want some", away, here)
			}
			p.kill()
			<-p.ended
		}
	})
}
