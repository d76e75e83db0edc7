package e2e

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/shard-io/shard-controller/sharding"

	"github.com/shard-io/shard-controller/internal/timeline"
)

func TestConfigDeletedAndCreatedAgain(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.lawless = true // what is cleaned up has had an owner, and has none
	s.start("w-1", "w-2")
	s.createSecrets("tls", 60)
	s.settled("w-1", "w-2")
	s.must(s.shards.ShardV1().ShardConfigs(s.ns).Delete(t.Context(), s.ring, metav1.DeleteOptions{}))
	s.eventually("the ShardConfig is gone", func() error { return want(s.ringConfig(s.ring) == nil, "it is there") })
	s.untouched() // cleaned up before, not after
	ended := len(s.records())
	s.createSecrets("between", 10)
	s.throughout(lease/2, "nobody acts for a ring that is gone", func() error {
		return want(len(s.records()) == ended, "the journals have grown")
	})
	s.untouched()
	s.createConfig(s.newConfig(s.ring))
	s.settled("w-1", "w-2")
}

// untouched fails the test if any object of it bears a mark of the ring.
func (s *system) untouched() {
	s.t.Helper()
	for _, resource := range s.watched {
		list, err := s.meta.Resource(resource).Namespace(s.ns).List(s.t.Context(), metav1.ListOptions{})
		s.must(err)
		for _, o := range list.Items {
			for _, key := range []string{sharding.OwnerLabel(s.ring), sharding.DrainLabel(s.ring)} {
				if value, ok := o.Labels[key]; ok {
					s.t.Errorf("%s %s has the label %s=%s", resource.Resource, o.Name, key, value)
				}
			}
			for key := range o.Annotations {
				if strings.HasSuffix(key, "shard.io/"+s.ring) {
					s.t.Errorf("%s %s has the annotation %s", resource.Resource, o.Name, key)
				}
			}
		}
	}
}

// change changes the spec of a ring.
func (s *system) change(ring string, f func(*v1Spec)) {
	s.t.Helper()
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		c, err := s.shards.ShardV1().ShardConfigs(s.ns).Get(s.t.Context(), ring, metav1.GetOptions{})
		if err != nil {
			return err
		}
		f(&c.Spec)
		_, err = s.shards.ShardV1().ShardConfigs(s.ns).Update(s.t.Context(), c, metav1.UpdateOptions{})
		return err
	}))
}

// ringSays says whether a condition of a ring has this status.
func (s *system) ringSays(ring, kind, status string) func() error {
	return func() error {
		c := s.ringConfig(ring)
		if c == nil {
			return fmt.Errorf("there is no ShardConfig %s", ring)
		}
		got := condition(c.Status.Conditions, kind)
		return want(strings.HasPrefix(got, status+"/"), "condition %s of %s is %q, want %s; all: %v", kind, ring, got, status, c.Status.Conditions)
	}
}

func TestConfigChangedWhileRunning(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, workers := s.start("w-1", "w-2", "w-3")
	s.createSecrets("tls", 40)
	s.settled("w-1", "w-2", "w-3")
	s.churn("tls", 40)
	before := len(timeline.BetweenShards(s.line.Moves("secrets")))

	s.change(s.ring, func(c *v1Spec) { c.HealthCheckInterval.Duration = 2 * lease })
	for _, id := range []string{"w-1", "w-2", "w-3"} {
		s.eventually("the Lease of "+id+" lasts longer", func() error {
			l := s.lease(id)
			return want(l != nil && *l.Spec.LeaseDurationSeconds == int32(2*lease.Seconds()), "it does not")
		})
	}
	s.change(s.ring, func(c *v1Spec) { c.HealthCheckInterval.Duration = lease })
	for _, id := range []string{"w-1", "w-2", "w-3"} {
		s.eventually("the Lease of "+id+" lasts as long as before", func() error {
			l := s.lease(id)
			return want(l != nil && *l.Spec.LeaseDurationSeconds == int32(lease.Seconds()), "it does not")
		})
	}
	if moves := len(timeline.BetweenShards(s.line.Moves("secrets"))) - before; moves > 0 {
		t.Errorf("%d objects moved, want none", moves)
	}

	s.change(s.ring, func(c *v1Spec) { c.LoadBalanceStrategy = "no-such-strategy" })
	s.eventually("an unknown strategy is reported", s.ringSays(s.ring, "Stalled", "True"))
	s.createSecrets("under-the-former-strategy", 10)
	s.settled("w-1", "w-2", "w-3")
	s.change(s.ring, func(c *v1Spec) { c.LoadBalanceStrategy = "round-robin" })
	s.eventually("all is well again", s.ringSays(s.ring, "Stalled", "False"))
	s.createSecrets("round-robin", 12)
	s.eventually("all have an owner", s.ownedBy("w-1", "w-2", "w-3"))
	s.change(s.ring, func(c *v1Spec) { c.LoadBalanceStrategy = "consistent-hash" })
	s.settled("w-1", "w-2", "w-3")
	workers["w-3"].terminate()
	s.settled("w-1", "w-2")
}

