package sharding

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"
)

// maxAttempts is how often a write is decided anew after it was overtaken by somebody else's. After that the object
// waits for the next list.
const maxAttempts = 5

// entrust makes a shard the owner of a root. decide is asked right before each attempt, for the root as it is then: it answers
// with the new owner and what that must have in its caches, or with "" if nothing is to be done.
func (s *ringScope) entrust(ctx context.Context, target *rootTarget, root *metav1.PartialObjectMetadata,
	decide func(*metav1.PartialObjectMetadata) (string, versions, error),
) (shard string, err error) {
	for range maxAttempts {
		owner, awaited, err := decide(root)
		if err != nil || owner == "" {
			return "", err
		}
		if !s.placer.begin(owner) {
			continue // the placement has just changed: decide again
		}
		_, err = s.patch(ctx, target.resource, root, ownPatch(root, s.ring, owner, awaited))
		s.placer.end(owner, err == nil)
		switch {
		case err == nil:
			return owner, nil
		case apierrors.IsNotFound(err):
			return "", nil
		case !apierrors.IsConflict(err):
			return "", err
		}
		former := root
		root, err = s.get(ctx, target.resource, root.Namespace, root.Name)
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		keepEpoch(former, root, s.ring)
	}
	return "", errOvertaken
}

// assigner gives an owner to what has none.
type assigner struct {
	*ringScope
	orphans *orphanIndex
	// stray is told the owner of an object that is no shard of the ring.
	stray func(shard string)
	// early is set until the roots have been listed once: children are then only collected.
	early atomic.Bool

	mu       sync.Mutex
	inHand   map[types.UID]struct{} // as many as there are writes on their way
	failures int                    // in a row
}

func newAssigner(scope *ringScope, stray func(string)) *assigner {
	return &assigner{ringScope: scope, orphans: newOrphanIndex(), stray: stray, inHand: map[types.UID]struct{}{}}
}

// foundRoot is called for every root that no live shard owned when the server looked. It blocks while as many writes are on
// their way as there may be.
func (a *assigner) foundRoot(ctx context.Context, f *finder, target *rootTarget, event watch.EventType, root *metav1.PartialObjectMetadata) {
	if event == watch.Deleted {
		return // assigned, or gone
	}
	current := a.placer.load()
	if owner, owned := OwnerOf(root, a.ring); owned {
		if !current.isLive(owner) {
			a.stray(owner)
		}
		return
	}
	if !current.canPlace() || !a.namespaces.selects(target, root.Namespace) || !a.take(root.UID) {
		return
	}
	err := a.gate.do(ctx, func(ctx context.Context) {
		err := a.assign(ctx, target, root)
		a.release(root.UID)
		a.finish(ctx, f, root, err)
		if err == nil {
			a.adoptLate(ctx, root.UID)
		}
	})
	if err != nil {
		a.release(root.UID)
	}
}

// assign gives a root its first owner, its unlabelled children first.
func (a *assigner) assign(ctx context.Context, target *rootTarget, root *metav1.PartialObjectMetadata) error {
	children := a.orphans.take(root.UID)
	shard, err := a.entrust(ctx, target, root, func(root *metav1.PartialObjectMetadata) (string, versions, error) {
		if _, owned := OwnerOf(root, a.ring); owned {
			return "", nil, nil
		}
		decision, err := a.placer.load().placeRoot(target, root.Namespace, root.Name, "")
		if err != nil || len(children) == 0 {
			return decision.Shard, nil, err
		}
		awaited, err := a.labelChildren(ctx, children, decision.Shard)
		return decision.Shard, awaited, err
	})
	if err != nil {
		a.orphans.add(root.UID, children...) // for the next attempt
	}
	if shard != "" {
		a.metrics.assignments.WithLabelValues(a.ring, shard).Inc()
	}
	return err
}

// finish deals with what could not be done: the object is forgotten, and found again by the next list.
func (a *assigner) finish(ctx context.Context, f *finder, root *metav1.PartialObjectMetadata, err error) {
	a.mu.Lock()
	if err == nil {
		a.failures = 0
		a.mu.Unlock()
		return
	}
	a.failures++
	failures := a.failures
	a.mu.Unlock()
	if waitsForPlacement(err) || ctx.Err() != nil {
		return // a change of the placement will cause the next list
	}
	if errors.Is(err, errRootMoving) {
		klog.FromContext(ctx).V(1).Info("A child has to wait for its root", "object", klog.KObj(root), "err", err)
	} else if failures == 1 || failures%100 == 0 {
		klog.FromContext(ctx).Error(err, "Assigning failed, will try again", "resource", f.resource.GroupResource(),
			"object", klog.KObj(root), "failures", failures)
	}
	f.relistAfter(retryDelay(failures))
}

// retryDelay grows from 200 ms to 5 s.
func retryDelay(failures int) time.Duration {
	return min(finderMinBackoff<<min(failures-1, 10), finderMaxBackoff)
}

// take returns false if the object is being dealt with already.
func (a *assigner) take(uid types.UID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, busy := a.inHand[uid]; busy {
		return false
	}
	a.inHand[uid] = struct{}{}
	return true
}

func (a *assigner) release(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.inHand, uid)
}
