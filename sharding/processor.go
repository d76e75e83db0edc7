package sharding

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// childrenPoll is how often the processor looks whether the caches of the children have caught up.
const childrenPoll = 10 * time.Millisecond

// processor runs one Controller: it queues the roots that the cache shows, starts reconciles of those that this shard may act on, and
// deals with their outcomes.
type processor struct {
	w          *Worker
	controller Controller
	target     *target
	queue      workqueue.TypedRateLimitingInterface[types.NamespacedName]
	departed   workqueue.TypedRateLimitingInterface[types.NamespacedName]
	lanes      *lanes // the order of queue
	roster     *roster
	failures   *failures
	drainer    *drainer
	keeper     *keeper
	arrivals   *arrivals
	epochs     *epochs
	lowered    workqueue.TypedRateLimitingInterface[types.NamespacedName] // objects whose epoch has to be restored
	busy       busyMeter
	work       workMeter
	series     reconcileSeries
	// trusted is the resourceVersion as of which the server was asked for what is ours, before the worker began to act.
	trusted atomic.Pointer[string]
	awaited string      // the annotation of the children that are waited for
	foreign atomic.Bool // the informer has shown what is not ours
	// forbidden says when to log that a reconcile was refused what it asked for.
	forbidden seldom
}

func newProcessor(w *Worker, c Controller, t *target) *processor {
	backoff := func() workqueue.TypedRateLimiter[types.NamespacedName] {
		return workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](c.MinBackoff, c.MaxBackoff)
	}
	p := &processor{
		w: w, controller: c, target: t,
		lanes:    newLanes(),
		departed: workqueue.NewTypedRateLimitingQueue(backoff()),
		failures: newFailures(c.MaxFailures, c.MaxPanics),
		arrivals: newArrivals(),
		epochs:   newEpochs(w.options.Ring),
		awaited:  ChildrenAnnotation(w.options.Ring),
		lowered:  workqueue.NewTypedRateLimitingQueue(backoff()),
	}
	p.queue = workqueue.NewTypedRateLimitingQueueWithConfig(backoff(), workqueue.TypedRateLimitingQueueConfig[types.NamespacedName]{
		DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[types.NamespacedName]{
			Queue: workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[types.NamespacedName]{Queue: p.lanes}),
		}),
	})
	p.roster = newRoster(w.options.Ring, w.options.ID, p.cached)
	p.drainer = newDrainer(p)
	p.keeper = newKeeper(p)
	return p
}

// run processes until ctx is done and every reconcile has returned. It starts nothing while the worker may not act.
func (p *processor) run(ctx context.Context) {
	var running sync.WaitGroup
	keys := make(chan types.NamespacedName, p.controller.BatchSize-1)
	running.Go(func() {
		defer close(keys)
		for {
			key, shutdown := p.queue.Get()
			if shutdown {
				return
			}
			keys <- key
		}
	})
	for range p.controller.Concurrency {
		running.Go(func() {
			for key := range keys {
				p.process(p.collect(key, keys))
			}
		})
	}
	running.Go(func() { p.drainer.run(ctx) })
	running.Go(func() { p.followDepartures(ctx) })
	running.Go(func() { p.restoreEpochs(ctx) })
	running.Go(func() { p.keeper.run(ctx) })
	<-ctx.Done()
	p.shutDown()
	running.Wait()
}

// shutDown ends the goroutines of the queues.
func (p *processor) shutDown() {
	p.departed.ShutDown()
	p.lowered.ShutDown()
	p.queue.ShutDown()
	p.keeper.jobs.ShutDown()
}

// collect adds to a key those that wait already, up to the size of a batch.
func (p *processor) collect(key types.NamespacedName, keys <-chan types.NamespacedName) []types.NamespacedName {
	batch := append(make([]types.NamespacedName, 0, p.controller.BatchSize), key)
	for len(batch) < p.controller.BatchSize {
		select {
		case more, ok := <-keys:
			if !ok {
				return batch
			}
			batch = append(batch, more)
		default:
			return batch
		}
	}
	return batch
}

