package sharding

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/health"
)

// Whatever users and other programs write on what the ring reads: nothing panics, and nothing is without an owner for good.

// oddLeases are Leases as nobody here writes them, and how long a shard of that name is waited for.
func oddLeases() map[string]struct {
	spec map[string]any
	wait time.Duration
} {
	at := func(d time.Duration) string {
		return time.Now().Add(d).UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	}
	type odd = struct {
		spec map[string]any
		wait time.Duration
	}
	full := func(change map[string]any) map[string]any {
		spec := map[string]any{"holderIdentity": "x_0123456789abcdef", "leaseDurationSeconds": int64(15), "renewTime": at(0), "leaseTransitions": int64(0)}
		for key, value := range change {
			if spec[key] = value; value == nil {
				delete(spec, key)
			}
		}
		return spec
	}
	return map[string]odd{
		"empty":                    {map[string]any{}, simLease},
		"held by a stranger":       {full(map[string]any{"holderIdentity": "stranger"}), simLease},
		"held by another shard":    {full(map[string]any{"holderIdentity": "a_0123456789abcdef"}), simLease},
		"held by a manager":        {full(map[string]any{"holderIdentity": health.ManagerPrefix + "long-gone"}), simLease},
		"without a holder":         {full(map[string]any{"holderIdentity": nil}), simLease},
		"never renewed":            {full(map[string]any{"renewTime": nil}), simLease},
		"renewed in the future":    {full(map[string]any{"renewTime": at(87600 * time.Hour)}), simLease},
		"renewed long ago":         {full(map[string]any{"renewTime": "1970-01-01T00:00:00.000000Z"}), simLease},
		"without a duration":       {full(map[string]any{"leaseDurationSeconds": nil}), simLease},
		"of no duration":           {full(map[string]any{"leaseDurationSeconds": int64(0)}), simLease},
		"of a negative duration":   {full(map[string]any{"leaseDurationSeconds": int64(-7)}), simLease},
		"of a huge duration":       {full(map[string]any{"leaseDurationSeconds": int64(math.MaxInt32)}), health.MaxLeaseDuration},
		"that changed hands often": {full(map[string]any{"leaseTransitions": int64(math.MaxInt32)}), simLease},
	}
}

func (s *sim) oddLease(name string, spec map[string]any) {
	s.create(leases, map[string]any{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": map[string]any{"name": name, "namespace": simNamespace, "labels": map[string]any{RingLabel: simRing}}, "spec": spec})
}

func TestOddLeasesKeepNothingUnowned(t *testing.T) {
	for name, odd := range oddLeases() {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.oddLease("x", oddLeases()[name].spec) // with times of the bubble
				for i := range 5 {
					s.child(fmt.Sprint("c", i), "x", s.secret(fmt.Sprint("o", i), "x"))
				}
				s.runManager("m")
				s.worker("a", nil)
				s.settle(odd.wait + time.Minute)
				wants(s, "roots of the shard that has a Lease and no process", s.counts(secrets)["a"], 5)
				wants(s, "children away from their roots", s.astray(), 0)
			})
		})
	}
}

func TestOddLeasesKeepNoShardFromComing(t *testing.T) {
	for name, odd := range oddLeases() {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.oddLease("x", oddLeases()[name].spec)
				x := s.worker("x", nil)
				s.settle(odd.wait + time.Minute)
				wants(s, "active", x.Active(), true)
				transitions, _, _ := unstructured.NestedInt64(s.server.Get(leases, simNamespace, "x").Object, "spec", "leaseTransitions")
				wants(s, "leaseTransitions are what the server accepts", transitions >= 0, true)
			})
		})
	}
}

func TestOddLabelsOfARoot(t *testing.T) {
	owner, drain := OwnerLabel(simRing), DrainLabel(simRing)
	long := strings.Repeat("x", 63)
	for name, test := range map[string]struct {
		labels map[string]string
		epoch  string
		want   string // ownership in the end
	}{
		"no owner":                             {nil, "", "a@1"},
		"an empty owner":                       {map[string]string{owner: ""}, "", "a@1"},
		"an unknown owner":                     {map[string]string{owner: "ghost"}, "4", "a@5"},
		"an owner as long as a label may be":   {map[string]string{owner: long}, "4", "a@5"},
		"an owner that is no name":             {map[string]string{owner: "No.Name_"[:7] + "x"}, "4", "a@5"},
		"to be handed over, and unowned":       {map[string]string{drain: "b"}, "", "a@1"},
		"to be handed over, an empty owner":    {map[string]string{owner: "", drain: "ghost"}, "", "a@1"},
		"to be handed over to nobody":          {map[string]string{owner: "a", drain: ""}, "4", "a@4"},
		"to be handed over to a ghost":         {map[string]string{owner: "a", drain: "ghost"}, "4", "a@6"},
		"to be handed over to what is no name": {map[string]string{owner: "a", drain: "No_Name"}, "4", "a@6"},
		"to be handed over to itself":          {map[string]string{owner: "a", drain: "a"}, "4", "a@4"},
		"an epoch that is no number":           {nil, "many", "a@1"},
		"an epoch below zero":                  {nil, "-5", "a@1"},
		"an epoch that can't grow":             {nil, "9223372036854775807", "a@1"},
		"an epoch beyond numbers":              {nil, strings.Repeat("9", 40), "a@1"},
		"an epoch with a fraction":             {nil, "1.5", "a@1"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.runManager("m")
				s.worker("a", nil)
				s.settle(20 * time.Second)
				metadata := map[string]any{"name": "o", "namespace": "ns"}
				if test.epoch != "" {
					metadata["annotations"] = map[string]any{EpochAnnotation(simRing): test.epoch}
				}
				labels := map[string]any{}
				for key, value := range test.labels {
					labels[key] = value
				}
				metadata["labels"] = labels
				s.create(secrets, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
				s.settle(11 * time.Minute) // an audit comes by
				wants(s, "ownership", s.ownership(secrets, "o"), test.want)
				wants(s, "reconciled", s.callsOf("o") > 0, true)
			})
		})
	}
}

