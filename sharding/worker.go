package sharding

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/health"
)

// errStopped stands for the end of a worker without an error.
var errStopped = errors.New("the worker was stopped")

// workerFieldManager is the field manager of what a Worker writes.
const workerFieldManager = "shard-worker"

// WorkerOptions say which shard of which ring a process is.
type WorkerOptions struct {
	// Ring is the name of the ShardConfig. Required.
	Ring string

	// Namespace is where the ShardConfig is, and where the worker's ShardInstance and Lease will be. Required.
	Namespace string

	// ID is the identity of the shard: the name of its ShardInstance, of its Lease, and of its Pod where there is one. Two
	// processes with the same ID never run at once: the second waits for the first one's Lease. Required.
	ID string

	// Weight is the share of this shard relative to others, 1 to 1000. Default 1. It counts when the worker joins; later
	// changes are made on the ShardInstance.
	Weight int32

	// KeepOnStop makes a worker that is stopped keep its objects for its next process, which has to come up within the ring's
	// healthCheckInterval. It is meant for StatefulSets, whose Pods come back under their names. By default, a
	// worker that is stopped hands all its objects over first, and leaves.
	KeepOnStop bool

	// StopTimeout bounds how long a worker that is stopped waits until its objects are handed over; it has to be shorter
	// than the Pod's terminationGracePeriodSeconds. What is left then is taken over at once by the others. Default 25s.
	StopTimeout time.Duration

	// RequireFence makes the worker act only while the API server enforces the ring's fence (package sharding/fence) against it, with both of its
	// policies: Start returns an error that wraps ErrUnfenced if it does not, and a fence that is taken away while the worker runs stops
	// it from acting until it is back. Default: whether the fence is there is checked and reported, and changes nothing.
	RequireFence bool

	// Load measures how busy the shard is, in place of the Worker: see LoadFunc. Optional.
	Load LoadFunc

	// Cost says what an object costs, in place of the time that its reconciles take: see CostFunc. Optional.
	Cost CostFunc

	// Healthy is how the application says whether it is well: an error is a reason to give this shard no new objects, such as a
	// database that does not answer. What it owns stays with it, and is still reconciled. The error is shown as condition Healthy on the
	// ShardInstance, and Check fails with it.
	//
	// It is called before the shard joins and every 2 s from then on, also while the worker does not act; on a goroutine of its own, never
	// twice at once. It may block for 5 s, when its context is done; whoever takes longer, or panics, is not well. After an error
	// the application is believed to be well again when there was none three times in a row. While no shard of the ring is well,
	// objects without an owner wait. Default: the application is always well.
	Healthy func(ctx context.Context) error

	// AuditLog is called with a record of every object that this shard hands over, and of every write that is refused: by FencedConfig, and by the
	// fence in the API server. It is called on the goroutine
	// that wrote, after the answer and before anything follows from it, several times at once, and has to return soon.
	// Default none.
	AuditLog func(AuditRecord)

	// Version of the operator, for ShardInstance.status.version. Optional, at most 128 characters.
	Version string

	// Registerer makes the worker's metrics visible. Optional.
	Registerer prometheus.Registerer
}

func (o *WorkerOptions) complete() error {
	if err := ValidateRing(o.Ring); err != nil {
		return fmt.Errorf("worker options: Ring: %w", err)
	}
	if o.Namespace == "" {
		return errors.New("worker options: Namespace is required: that of the ShardConfig")
	}
	if o.ID == "" {
		return errors.New("worker options: ID is required: a name that no other process has, such as that of the Pod")
	}
	if err := ValidateShardID(o.ID); err != nil {
		return fmt.Errorf("worker options: ID: %w", err)
	}
	if o.Weight < 0 || o.Weight > 1000 {
		return fmt.Errorf("worker options: Weight is %d, must be from 1 to 1000", o.Weight)
	}
	if o.Weight == 0 {
		o.Weight = 1
	}
	if o.StopTimeout < 0 {
		return fmt.Errorf("worker options: StopTimeout is %s, must not be negative", o.StopTimeout)
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = 25 * time.Second
	}
	if len(o.Version) > 128 {
		return fmt.Errorf("worker options: Version has %d characters, must have at most 128", len(o.Version))
	}
	if o.Registerer != nil && isNil(o.Registerer) {
		return fmt.Errorf("worker options: Registerer is a nil %T, must be one that works, or left out", o.Registerer)
	}
	return nil
}

