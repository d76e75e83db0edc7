package sharding

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// The processor as a cache.ResourceEventHandler. Its methods are called on the informer's goroutine and do not block.

// OnAdd is called for an object that has come into the cache: it is new, or was acquired.
func (p *processor) OnAdd(obj any, initial bool) {
	m, ok := obj.(metav1.Object)
	if !ok {
		return
	}
	key := keyOf(m)
	p.arrivals.came(key, m)
	if !initial {
		p.acquired(key, m)
	}
	p.sawEpoch(key, nil, m)
	p.observe(key, m, true)
	p.heard.note(m)
}

// OnUpdate is called for an object that has changed, and at a resync.
func (p *processor) OnUpdate(old, obj any) {
	before, ok := old.(metav1.Object)
	m, alsoOK := obj.(metav1.Object)
	if !ok || !alsoOK {
		return
	}
	key := keyOf(m)
	if p.epochs.differ(before, m) { // it has been somebody else's in between, or somebody has written another epoch on it
		p.arrivals.came(key, m)
		p.acquired(key, m)
		p.sawEpoch(key, before, m)
	} else if p.epochs.kept.Load() > 0 {
		p.sawEpoch(key, before, m)
	}
	p.observe(key, m, !p.keeper.wroteOnly(key, before, m))
	p.heard.note(m)
}

// acquired puts an object that has just become ours before all others.
func (p *processor) acquired(key types.NamespacedName, object metav1.Object) {
	if object.GetLabels()[p.roster.owner] == p.w.options.ID {
		p.queue.hurry(key)
		p.controller.guard.gained(key)
	}
}

// OnDelete is called for an object that has left the cache: it was deleted, or moved away.
func (p *processor) OnDelete(obj any) {
	last, unknown := obj.(cache.DeletedFinalStateUnknown)
	if unknown {
		obj = last.Obj
	}
	m, ok := obj.(metav1.Object)
	if !ok {
		return
	}
	p.w.changed()
	key, version := keyOf(m), m.GetResourceVersion()
	if unknown { // it was not in a list
		version = reached(p.controller.Informer)
	}
	expected := p.roster.forget(key, m, version)
	p.arrivals.settled(key)
	p.failures.clear(key)
	p.queue.calm(key)
	p.controller.guard.lost(key)
	if p.keeper.holds(key) {
		p.queue.add(key) // so that what is held of it is dropped
	}
	if owner, _ := OwnerOf(m, p.w.options.Ring); expected || owner != p.w.options.ID {
		return
	}
	p.controller.guard.leftCache(key, obj)
	p.epochs.gone(key, m)
	p.departed.Add(key)
}

// observe queues an object, or asks for its hand-over, as its labels say. news is false if there is nothing to reconcile.
func (p *processor) observe(key types.NamespacedName, obj metav1.Object, news bool) {
	p.w.changed()
	labels := obj.GetLabels()
	if labels[p.roster.owner] != p.w.options.ID {
		p.warnOfForeign(obj)
	}
	p.keeper.noticed(key, labels)
	switch p.roster.observe(key, obj, labels) {
	case observedWork:
		if !news {
			return
		}
		if p.failures.isAside(key) {
			p.queue.addAfter(key, p.controller.MaxBackoff) // it may have been mended; but its own failing writes come here, too
			return
		}
		p.queue.add(key)
	case observedDrain:
		p.arrivals.settled(key)
		p.drainer.requested(key)
	}
}

func keyOf(obj metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// followDepartures looks into the objects that left the cache without having been handed over by this process. It tells deleted objects from
// those that moved away: both look like a deletion to a filtered watch. It runs until the queue of departures is shut down.
func (p *processor) followDepartures(ctx context.Context) {
	for {
		key, shutdown := p.departed.Get()
		if shutdown {
			return
		}
		if deleted, err := p.wasDeleted(ctx, key); err != nil {
			p.departed.AddRateLimited(key)
		} else {
			p.departed.Forget(key)
			p.controller.guard.resolved(key, deleted)
			if deleted {
				p.roster.deleted(key)
				p.queue.add(key)
			} else {
				p.epochs.forget(key)
			}
		}
		p.departed.Done(key)
	}
}

// wasDeleted asks the API server, and not a cache, whether the object is gone.
func (p *processor) wasDeleted(ctx context.Context, key types.NamespacedName) (bool, error) {
	_, err := p.w.objects(p.target.resource, key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	// One that was created again under its old name is for its owner, who hears of it like of any other.
	return false, err
}