func TestRootWithTenThousandLabels(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		s.worker("a", nil)
		s.settle(20 * time.Second)
		labels := map[string]any{}
		for i := range 10000 {
			labels[fmt.Sprintf("example.org/label-%05d", i)] = "value"
		}
		root := s.create(secrets, map[string]any{"apiVersion": "v1", "kind": "Secret",
			"metadata": map[string]any{"name": "o", "namespace": "ns", "labels": labels}})
		s.child("c", "", root)
		s.settle(5 * time.Second)
		wants(s, "assigned", s.ownership(secrets, "o"), "a@1")
		s.worker("b", nil)
		s.settle(20 * time.Second)
		owner, _ := OwnerOf(s.server.Get(secrets, "ns", "o"), simRing)
		s.edit(instances, simNamespace, owner, set(true, "spec", "draining"))
		s.settle(20 * time.Second)
		heir, _ := OwnerOf(s.server.Get(secrets, "ns", "o"), simRing)
		wants(s, "handed over", heir, map[string]string{"a": "b", "b": "a"}[owner])
		wants(s, "child away from its root", s.astray(), 0)
		wants(s, "labels of the user", len(s.server.Get(secrets, "ns", "o").GetLabels()), 10001)
	})
}

// TestRingOfAnIllegalName: the definition refuses such a name; if it is there all the same, it is not served, and others are.
func TestRingOfAnIllegalName(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for _, name := range []string{"a.b", strings.Repeat("x", 64), strings.Repeat("x", 200)} {
			s.create(configs, map[string]any{"apiVersion": "shard.io/v1", "kind": "ShardConfig",
				"metadata": map[string]any{"name": name, "namespace": simNamespace},
				"spec":     map[string]any{"targets": []any{map[string]any{"resource": "pods"}}}})
			if _, err := NewWorker(s.server.Config("w"), WorkerOptions{Ring: name, Namespace: simNamespace, ID: "w"}); err == nil {
				t.Errorf("a worker of ring %q could be made", name)
			}
		}
		s.secret("o", "")
		s.runManager("m")
		s.worker("a", nil)
		s.settle(30 * time.Second)
		wants(s, "owner in the ring beside them", s.ownership(secrets, "o"), "a@1")
	})
}

func TestForeignShardInstances(t *testing.T) {
	instance := func(s *sim, name, shardID, ring string) {
		s.create(instances, map[string]any{"apiVersion": "shard.io/v1", "kind": "ShardInstance",
			"metadata": map[string]any{"name": name, "namespace": simNamespace},
			"spec":     map[string]any{"shardId": shardID, "ring": ring}})
	}
	t.Run("of another shardId", func(t *testing.T) { // the definition refuses it, too
		simulate(t, func(s *sim) {
			s.config()
			instance(s, "a", "b", simRing)
			instance(s, "idle", "a", simRing)
			s.runManager("m")
			a := s.worker("a", nil)
			s.settle(20 * time.Second)
			s.secrets(10)
			s.settle(5 * time.Second)
			wants(s, "active", a.Active(), true)
			wants(s, "objects of the shard that the instance is named like", s.counts(secrets)["a"], 10)
			wants(s, "phase of the other", s.instance("idle").Status.Phase, shardv1.PhasePending)
		})
	})
	t.Run("of another ring", func(t *testing.T) {
		simulate(t, func(s *sim) {
			s.config()
			instance(s, "a", "a", "other-ring")
			a := s.worker("a", nil)
			s.settle(5 * time.Second)
			select {
			case <-a.ended:
			default:
				t.Fatal("Start has not returned")
			}
			if a.err == nil || !strings.Contains(a.err.Error(), `"other-ring"`) || !strings.Contains(a.err.Error(), "ShardInstance a") {
				t.Errorf("got error %v, want one that names the instance and its ring", a.err)
			}
			wants(s, "Lease of the shard", s.holder("a"), "no lease")
		})
	})
}
