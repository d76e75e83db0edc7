package sharding

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// What users do wrong, and what they see of it. docs/misuse.md has the same table for them.

// seen is what there is to see.
type seen struct {
	mu  sync.Mutex
	log strings.Builder
}

func (l *seen) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(p)
}

func (l *seen) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.String()
}

// watched makes the logs of the workers that are started from now on visible to the test.
func (s *sim) watched() *seen {
	var l seen
	s.ctx = klog.NewContext(s.ctx, textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&l))))
	return &l
}

func (s *sim) mentions(where, got, want string) {
	s.Helper()
	if !strings.Contains(got, want) {
		s.Errorf("%s says %q, want %q", where, got, want)
	}
}

// predicament is a world that is prepared wrongly for a worker "a", what it says then, and what mends it.
type predicament struct {
	prepare func(s *sim)
	want    string
	mend    func(s *sim)
}

// without is the lack of some rights of a role; asked is the one that is reported missing.
func without(verbs, asked, resource, group, where string) predicament {
	var granted atomic.Bool
	return predicament{
		func(s *sim) {
			s.config()
			s.server.Client("a").Inject(memapi.Forbidden, math.MaxInt, func(r *memapi.Request) bool {
				name := r.Resource.Resource
				if r.Subresource != "" {
					name += "/" + r.Subresource
				}
				return slices.Contains(strings.Split(verbs, ","), r.Verb) && name == resource && !granted.Load()
			})
		},
		fmt.Sprintf("User \"a\" cannot %s resource %q in API group %q %s", asked, resource, group, where),
		func(*sim) { granted.Store(true) },
	}
}

func TestMisuseSeenWhileTheWorkerWaits(t *testing.T) {
	const sys, everywhere = `in the namespace "sys"`, "at the cluster scope"
	for name, c := range map[string]predicament{
		"no ring with that name": {func(*sim) {}, "there is no ShardConfig sys/r: create it, or correct WorkerOptions.Ring or Namespace", (*sim).config},
		"a ring in another namespace": {func(s *sim) {
			s.create(configs, map[string]any{"apiVersion": "shard.io/v1", "kind": "ShardConfig",
				"metadata": map[string]any{"name": simRing, "namespace": "elsewhere"}})
		}, "there is no ShardConfig sys/r", (*sim).config},
		"no definitions": {func(s *sim) {
			server, err := memapi.New(memapi.Options{Resources: memapi.CoreResources(), TypeConverters: shardTypes})
			if err != nil {
				s.Fatal(err)
			}
			s.server = server
		}, "the CustomResourceDefinitions of shard.io are not installed, see package apis/crd", func(s *sim) {
			for _, r := range memapi.ShardResources() {
				if err := s.server.Register(r); err != nil {
					s.Fatal(err)
				}
			}
			s.config()
		}},
		"a resource that is not served": {func(s *sim) {
			s.config()
			s.edit(configs, simNamespace, simRing, func(config *unstructured.Unstructured) {
				targets, _, _ := unstructured.NestedSlice(config.Object, "spec", "targets")
				controlled := targets[0].(map[string]any)["controlled"].([]any)
				targets[0].(map[string]any)["controlled"] = append(controlled, map[string]any{"group": "acme.org", "resource": "widgets"})
				_ = unstructured.SetNestedSlice(config.Object, targets, "spec", "targets")
			})
		}, "no matches for acme.org/, Resource=widgets", func(s *sim) {
			if err := s.server.Register(memapi.Resource{Group: "acme.org", Version: "v1", Plural: "widgets", Kind: "Widget"}); err != nil {
				s.Fatal(err)
			}
		}},
		"no right to list shardconfigs":     without("list,watch", "list", "shardconfigs", "shard.io", sys),
		"no right to get shardinstances":    without("get", "get", "shardinstances", "shard.io", sys),
		"no right to create shardinstances": without("create", "create", "shardinstances", "shard.io", sys),
		"no right to apply a status":        without("apply", "patch", "shardinstances/status", "shard.io", sys),
		"no right to get leases":            without("get", "get", "leases", "coordination.k8s.io", sys),
		"no right to create leases":         without("create", "create", "leases", "coordination.k8s.io", sys),
		"no right to list a target":         without("list,watch", "list", "secrets", "", everywhere),
		"no right to list children":         without("list,watch", "list", "configmaps", "", everywhere),
		"two workers in one process with one ID": {func(s *sim) {
			s.config()
			s.process("first", "a", nil)
			s.settle(5 * time.Second)
		}, "the Lease sys/a is not held by this process: it is held by \"a_", func(s *sim) { s.server.Client("first").Crash() }},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				c.prepare(s)
				defer s.server.Close()
				s.secret("o", "a")
				log := s.watched()
				w := s.worker("a", nil, func(_ *WorkerOptions, controller *Controller) {
					controller.Resource = schema.GroupResource{Resource: "secrets"}
				})
				s.settle(20 * time.Second)
				err := w.Check(s.ctx)
				if err == nil {
					s.Fatal("it is active")
				}
				s.mentions("Check", err.Error(), "shard a of ring r is not active: ")
				s.mentions("Check", err.Error(), c.want)
				s.mentions("the log", log.String(), strings.Trim(strconv.Quote(c.want), `"`))
				if calls := s.took(); strings.Contains(calls, "a o") {
					s.Errorf("reconciled %s", calls)
				}
				c.mend(s)
				s.settle(3 * time.Minute)
				if err := w.Check(s.ctx); err != nil {
					s.Errorf("after that was mended: %v", err)
				}
				s.mentions("what was reconciled", s.took(), "a o")
			})
		})
	}
}

