package sharding

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/internal/memapi"
	"github.com/shard-io/shard-controller/sharding/internal/fencing"
)

// policyRefusal is what an API server says in the name of a policy.
func policyRefusal(policy, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: fmt.Sprintf("leases.coordination.k8s.io %q is forbidden: ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s",
			fencing.Probe("r"), policy, policy, message),
	}}
}

func forbidden(message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: message,
	}}
}

func TestFenceAnswer(t *testing.T) {
	policy := fencing.Policy("ns", "r")
	tests := []struct {
		name   string
		err    error
		status metav1.ConditionStatus
		reason string
	}{
		{"accepted", nil, metav1.ConditionFalse, "NotInForce"},
		{"accepted before", apierrors.NewAlreadyExists(leases.GroupResource(), "x"), metav1.ConditionFalse, "NotInForce"},
		{"refused by the fence", policyRefusal(policy, `fence of ring "r" [InForce]: the caller is shard "a" (u)`), metav1.ConditionTrue, "InForce"},
		{"taken for another shard", policyRefusal(policy, `fence of ring "r" [InForce]: the caller is shard "ab" (u)`), metav1.ConditionFalse, "NotThisShard"},
		{"taken for nobody", policyRefusal(policy, `fence of ring "r" [InForce]: the caller is neither manager nor worker (u)`), metav1.ConditionFalse, "NotThisShard"},
		{"refused by RBAC", forbidden(`leases.coordination.k8s.io is forbidden: User "u" cannot create resource "leases"`), metav1.ConditionUnknown, "CannotCheck"},
		{"refused by the fence of another namespace", policyRefusal(fencing.Policy("other", "r"), `fence of ring "r" [InForce]: the caller is shard "a" (u)`), metav1.ConditionUnknown, "CannotCheck"},
		{"a policy that can't be evaluated", policyRefusal(policy, `expression 'x' resulted in error: no such key`), metav1.ConditionUnknown, "CannotCheck"},
		{"a server that has just started", forbidden("leases.coordination.k8s.io \"x\" is forbidden: not yet ready to handle request"), "", ""},
		{"too many requests", apierrors.NewTooManyRequests("later", 1), "", ""},
		{"no server", errors.New("connection refused"), "", ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			v := fenceAnswer(tc.err, "ns", "r", fencing.ProbeAnswer("r", "a"))
			if v.status != tc.status || v.reason != tc.reason {
				t.Errorf("%q, %q (%s), want %q, %q", v.status, v.reason, v.message, tc.status, tc.reason)
			}
		})
	}
	if v := fenceAnswer(forbidden(strings.Repeat("é", 4000)), "ns", "r", ""); len(v.message) > 1200 {
		t.Errorf("a message of %d bytes", len(v.message))
	}
}

func TestFenceAnswerOfShards(t *testing.T) {
	stranger := func(ring, namespace, shard string) error {
		return policyRefusal(fencing.Shards(namespace, ring), fmt.Sprintf("fence of ring %q [OtherShard]: no; the caller is shard %q (u)", ring, shard))
	}
	tests := []struct {
		name           string
		err            error
		status, reason string
	}{
		{"accepted", nil, "False", "ShardsNotInForce"},
		{"accepted before", apierrors.NewAlreadyExists(leases.GroupResource(), "x"), "False", "ShardsNotInForce"},
		{"refused", stranger("r", "ns", "a"), "True", "InForce"},
		{"refused by the policy of another ring in the namespace", stranger("other", "ns", "a"), "True", "InForce"},
		{"refused by the policy of another namespace", stranger("r", "other", "a"), "Unknown", "CannotCheck"},
		{"taken for another shard", stranger("r", "ns", "ab"), "False", "NotThisShard"},
		{"taken for nobody", policyRefusal(fencing.Shards("ns", "r"), `fence of ring "r" [Unbound]: no; the caller is of unknown shard (u)`), "False", "NotThisShard"},
		{"refused by the policy for objects", policyRefusal(fencing.Policy("ns", "r"), `fence of ring "r" [NewObject]: the caller is shard "a" (u)`), "Unknown", "CannotCheck"},
		{"a policy that can't be evaluated", policyRefusal(fencing.Shards("ns", "r"), "expression 'x' resulted in error: no such key"), "Unknown", "CannotCheck"},
		{"refused by RBAC", forbidden(`leases.coordination.k8s.io is forbidden: User "u" cannot create resource "leases"`), "Unknown", "CannotCheck"},
		{"no server", errors.New("connection refused"), "", ""},
	}
	for _, tc := range tests {
		if v := shardsAnswer(tc.err, "ns", "r", "a"); string(v.status) != tc.status || v.reason != tc.reason {
			t.Errorf("%s: %q, %q (%s), want %q, %q", tc.name, v.status, v.reason, v.message, tc.status, tc.reason)
		}
	}
}