func TestNoTargets(t *testing.T) {
	t.Parallel()
	s := newSystem(t, config(func(c *v1Spec) { c.Targets = nil }))
	manager, workers := s.start("w-1")
	s.createSecrets("tls", 5)
	if status, err := workers["w-1"].Wait(patience); err != nil || status != 1 {
		t.Errorf("a worker for Secrets on a ring without targets: exit status %d, %v; want 1", status, err)
	}
	if said := workers["w-1"].Output(); !strings.Contains(said, "not a target of ring") {
		t.Errorf("and it does not say why: %s", said)
	}
	s.eventually("the manager says so", func() error {
		c := s.ringConfig(s.ring)
		return want(c != nil && strings.HasSuffix(condition(c.Status.Conditions, "Ready"), "/NoTargets"), "conditions are %v", c.Status.Conditions)
	})
	s.untouched()
	s.change(s.ring, func(c *v1Spec) { c.Targets = s.newConfig("").Spec.Targets })
	s.fence(s.ring)
	s.startWorker("w-2")
	s.settled("w-2")
	if !manager.Running() {
		t.Error("the manager has ended")
	}
}

// Two rings for the same objects work beside each other, as their labels are
// different, but somebody should know.
func TestOverlappingRings(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.start("w-1")
	s.createSecrets("tls", 10)
	s.settled("w-1")
	younger := s.newConfig("x-" + s.ns)
	s.createConfig(younger)
	s.eventually("the younger one overlaps", s.ringSays(younger.Name, "Overlapping", "True"))
	s.eventually("the older one does not", func() error {
		got := condition(s.ringConfig(s.ring).Status.Conditions, "Overlapping")
		return want(!strings.HasPrefix(got, "True"), "Overlapping is %s", got)
	})
	message := ""
	for _, c := range s.ringConfig(younger.Name).Status.Conditions {
		if c.Type == "Overlapping" {
			message = c.Message
		}
	}
	if !strings.Contains(message, s.ring) || !strings.Contains(message, "secrets") {
		t.Errorf("the message %q does not name ring and resource", message)
	}
	s.change(younger.Name, func(c *v1Spec) {
		c.Targets[0].NamespaceSelector.MatchLabels["e2e"] = "another"
	})
	s.eventually("other namespaces do not overlap", s.ringSays(younger.Name, "Overlapping", "False"))
	s.change(younger.Name, func(c *v1Spec) {
		c.Targets = s.newConfig("").Spec.Targets
	})
	s.eventually("the younger one overlaps again", s.ringSays(younger.Name, "Overlapping", "True"))
	s.must(s.shards.ShardV1().ShardConfigs(s.ns).Delete(t.Context(), s.ring, metav1.DeleteOptions{}))
	s.lawless = true
	s.eventually("the only one left does not overlap", s.ringSays(younger.Name, "Overlapping", "False"))
	s.eventually("the ShardConfig is gone", func() error { return want(s.ringConfig(s.ring) == nil, "it is there") })
	s.untouched()
}
