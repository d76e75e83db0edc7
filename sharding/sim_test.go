package sharding

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/applyconfiguration"
	shardscheme "github.com/shard-io/shard-controller/generated/clientset/versioned/scheme"
	"github.com/shard-io/shard-controller/internal/memapi"
)

// A sim is a ring on an in-memory API server, in virtual time: real Workers (and a real Manager, where a test wants one) with real
// clients and informers. Roots are Secrets, children are ConfigMaps.

const (
	simRing      = "r"
	simNamespace = "sys"
	simLease     = 15 * time.Second
)

var (
	simLogs    = flag.Bool("sim.logs", false, "print the logs of simulated workers and managers")
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	configs    = schema.GroupVersionResource{Group: "shard.io", Version: "v1", Resource: "shardconfigs"}
	instances  = schema.GroupVersionResource{Group: "shard.io", Version: "v1", Resource: "shardinstances"}
	leases     = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
)

// shardTypes let manager and worker apply conditions of their own to one object.
var shardTypes = map[string]managedfields.TypeConverter{shardv1.GroupName: applyconfiguration.NewTypeConverter(shardscheme.Scheme)}

type sim struct {
	*testing.T
	server *memapi.Server
	ctx    context.Context
	all    sync.WaitGroup

	// wrap, if set, is around the connection of every process that is started.
	wrap func(actor string, next http.RoundTripper) http.RoundTripper

	mu      sync.Mutex
	busy    map[types.UID]string // who reconciles the object now
	calls   []string             // "worker object" or "worker object gone"
	overlap int
}

// simulate runs f in a bubble of virtual time. When f returns, everything that it has started is stopped.
func simulate(t *testing.T, f func(s *sim)) {
	t.Helper()
	utilruntime.ErrorHandlers = nil // the default one sleeps, for years in virtual time
	synctest.Test(t, func(t *testing.T) {
		server, err := memapi.New(memapi.Options{Resources: append(memapi.CoreResources(), memapi.ShardResources()...), Seed: 1, TypeConverters: shardTypes})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		logger := klog.NewKlogr()
		if !*simLogs {
			logger = textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(nowhere{})))
		}
		ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logger))
		s := &sim{T: t, server: server, ctx: ctx, busy: map[types.UID]string{}}
		defer s.all.Wait()
		defer cancel()
		f(s)
		if s.overlap > 0 {
			t.Errorf("%d times, an object was reconciled by two shards at once", s.overlap)
		}
	})
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// connect returns the configuration of the clients of a process.
func (s *sim) connect(actor string) *rest.Config {
	cfg := s.server.Config(actor)
	if s.wrap != nil {
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return s.wrap(actor, next) })
	}
	return cfg
}

// create creates an object, or fails the test.
func (s *sim) create(gvr schema.GroupVersionResource, object map[string]any) *unstructured.Unstructured {
	s.Helper()
	created, err := s.server.Create(gvr, &unstructured.Unstructured{Object: object})
	if err != nil {
		s.Fatal(err)
	}
	return created
}

// config creates the ShardConfig, with Secrets as targets that control ConfigMaps.
func (s *sim) config() {
	s.create(configs, map[string]any{
		"apiVersion": "shard.io/v1", "kind": "ShardConfig",
		"metadata": map[string]any{"name": simRing, "namespace": simNamespace},
		"spec": map[string]any{
			"minShards": int64(1), "maxShards": int64(10), "scaleUpThreshold": 0.8, "scaleDownThreshold": 0.3,
			"loadBalanceStrategy": "consistent-hash", "healthCheckInterval": simLease.String(),
			"handover": map[string]any{"drainTimeout": "5s", "maxInFlight": int64(200)},
			"targets":  []any{map[string]any{"resource": "secrets", "controlled": []any{map[string]any{"resource": "configmaps"}}}},
		},
	})
}

// secret creates a root object; owner may be empty.
func (s *sim) secret(name, owner string) *unstructured.Unstructured {
	s.Helper()
	object := map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name, "namespace": "ns"}}
	if owner != "" {
		object["metadata"].(map[string]any)["labels"] = map[string]any{OwnerLabel(simRing): owner}
	}
	return s.create(secrets, object)
}