func TestMisuseAtConstruction(t *testing.T) {
	cfg := &rest.Config{Host: "http://127.0.0.1:1"}
	informer := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(cfg), 0).Core().V1().Secrets().Informer()
	nothing := func(context.Context, types.NamespacedName) (Result, error) { return Result{}, nil }
	worker := func(change func(o *WorkerOptions)) error {
		o := WorkerOptions{Ring: "r", Namespace: "sys", ID: "a"}
		change(&o)
		_, err := NewWorker(cfg, o)
		return err
	}
	add := func(c Controller) error {
		w, err := NewWorker(cfg, WorkerOptions{Ring: "r", Namespace: "sys", ID: "a"})
		if err != nil {
			t.Fatal(err)
		}
		return w.Add(c)
	}
	registry := prometheus.NewRegistry()
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no ID":                      {worker(func(o *WorkerOptions) { o.ID = "" }), "ID is required"},
		"an ID that is no name":      {worker(func(o *WorkerOptions) { o.ID = "Pod_1" }), `ID: shard ID "Pod_1"`},
		"an ID that is too long":     {worker(func(o *WorkerOptions) { o.ID = strings.Repeat("x", 64) }), "must be no more than 63"},
		"no ring":                    {worker(func(o *WorkerOptions) { o.Ring = "" }), "Ring:"},
		"a ring that is no name":     {worker(func(o *WorkerOptions) { o.Ring = "a.b" }), `"a.b"`},
		"no namespace":               {worker(func(o *WorkerOptions) { o.Namespace = "" }), "Namespace is required"},
		"no registerer":              {worker(func(o *WorkerOptions) { o.Registerer = nil }), ""},
		"a nil registerer of a type": {worker(func(o *WorkerOptions) { o.Registerer = (*prometheus.Registry)(nil) }), "Registerer is a nil *prometheus.Registry"},
		"a registerer":               {worker(func(o *WorkerOptions) { o.Registerer = registry }), ""},
		"a registerer of two":        {worker(func(o *WorkerOptions) { o.Registerer = registry }), "Registerer: "},
		"no config":                  {func() error { _, err := NewWorker(nil, WorkerOptions{}); return err }(), "rest config is required"},
		"no informer":                {add(Controller{Reconcile: nothing}), "Informer is required"},
		"a nil informer of a type":   {add(Controller{Reconcile: nothing, Informer: (*nilInformer)(nil)}), "Informer is required"},
		"a nil informer of children": {add(Controller{Reconcile: nothing, Informer: informer,
			Children: map[schema.GroupResource]cache.SharedIndexInformer{{Resource: "configmaps"}: nil}}), "Children[configmaps] is nil"},
		"no function":                {add(Controller{Informer: informer}), "exactly one of Reconcile and ReconcileBatch"},
		"a Worker that nobody made":  {new(Worker).Start(t.Context()), "a Worker that NewWorker has made"},
		"its check":                  {new(Worker).Check(t.Context()), "Start has not been called"},
		"a manager without a config": {func() error { _, err := NewManager(nil, ManagerOptions{}); return err }(), "config is nil"},
	} {
		switch {
		case c.want == "" && c.err != nil:
			t.Errorf("%s: got %v, want no error", name, c.err)
		case c.want != "" && (c.err == nil || !strings.Contains(c.err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", name, c.err, c.want)
		}
	}
}

type nilInformer struct{ cache.SharedIndexInformer }

func TestMisuseOfStart(t *testing.T) {
	nothing := func(context.Context, types.NamespacedName) (Result, error) { return Result{}, nil }
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		made := func() (*Worker, cache.SharedIndexInformer) {
			w, err := NewWorker(s.connect("a"), WorkerOptions{Ring: simRing, Namespace: simNamespace, ID: "a", KeepOnStop: true})
			if err != nil {
				s.Fatal(err)
			}
			factory := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(w.FencedConfig(nil)), 0,
				informers.WithTweakListOptions(w.TweakListOptions))
			return w, factory.Core().V1().Secrets().Informer()
		}
		var none context.Context
		w, _ := made()
		s.mentions("Start without a context", fmt.Sprint(w.Start(none)), "a context, are required")
		s.mentions("Start without a controller", fmt.Sprint(w.Start(s.ctx)), "no controller was added")

		w, informer := made()
		if err := w.Add(Controller{Informer: informer, Reconcile: nothing, Resource: schema.GroupResource{Resource: "pods"}}); err != nil {
			s.Fatal(err)
		}
		s.mentions("Start with a kind that the ring does not name", fmt.Sprint(w.Start(s.ctx)),
			`controller: Resource pods is not a target of ring "r", which has: secrets`)
		s.mentions("Check then", fmt.Sprint(w.Check(s.ctx)), "Start has returned: controller: Resource pods is not a target")

		w, informer = made()
		if err := w.Add(Controller{Informer: informer, Reconcile: nothing, Children: map[schema.GroupResource]cache.SharedIndexInformer{{Resource: "pods"}: informer}}); err != nil {
			s.Fatal(err)
		}
		s.mentions("Start with children that the ring does not name", fmt.Sprint(w.Start(s.ctx)), `Children[pods]: ring "r" does not list it`)

		w, informer = made()
		ctx, stop := context.WithCancel(klog.NewContext(s.ctx, klog.Logger{})) // a logger that is none
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx, informer, s.journalled("a", informer, nil)) }()
		s.settle(5 * time.Second)
		wants(s, "reconciled without a logger", s.tookOnce(), "a o")
		s.mentions("Start, twice", fmt.Sprint(w.Start(ctx)), "started before")
		s.mentions("Run, twice", fmt.Sprint(w.Run(ctx, informer, nothing)), "Add after Start")
		stop()
		if err := <-ended; err != nil {
			s.Errorf("the first ends with %v", err)
		}
		s.mentions("Start, after it has stopped", fmt.Sprint(w.Start(ctx)), "started before")
		s.mentions("Check, after it has stopped", fmt.Sprint(w.Check(ctx)), "Start has returned: the worker was stopped")
	})
}

