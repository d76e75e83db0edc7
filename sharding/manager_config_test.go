package sharding

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/memapi"
)

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// labelled counts the objects that have anything of the ring on them.
func (s *sim) labelled(gvr schema.GroupVersionResource) int {
	n := 0
	for _, object := range s.server.List(gvr, "", nil) {
		if owner := object.GetLabels()[OwnerLabel(simRing)]; owner != "" || len(object.GetAnnotations()) > 0 {
			n++
		}
	}
	return n
}

func TestDeletedShardConfigIsCleanedUp(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i, root := range s.secrets(80) {
			s.child(fmt.Sprintf("c%03d", i), "", root)
		}
		s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(time.Minute)
		wants(s, "objects with labels", s.labelled(secrets)+s.labelled(configMaps), 160)
		if err := s.server.Delete(configs, simNamespace, simRing); err != nil {
			t.Fatal(err)
		}
		s.settle(30 * time.Second)
		wants(s, "objects with labels", s.labelled(secrets)+s.labelled(configMaps), 0)
		wants(s, "ShardConfig is there", s.server.Get(configs, simNamespace, simRing) != nil, false)
		wants(s, "ShardInstances", len(s.server.List(instances, "", nil)), 0)
	})
}

func TestFormerTargetIsCleanedUp(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%t", restart), func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.child("c", "", s.secret("o", ""))
				m := s.runManager("m1")
				s.worker("a", nil)
				s.settle(30 * time.Second)
				wants(s, "owner", s.ownership(secrets, "o"), "a@1")
				if restart {
					m.kill()
				}
				s.edit(configs, simNamespace, simRing, set([]any{map[string]any{"resource": "pods"}}, "spec", "targets"))
				if restart {
					s.runManager("m2")
				}
				s.settle(time.Minute)
				wants(s, "owner", s.ownership(secrets, "o"), "")
				wants(s, "owner of the child", s.ownership(configMaps, "c"), "")
				served := s.server.Get(configs, simNamespace, simRing).GetAnnotations()[servedAnnotation]
				wants(s, "what is served", served, "pods")
			})
		})
	}
}

func TestConditionsOfAShardConfig(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*unstructured.Unstructured)
		kind   string
		want   string
	}{
		{"no targets", set([]any{}, "spec", "targets"), shardv1.ConditionReady, "True NoTargets"},
		{"unknown strategy", set("no-such", "spec", "loadBalanceStrategy"), shardv1.ConditionStalled, "True UnknownStrategy"},
		{"unknown resource", set([]any{map[string]any{"resource": "widgets", "group": "example.org"}}, "spec", "targets"),
			shardv1.ConditionStalled, "True TargetNotFound"},
		{"wrong selector", set([]any{map[string]any{"resource": "secrets", "labelSelector": map[string]any{
			"matchExpressions": []any{map[string]any{"key": "a", "operator": "Nonsense"}}}}}, "spec", "targets"),
			shardv1.ConditionStalled, "True InvalidSelector"},
		{"nothing wrong", func(*unstructured.Unstructured) {}, shardv1.ConditionStalled, "False AsExpected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.runManager("m")
				s.worker("a", nil)
				s.settle(20 * time.Second)
				s.edit(configs, simNamespace, simRing, c.change)
				s.settle(20 * time.Second)
				wants(s, "condition "+c.kind, s.condition(c.kind), c.want)
			})
		})
	}
}

func TestUnknownStrategyKeepsTheOneBefore(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		s.worker("a", nil)
		s.settle(20 * time.Second)
		s.edit(configs, simNamespace, simRing, set("no-such", "spec", "loadBalanceStrategy"))
		s.settle(time.Second)
		s.secret("o", "")
		s.settle(time.Second)
		wants(s, "owner", s.ownership(secrets, "o"), "a@1")
	})
}

func TestOverlapIsToldToTheYounger(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.settle(time.Second)
		s.create(configs, map[string]any{
			"apiVersion": "shard.io/v1", "kind": "ShardConfig", "metadata": map[string]any{"name": "younger", "namespace": simNamespace},
			"spec": map[string]any{"targets": []any{map[string]any{"resource": "secrets"}}},
		})
		s.runManager("m")
		s.settle(10 * time.Second)
		wants(s, "condition of the older", s.condition(shardv1.ConditionOverlapping), "False NoOverlap")
		conditions, _, _ := unstructured.NestedSlice(s.server.Get(configs, simNamespace, "younger").Object, "status", "conditions")
		found := false
		for _, c := range conditions {
			condition := c.(map[string]any)
			if condition["type"] == shardv1.ConditionOverlapping {
				found = true
				wants(s, "status of the younger", condition["status"], any("True"))
				wants(s, "message", condition["message"], any("The older ring r has secrets as well: a shard of each may act on the same object."))
			}
		}
		wants(s, "condition on the younger", found, true)
	})
}

