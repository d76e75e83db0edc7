package sharding

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

var (
	errOvertaken  = errors.New("overtaken by other writes again and again")
	errRootMoving = errors.New("the root is being handed over")
	// errNotHeld ends a take-over: the Lease of the dead shard is not in our hands, so it may be alive.
	errNotHeld = errors.New("the Lease of the shard is not held any more")
	// errNoReceiver ends a take-over: for some time there has been no shard that could receive anything.
	errNoReceiver = errors.New("there is no shard to receive the objects")
)

// takeover gives the objects of one dead shard to others. The shard is no part of the placement any more, and its Lease is
// held: it can't come back while this goes on.
//
// It works in rounds until nothing has the shard's label. A round indexes the shard's children by their roots, then goes
// through the roots page by page; each root is moved by a job of its own, its children first, so that they are apart for
// as long as two writes take. What is left in the index then has its root elsewhere, and follows it.
type takeover struct {
	*ringScope
	shard string
	// held is asked before every write that takes an object from the shard.
	held func() bool

	// apart says that there may be roots whose children have been given away before: by a round that failed, or by somebody who has not come to the end.
	apart bool
	// parts is in how many parts of the hash space a round is divided, so that the index stays bounded.
	parts uint64
	moved int
}

// receiverPatience is how long a take-over waits for a shard that can receive objects, before it makes way for the dead one itself.
const receiverPatience = 2 * time.Second

// run goes on until nothing has the shard's label any more. It returns how many roots got a new owner.
func (t *takeover) run(ctx context.Context) (int, error) {
	t.parts = 1
	failures := 0
	for {
		if err := t.awaitReceiver(ctx); err != nil {
			return t.moved, err
		}
		if err := t.placer.quiet(ctx, t.shard); err != nil {
			return t.moved, err
		}
		before := t.moved
		found, err := t.round(ctx)
		switch {
		case ctx.Err() != nil:
			return t.moved, context.Cause(ctx)
		case errors.Is(err, errNotHeld):
			t.apart = true
			return t.moved, err
		case err == nil && found == 0:
			return t.moved, nil
		case err != nil:
			t.apart = true
			if failures++; t.moved > before {
				failures = 1
			}
			klog.FromContext(ctx).Error(err, "Taking over failed, will try again", "shard", t.shard, "failures", failures)
			t.placer.pause(ctx, jitter(retryDelay(failures)))
		}
	}
}

// awaitReceiver waits until some shard may receive objects.
func (t *takeover) awaitReceiver(ctx context.Context) error {
	waiting, cancel := context.WithTimeoutCause(ctx, receiverPatience, errNoReceiver)
	defer cancel()
	return t.placer.awaitPlace(waiting)
}

// round returns how many objects with the shard's label it came across.
func (t *takeover) round(ctx context.Context) (found int, err error) {
	targets := t.targets.Load()
	for part := uint64(0); part < t.parts; part++ {
		children, err := t.indexChildren(ctx, targets, part)
		if errors.Is(err, errIndexFull) {
			t.parts *= 2
			return 1, nil // begin again, with smaller parts
		}
		if err != nil {
			return found, err
		}
		found += children.size
		for _, target := range targets.roots {
			n, err := t.roots(ctx, targets, target, children, part)
			found += n
			if err != nil {
				return found, err
			}
		}
		if err := t.leftOver(ctx, targets, children); err != nil {
			return found, err
		}
	}
	return found, nil
}

func (t *takeover) selector() string { return ShardSelector(t.ring, t.shard).String() }