func TestMisuseOfAnInformer(t *testing.T) {
	for name, c := range map[string]struct {
		filtered bool
		warnings int
	}{"restricted": {true, 0}, "of everything": {false, 1}} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.secret("mine", "a")
				s.secret("theirs", "b")
				s.secret("nobodys", "")
				log := s.watched()
				s.guarded("a", c.filtered, nil)
				s.settle(5 * time.Second)
				s.label(secrets, "theirs", OwnerLabel(simRing), "c")
				s.settle(5 * time.Second)
				wants(s, "warnings", strings.Count(log.String(), "The informer is not restricted to this shard"), c.warnings)
				if calls := s.took(); strings.Contains(calls, "theirs") || strings.Contains(calls, "nobodys") || !strings.Contains(calls, "a mine") {
					s.Errorf("heard of and reconciled %s", calls)
				}
			})
		})
	}
}

// deaf reconciles do not look at their context, and return when they are told to.
func (s *sim) deaf() (reconcile ReconcileFunc, release func()) {
	released := make(chan struct{})
	return func(_ context.Context, key types.NamespacedName) (Result, error) {
		if strings.HasPrefix(key.Name, "deaf") {
			<-released
		}
		return Result{}, nil
	}, func() { close(released) }
}

func TestMisuseReconcileThatNeverReturns(t *testing.T) {
	t.Run("while its object is to be handed over", func(t *testing.T) {
		simulate(t, func(s *sim) {
			s.config()
			s.secret("deaf", "a")
			s.secret("other", "a")
			log := s.watched()
			reconcile, release := s.deaf()
			s.worker("a", reconcile)
			s.worker("b", nil)
			s.settle(5 * time.Second)
			s.label(secrets, "deaf", DrainLabel(simRing), "b")
			s.label(secrets, "other", DrainLabel(simRing), "b")
			s.settle(2*time.Minute + 30*time.Second)
			wants(s, "owner", s.ownership(secrets, "deaf"), "a→b")
			wants(s, "owner of another object", s.ownership(secrets, "other"), "b@1")
			wants(s, "times that it is said", strings.Count(log.String(), "Reconcile has not returned since it was cancelled"), 2)
			release()
			s.settle(5 * time.Second)
			wants(s, "owner in the end", s.ownership(secrets, "deaf"), "b@1")
		})
	})
	t.Run("when the shard loses its Lease", func(t *testing.T) {
		simulate(t, func(s *sim) {
			s.config()
			for i := range 5 {
				s.secret(fmt.Sprint("deaf-", i), "a")
			}
			s.secret("other", "a")
			log := s.watched()
			reconcile, release := s.deaf()
			w := s.worker("a", reconcile, func(_ *WorkerOptions, c *Controller) { c.Concurrency = 10 })
			s.settle(5 * time.Second)
			s.server.Client("a").SetLink(memapi.Partitioned)
			s.settle(2 * simLease)
			s.server.Client("a").SetLink(memapi.Connected)
			s.settle(time.Minute)
			const want = "reconciles that were cancelled have not returned: ns/deaf-0, ns/deaf-1, ns/deaf-2 and 2 more"
			s.mentions("Check", fmt.Sprint(w.Check(s.ctx)), want)
			s.mentions("the log", log.String(), want)
			release()
			s.settle(5 * time.Second)
			wants(s, "active when they have returned", w.Active(), true)
		})
	})
}