func TestCordonedShardKeepsWhatItHas(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(20 * time.Second)
		s.secrets(60)
		s.settle(10 * time.Second)
		before, had := s.epochs(), s.counts(secrets)["b"]
		s.edit(instances, simNamespace, "b", set(true, "spec", "cordoned"))
		s.settle(30 * time.Second)
		wants(s, "epochs", s.epochs(), before)
		for i := range 40 {
			s.secret(fmt.Sprintf("new%d", i), "")
		}
		s.settle(30 * time.Second)
		wants(s, "objects of the cordoned shard", s.counts(secrets)["b"], had)
		wants(s, "unowned", s.counts(secrets)["-"], 0)
	})
}

func TestDrainWithoutATarget(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secrets(20)
		s.runManager("m")
		s.worker("a", nil)
		s.settle(20 * time.Second)
		s.edit(instances, simNamespace, "a", set(true, "spec", "draining"))
		s.settle(20 * time.Second)
		drained := func() string {
			for _, c := range s.instance("a").Status.Conditions {
				if c.Type == conditionDrained {
					return fmt.Sprintf("%s %s", c.Status, c.Reason)
				}
			}
			return "none"
		}
		wants(s, "condition Drained", drained(), "False "+reasonNoTarget)
		wants(s, "objects", s.counts(secrets)["a"], 20)
		s.worker("b", nil)
		s.settle(30 * time.Second)
		wants(s, "condition Drained", drained(), "True "+reasonDrained)
		wants(s, "objects", s.counts(secrets)["b"], 20)
		s.edit(instances, simNamespace, "a", set(false, "spec", "draining"))
		s.settle(30 * time.Second)
		wants(s, "condition Drained", drained(), "none")
		if n := s.counts(secrets)["a"]; n < 4 {
			t.Errorf("a owns %d when it is no longer draining", n)
		}
	})
}

func TestRootThatIsDeletedWhileItDrains(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		a := s.worker("a", nil)
		s.settle(20 * time.Second)
		for _, root := range s.secrets(30) {
			_ = root
		}
		s.settle(5 * time.Second)
		a.client.SetLink(memapi.ResponsesLost) // a does not hand anything over for a while
		s.worker("b", nil)
		s.settle(3 * time.Second)
		if s.counts(secrets)["→"] == 0 {
			t.Fatal("nothing drains")
		}
		for _, root := range s.server.List(secrets, "", nil) {
			if _, draining := DrainTargetOf(root, simRing); draining {
				if err := s.server.Delete(secrets, "ns", root.GetName()); err != nil {
					t.Fatal(err)
				}
			}
		}
		a.client.SetLink(memapi.Connected)
		s.settle(30 * time.Second)
		wants(s, "in hand-over", s.counts(secrets)["→"], 0)
		s.secret("late", "")
		s.settle(5 * time.Second)
		wants(s, "unowned", s.counts(secrets)["-"], 0)
		wants(s, "condition Reconciling", s.condition(shardv1.ConditionReconciling), "False Settled")
	})
}

func TestDeadSourceOfAHandover(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		a := s.worker("a", nil)
		s.settle(20 * time.Second)
		root := s.secret("o", "")
		s.child("moved", "", root)
		s.child("left", "", root)
		s.worker("b", nil)
		s.worker("c", nil)
		s.settle(20 * time.Second)
		// The owner dies when it has handed over one of two children.
		owner, _ := OwnerOf(s.server.Get(secrets, "ns", "o"), simRing)
		target := map[string]string{"a": "b", "b": "c", "c": "a"}[owner]
		_ = a
		s.server.Client(owner).SetLink(memapi.Partitioned)
		s.label(secrets, "o", DrainLabel(simRing), target)
		s.label(configMaps, "moved", OwnerLabel(simRing), target)
		s.settle(simLease + 3*time.Second)
		now, _ := OwnerOf(s.server.Get(secrets, "ns", "o"), simRing)
		if now == owner {
			t.Errorf("the root is still on the dead shard: %s", s.ownership(secrets, "o"))
		}
		wants(s, "owner of the child that had moved", s.ownership(configMaps, "moved"), now)
		wants(s, "owner of the child that had not", s.ownership(configMaps, "left"), now)
		_, draining := DrainTargetOf(s.server.Get(secrets, "ns", "o"), simRing)
		wants(s, "in hand-over", draining, false)
		if awaitedChildren(s.server.Get(secrets, "ns", "o"), simRing)["configmaps"] == "" {
			t.Error("the new owner is not told to wait for the children")
		}
	})
}