// Worker makes the process one shard of a ring: it joins the ring, reconciles the objects that are given to it and
// no others, hands them over when the manager asks for that, and stops acting when it can't be sure to be seen alive.
//
// The order of calls is NewWorker, TweakListOptions, FencedConfig and Add as needed, then Start, or Run. All methods may be called from
// any goroutine.
type Worker struct {
	options WorkerOptions
	metrics *workerMetrics
	logger  klog.Logger

	kube     kubernetes.Interface
	shards   versioned.Interface
	metadata metadata.Interface // sends writes only while this process has the right to act
	api      discovery.DiscoveryInterfaceWithContext
	recorder recorder

	controllers []Controller
	processors  []*processor
	started     atomic.Bool
	heartbeat   atomic.Pointer[health.Heartbeat]
	current     atomic.Pointer[session]
	ring        ringState
	scope       atomic.Pointer[fencedScope] // nil before Start has found the ring
	presence    *presence
	verifier    *verifier
	closing     atomic.Bool // what is left is kept for another process: nothing new is started
	fenceCheck  *fenceCheck
	wellness    *wellness
	trail       *trail

	mayAct       func() bool // Active, for grants
	manyChildren int         // see kin

	// For who asks why the worker does not act.
	config       *rest.Config
	hindrance    hindrance
	ending       atomic.Pointer[session] // whose reconciles have not all returned
	ringInformer atomic.Pointer[cache.SharedIndexInformer]
	ended        atomic.Pointer[string] // how Start has returned
}