func TestMisuseReconcileThatIgnoresItsContext(t *testing.T) {
	for name, c := range map[string]struct {
		writesWith func(context.Context) context.Context
		want       []error
	}{
		"and writes with it":                 {func(ctx context.Context) context.Context { return ctx }, []error{context.Canceled}},
		"and writes with one that goes on":   {context.WithoutCancel, []error{ErrFenced, ErrHandover}},
		"and writes with one of everybody's": {func(context.Context) context.Context { return context.Background() }, []error{ErrFenced, errNotOwned}},
	} {
		t.Run(name, func(t *testing.T) { ignoresItsContext(t, c.writesWith, c.want) })
	}
}

func ignoresItsContext(t *testing.T, writesWith func(context.Context) context.Context, want []error) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		s.worker("b", nil)
		var late error
		var kube kubernetes.Interface
		guard := s.guarded("a", true, func(ctx context.Context, key types.NamespacedName) (Result, error) {
			time.Sleep(8 * time.Second) // the drain timeout is 5 s
			_, late = kube.CoreV1().Secrets(key.Namespace).Patch(writesWith(ctx), key.Name, types.MergePatchType, []byte(`{"data":{"late":"eA=="}}`), metav1.PatchOptions{})
			return Result{}, nil
		})
		kube = kubernetes.NewForConfigOrDie(guard.w.FencedConfig(nil))
		s.settle(2 * time.Second)
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(20 * time.Second)
		for _, err := range want {
			if !errors.Is(late, err) {
				s.Errorf("its late write ends with %v, want one that is %v", late, err)
			}
		}
		wants(s, "what it wrote", s.server.Get(secrets, "ns", "o").Object["data"], nil)
		wants(s, "owner", s.ownership(secrets, "o"), "b@1")
	})
}

func TestMisuseRoleThatDoesNotLetObjectsGo(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		log := s.watched()
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(5 * time.Second)
		s.server.Client("a").Inject(memapi.Forbidden, 1, func(r *memapi.Request) bool { return r.Verb == "patch" && r.Resource == secrets })
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(5 * time.Second)
		s.mentions("the log", log.String(), `Hand-over failed, will try again: a role is missing, see docs/misuse.md: `)
		s.mentions("the log", log.String(), `cannot patch resource \"secrets\" in API group \"\" in the namespace \"ns\"`)
		wants(s, "owner in the end", s.ownership(secrets, "o"), "b@1")
	})
}
