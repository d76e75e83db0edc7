package sharding

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

var (
	errOvertaken  = errors.New("overtaken by other writes again and again")
	errRootMoving = errors.New("the root is being handed over")
	// errNotHeld ends a take-over: the Lease of the dead shard is not in our hands, so it may be alive.
	errNotHeld = errors.New("the Lease of the shard is not held any more")
)

// takeover gives the objects of one dead shard to others. The shard is no part of the placement any more, and its Lease is
// held: it can't come back while this goes on.
//
// Children go first, and their roots carry what the new owner's caches must have reached. So one round reads the roots and
// decides, then writes the children, then the roots. What a strategy answered is remembered for the round as (hash,
// shard), which is all that is held of a root.
type takeover struct {
	*ringScope
	shard string
	// held is asked before every write that takes an object from the shard.
	held func() bool

	shards  []string // index → shard, as in decided
	decided map[uint64]uint16
	// moving are the roots that the shard was handing over when it died: some of their children may have arrived
	// already. There are at most as many as may be in hand-over.
	moving map[types.UID]string
	// awaited is what the caches of each new owner must have reached, for any of the roots it gets.
	awaited map[string]versions
	// early is what they must have reached for a root that was being handed over.
	early map[types.UID]versions
	moved int
}

// run goes on until nothing has the shard's label any more. It returns how many roots got a new owner.
func (t *takeover) run(ctx context.Context) (int, error) {
	failures := 0
	for {
		if err := errors.Join(t.placer.awaitPlace(ctx), t.placer.quiet(ctx, t.shard)); err != nil {
			return t.moved, err
		}
		found, err := t.round(ctx)
		switch {
		case ctx.Err() != nil:
			return t.moved, context.Cause(ctx)
		case errors.Is(err, errNotHeld):
			return t.moved, err
		case err == nil && found == 0:
			return t.moved, nil
		case err != nil:
			failures++
			klog.FromContext(ctx).Error(err, "Taking over failed, will try again", "shard", t.shard, "failures", failures)
			pause(ctx, jitter(retryDelay(failures)))
		}
	}
}

