package sharding

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// guarded is a controller as it was before it was sharded: with a queue, a handler and a loop of its own. filtered says whether
// its informer is restricted to the shard, as it should be.
func (s *sim) guarded(id string, filtered bool, sync ReconcileFunc) *Guard {
	s.Helper()
	cfg := s.server.Config(id)
	w, err := NewWorker(cfg, WorkerOptions{Ring: simRing, Namespace: simNamespace, ID: id})
	if err != nil {
		s.Fatal(err)
	}
	kube, err := kubernetes.NewForConfig(w.FencedConfig(cfg))
	if err != nil {
		s.Fatal(err)
	}
	tweak := w.TweakListOptions
	if !filtered {
		tweak = func(*metav1.ListOptions) {}
	}
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(tweak))
	informer := factory.Core().V1().Secrets().Informer()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]())
	guard, err := w.Guard(Controller{Informer: informer}, func(key types.NamespacedName, _ bool) { queue.Add(key) })
	if err != nil {
		s.Fatal(err)
	}
	name := func(obj any) string { return id + " " + obj.(metav1.Object).GetName() }
	handler := guard.Handler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { s.note(name(obj) + " added"); queue.Add(keyOf(obj.(metav1.Object))) },
		UpdateFunc: func(_, obj any) { s.note(name(obj) + " updated"); queue.Add(keyOf(obj.(metav1.Object))) },
		DeleteFunc: func(obj any) { s.note(name(obj) + " deleted"); queue.Add(keyOf(obj.(metav1.Object))) },
	})
	if _, err := informer.AddEventHandler(handler); err != nil {
		s.Fatal(err)
	}
	reconcile := s.journalled(id, informer, sync)
	for range 2 {
		s.all.Go(func() {
			for {
				key, shutdown := queue.Get()
				if shutdown {
					return
				}
				err := guard.Do(s.ctx, key, func(ctx context.Context, key types.NamespacedName) error {
					_, err := reconcile(ctx, key)
					return err
				})
				if err == nil {
					queue.Forget(key)
				} else {
					queue.AddRateLimited(key)
				}
				queue.Done(key)
			}
		})
	}
	s.all.Go(func() {
		defer queue.ShutDown()
		if err := w.Start(s.ctx); err != nil {
			s.Error(err)
		}
	})
	return guard
}

// only returns those of the calls that end with suffix, without it.
func only(calls, suffix string) string {
	var found []string
	for call := range strings.SplitSeq(calls, ", ") {
		if rest, ok := strings.CutSuffix(call, suffix); ok {
			found = append(found, rest)
		}
	}
	return strings.Join(found, ", ")
}

func TestGuard(t *testing.T) {
	for name, filtered := range map[string]bool{"of a restricted informer": true, "of an informer that sees everything": false} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.secret("mine", "a")
				s.secret("theirs", "b")
				s.secret("nobodys", "")
				s.guarded("a", filtered, nil)
				s.worker("b", nil)
				s.settle(5 * time.Second)
				calls := s.took()
				wants(s, "added", only(calls, " added"), "a mine")
				if !strings.Contains(calls, "a mine") || strings.Contains(calls, "a theirs") || strings.Contains(calls, "a nobodys") {
					t.Errorf("reconciled %s", calls)
				}
				s.label(secrets, "mine", DrainLabel(simRing), "b")
				s.settle(5 * time.Second)
				wants(s, "owner after the hand-over", s.ownership(secrets, "mine"), "b@1")
				calls = s.took()
				wants(s, "what the handler takes for deleted when an object moves away", only(calls, " deleted"), "")
				wants(s, "what is reconciled as gone when an object moves away", only(calls, " gone"), "")
				s.label(secrets, "nobodys", OwnerLabel(simRing), "a")
				s.settle(time.Second)
				wants(s, "added when assigned", only(s.took(), " added"), "a nobodys")
				if err := s.server.Delete(secrets, "ns", "nobodys"); err != nil {
					t.Fatal(err)
				}
				s.settle(5 * time.Second)
				calls = s.took()
				wants(s, "deleted", only(calls, " deleted"), "a nobodys")
				wants(s, "reconciled as gone", only(calls, " gone"), "a nobodys")
			})
		})
	}
}

func TestGuardRefusesBeforeAndBetween(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		g := s.guarded("a", true, nil)
		acts := func() (called bool) {
			err := g.Do(s.ctx, types.NamespacedName{Namespace: "ns", Name: "o"}, func(_ context.Context, object types.NamespacedName) error {
				called = object.Name == "o"
				return nil
			})
			if err != nil {
				t.Errorf("an object that the shard may not act on is no failure: %v", err)
			}
			return called
		}
		wants(s, "acts before the worker has begun", acts(), false)
		s.settle(5 * time.Second)
		wants(s, "acts while the shard is active", acts(), true)
		s.server.Client("a").SetLink(memapi.Partitioned)
		s.settle(2 * simLease)
		wants(s, "acts without a Lease", acts(), false)
		s.took()
		s.server.Client("a").SetLink(memapi.Connected)
		s.settle(2 * simLease)
		if calls := s.took(); !strings.Contains(calls, "a o") {
			t.Errorf("nothing was enqueued when the worker could act again: %q", calls)
		}
	})
}

func TestGuardHandsOverAfterTheFunctionHasReturned(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.worker("b", nil)
		s.secret("slow", "a")
		var cause error
		s.guarded("a", true, func(ctx context.Context, _ types.NamespacedName) (Result, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			time.Sleep(2 * time.Second)
			return Result{}, ctx.Err()
		})
		s.settle(5 * time.Second)
		s.label(secrets, "slow", DrainLabel(simRing), "b")
		s.settle(6 * time.Second) // the drain timeout is 5 s
		wants(s, "owner while the function runs", s.ownership(secrets, "slow"), "a→b")
		s.settle(2 * time.Second)
		wants(s, "owner after it has returned", s.ownership(secrets, "slow"), "b@1")
		wants(s, "cause", cause, ErrHandover)
	})
}

func TestGuardOfAFunctionThatPanics(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.worker("b", nil)
		s.secret("o", "a")
		g := s.guarded("a", true, nil)
		s.settle(5 * time.Second)
		func() {
			defer func() { wants(s, "panic", recover(), any("on purpose")) }()
			_ = g.Do(s.ctx, types.NamespacedName{Namespace: "ns", Name: "o"}, func(context.Context, types.NamespacedName) error { panic("on purpose") })
		}()
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(2 * time.Second)
		wants(s, "owner after the panic and a hand-over", s.ownership(secrets, "o"), "b@1")
	})
}

func TestGuardOptions(t *testing.T) {
	for name, c := range map[string]struct {
		controller Controller
		enqueue    func(types.NamespacedName, bool)
		want       string
	}{
		"no queue":    {Controller{}, nil, "enqueue is required"},
		"no informer": {Controller{}, func(types.NamespacedName, bool) {}, "Informer is required"},
		"reconcile": {Controller{Reconcile: func(context.Context, types.NamespacedName) (Result, error) { return Result{}, nil }},
			func(types.NamespacedName, bool) {}, "Controller.Reconcile is set"},
		"concurrency": {Controller{Concurrency: 3}, func(types.NamespacedName, bool) {}, "Controller.Concurrency is set"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				w, err := NewWorker(s.server.Config("a"), WorkerOptions{Ring: simRing, Namespace: simNamespace, ID: "a"})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Guard(c.controller, c.enqueue); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			})
		})
	}
}