// simFence lets the server of the simulation answer like one with a fence, or with a part of it.
type simFence struct {
	objects atomic.Bool // the policy for objects is there
	targets atomic.Bool // and knows the targets
	shards  atomic.Bool // the policy for Leases and ShardInstances is there
}

func fenceOf(s *sim) *simFence {
	f := &simFence{}
	policy := fencing.Policy(simNamespace, simRing)
	s.server.Admit(func(a memapi.Admission) error {
		switch lease := a.Request.Resource == leases && a.New != nil; {
		case f.objects.Load() && lease && a.New.GetName() == fencing.Probe(simRing):
			return policyRefusal(policy, fencing.ProbeAnswer(simRing, a.Request.Actor)+" (u)")
		case f.targets.Load() && a.Request.Resource == secrets && a.New.GetLabels()[OwnerLabel(simRing)] == fencing.NoShard:
			return policyRefusal(policy, fmt.Sprintf("fence of ring %q [HandOver]: no", simRing))
		case f.shards.Load() && lease && a.New.GetName() == fencing.NoShard:
			return policyRefusal(fencing.Shards(simNamespace, simRing),
				fmt.Sprintf("fence of ring %q [OtherShard]: no; the caller is shard %q (u)", simRing, a.Request.Actor))
		}
		return nil
	})
	return f
}

// whole installs all parts of it.
func (f *simFence) whole() {
	f.objects.Store(true)
	f.targets.Store(true)
	f.shards.Store(true)
}

func required(o *WorkerOptions, _ *Controller) { o.RequireFence = true }

func fenceCondition(s *sim, id string) string {
	c := meta.FindStatusCondition(s.instance(id).Status.Conditions, conditionFence)
	if c == nil {
		return ""
	}
	return string(c.Status) + " " + c.Reason
}

func TestFenceIsReported(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		fence := fenceOf(s)
		registry := prometheus.NewRegistry()
		w := s.worker("a", nil, func(o *WorkerOptions, _ *Controller) { o.Registerer = registry })
		gauge := func() float64 { return testutil.ToFloat64(w.metrics.fenceEnforced) }
		s.settle(time.Minute)
		wants(s, "acts without a fence that it does not require", w.Active(), true)
		wants(s, "condition", fenceCondition(s, "a"), "False NotInForce")
		wants(s, "gauge", gauge(), 0)
		fence.whole()
		s.settle(2 * fenceInterval)
		wants(s, "condition with a fence", fenceCondition(s, "a"), "True InForce")
		wants(s, "gauge", gauge(), 1)
		fence.targets.Store(false)
		s.secret("o", "a")
		s.settle(2 * fenceLook)
		wants(s, "condition with a fence around nothing", fenceCondition(s, "a"), "False NotInForce")
		wants(s, "owner after the dry run", s.ownership(secrets, "o"), "a")
		fence.targets.Store(true)
		s.settle(2 * fenceInterval)
		wants(s, "condition", fenceCondition(s, "a"), "True InForce")
		fence.shards.Store(false)
		s.settle(2 * fenceInterval)
		wants(s, "condition when the policy for Leases and ShardInstances was deleted", fenceCondition(s, "a"), "False ShardsNotInForce")
		wants(s, "gauge", gauge(), 0)
		before := s.server.Revision()
		fence.shards.Store(true)
		fence.objects.Store(false)
		s.settle(2 * fenceInterval)
		wants(s, "condition when the policy for objects was deleted", fenceCondition(s, "a"), "False NotInForce")
		wants(s, "gauge", gauge(), 0)
		wants(s, "no Lease was created", s.holder(fencing.Probe(simRing)), "no lease")
		wants(s, "no Lease was created", s.holder(fencing.NoShard), "no lease")
		if s.server.Revision() == before {
			t.Error("the condition was not written")
		}
	})
}

