package sharding

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// Guard lets code that has a queue of its own act on the objects of this shard, and on no others: it is what a Worker does
// around a ReconcileFunc, for those who call their function themselves. Make one with [Worker.Guard].
type Guard struct {
	w       *Worker
	enqueue func(object types.NamespacedName, acquired bool)
	p       atomic.Pointer[processor] // nil before the worker has found the target

	mu       sync.Mutex
	handlers []cache.ResourceEventHandler
	departed map[types.NamespacedName]any // that nobody knows yet whether they are deleted or moved away; only with handlers
	acquired map[types.NamespacedName]struct{}
}

// Guard registers a controller that has a queue of its own. enqueue is called with every object that this shard has to look at: when it
// has changed, was acquired or deleted, and when the worker may act again after an interruption. It is called on goroutines of the
// worker, any number of times, and must not block: it adds to a workqueue. acquired is true for an object that this shard has just got; a
// queue with priorities puts it before what waits already. Whoever takes the object from the queue acts within [Guard.Do].
//
// Of the Controller it uses Resource, Informer, Children and State; the others belong to a queue and must be zero. Like Add it
// returns an error that names the field, and after Start.
func (w *Worker) Guard(c Controller, enqueue func(object types.NamespacedName, acquired bool)) (*Guard, error) {
	if enqueue == nil {
		return nil, errors.New("guard: enqueue is required: the Add of the queue")
	}
	for name, set := range map[string]bool{
		"Reconcile": c.Reconcile != nil, "ReconcileBatch": c.ReconcileBatch != nil, "BatchSize": c.BatchSize != 0,
		"Concurrency": c.Concurrency != 0, "MinBackoff": c.MinBackoff != 0, "MaxBackoff": c.MaxBackoff != 0,
		"MaxFailures": c.MaxFailures != 0, "MaxPanics": c.MaxPanics != 0, "SetAsideRetry": c.SetAsideRetry != 0,
	} {
		if set {
			return nil, fmt.Errorf("guard: Controller.%s is set, but belongs to the queue, which is not the worker's", name)
		}
	}
	g := &Guard{w: w, enqueue: enqueue, departed: map[types.NamespacedName]any{}, acquired: map[types.NamespacedName]struct{}{}}
	c.guard = g
	if err := w.Add(c); err != nil {
		return nil, err
	}
	return g, nil
}

// Do calls f with the object if this shard may act on it now, and returns what f returns. Otherwise it returns nil at once: there is nothing
// to do, and the object is enqueued when there is. While f runs, nobody else may act on the object. The context of f ends when the right
// to act does, for the reasons that [ReconcileFunc] has, or when ctx does; f must return soon after that, as the object is not handed over
// before. Writes with that context through a client from [Worker.FencedConfig] are refused from that moment on.
//
// Do may be called from any goroutine; for one object at a time, as a workqueue sees to. f is called for a deleted object too, once.
func (g *Guard) Do(ctx context.Context, object types.NamespacedName, f func(ctx context.Context, object types.NamespacedName) error) error {
	p := g.p.Load()
	if p == nil {
		return nil // the worker has not begun
	}
	s := p.session()
	if s == nil {
		return nil // the shard is not active
	}
	defer s.leave()
	granted := p.newGrant(ctx, s.ctx)
	defer granted.cancel(nil)
	if !p.admit(granted, object) {
		return nil
	}
	outcome := Outcome{Err: errGuardPanicked}
	began := p.started()
	defer func() { p.released(granted, object, outcome, began) }() // also if f panics
	outcome.Err = f(granted, object)
	return outcome.Err
}

var errGuardPanicked = &panicError{value: "in the function that was given to Guard.Do"}

// released does for an object of a guard what finish does for one of the worker's own queue.
func (p *processor) released(granted *grant, key types.NamespacedName, outcome Outcome, began time.Time) {
	result := p.classify(outcome, granted.why())
	p.measured(began, key)
	p.keeper.reconciled(granted, key, result)
	ready := p.roster.end(key)
	p.concluded(key, outcome, result)
	p.count(result)
	if result == resultCancelled || p.keeper.holds(key) && p.raw(key) == nil {
		p.queue.add(key)
	}
	if ready {
		p.drainer.wake()
	}
}

// Handler wraps an event handler for the informer of the guard, for code that has handlers already. The wrapped handler hears of this
// shard's objects only, and of a deletion only if the object was deleted: to a filtered watch an object that moves to another shard
// looks deleted as well, and which of the two it was is asked of the API server. So OnDelete comes a moment later, on a
// goroutine of the worker.
//
// A handler that only adds to the queue needs no wrapping, and need not exist: enqueue is called for all that it would hear.
func (g *Guard) Handler(handler cache.ResourceEventHandler) cache.ResourceEventHandler {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.handlers = append(g.handlers, handler)
	return guardedHandler{g, handler}
}

// guardedHandler passes on what concerns objects of this shard. Deletions come by way of Guard.deleted.
type guardedHandler struct {
	g    *Guard
	next cache.ResourceEventHandler
}

func (h guardedHandler) OnAdd(obj any, isInInitialList bool) {
	if h.g.owned(obj) {
		h.next.OnAdd(obj, isInInitialList)
	}
}

func (h guardedHandler) OnUpdate(oldObj, newObj any) {
	switch before, now := h.g.owned(oldObj), h.g.owned(newObj); {
	case before && now:
		h.next.OnUpdate(oldObj, newObj)
	case now:
		h.next.OnAdd(newObj, false) // of an informer that is not restricted to this shard
	}
}

func (h guardedHandler) OnDelete(any) {}

func (g *Guard) owned(obj any) bool {
	m, ok := obj.(metav1.Object)
	if !ok {
		return false
	}
	owner, _ := OwnerOf(m, g.w.options.Ring)
	return owner == g.w.options.ID
}

// gained notes that the object has just become ours; lost that it is not any more. A nil Guard does nothing.
func (g *Guard) gained(key types.NamespacedName) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acquired[key] = struct{}{}
}

func (g *Guard) lost(key types.NamespacedName) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.acquired, key)
}

// pass gives the object to the caller's queue.
func (g *Guard) pass(key types.NamespacedName) {
	g.mu.Lock()
	_, acquired := g.acquired[key]
	delete(g.acquired, key)
	g.mu.Unlock()
	g.enqueue(key, acquired)
}

// leftCache notes the last state of an object of ours that has left the cache. A nil Guard does nothing.
func (g *Guard) leftCache(key types.NamespacedName, last any) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.handlers) > 0 {
		g.departed[key] = last
	}
}

// resolved tells the handlers of an object that has left the cache, if it was deleted. A nil Guard does nothing.
func (g *Guard) resolved(key types.NamespacedName, deleted bool) {
	if g == nil {
		return
	}
	g.mu.Lock()
	last, known := g.departed[key]
	delete(g.departed, key)
	handlers := g.handlers
	g.mu.Unlock()
	if !known || !deleted {
		return
	}
	for _, h := range handlers {
		h.OnDelete(last)
	}
}