// resume looks at every object in the cache as if it had just been seen: the worker has the right to act (again).
func (p *processor) resume() {
	p.roster.reset()
	p.keeper.resume()
	for _, obj := range p.controller.Informer.GetStore().List() {
		p.observe(obj, true)
	}
	p.drainer.wake()
}

// process reconciles those of the keys that this shard may act on now.
func (p *processor) process(keys []types.NamespacedName) {
	s := p.session()
	if s == nil {
		for _, key := range keys {
			p.queue.Done(key) // all objects are looked at again when the worker may act
		}
		return
	}
	defer s.leave()
	if p.controller.guard != nil {
		for _, key := range keys {
			p.controller.guard.pass(key)
			p.queue.Done(key)
		}
		return
	}
	granted := p.newGrant(s.ctx, s.ctx)
	defer granted.cancel(nil)
	admitted := keys[:0:0]
	for _, key := range keys {
		if p.admit(granted, key) {
			admitted = append(admitted, key)
		} else {
			p.queue.Done(key)
		}
	}
	if len(admitted) == 0 {
		return
	}
	began := p.started()
	outcomes := p.call(granted, admitted)
	cause := granted.why()
	p.measured(began, admitted...)
	for i, key := range admitted {
		p.keeper.reconciled(granted, key, p.classify(outcomes[i], cause))
		p.finish(key, outcomes[i], cause)
	}
}

// session returns the current session, which the caller has to leave; nil if the worker may not act.
func (p *processor) session() *session {
	s := p.w.current.Load()
	if s == nil || !p.w.Active() || p.w.closing.Load() || !s.enter() {
		return nil
	}
	return s
}

// admit reports whether an object may be reconciled now, and notes that it is. One that was acquired has its state imported first.
func (p *processor) admit(granted *grant, key types.NamespacedName) bool {
	obj, ok := p.roster.begin(key, granted)
	if !ok {
		if p.keeper.holds(key) && p.roster.left(key, obj) {
			p.keeper.drop(key)
		}
		return false
	}
	if p.childrenSeen(key, obj) && p.keeper.prepare(granted, key, obj) {
		p.issue(granted, key, obj)
		return true
	}
	if p.roster.end(key) {
		p.drainer.wake()
	}
	return false
}

// call runs the user's function and turns a panic or a wrong number of outcomes into an error for each object.
func (p *processor) call(ctx context.Context, keys []types.NamespacedName) (outcomes []Outcome) {
	defer func() {
		if r := recover(); r != nil {
			err := &panicError{value: r}
			klog.FromContext(ctx).Error(err, "Reconcile panicked", "objects", keys, "stack", string(debug.Stack()))
			outcomes = repeat(Outcome{Err: err}, len(keys))
		}
	}()
	if p.controller.Reconcile != nil {
		result, err := p.controller.Reconcile(ctx, keys[0])
		return []Outcome{{result, err}}
	}
	outcomes = p.controller.ReconcileBatch(ctx, keys)
	if len(outcomes) != len(keys) {
		err := fmt.Errorf("ReconcileBatch returned %d outcomes for %d objects", len(outcomes), len(keys))
		return repeat(Outcome{Err: err}, len(keys))
	}
	return outcomes
}

func repeat(outcome Outcome, n int) []Outcome {
	all := make([]Outcome, n)
	for i := range all {
		all[i] = outcome
	}
	return all
}

type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// finish deals with the outcome of one reconcile. cause is why its context was cancelled, nil if it was not.
func (p *processor) finish(key types.NamespacedName, outcome Outcome, cause error) {
	ready := p.roster.end(key)
	result := p.classify(outcome, cause)
	p.concluded(key, outcome, result)
	p.count(result)
	switch result {
	case resultSuccess, resultRequeue, resultTerminal:
		p.failures.clear(key)
		p.queue.Forget(key)
		if result == resultRequeue {
			p.queue.AddAfter(key, outcome.Result.RequeueAfter)
		}
	case resultError, resultPanic:
		p.failed(key, outcome.Err, result)
	case resultCancelled:
		// Not the object's fault. If it is still ours it is tried again: at once when one of its batch was revoked, or
		// when the worker may act again.
		p.queue.Add(key)
	}
	if result == resultTerminal {
		p.w.logger.Error(outcome.Err, "Reconcile failed for good", "object", key)
	}
	if p.keeper.holds(key) && p.raw(key) == nil {
		p.queue.Add(key) // so that what is held of it is dropped
	}
	p.queue.Done(key)
	if ready {
		p.drainer.wake()
	}
	p.w.metrics.setAside.WithLabelValues(p.w.options.Ring, p.target.name()).Set(float64(p.failures.setAside()))
}