// NewWorker returns a Worker for the API server that cfg points to. It does no IO. The library's own requests are not subject to
// the client-side rate limit of cfg, as a late heartbeat or hand-over is worse than a busy API server.
func NewWorker(cfg *rest.Config, o WorkerOptions) (*Worker, error) {
	if cfg == nil {
		return nil, errors.New("worker: rest config is required")
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	w := &Worker{options: o, trail: newTrail(o.AuditLog, o.ID), logger: klog.Background(), config: rest.CopyConfig(cfg)}
	var err error
	if w.metrics, err = newWorkerMetrics(o.Registerer, o.Ring, w.leaseLeft); err != nil {
		return nil, fmt.Errorf("worker options: Registerer: %w", err)
	}
	if err := w.connect(cfg); err != nil {
		return nil, err
	}
	w.mayAct, w.manyChildren = w.Active, manyChildren
	w.presence = newPresence(w)
	w.verifier = newVerifier(w)
	w.fenceCheck = newFenceCheck(w)
	w.wellness = &wellness{w: w}
	return w, nil
}

func (w *Worker) connect(cfg *rest.Config) error {
	own := rest.CopyConfig(cfg)
	own.QPS = -1
	var err error
	if w.kube, err = kubernetes.NewForConfig(own); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	if w.shards, err = versioned.NewForConfig(own); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	gate := &writeGate{open: w.mayWrite, err: ErrFenced, refused: w.countFenced}
	if w.metadata, err = metadata.NewForConfig(gate.guard(w.trail.watch(own))); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	if w.api, err = discovery.NewDiscoveryClientForConfig(own); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

// Selector selects the objects of this shard.
func (w *Worker) Selector() labels.Selector { return ShardSelector(w.options.Ring, w.options.ID) }

// TweakListOptions restricts an informer, or any list or watch, to the objects of this shard. It is of the type that
// informers.WithTweakListOptions and its like want, and keeps a label selector that is there already.
func (w *Worker) TweakListOptions(options *metav1.ListOptions) {
	own := w.Selector()
	if options.LabelSelector == "" {
		options.LabelSelector = own.String()
		return
	}
	if selector, err := labels.Parse(options.LabelSelector); err == nil {
		requirements, _ := own.Requirements()
		options.LabelSelector = selector.Add(requirements...).String()
	}
}

// Add registers a controller. Every target of the ring whose objects this process shall get needs one. It returns an error that names
// the field if the controller is not valid, and after Start.
func (w *Worker) Add(c Controller) error {
	if w.started.Load() {
		return errors.New("worker: Add after Start")
	}
	c, err := c.complete()
	if err != nil {
		return err
	}
	w.controllers = append(w.controllers, c)
	return nil
}

// Run is Add and Start for a ring with a single target: it reconciles those objects of the informer that this shard
// owns until ctx is done.
func (w *Worker) Run(ctx context.Context, roots cache.SharedIndexInformer, reconcile ReconcileFunc) error {
	if err := w.Add(Controller{Informer: roots, Reconcile: reconcile}); err != nil {
		return err
	}
	return w.Start(ctx)
}

// Active reports whether this process may act for its shard now. It is exact: it is false from the moment on at which others may
// take the shard for dead, even in a process that was paused and has just woken up.
func (w *Worker) Active() bool {
	heartbeat := w.heartbeat.Load()
	return heartbeat != nil && heartbeat.Active() && w.ring.served() && w.fenceCheck.holds() && w.current.Load() != nil
}

// mayWrite says whether the worker itself may write to objects of the ring.
func (w *Worker) mayWrite() bool {
	heartbeat := w.heartbeat.Load()
	return heartbeat != nil && heartbeat.Active()
}

// leaseLeft is how much is left of the time that a renewal of the Lease gives: from 1 to 0.
func (w *Worker) leaseLeft() float64 {
	heartbeat := w.heartbeat.Load()
	if heartbeat == nil {
		return 0
	}
	config := w.ring.get()
	if config == nil {
		return 0
	}
	timing, err := timingOf(config)
	if err != nil {
		return 0
	}
	return min(max(0, time.Until(heartbeat.Deadline()).Seconds()/timing.RenewDeadline().Seconds()), 1)
}

// Check is a readiness check: nil while this process is active and the application is well (WorkerOptions.Healthy). The error says why it is
// not: what it waits for, or which answer of the API server it has got. That is logged, too, through the logger of Start's context.
func (w *Worker) Check(context.Context) error {
	if w.Active() {
		if err := w.wellness.check(); err != nil {
			return fmt.Errorf("the application is not healthy: %w", err)
		}
		return nil
	}
	return fmt.Errorf("shard %s of ring %s is not active: %s", w.options.ID, w.options.Ring, w.obstacle())
}

// Start joins the ring and processes its objects until ctx is done. Then, unless KeepOnStop is set, it has its objects handed over,
// and leaves the ring. It returns nil after an orderly stop, whether or not all was handed over in time. Most errors mean that it
// never began: the controllers do not fit the ring, or the names are taken by something else. One that has begun ends with an error when the API
// server has gone back to an earlier state, as when etcd is restored from a backup: the process has to be started anew, as its caches
// are of no use. Start waits for a ring that does not exist yet, and for an API server that does not answer.
func (w *Worker) Start(ctx context.Context) (err error) {
	if w.kube == nil || ctx == nil {
		return errors.New("worker: a Worker that NewWorker has made, and a context, are required")
	}
	if w.started.Swap(true) {
		return errors.New("worker: started before")
	}
	if len(w.controllers) == 0 {
		return errors.New("worker: no controller was added")
	}
	defer func() {
		how := fmt.Sprintf("Start has returned: %v", cmp.Or(err, errStopped))
		w.ended.Store(&how)
	}()
	w.logger = klog.FromContext(ctx).WithValues("ring", w.options.Ring, "shard", w.options.ID)
	// What runs outlives ctx: a stopping worker goes on until its objects are handed over.
	run, cancel := context.WithCancelCause(klog.NewContext(context.WithoutCancel(ctx), w.logger))
	defer cancel(nil)
	w.startEvents(run)
	w.watchRing(run)
	go w.reportObstacles(run)
	if err := w.prepare(ctx); err != nil {
		for _, p := range w.processors {
			p.shutDown()
		}
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return w.serve(ctx, run, cancel)
}

// prepare does what has to succeed before the shard may be seen alive.
func (w *Worker) prepare(ctx context.Context) error {
	config, err := w.ring.wait(ctx)
	if err != nil {
		return err
	}
	timing, err := timingOf(config)
	if err != nil {
		return err
	}
	for _, c := range w.controllers {
		t, err := w.resolve(ctx, c)
		if err != nil {
			return err
		}
		p := newProcessor(w, c, t)
		if _, err := c.Informer.AddEventHandler(p); err != nil {
			return fmt.Errorf("controller %s: %w", t.name(), err)
		}
		w.processors = append(w.processors, p)
		if c.guard != nil {
			c.guard.p.Store(p)
		}
	}
	if err := w.fenceCheck.begin(ctx); err != nil {
		return err
	}
	created, err := w.presence.ensure(ctx)
	if err != nil {
		return err
	}
	if err := w.wellness.begin(ctx); err != nil {
		return err
	}
	heartbeat, err := health.NewHeartbeat(w.kube.CoordinationV1(), health.HeartbeatOptions{
		Namespace: w.options.Namespace, Name: w.options.ID, Ring: w.options.Ring, Timing: timing,
		Fresh: created, OnActive: w.activate,
		OnRenewError: func(error) { w.metrics.leaseRenewErrors.WithLabelValues(w.options.Ring).Inc() },
	})
	if err != nil {
		return err
	}
	w.heartbeat.Store(heartbeat)
	w.setFence()
	return nil
}

// resolve finds the target of a controller. It waits for a resource that the API server does not serve yet, and for an API
// server that does not answer.
func (w *Worker) resolve(ctx context.Context, c Controller) (*target, error) {
	defer w.hindrance.clear()
	for {
		config, err := w.ring.wait(ctx)
		if err != nil {
			return nil, err
		}
		mapper, err := discover(ctx, w.api)
		if err == nil {
			var t *target
			if t, err = targetFor(ctx, config, c, mapper); err == nil || !meta.IsNoMatchError(err) {
				return t, err
			}
		}
		w.hindrance.set(err.Error())
		w.logger.Error(err, "The target is not there yet, will look again")
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

// objects is the metadata client for a resource in a namespace; for cluster-scoped ones the namespace is empty.
func (w *Worker) objects(resource schema.GroupVersionResource, namespace string) metadata.ResourceInterface {
	return w.metadata.Resource(resource).Namespace(namespace)
}