func TestTargetSelectors(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.edit(configs, simNamespace, simRing, set([]any{map[string]any{
			"resource":          "secrets",
			"namespaceSelector": map[string]any{"matchLabels": map[string]any{"team": "x"}},
			"labelSelector":     map[string]any{"matchLabels": map[string]any{"tls": "yes"}},
			"controlled":        []any{map[string]any{"resource": "configmaps"}},
		}}, "spec", "targets"))
		namespace := func(name, team string) {
			s.create(namespaces, map[string]any{"apiVersion": "v1", "kind": "Namespace",
				"metadata": map[string]any{"name": name, "labels": map[string]any{"team": team}}})
		}
		object := func(namespace, name, tls string) {
			s.create(secrets, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{
				"name": name, "namespace": namespace, "labels": map[string]any{"tls": tls}}})
		}
		owner := func(namespace, name string) string {
			owner, _ := OwnerOf(s.server.Get(secrets, namespace, name), simRing)
			return owner
		}
		namespace("in", "x")
		namespace("out", "y")
		object("in", "yes", "yes")
		object("in", "no", "no")
		object("out", "yes", "yes")
		s.runManager("m")
		s.worker("a", nil)
		s.settle(20 * time.Second)
		wants(s, "owner of what is selected", owner("in", "yes"), "a")
		wants(s, "owner of what its labels exclude", owner("in", "no"), "")
		wants(s, "owner of what its namespace excludes", owner("out", "yes"), "")
		wants(s, "unowned objects, without those that are none of the ring's", s.configStatus().UnownedObjects, 0)
		s.edit(namespaces, "", "out", set("x", "metadata", "labels", "team"))
		s.settle(5 * time.Second)
		wants(s, "owner after its namespace was selected", owner("out", "yes"), "a")
		s.edit(namespaces, "", "in", set("y", "metadata", "labels", "team"))
		s.settle(5 * time.Second)
		wants(s, "owner after its namespace was deselected", owner("in", "yes"), "")
	})
}

func TestHandWrittenTable(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for id, r := range map[string][2]int64{"a": {0, 1<<30 - 1}, "b": {1 << 30, 1<<32 - 1}} {
			s.create(instances, map[string]any{"apiVersion": "shard.io/v1", "kind": "ShardInstance",
				"metadata": map[string]any{"name": id, "namespace": simNamespace, "labels": map[string]any{RingLabel: simRing}},
				"spec": map[string]any{"shardId": id, "ring": simRing,
					"hashRange": map[string]any{"start": r[0], "end": r[1]}}})
		}
		s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(30 * time.Second)
		s.secrets(200)
		s.settle(5 * time.Second)
		if n := s.counts(secrets)["a"]; n < 30 || n > 70 {
			t.Errorf("the shard with a quarter of the hash space owns %d of 200", n)
		}
		wants(s, "hashRanges of a", len(s.instance("a").Spec.HashRanges), 0)
	})
}

func TestChildThatSomebodyRelabelled(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		s.worker("a", nil)
		s.settle(20 * time.Second)
		s.child("c", "", s.secret("o", ""))
		s.settle(5 * time.Second)
		wants(s, "owner", s.ownership(configMaps, "c"), "a")
		s.label(configMaps, "c", OwnerLabel(simRing), "")
		s.settle(time.Second)
		wants(s, "owner of a child that lost its label", s.ownership(configMaps, "c"), "a")
		s.label(secrets, "o", OwnerLabel(simRing), "")
		s.settle(time.Second)
		wants(s, "owner of a root that lost its label", s.ownership(secrets, "o"), "a@2")
	})
}

func TestChildrenThatComeWithTheirRoots(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(20 * time.Second)
		const n = 300 // one pair in a hundred met while the root was being written
		for i := range n {
			name := fmt.Sprint("o", i)
			s.child(name, "", s.secret(name, ""))
		}
		s.settle(5 * time.Second)
		for i := range n {
			name := fmt.Sprint("o", i)
			root, _ := OwnerOf(s.server.Get(secrets, "ns", name), simRing)
			child, _ := OwnerOf(s.server.Get(configMaps, "ns", name), simRing)
			if root == "" || child != root {
				t.Errorf("%s belongs to %q, its child to %q", name, root, child)
			}
		}
	})
}