// reconcileResult is the value of the label "result" of the reconcile counter.
type reconcileResult string

const (
	resultSuccess   reconcileResult = "success"
	resultRequeue   reconcileResult = "requeue"
	resultError     reconcileResult = "error"
	resultTerminal  reconcileResult = "terminal"
	resultPanic     reconcileResult = "panic"
	resultCancelled reconcileResult = "cancelled"
)

func (p *processor) classify(outcome Outcome, cause error) reconcileResult {
	switch {
	case outcome.Err == nil && outcome.Result.RequeueAfter > 0:
		return resultRequeue
	case outcome.Err == nil:
		return resultSuccess
	}
	var panicked *panicError
	var terminal terminalError
	switch {
	case errors.As(outcome.Err, &panicked):
		return resultPanic
	case cause != nil:
		return resultCancelled
	case errors.As(outcome.Err, &terminal):
		return resultTerminal
	default:
		return resultError
	}
}

// failed tries an object again after its backoff, or sets it aside when it has failed too often.
func (p *processor) failed(key types.NamespacedName, err error, result reconcileResult) {
	count, aside := p.failures.add(key, result == resultPanic)
	if !aside {
		if apierrors.IsForbidden(err) && p.forbidden.due() { // that is not about one object
			p.w.logger.Error(err, "The API server refused what a reconcile asked for, will try again; a role may be missing", "object", key)
		} else {
			p.w.logger.V(2).Info("Reconcile failed, will try again", "object", key, "err", err, "failures", count)
		}
		p.queue.AddRateLimited(key)
		return
	}
	p.w.logger.Error(err, "Reconcile failed too often, object is set aside", "object", key, "failures", count, "retryAfter", p.controller.SetAsideRetry)
	p.event(key, "SetAside", "Reconcile", "reconcile failed %d times in a row, next try in %s: %v", count, p.controller.SetAsideRetry, err)
	p.queue.Forget(key)
	p.queue.AddAfter(key, p.controller.SetAsideRetry)
}

// event records a warning about an object that the cache has.
func (p *processor) event(key types.NamespacedName, reason, action, note string, args ...any) {
	if obj, ok := p.raw(key).(runtime.Object); ok {
		p.w.event(obj, eventWarning, reason, action, note, args...)
	}
}

// cached returns what the cache shows of an object, nil if nothing. Its epoch is never less than it was.
func (p *processor) cached(key types.NamespacedName) metav1.Object {
	obj, _ := p.raw(key).(metav1.Object)
	return p.epochs.raised(key, obj)
}

func (p *processor) raw(key types.NamespacedName) any {
	obj, exists, err := p.controller.Informer.GetStore().GetByKey(storeKey(key))
	if err != nil || !exists {
		return nil
	}
	return obj
}

// childrenSeen reports whether the caches have all children that the former owner or the manager labelled for us; if not, the
// object is queued again.
func (p *processor) childrenSeen(key types.NamespacedName, root metav1.Object) bool {
	if root == nil {
		return true
	}
	rest := root.GetAnnotations()[p.awaited]
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, ",")
		resource, version, _ := strings.Cut(part, "=")
		informer := p.target.childInformers[resource]
		if informer != nil && canCompare(version) && newerThan(version, reached(informer)) {
			p.queue.AddAfter(key, childrenPoll)
			return false
		}
	}
	return true
}

// reached returns the resourceVersion up to which an informer's cache is complete.
func reached(informer cache.SharedIndexInformer) string {
	if version := informer.GetStore().LastStoreSyncResourceVersion(); version != "" {
		return version
	}
	return informer.LastSyncResourceVersion()
}

func storeKey(key types.NamespacedName) string {
	return cache.NewObjectName(key.Namespace, key.Name).String()
}
