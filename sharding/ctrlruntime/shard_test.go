package ctrlruntime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shard-io/shard-controller/internal/memapi"
	"github.com/shard-io/shard-controller/sharding"
)

const (
	ring      = "r"
	namespace = "sys"
)

var (
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	rings      = schema.GroupVersionResource{Group: "shard.io", Version: "v1", Resource: "shardconfigs"}
)

// world is an API server with a ring over Secrets that control ConfigMaps, a manager of the ring, and a journal.
type world struct {
	*testing.T
	server *memapi.Server
	ctx    context.Context
	all    sync.WaitGroup

	mu      sync.Mutex
	journal []string
	busy    map[types.NamespacedName]string
}

func newWorld(t *testing.T) *world {
	server, err := memapi.New(memapi.Options{Resources: append(memapi.CoreResources(), memapi.ShardResources()...), Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &world{T: t, server: server, ctx: ctx, busy: map[types.NamespacedName]string{}}
	t.Cleanup(func() {
		cancel()
		s.all.Wait()
		server.Close()
	})
	s.create(rings, map[string]any{
		"apiVersion": "shard.io/v1", "kind": "ShardConfig", "metadata": map[string]any{"name": ring, "namespace": namespace},
		"spec": map[string]any{
			"minShards": int64(1), "maxShards": int64(10), "scaleUpThreshold": 0.8, "scaleDownThreshold": 0.3,
			"loadBalanceStrategy": "consistent-hash", "healthCheckInterval": "2s",
			"targets": []any{map[string]any{"resource": "secrets", "controlled": []any{map[string]any{"resource": "configmaps"}}}},
		},
	})
	return s
}

func (s *world) create(resource schema.GroupVersionResource, object map[string]any) *unstructured.Unstructured {
	s.Helper()
	created, err := s.server.Create(resource, &unstructured.Unstructured{Object: object})
	if err != nil {
		s.Fatal(err)
	}
	return created
}

func (s *world) secret(name, owner string) *unstructured.Unstructured {
	metadata := map[string]any{"name": name, "namespace": "ns"}
	if owner != "" {
		metadata["labels"] = map[string]any{sharding.OwnerLabel(ring): owner}
	}
	return s.create(secrets, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
}

func (s *world) owner(resource schema.GroupVersionResource, name string) string {
	object := s.server.Get(resource, "ns", name)
	if object == nil {
		return "gone"
	}
	owner, _ := sharding.OwnerOf(object, ring)
	return owner
}

func (s *world) note(entry string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal = append(s.journal, entry)
}

// count says how often an entry is in the journal.
func (s *world) count(entry string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.journal {
		if e == entry {
			n++
		}
	}
	return n
}

// until waits for a condition.
func (s *world) until(what string, condition func() bool) {
	s.Helper()
	err := wait.PollUntilContextTimeout(s.ctx, 10*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) { return condition(), nil })
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.Fatalf("waited in vain until %s; journal: %s", what, strings.Join(s.journal, ", "))
	}
}

// operator starts an operator that was made for one leader: it makes a ConfigMap for each Secret. It returns what stops it, and
// waits for its end.
func (s *world) operator(id string, leader bool) (stop func()) {
	s.Helper()
	cfg := s.server.Config(id)
	w, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Ring: ring, Namespace: namespace, ID: id, StopTimeout: 2 * time.Second})
	if err != nil {
		s.Fatal(err)
	}
	mgr := s.manager(w.FencedConfig(cfg), id, leader, ByObject(w, &corev1.Secret{}, &corev1.ConfigMap{}))
	err = NewControllerManagedBy(mgr, w).For(&corev1.Secret{}).Owns(&corev1.ConfigMap{}).Named("reports").
		WithOptions(controller.Options{MaxConcurrentReconciles: 2}).Complete(s.reconciler(id, mgr.GetClient()))
	if err != nil {
		s.Fatal(err)
	}
	if err := AddToManager(mgr, w); err != nil {
		s.Fatal(err)
	}
	return s.start(mgr)
}

func (s *world) manager(cfg *rest.Config, id string, leader bool, restricted map[client.Object]cache.ByObject) ctrl.Manager {
	s.Helper()
	yes := true
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Cache: cache.Options{ByObject: restricted}, Logger: logr.Discard(), Metrics: server.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0", LeaderElection: leader, LeaderElectionID: "operator", LeaderElectionNamespace: namespace,
		LeaderElectionReleaseOnCancel: true, Controller: config.Controller{SkipNameValidation: &yes},
	})
	if err != nil {
		s.Fatal(id, err)
	}
	return mgr
}

func (s *world) start(mgr ctrl.Manager) (stop func()) {
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan struct{})
	s.all.Go(func() {
		defer close(ended)
		if err := mgr.Start(ctx); err != nil {
			s.Error(err)
		}
	})
	return func() { cancel(); <-ended }
}

