package ctrlruntime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/shard-io/shard-controller/sharding"
)

// ByObject restricts the manager's cache to the objects of this shard, for the given kinds: the roots, and the children that the
// reconciler reads. It is for cache.Options.ByObject. Lists of the manager's client show no other objects of these kinds then; its
// APIReader does.
func ByObject(w *sharding.Worker, objects ...client.Object) map[client.Object]cache.ByObject {
	own := cache.ByObject{Label: w.Selector()}
	restricted := make(map[client.Object]cache.ByObject, len(objects))
	for _, object := range objects {
		restricted[object] = own
	}
	return restricted
}

// Options are those of a sharded controller: it runs in every replica, elected or not.
func Options() controller.Options {
	no := false
	return controller.Options{NeedLeaderElection: &no}
}

// AddToManager makes the worker run with the manager, in every replica, and the manager not ready while the worker is not active. Call
// it once for a worker, after For. When the manager stops, the worker hands its objects over first: the manager's
// GracefulShutdownTimeout (default 30s) has to be longer than the worker's StopTimeout (default 25s).
func AddToManager(mgr manager.Manager, w *sharding.Worker) error {
	if err := mgr.AddReadyzCheck("shard", func(request *http.Request) error { return w.Check(request.Context()) }); err != nil {
		return err
	}
	return mgr.Add(runnable{w})
}

type runnable struct{ w *sharding.Worker }

func (r runnable) Start(ctx context.Context) error { return r.w.Start(ctx) }
func (r runnable) NeedLeaderElection() bool        { return false }

// Shard is what one controller needs to act on the objects of this shard, and on no others. All methods may be called from any
// goroutine.
type Shard struct {
	worker *sharding.Worker
	guard  *sharding.Guard

	mu      sync.Mutex
	add     func(object types.NamespacedName, acquired bool) // nil until the controller has started its source
	pending map[types.NamespacedName]bool
}

// For makes the Shard of a target of the ring. children are objects of the kinds that the ring lists as controlled by it, as far as the
// reconciler reads them from the manager's cache: the first reconcile of an acquired root waits until they are there. It asks the
// API server for the resources of the kinds. An error names what is wrong; nothing is registered then.
func For(mgr manager.Manager, w *sharding.Worker, root client.Object, children ...client.Object) (*Shard, error) {
	s := &Shard{worker: w, pending: map[types.NamespacedName]bool{}}
	c := sharding.Controller{Children: sharding.Children{}}
	var err error
	if c.Resource, c.Informer, err = informerOf(mgr, root); err != nil {
		return nil, err
	}
	for _, child := range children {
		resource, informer, err := informerOf(mgr, child)
		if err != nil {
			return nil, err
		}
		c.Children[resource] = informer
	}
	if s.guard, err = w.Guard(c, s.enqueue); err != nil {
		return nil, err
	}
	return s, nil
}

func informerOf(mgr manager.Manager, object client.Object) (schema.GroupResource, toolscache.SharedIndexInformer, error) {
	none := schema.GroupResource{}
	kind, err := apiutil.GVKForObject(object, mgr.GetScheme())
	if err != nil {
		return none, nil, err
	}
	mapping, err := mgr.GetRESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return none, nil, fmt.Errorf("%s: %w", kind, err)
	}
	// Nobody waits for the informer here: it starts with the manager.
	informer, err := mgr.GetCache().GetInformer(context.Background(), object, cache.BlockUntilSynced(false))
	if err != nil {
		return none, nil, fmt.Errorf("%s: %w", kind, err)
	}
	shared, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return none, nil, fmt.Errorf("%s: the manager's cache has a %T, must have a SharedIndexInformer: a cache of several namespaces is not supported", kind, informer)
	}
	return mapping.Resource.GroupResource(), shared, nil
}

// enqueue is called by the worker. What comes before the controller has started waits for it.
func (s *Shard) enqueue(object types.NamespacedName, acquired bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.add == nil {
		s.pending[object] = s.pending[object] || acquired
		return
	}
	s.add(object, acquired)
}

func (s *Shard) start(add func(types.NamespacedName, bool)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.add != nil {
		return errors.New("the Source of a Shard is for one controller, but a second has started it")
	}
	s.add = add
	for object, acquired := range s.pending {
		add(object, acquired)
	}
	s.pending = nil
	return nil
}

// Source is for the controller's WatchesRawSource: it enqueues the objects that this shard has acquired, at normal priority, and, at that of
// objects found at the start, everything else that is to be looked at: what was changed or deleted, and all objects when the
// worker may act again after an interruption. For of the builder enqueues changed objects at normal priority as well.
func (s *Shard) Source() source.Source {
	return Source(s, func(object types.NamespacedName) reconcile.Request { return reconcile.Request{NamespacedName: object} })
}

// Source is Shard.Source for a controller with requests of another type.
func Source[request comparable](s *Shard, of func(root types.NamespacedName) request) source.TypedSource[request] {
	return source.TypedFunc[request](func(_ context.Context, queue workqueue.TypedRateLimitingInterface[request]) error {
		prioritised, ok := queue.(priorityqueue.PriorityQueue[request])
		if !ok {
			return s.start(func(object types.NamespacedName, _ bool) { queue.Add(of(object)) })
		}
		return s.start(func(object types.NamespacedName, acquired bool) {
			priority := handler.LowPriority
			if acquired {
				priority = 0
			}
			prioritised.AddWithOpts(priorityqueue.AddOpts{Priority: &priority}, of(object))
		})
	})
}

// Predicate lets events pass that concern objects of this shard, for watches of a cache that is not restricted. The wrapped reconciler
// refuses the others anyway; this spares their way through the queue.
func (s *Shard) Predicate() predicate.Predicate {
	own := s.worker.Selector()
	return predicate.NewPredicateFuncs(func(object client.Object) bool { return own.Matches(labels.Set(object.GetLabels())) })
}

// Reconciler wraps a reconciler of root objects.
func (s *Shard) Reconciler(next reconcile.Reconciler) reconcile.Reconciler {
	return Reconciler(s, func(request reconcile.Request) types.NamespacedName { return request.NamespacedName }, next)
}

// Reconciler is Shard.Reconciler for requests of another type; root says which root object a request is about. A request for an object
// that this shard may not act on is dropped without an error.
func Reconciler[request comparable](s *Shard, root func(request) types.NamespacedName, next reconcile.TypedReconciler[request]) reconcile.TypedReconciler[request] {
	return reconcile.TypedFunc[request](func(ctx context.Context, r request) (reconcile.Result, error) {
		var result reconcile.Result
		err := s.guard.Do(ctx, root(r), func(ctx context.Context, _ types.NamespacedName) (err error) {
			if result, err = next.Reconcile(ctx, r); errors.Is(err, reconcile.TerminalError(nil)) {
				return sharding.TerminalError(err)
			}
			return err
		})
		return result, err
	})
}
