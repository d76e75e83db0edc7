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
	queue      *lanes
	departed   workqueue.TypedRateLimitingInterface[types.NamespacedName]
	roster     *roster
	failures   *failures
	drainer    *drainer
	keeper     *keeper
	arrivals   *arrivals
	heard      heard
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
		queue:    newLanes(),
		departed: workqueue.NewTypedRateLimitingQueue(backoff()),
		failures: newFailures(c.MaxFailures, c.MaxPanics),
		arrivals: newArrivals(),
		epochs:   newEpochs(w.options.Ring),
		awaited:  ChildrenAnnotation(w.options.Ring),
		lowered:  workqueue.NewTypedRateLimitingQueue(backoff()),
	}
	p.roster = newRoster(w.options.Ring, w.options.ID, p.cached)
	p.drainer = newDrainer(p)
	p.keeper = newKeeper(p)
	return p
}

// run processes until ctx is done and every reconcile has returned. It starts nothing while the worker may not act.
func (p *processor) run(ctx context.Context) {
	var running sync.WaitGroup
	for range p.controller.Concurrency {
		running.Go(p.followQueue)
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
	p.queue.shutDown()
	p.keeper.jobs.ShutDown()
}

// followQueue processes what comes into the queue, until that is shut down.
func (p *processor) followQueue() {
	for {
		key, ok := p.queue.get()
		switch {
		case !ok:
			return
		case p.controller.ReconcileBatch == nil:
			p.process(key)
		default:
			p.processBatch(p.queue.collect(append(make([]types.NamespacedName, 0, p.controller.BatchSize), key), p.controller.BatchSize))
		}
	}
}

// resume looks at every object in the cache as if it had just been seen: the worker has the right to act (again).
func (p *processor) resume() {
	p.roster.reset()
	p.roster.rest(p.drainer.inheritedRoots())
	p.keeper.resume()
	for _, obj := range p.controller.Informer.GetStore().List() {
		if m, ok := obj.(metav1.Object); ok {
			p.observe(keyOf(m), m, true)
		}
	}
	p.drainer.wake()
}

// process reconciles an object if this shard may act on it now.
func (p *processor) process(key types.NamespacedName) {
	s := p.session()
	if s == nil {
		p.queue.done(key) // all objects are looked at again when the worker may act
		return
	}
	defer s.leave()
	if p.controller.guard != nil {
		p.controller.guard.pass(key)
		p.queue.done(key)
		return
	}
	granted := p.newGrant(s.ctx, s.ctx)
	defer granted.cancel(nil)
	if !p.admit(granted, key) {
		p.queue.done(key)
		return
	}
	began := p.started()
	outcome := p.call(granted, key)
	cause := granted.why()
	p.measured(began, key)
	p.keeper.reconciled(granted, key, p.classify(outcome, cause))
	p.finish(key, outcome, cause)
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

// call runs the user's function and turns a panic into an error.
func (p *processor) call(ctx context.Context, key types.NamespacedName) (outcome Outcome) {
	defer func() {
		if r := recover(); r != nil {
			outcome = Outcome{Err: panicked(ctx, r, key)}
		}
	}()
	result, err := p.controller.Reconcile(ctx, key)
	return Outcome{result, err}
}

// panicked says in the log that a reconcile of the objects has panicked. It is called where that was recovered.
func panicked(ctx context.Context, value any, keys ...types.NamespacedName) error {
	err := &panicError{value: value}
	klog.FromContext(ctx).Error(err, "Reconcile panicked", "objects", keys, "stack", string(debug.Stack()))
	return err
}

type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// finish deals with the outcome of one reconcile. cause is why its context was cancelled, nil if it was not.
func (p *processor) finish(key types.NamespacedName, outcome Outcome, cause error) {
	ready := p.roster.end(key)
	result := p.classify(outcome, cause)
	p.concluded(key, outcome, result)
	p.count(result)
	again := time.Duration(-1) // when it is to be reconciled if nothing happens, never if negative
	switch result {
	case resultSuccess, resultTerminal:
		p.failures.clear(key)
	case resultRequeue:
		p.failures.clear(key)
		again = outcome.Result.RequeueAfter
	case resultError, resultPanic:
		again = p.failed(key, outcome.Err, result)
	case resultCancelled:
		// Not the object's fault. If it is still ours it is tried again: at once when one of its batch was revoked, or
		// when the worker may act again.
		again = 0
	}
	if result == resultTerminal {
		p.w.logger.Error(outcome.Err, "Reconcile failed for good", "object", key)
	}
	if p.keeper.holds(key) && p.raw(key) == nil {
		p.queue.add(key) // so that what is held of it is dropped
	}
	p.queue.doneUntil(key, again)
	if ready {
		p.drainer.wake()
	}
	p.series.aside(p)
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

// failed returns after which time an object is tried again: its backoff, or that of one which is set aside as it has failed too often.
func (p *processor) failed(key types.NamespacedName, err error, result reconcileResult) time.Duration {
	count, aside := p.failures.add(key, result == resultPanic)
	if !aside {
		if apierrors.IsForbidden(err) && p.forbidden.due() { // that is not about one object
			p.w.logger.Error(err, "The API server refused what a reconcile asked for, will try again; a role may be missing", "object", key)
		} else {
			p.w.logger.V(2).Info("Reconcile failed, will try again", "object", key, "err", err, "failures", count)
		}
		return p.controller.backoff(count)
	}
	p.w.logger.Error(err, "Reconcile failed too often, object is set aside", "object", key, "failures", count, "retryAfter", p.controller.SetAsideRetry)
	p.event(key, "SetAside", "Reconcile", "reconcile failed %d times in a row, next try in %s: %v", count, p.controller.SetAsideRetry, err)
	return p.controller.SetAsideRetry
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

// childrenSeen reports whether the caches have all children that the former owner or the manager labelled for us, and those that have been away; if
// not, the object is queued again.
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
			p.queue.addAfter(key, childrenPoll)
			return false
		}
	}
	if !p.drainer.isBack(root.GetUID()) {
		p.queue.addAfter(key, childrenPoll)
		return false
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