// child creates a child of a root object.
func (s *sim) child(name, owner string, root *unstructured.Unstructured) *unstructured.Unstructured {
	s.Helper()
	metadata := map[string]any{"name": name, "namespace": "ns", "ownerReferences": []any{map[string]any{
		"apiVersion": "v1", "kind": "Secret", "name": root.GetName(), "uid": string(root.GetUID()), "controller": true,
	}}}
	if owner != "" {
		metadata["labels"] = map[string]any{OwnerLabel(simRing): owner}
	}
	return s.create(configMaps, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
}

// label sets labels of an object; an empty value removes one.
func (s *sim) label(gvr schema.GroupVersionResource, name string, pairs ...string) {
	s.Helper()
	s.edit(gvr, "ns", name, func(object *unstructured.Unstructured) {
		labels := object.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		for i := 0; i < len(pairs); i += 2 {
			if labels[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
				delete(labels, pairs[i])
			}
		}
		object.SetLabels(labels)
	})
}

// simWorker is a Worker of a sim. Its process ends when stop is called (in order) or kill (its connection is cut, as when it dies).
type simWorker struct {
	*Worker
	client *memapi.Client
	stop   context.CancelFunc
	ended  chan struct{}
	err    error
	cache  cache.SharedIndexInformer
}

// worker starts a Worker that reconciles with f; nil does nothing. change adapts options and the controller.
func (s *sim) worker(id string, f ReconcileFunc, change ...func(*WorkerOptions, *Controller)) *simWorker {
	s.Helper()
	return s.process(id, id, f, change...)
}

// process is worker with a name for the process, which differs from the shard's when two have the same.
func (s *sim) process(name, id string, f ReconcileFunc, change ...func(*WorkerOptions, *Controller)) *simWorker {
	s.Helper()
	options := WorkerOptions{Ring: simRing, Namespace: simNamespace, ID: id}
	controller := Controller{}
	for _, c := range change {
		c(&options, &controller)
	}
	cfg := s.connect(name)
	w, err := NewWorker(cfg, options)
	if err != nil {
		s.Fatal(err)
	}
	kube, err := kubernetes.NewForConfig(w.FencedConfig(cfg))
	if err != nil {
		s.Fatal(err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(w.TweakListOptions))
	controller.Informer = factory.Core().V1().Secrets().Informer()
	controller.Children = map[schema.GroupResource]cache.SharedIndexInformer{
		{Resource: "configmaps"}: factory.Core().V1().ConfigMaps().Informer(),
	}
	if controller.ReconcileBatch == nil {
		controller.Reconcile = s.journalled(name, controller.Informer, f)
	}
	if err := w.Add(controller); err != nil {
		s.Fatal(err)
	}
	ctx, stop := context.WithCancel(s.ctx)
	p := &simWorker{Worker: w, client: s.server.Client(name), stop: stop, ended: make(chan struct{}), cache: controller.Informer}
	s.all.Go(func() {
		defer close(p.ended)
		p.err = w.Start(ctx)
	})
	return p
}

// journalled notes which objects are reconciled by whom, and that no two do at the same time.
func (s *sim) journalled(worker string, informer cache.SharedIndexInformer, f ReconcileFunc) ReconcileFunc {
	return func(ctx context.Context, key types.NamespacedName) (Result, error) {
		obj, exists, _ := informer.GetStore().GetByKey(key.String())
		if !exists {
			s.note(worker + " " + key.Name + " gone")
			return Result{}, nil
		}
		uid := obj.(*corev1.Secret).UID
		s.mu.Lock()
		if other := s.busy[uid]; other != "" {
			s.overlap++
			s.Errorf("%s reconciles %s while %s does", worker, key, other)
		}
		s.busy[uid] = worker
		s.mu.Unlock()
		s.note(worker + " " + key.Name)
		defer func() {
			s.mu.Lock()
			delete(s.busy, uid)
			s.mu.Unlock()
		}()
		if f == nil {
			return Result{}, nil
		}
		return f(ctx, key)
	}
}

func (s *sim) note(call string) {
	s.mu.Lock()
	s.calls = append(s.calls, call)
	s.mu.Unlock()
}

// took returns the calls since it was called last, in alphabetical order.
func (s *sim) took() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.calls)
	calls := strings.Join(s.calls, ", ")
	s.calls = nil
	return calls
}

// tookOnce is took with each call once: a worker that begins to act looks at its cache, and its handlers may hear of what is there a moment later.
func (s *sim) tookOnce() string {
	return strings.Join(slices.Compact(strings.Split(s.took(), ", ")), ", ")
}

// settle lets d pass, and everything that is due happen.
func (s *sim) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// wants compares, and says what was compared.
func wants[T comparable](s *sim, what string, got, want T) {
	s.Helper()
	if got != want {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// ownership renders what the ring has written on an object.
func (s *sim) ownership(gvr schema.GroupVersionResource, name string) string {
	object := s.server.Get(gvr, "ns", name)
	if object == nil {
		return "gone"
	}
	owner, _ := OwnerOf(object, simRing)
	text := owner
	if target, ok := DrainTargetOf(object, simRing); ok {
		text += "→" + target
	}
	if epoch := EpochOf(object, simRing); epoch > 0 {
		text += fmt.Sprintf("@%d", epoch)
	}
	return text
}

func (s *sim) instance(id string) *shardv1.ShardInstance {
	object := s.server.Get(instances, simNamespace, id)
	if object == nil {
		return nil
	}
	var instance shardv1.ShardInstance
	if err := fromUnstructured(object, &instance); err != nil {
		s.Fatal(err)
	}
	return &instance
}

func (s *sim) holder(id string) string {
	object := s.server.Get(leases, simNamespace, id)
	if object == nil {
		return "no lease"
	}
	holder, _, _ := unstructured.NestedString(object.Object, "spec", "holderIdentity")
	shard, _, _ := strings.Cut(holder, "_")
	return shard
}
