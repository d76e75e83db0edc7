package sharding

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
)

var pods = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// broad starts a worker that has controllers for Secrets and for Pods. pods counts the calls of the latter.
func (s *sim) broad(name, id string, calls *int) *simWorker {
	s.Helper()
	cfg := s.server.Config(name)
	w, err := NewWorker(cfg, WorkerOptions{Ring: simRing, Namespace: simNamespace, ID: id, KeepOnStop: true})
	if err != nil {
		s.Fatal(err)
	}
	kube, err := kubernetes.NewForConfig(w.FencedConfig(cfg))
	if err != nil {
		s.Fatal(err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(w.TweakListOptions))
	secretInformer, podInformer := factory.Core().V1().Secrets().Informer(), factory.Core().V1().Pods().Informer()
	none := func(context.Context, types.NamespacedName) (Result, error) { return Result{}, nil }
	count := func(context.Context, types.NamespacedName) (Result, error) { *calls++; return Result{}, nil }
	for _, c := range []Controller{
		{Resource: schema.GroupResource{Resource: "secrets"}, Informer: secretInformer, Reconcile: none},
		{Resource: schema.GroupResource{Resource: "pods"}, Informer: podInformer, Reconcile: count, Concurrency: 1},
	} {
		if err := w.Add(c); err != nil {
			s.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(s.ctx)
	p := &simWorker{Worker: w, client: s.server.Client(name), stop: stop, ended: make(chan struct{}), cache: secretInformer}
	s.all.Go(func() {
		defer close(p.ended)
		p.err = w.Start(ctx)
	})
	return p
}

// TestTargetIsGivenToThoseWhoServeIt: a target is added while shards run that have no controller for it.
func TestTargetIsGivenToThoseWhoServeIt(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		m := s.runManager("m")
		keep := func(o *WorkerOptions, _ *Controller) { o.KeepOnStop = true }
		a := s.worker("a", nil, keep)
		s.worker("b", nil, keep)
		s.settle(30 * time.Second)
		s.secrets(40)
		for i := range 60 {
			s.create(pods, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": fmt.Sprint("p", i), "namespace": "ns"}})
		}
		s.edit(configs, simNamespace, simRing, set([]any{
			map[string]any{"resource": "secrets", "controlled": []any{map[string]any{"resource": "configmaps"}}}, map[string]any{"resource": "pods"},
		}, "spec", "targets"))
		s.settle(7 * time.Minute)
		wants(s, "pods without an owner, as nobody serves them", s.counts(pods)["-"], 60)
		wants(s, "unowned objects in the status", s.configStatus().UnownedObjects, 60)
		wants(s, "gaps", m.gaps(), "60 unassigned")

		calls := 0
		c := s.broad("c", "c", &calls)
		s.settle(20 * time.Second)
		wants(s, "pods of the only shard that serves them", s.counts(pods)["c"], 60)
		wants(s, "reconciles", calls, 60)
		before := s.counts(secrets)
		if before["a"] == 0 || before["b"] == 0 || before["c"] == 0 {
			t.Errorf("owners of the other target: %v", before)
		}
		c.kill() // nobody else can have its pods, and it must be able to come back
		s.settle(2 * simLease)
		wants(s, "pods that nobody can have", s.counts(pods)["-"], 60)
		wants(s, "their epoch", EpochOf(s.server.List(pods, "", nil)[0], simRing), 1)
		wants(s, "secrets of the dead shard", s.counts(secrets)["c"], 0)
		s.broad("c2", "c", &calls)
		s.settle(time.Minute)
		wants(s, "pods of the shard that is back", s.counts(pods)["c"], 60)
		wants(s, "their epoch", EpochOf(s.server.List(pods, "", nil)[0], simRing), 2)

		a.stop() // it is rolled out
		<-a.ended
		s.broad("a2", "a", &calls)
		s.settle(time.Minute)
		if n := s.counts(pods); n["a"] < 10 || n["c"] < 10 || n["a"]+n["c"] != 60 {
			t.Errorf("pods when a second shard serves them: %v", n)
		}
		s.settle(10 * time.Minute)
		wants(s, "gaps", m.gaps(), "")
		wants(s, "condition", s.condition(shardv1.ConditionCovered), "True Covered")
	})
}

func TestPlacementAmongThoseWhoServe(t *testing.T) {
	target := &rootTarget{resource: pods, prefix: ring.NewPrefix("", "Pod"), objects: labels.Everything()}
	p := aPlacement(t, "a", "b", "c")
	place := func(served servedSets) map[string]int {
		t.Helper()
		p.served = served
		var err error
		if p.views, err = servedViews(p.view, served, []schema.GroupResource{{Resource: "pods"}, {Resource: "secrets"}}); err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for i := range 300 {
			d, err := p.placeRoot(target, "ns", fmt.Sprint("o", i), "")
			if err != nil {
				counts[err.Error()]++
				continue
			}
			counts[d.Shard]++
		}
		return counts
	}
	just := func(resources ...string) map[schema.GroupResource]bool {
		set := map[schema.GroupResource]bool{}
		for _, r := range resources {
			set[schema.GroupResource{Resource: r}] = true
		}
		return set
	}
	if n := place(servedSets{}); n["a"] < 50 || n["b"] < 50 || n["c"] < 50 || len(p.views) != 0 {
		t.Errorf("nobody says what it serves: %v, with %d views", n, len(p.views))
	}
	if n := place(servedSets{"a": just("secrets"), "b": just("pods", "secrets")}); n["a"] != 0 || n["b"] < 90 || n["c"] < 90 {
		t.Errorf("a does not serve it, c says nothing: %v", n)
	}
	none := servedSets{"a": just("secrets"), "b": just("secrets"), "c": just("secrets")}
	if n := place(none); n[errNotServed.Error()] != 300 {
		t.Errorf("nobody serves it: %v", n)
	}
	if d, err := p.placeRoot(target, "ns", "o", "a"); err != nil || d.Shard != "a" {
		t.Errorf("what a has can't be handed over by it, and stays: got %v, %v", d, err)
	}
	if !waitsForPlacement(errNotServed) || p.receives("a", target) {
		t.Error("a may receive what it does not serve")
	}
	if d, err := p.place(balancer.Object{Key: "k"}); err != nil || d.Shard == "" {
		t.Errorf("other targets are not concerned: got %v, %v", d, err)
	}
}

// TestSecondProcessDoesNotSpeakForTheFirst: a process that waits for the Lease leaves the report of the one that has it, or it is
// corrected soon.
func TestSecondProcessDoesNotSpeakForTheFirst(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.edit(configs, simNamespace, simRing, set([]any{
			map[string]any{"resource": "secrets", "controlled": []any{map[string]any{"resource": "configmaps"}}}, map[string]any{"resource": "pods"},
		}, "spec", "targets"))
		for i := range 7 {
			s.secret(fmt.Sprint("o", i), "a")
		}
		pick := func(_ *WorkerOptions, c *Controller) { c.Resource = schema.GroupResource{Resource: "secrets"} }
		s.process("first", "a", nil, pick)
		s.settle(10 * time.Second)
		want := []shardv1.ServedResource{{Resource: "secrets", Held: 7, Sketch: s.instance("a").Status.Served[0].Sketch}}
		wants(s, "report", fmt.Sprint(s.instance("a").Status.Served), fmt.Sprint(want))
		s.process("second", "a", nil, pick)
		s.settle(time.Second)
		wants(s, "report when another process waits", fmt.Sprint(s.instance("a").Status.Served), fmt.Sprint(want))
		calls := 0
		s.broad("third", "a", &calls)
		s.settle(10 * time.Second)
		wants(s, "report when one waits that serves more", fmt.Sprint(s.instance("a").Status.Served), fmt.Sprint(want))
		wants(s, "its load is still known", s.instance("a").Status.Load != nil, true)
	})
}