func (s *world) reconciler(id string, c client.Client) reconcile.Reconciler {
	return reconcile.Func(func(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
		key := request.NamespacedName
		s.mu.Lock()
		if other := s.busy[key]; other != "" {
			s.Errorf("%s reconciles %s while %s does", id, key, other)
		}
		s.busy[key] = id
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			delete(s.busy, key)
			s.mu.Unlock()
		}()
		var secret corev1.Secret
		if err := c.Get(ctx, key, &secret); apierrors.IsNotFound(err) {
			s.note(id + " " + key.Name + " gone")
			return reconcile.Result{}, nil
		} else if err != nil {
			return reconcile.Result{}, err
		}
		s.note(id + " " + key.Name)
		report := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		if err := c.Get(ctx, client.ObjectKeyFromObject(report), report); !apierrors.IsNotFound(err) {
			return reconcile.Result{}, err
		}
		if err := ctrl.SetControllerReference(&secret, report, c.Scheme()); err != nil {
			return reconcile.Result{}, err
		}
		sharding.CopyOwner(report, &secret, ring)
		err := c.Create(ctx, report)
		if err == nil {
			s.note(id + " made " + key.Name)
		} else if apierrors.IsAlreadyExists(err) && s.count(id+" made "+key.Name) == 0 { // its own it may not have in the cache yet
			s.note(id + " " + key.Name + " took a child for missing")
		}
		return reconcile.Result{}, client.IgnoreAlreadyExists(err)
	})
}

// runRing starts the ring's manager.
func (s *world) runRing() {
	m, err := sharding.NewManager(s.server.Config("manager"), sharding.ManagerOptions{Namespace: namespace, Identity: "manager"})
	if err != nil {
		s.Fatal(err)
	}
	s.all.Go(func() {
		if err := m.Run(s.ctx); err != nil && !errors.Is(err, context.Canceled) {
			s.Error(err)
		}
	})
}

// TestOperatorBecomesShards runs two replicas of an operator with leader election in the manager: both work, each on its own objects;
// what the first has is the second's after it has stopped.
func TestOperatorBecomesShards(t *testing.T) {
	s := newWorld(t)
	const n = 60
	for i := range n {
		s.secret(fmt.Sprint("s", i), "")
	}
	s.runRing()
	stop := s.operator("a", true)
	s.operator("b", true)
	names := func(id string) (count int) {
		for i := range n {
			if name := fmt.Sprint("s", i); s.owner(secrets, name) == id && s.owner(configMaps, name) == id {
				count++
			}
		}
		return count
	}
	s.until("both have their share, with the children", func() bool { return names("a") > n/4 && names("b") > n/4 && names("a")+names("b") == n })
	s.until("each object was reconciled by its owner", func() bool {
		for i := range n {
			name := fmt.Sprint("s", i)
			if s.count(s.owner(secrets, name)+" "+name) == 0 {
				return false
			}
		}
		return true
	})
	stop()
	s.until("the second has everything", func() bool { return names("b") == n })
	for i := range n {
		for _, entry := range []string{"a s%d gone", "b s%d gone", "a s%d took a child for missing", "b s%d took a child for missing"} {
			if s.count(fmt.Sprintf(entry, i)) > 0 {
				t.Errorf("journal: "+entry, i)
			}
		}
	}
	if err := s.server.Delete(secrets, "ns", "s0"); err != nil {
		t.Fatal(err)
	}
	s.until("the owner of a deleted object hears of it", func() bool { return s.count("b s0 gone") == 1 })
	if s.count("a s0 gone") > 0 {
		t.Error("a heard of a deletion of an object that was not its own")
	}
}

// TestAcquiredObjectIsNotStarved gives an object to a shard that has a long queue of objects found at the start.
func TestAcquiredObjectIsNotStarved(t *testing.T) {
	s := newWorld(t)
	const n = 2000
	for i := range n {
		s.secret(fmt.Sprint("s", i), "a")
	}
	s.secret("late", "")
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	done := 0
	position := make(chan int, 1)
	cfg := s.server.Config("a")
	w, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Ring: ring, Namespace: namespace, ID: "a", StopTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	mgr := s.manager(w.FencedConfig(cfg), "a", false, ByObject(w, &corev1.Secret{}))
	shard, err := For(mgr, w, &corev1.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	err = ctrl.NewControllerManagedBy(mgr).For(&corev1.Secret{}).WatchesRawSource(shard.Source()).WithOptions(Options()).Named("queue").
		Complete(shard.Reconciler(reconcile.Func(func(_ context.Context, request reconcile.Request) (reconcile.Result, error) {
			once.Do(func() { close(reached); <-release })
			if done++; request.Name == "late" {
				position <- done
			}
			return reconcile.Result{}, nil
		})))
	if err != nil {
		t.Fatal(err)
	}
	if err := AddToManager(mgr, w); err != nil {
		t.Fatal(err)
	}
	s.start(mgr)
	<-reached
	late := s.server.Get(secrets, "ns", "late").DeepCopy()
	late.SetLabels(map[string]string{sharding.OwnerLabel(ring): "a"})
	if _, err := s.server.Update(secrets, late, ""); err != nil {
		t.Fatal(err)
	}
	s.until("the cache has the object", func() bool {
		return mgr.GetClient().Get(s.ctx, client.ObjectKeyFromObject(late), &corev1.Secret{}) == nil
	})
	close(release)
	if at := <-position; at > n {
		t.Errorf("the acquired object was number %d of %d", at, n+1)
	} else {
		t.Logf("the acquired object was number %d of %d", at, n+1)
	}
}