func TestWorkerThatRequiresAFence(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		fence := fenceOf(s)
		w := s.worker("a", nil, required)
		s.settle(fencePatience / 2)
		fence.whole() // installed while the worker waits
		s.settle(5 * time.Second)
		wants(s, "active", w.Active(), true)
		wants(s, "reconciled", s.tookOnce(), "a o")
		for part, there := range map[string]*atomic.Bool{"objects": &fence.objects, "shards": &fence.shards} {
			there.Store(false)
			s.settle(2 * fenceIntervalRequired)
			wants(s, "active without the policy for "+part, w.Active(), false)
			s.label(secrets, "o", "x", part)
			s.settle(time.Minute)
			wants(s, "reconciled without the fence", s.took(), "")
			wants(s, "holder of the Lease", s.holder("a"), "a")
			there.Store(true)
			s.settle(2 * fenceIntervalRequired)
			wants(s, "active with the fence", w.Active(), true)
			wants(s, "reconciled with the fence", s.tookOnce(), "a o")
		}
	})
}

func TestWorkerDoesNotStartUnfenced(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		fence := fenceOf(s)
		for _, tc := range [][2]string{{"a", fencing.Policy(simNamespace, simRing)}, {"b", fencing.Shards(simNamespace, simRing)}} {
			id, policy := tc[0], tc[1]
			w := s.worker(id, nil, required)
			s.settle(2 * fencePatience)
			select {
			case <-w.ended:
			default:
				t.Fatalf("%s goes on without the policy %s", id, policy)
			}
			if !errors.Is(w.err, ErrUnfenced) || !strings.Contains(w.err.Error(), policy) {
				t.Errorf("Start of %s returned %v", id, w.err)
			}
			wants(s, "holder of the Lease", s.holder(id), "no lease")
			fence.objects.Store(true)
		}
	})
}

func TestFenceCheckOutlivesAnOutage(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		fenceOf(s).whole()
		w := s.worker("a", nil, required)
		s.settle(10 * time.Second)
		wants(s, "active", w.Active(), true)
		s.server.SetDown(true)
		s.settle(5 * time.Minute)
		s.server.SetDown(false)
		s.settle(time.Minute)
		wants(s, "active after the outage", w.Active(), true)
		wants(s, "the fence holds", w.fenceCheck.holds(), true)
	})
}

// TestUnfencedRingIsLeftAlone: where there is no fence, a worker with objects asks for one every 5 minutes, and does not read its
// ShardInstance more often than that.
func TestUnfencedRingIsLeftAlone(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		s.worker("a", nil)
		s.settle(time.Hour)
		probes, reads := int64(0), int64(0)
		for kind, n := range s.server.RequestCounts() {
			switch {
			case kind.Verb == "create" && kind.Resource == "leases":
				probes += n
			case kind.Verb == "get" && kind.Resource == "shardinstances":
				reads += n
			}
		}
		if probes < 20 || probes > 40 || reads > 40 {
			s.Errorf("%d probes and %d reads in an hour, want two probes and a read every five minutes", probes, reads)
		}
	})
}
