package ctrlruntime

import (
	"errors"

	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/shard-io/shard-controller/sharding"
)

// Builder builds a sharded controller as controller-runtime's builder builds any other. It has the methods of that which operators use
// most; a controller that needs another one is built by controller-runtime's, with [For], [Shard.Source], [Options] and
// [Shard.Reconciler]. It is used by one goroutine.
type Builder struct {
	next     *builder.Builder
	mgr      manager.Manager
	worker   *sharding.Worker
	root     client.Object
	children []client.Object
	options  controller.Options
}

// NewControllerManagedBy returns a builder of a controller for objects of the worker's shard. It takes the place of
// ctrl.NewControllerManagedBy.
func NewControllerManagedBy(mgr manager.Manager, w *sharding.Worker) *Builder {
	return &Builder{next: builder.ControllerManagedBy(mgr), mgr: mgr, worker: w}
}

// For names the kind that is reconciled: a target of the ring. It is required, and called once.
func (b *Builder) For(root client.Object, options ...builder.ForOption) *Builder {
	b.root = root
	b.next.For(root, options...)
	return b
}

// Owns names a kind of children, which the ring's target lists as controlled: a change of one causes a reconcile of its root, and the first
// reconcile of an acquired root waits until its children are in the cache. A kind that is owned, but not sharded, is for Watches.
func (b *Builder) Owns(child client.Object, options ...builder.OwnsOption) *Builder {
	b.children = append(b.children, child)
	b.next.Owns(child, options...)
	return b
}

// Watches is that of controller-runtime's builder. Requests for roots of other shards are dropped.
func (b *Builder) Watches(object client.Object, h handler.EventHandler, options ...builder.WatchesOption) *Builder {
	b.next.Watches(object, h, options...)
	return b
}

// WatchesRawSource is that of controller-runtime's builder. Requests for roots of other shards are dropped.
func (b *Builder) WatchesRawSource(s source.Source) *Builder {
	b.next.WatchesRawSource(s)
	return b
}

// WithEventFilter is that of controller-runtime's builder. What it filters out is not reconciled when it happens, but every object is when
// this shard gets it.
func (b *Builder) WithEventFilter(p predicate.Predicate) *Builder {
	b.next.WithEventFilter(p)
	return b
}

// WithOptions is that of controller-runtime's builder, but for NeedLeaderElection: a sharded controller runs in all replicas.
func (b *Builder) WithOptions(options controller.Options) *Builder {
	b.options = options
	return b
}

// Named gives the controller a name. Default: the kind in lower case.
func (b *Builder) Named(name string) *Builder {
	b.next.Named(name)
	return b
}

// Complete builds the controller and adds it to the manager. It does what [For] does, and has its errors.
func (b *Builder) Complete(r reconcile.Reconciler) error {
	if b.worker == nil {
		return errors.New("sharded controller: the worker is required")
	}
	if b.root == nil {
		return errors.New("sharded controller: For is required: the kind that is reconciled")
	}
	if r == nil {
		return errors.New("sharded controller: the reconciler is required")
	}
	shard, err := For(b.mgr, b.worker, b.root, b.children...)
	if err != nil {
		return err
	}
	b.options.NeedLeaderElection = Options().NeedLeaderElection
	return b.next.WatchesRawSource(shard.Source()).WithOptions(b.options).Complete(shard.Reconciler(r))
}