// round returns how many objects with the shard's label it came across.
func (t *takeover) round(ctx context.Context) (found int, err error) {
	targets := t.targets.Load()
	t.decided, t.awaited = map[uint64]uint16{}, map[string]versions{}
	t.moving, t.early = map[types.UID]string{}, map[types.UID]versions{}
	t.shards = nil
	if len(targets.children) > 0 {
		n, err := t.children(ctx, targets)
		if err != nil {
			return n, err
		}
		found += n
	}
	for _, target := range targets.roots {
		n, err := t.roots(ctx, target)
		found += n
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// children decides for all roots, then gives their children to the owners that they will have.
func (t *takeover) children(ctx context.Context, targets *targetSet) (found int, err error) {
	for _, target := range targets.roots {
		_, err := eachPage(ctx, t.client, target.resource, t.selector(), func(page []metav1.PartialObjectMetadata) error {
			for i := range page {
				if _, err := t.decide(target, &page[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	if err := t.alreadyMoved(ctx, targets); err != nil {
		return 0, err
	}
	progress := &takeoverChildren{takeover: t, targets: targets}
	for _, resource := range targets.children {
		n, err := progress.label(ctx, resource)
		found += n
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

func (t *takeover) selector() string { return ShardSelector(t.ring, t.shard).String() }

// decide answers with the new owner of a root of the dead shard: the one that it was being handed over to, if that may
// receive, as it may have the children already.
func (t *takeover) decide(target *rootTarget, root *metav1.PartialObjectMetadata) (string, error) {
	current := t.placer.load()
	hash := target.prefix.Hash(root.Namespace, root.Name)
	if to, draining := DrainTargetOf(root, t.ring); draining {
		t.moving[root.UID] = to
		if current.eligible(to) {
			t.remember(hash, to)
			return to, nil
		}
	}
	if index, ok := t.decided[hash]; ok && current.eligible(t.shards[index]) {
		return t.shards[index], nil
	}
	decision, err := current.place(target.object(root.Namespace, root.Name, t.shard))
	if err != nil {
		return "", err
	}
	if decision.Shard == t.shard {
		return "", fmt.Errorf("strategy keeps %s on shard %s, which is dead", klog.KObj(root), t.shard)
	}
	t.remember(hash, decision.Shard)
	return decision.Shard, nil
}

func (t *takeover) remember(hash uint64, shard string) {
	for i, known := range t.shards {
		if known == shard {
			t.decided[hash] = uint16(i)
			return
		}
	}
	t.shards = append(t.shards, shard)
	t.decided[hash] = uint16(len(t.shards) - 1)
}

// roots gives the roots of one target to their new owners.
func (t *takeover) roots(ctx context.Context, target *rootTarget) (found int, err error) {
	writes := &batch{gate: t.gate}
	_, err = eachPage(ctx, t.client, target.resource, t.selector(), func(page []metav1.PartialObjectMetadata) error {
		for i := range page {
			root := &page[i]
			found++
			owner, err := t.decide(target, root)
			if err != nil {
				return err
			}
			awaited := t.awaits(root.UID, owner)
			if err := writes.do(ctx, func(ctx context.Context) error { return t.give(ctx, target, root, owner, awaited) }); err != nil {
				return err
			}
		}
		return nil
	})
	failed := writes.wait()
	t.moved += int(writes.count.Load())
	return found, errors.Join(err, failed)
}

func (t *takeover) awaits(root types.UID, owner string) versions {
	awaited := versions{}
	for _, known := range []versions{t.awaited[owner], t.early[root]} {
		for resource, version := range known {
			awaited.raise(resource, version)
		}
	}
	return awaited
}

// give writes the new owner on one root. One that has changed meanwhile is left to the next round.
func (t *takeover) give(ctx context.Context, target *rootTarget, root *metav1.PartialObjectMetadata, owner string, awaited versions) error {
	if !t.held() {
		return errNotHeld
	}
	if !t.placer.begin(owner) {
		return nil
	}
	_, err := t.patch(ctx, target.resource, root, ownPatch(root, t.ring, owner, awaited))
	t.placer.end(owner, err == nil)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		t.metrics.moves.WithLabelValues(t.ring, causeTakeover).Inc()
	}
	return err
}

// alreadyMoved looks for children that the dead shard had handed over, while their roots had not followed yet. They go where
// the roots go now, and the new owner must have seen them.
func (t *takeover) alreadyMoved(ctx context.Context, targets *targetSet) error {
	targetShards := map[string]bool{}
	for _, to := range t.moving {
		if to != t.shard {
			targetShards[to] = true
		}
	}
	for to := range targetShards {
		for _, resource := range targets.children {
			_, err := eachPage(ctx, t.client, resource, ShardSelector(t.ring, to).String(), func(page []metav1.PartialObjectMetadata) error {
				for i := range page {
					if err := t.follow(ctx, targets, resource, &page[i]); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// follow deals with one child on the shard that its root was being handed over to.
func (t *takeover) follow(ctx context.Context, targets *targetSet, resource schema.GroupVersionResource, child *metav1.PartialObjectMetadata) error {
	target, controller := targets.rootOf(child)
	if target == nil {
		return nil
	}
	if _, moving := t.moving[controller.UID]; !moving {
		return nil
	}
	index, ok := t.decided[target.prefix.Hash(target.rootNamespace(child), controller.Name)]
	if !ok {
		return nil
	}
	if !t.held() {
		return errNotHeld
	}
	written, err := t.labelChild(ctx, orphan{resource, child}, t.shards[index])
	if err != nil || written == nil {
		return err
	}
	if t.early[controller.UID] == nil {
		t.early[controller.UID] = versions{}
	}
	t.early[controller.UID].raise(resource.GroupResource().String(), written.ResourceVersion)
	return nil
}

// observeTakeover notes how long the objects of a dead shard took to get new owners.
func (s *ringScope) observeTakeover(since time.Time) {
	s.metrics.takeover.WithLabelValues(s.ring).Observe(time.Since(since).Seconds())
}
