package sharding

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/memapi"
)

// simManager is a Manager of a sim. Its process ends when stop is called (in order) or kill (its connection is cut).
type simManager struct {
	*Manager
	client *memapi.Client
	stop   context.CancelFunc
	ended  chan struct{}
}

func (s *sim) runManager(name string, change ...func(*ManagerOptions)) *simManager {
	s.Helper()
	options := ManagerOptions{Namespace: simNamespace, Identity: name}
	for _, c := range change {
		c(&options)
	}
	m, err := NewManager(s.connect(name), options)
	if err != nil {
		s.Fatal(err)
	}
	ctx, stop := context.WithCancel(s.ctx)
	p := &simManager{Manager: m, client: s.server.Client(name), stop: stop, ended: make(chan struct{})}
	s.all.Go(func() {
		defer close(p.ended)
		if err := m.Run(ctx); err != nil {
			s.Errorf("manager %s: %v", name, err)
		}
	})
	return p
}

// kill ends the process without any more writes of it.
func (m *simManager) kill() {
	m.client.SetLink(memapi.Partitioned)
	m.stop()
	<-m.ended
}

func (w *simWorker) kill() {
	w.client.SetLink(memapi.Partitioned)
	w.stop()
}

// counts renders how many objects each shard owns: "a:2 b:1", with "-" for those without an owner and "→" for those in hand-over.
func (s *sim) counts(gvr schema.GroupVersionResource) map[string]int {
	counts := map[string]int{}
	for _, object := range s.server.List(gvr, "", nil) {
		owner, owned := OwnerOf(object, simRing)
		if !owned {
			owner = "-"
		}
		counts[owner]++
		if _, draining := DrainTargetOf(object, simRing); draining {
			counts["→"]++
		}
	}
	return counts
}

// astray counts the children that are not on the shard of their root.
func (s *sim) astray() int {
	owners := map[string]string{}
	for _, root := range s.server.List(secrets, "", nil) {
		owners[string(root.GetUID())], _ = OwnerOf(root, simRing)
	}
	n := 0
	for _, child := range s.server.List(configMaps, "", nil) {
		owner, _ := OwnerOf(child, simRing)
		for _, ref := range child.GetOwnerReferences() {
			if owners[string(ref.UID)] != owner {
				n++
			}
		}
	}
	return n
}

func (s *sim) configStatus() shardv1.ShardConfigStatus {
	object := s.server.Get(configs, simNamespace, simRing)
	if object == nil {
		s.Fatal("there is no ShardConfig")
	}
	var config shardv1.ShardConfig
	if err := fromUnstructured(object, &config); err != nil {
		s.Fatal(err)
	}
	return config.Status
}

func (s *sim) condition(kind string) string {
	c := meta.FindStatusCondition(s.configStatus().Conditions, kind)
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("%s %s", c.Status, c.Reason)
}

func (s *sim) secrets(n int) []*unstructured.Unstructured {
	list := make([]*unstructured.Unstructured, n)
	for i := range list {
		list[i] = s.secret(fmt.Sprintf("s%03d", i), "")
	}
	return list
}

func TestManagerAssignsWhatHasNoOwner(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		old := s.secrets(100)
		for i, root := range old {
			s.child(fmt.Sprintf("c%03d", i), "", root)
		}
		m := s.runManager("m")
		s.settle(time.Minute)
		wants(s, "leading", m.Leading(), true)
		wants(s, "unowned without shards", s.counts(secrets)["-"], 100)
		wants(s, "condition Ready", s.condition(shardv1.ConditionReady), "False NoShards")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(20 * time.Second)
		counts := s.counts(secrets)
		if counts["a"] < 30 || counts["b"] < 30 || counts["a"]+counts["b"] != 100 || counts["→"] != 0 {
			t.Errorf("owners: %v", counts)
		}
		wants(s, "children away from their roots", s.astray(), 0)
		wants(s, "condition Ready", s.condition(shardv1.ConditionReady), "True Serving")
		wants(s, "ready shards", s.configStatus().ReadyShards, 2)
		wants(s, "phase", s.instance("a").Status.Phase, shardv1.PhaseRunning)
		late := s.secret("late", "")
		s.settle(time.Second)
		if owner, ok := OwnerOf(s.server.Get(secrets, "ns", "late"), simRing); !ok {
			t.Error("an object that was created while the manager runs has no owner after a second")
		} else if s.child("late", "", late); owner != "" {
			s.settle(time.Second)
			wants(s, "owner of a child without a label", s.ownership(configMaps, "late"), owner)
		}
	})
}

func TestShardJoinsAndLeaves(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i, root := range s.secrets(300) {
			s.child(fmt.Sprintf("c%03d", i), "", root)
		}
		s.runManager("m")
		s.worker("a", nil)
		b := s.worker("b", nil)
		s.settle(30 * time.Second)
		before := s.counts(secrets)
		s.worker("c", nil)
		s.settle(30 * time.Second)
		after := s.counts(secrets)
		if after["c"] < 70 || after["c"] > 130 || after["→"] != 0 || after["a"] > before["a"] || after["b"] > before["b"] {
			t.Errorf("owners before c joined: %v, after: %v", before, after)
		}
		wants(s, "children away from their roots", s.astray(), 0)
		b.stop()
		<-b.ended
		wants(s, "what b has left", s.counts(secrets)["b"], 0)
		wants(s, "children that b has left", s.counts(configMaps)["b"], 0)
		s.settle(2 * time.Minute)
		wants(s, "ShardInstance of b is there", s.instance("b") != nil, false)
		wants(s, "holder of the Lease of b", s.holder("b"), "no lease")
		wants(s, "children away from their roots", s.astray(), 0)
	})
}

func TestDeadShardIsTakenOver(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i, root := range s.secrets(300) {
			s.child(fmt.Sprintf("c%03d", i), "", root)
		}
		s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		c := s.worker("c", nil)
		s.settle(time.Minute)
		if n := s.counts(secrets)["c"]; n < 70 {
			t.Fatalf("c owns %d", n)
		}
		c.kill()
		s.settle(simLease + 2*time.Second)
		wants(s, "what the dead shard owns", s.counts(secrets)["c"], 0)
		wants(s, "children that the dead shard owns", s.counts(configMaps)["c"], 0)
		wants(s, "children away from their roots", s.astray(), 0)
		wants(s, "phase", s.instance("c").Status.Phase, shardv1.PhaseLost)
		s.settle(5 * time.Minute)
		wants(s, "ShardInstance of the dead shard is there", s.instance("c") != nil, false)
	})
}