// roots gives the roots of one target, as far as they are in the part, to their new owners.
func (t *takeover) roots(ctx context.Context, targets *targetSet, target *rootTarget, children *childIndex, part uint64) (found int, err error) {
	writes := &batch{gate: t.gate}
	var moving []*metav1.PartialObjectMetadata // their children may be elsewhere
	_, err = t.eachPage(ctx, target.resource, t.selector(), func(page []metav1.PartialObjectMetadata) error {
		for i := range page {
			root := &page[i]
			if target.prefix.Hash(root.Namespace, root.Name)%t.parts != part {
				continue
			}
			found++
			if (t.apart || mayHaveLent(root, t.ring)) && len(targets.children) > 0 {
				moving = append(moving, root)
				continue
			}
			if err := t.start(ctx, writes, target, root, children.take(root.UID)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(moving) > 0 {
		err = t.alreadyMoved(ctx, targets, moving, children)
	}
	for i := 0; err == nil && i < len(moving); i++ {
		err = t.start(ctx, writes, target, moving[i], children.take(moving[i].UID))
	}
	failed := writes.wait()
	t.moved += int(writes.count.Load())
	return found, errors.Join(err, failed)
}

func (t *takeover) start(ctx context.Context, writes *batch, target *rootTarget, root *metav1.PartialObjectMetadata, children []orphan) error {
	job := &takeoverJob{takeover: t, target: target, root: root, children: children}
	return writes.do(ctx, job.run)
}

// leftOver deals with the children whose roots are not on the dead shard: they follow their roots. One without a root
// loses its label, and is the garbage collector's.
func (t *takeover) leftOver(ctx context.Context, targets *targetSet, children *childIndex) error {
	writes := &batch{gate: t.gate}
	for _, list := range children.byRoot {
		for _, child := range list {
			err := writes.do(ctx, func(ctx context.Context) error { return t.follow(ctx, targets, child) })
			if err != nil {
				return errors.Join(err, writes.wait())
			}
		}
	}
	return writes.wait()
}

func (t *takeover) follow(ctx context.Context, targets *targetSet, child orphan) error {
	if !t.held() {
		return errNotHeld
	}
	owner := ""
	if target, controller := targets.rootOf(child.object); target != nil {
		var err error
		if owner, err = t.ownerOfRoot(ctx, target, target.rootNamespace(child.object), controller); err != nil {
			return err
		}
	}
	var err error
	if owner != "" {
		_, err = t.labelChild(ctx, child, owner)
	} else {
		_, err = t.patch(ctx, child.resource, child.object, clearPatch(child.object, t.ring))
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // the next round decides anew
	}
	return err
}

// ownerOfRoot answers with the live owner of a root, or with "" if the root is gone, or has none (then the finder will find both).
func (s *ringScope) ownerOfRoot(ctx context.Context, target *rootTarget, namespace string, controller *metav1.OwnerReference) (string, error) {
	root, err := s.get(ctx, target.resource, namespace, controller.Name)
	if apierrors.IsNotFound(err) || err == nil && root.UID != controller.UID {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	owner, owned := OwnerOf(root, s.ring)
	if !owned {
		return "", nil
	}
	if !s.placer.load().isLive(owner) {
		return "", errRootMoving
	}
	return owner, nil
}

// alreadyMoved adds to the index the children that the dead shard had handed over, while their roots had not followed yet. Their request may have
// named another shard when they went, so it looks at all.
func (t *takeover) alreadyMoved(ctx context.Context, targets *targetSet, moving []*metav1.PartialObjectMetadata, children *childIndex) error {
	wanted := map[types.UID]bool{}
	for _, root := range moving {
		wanted[root.UID] = true
	}
	for _, resource := range targets.children {
		_, err := t.eachPage(ctx, resource, ownedByOthers(t.ring, t.shard).String(), func(page []metav1.PartialObjectMetadata) error {
			for i := range page {
				controller := metav1.GetControllerOfNoCopy(&page[i])
				if controller != nil && wanted[controller.UID] {
					children.add(controller.UID, orphan{resource: resource, object: slim(&page[i])})
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// observeTakeover notes how long the objects of a dead shard took to get new owners.
func (s *ringScope) observeTakeover(since time.Time) {
	s.metrics.takeover.WithLabelValues(s.ring).Observe(time.Since(since).Seconds())
}

// decide answers with the new owner of a root of the dead shard: the one that it was being handed over to, if that may
// receive, as it has reconciled with the children already, or is about to.
func (t *takeover) decide(target *rootTarget, root metav1.Object) (string, error) {
	current := t.placer.load()
	if to, draining := DrainTargetOf(root, t.ring); draining && current.receives(to, target) {
		return to, nil
	}
	decision, err := current.placeRoot(target, root.GetNamespace(), root.GetName(), t.shard)
	if err == nil && decision.Shard == t.shard {
		return "", fmt.Errorf("strategy keeps %s/%s on shard %s, which is dead", root.GetNamespace(), root.GetName(), t.shard)
	}
	return decision.Shard, err
}
