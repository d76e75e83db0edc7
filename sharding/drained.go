package sharding

import (
	"context"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
)

func (c *ringController) drainStateOf(id string) drainState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drained[id]
}

// settled is called, on the mover's goroutine, when a pass has found every root in its place. It brings children back to their
// roots, and finds out which of the draining shards are empty.
func (c *ringController) settled(ctx context.Context) {
	current := c.placer.load()
	if current == nil {
		return
	}
	c.migrator.plans.settled()
	c.settledTable.Store(current.view.Ring())
	states := map[string]drainState{}
	c.bringAllHome(ctx)
	var draining []string
	for _, shard := range current.view.Shards() {
		if shard.Draining {
			draining = append(draining, shard.ID)
		}
	}
	allEmpty := len(draining) > 1 && c.areEmpty(ctx, draining)
	for _, id := range draining {
		empty, err := allEmpty, error(nil)
		if !allEmpty {
			empty, err = c.isEmpty(ctx, id)
		}
		switch {
		case err != nil:
			klog.FromContext(ctx).V(1).Info("Looking for what a draining shard has left failed", "shard", id, "err", err)
		case empty:
			states[id] = drainDone
		case !current.canPlace() && len(current.unheard) == 0: // else somebody may be able to in a moment
			states[id] = drainStuck
		}
		if !empty {
			c.mover.kickAfter(finderMaxBackoff)
		}
	}
	c.mu.Lock()
	c.drained = states
	c.mu.Unlock()
	c.kick()
}

// shardsAtOnce is of how many shards the children are looked at side by side. For each, the hashes of its roots are held meanwhile.
const shardsAtOnce = 4

// bringAllHome looks at the children on every shard.
func (c *ringController) bringAllHome(ctx context.Context) {
	current := c.placer.load()
	if current == nil {
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	room := make(chan struct{}, shardsAtOnce)
	for _, shard := range current.view.Shards() {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			if err := c.auditChildren(ctx, shard.ID); err != nil && ctx.Err() == nil {
				klog.FromContext(ctx).V(1).Info("Looking for children that are not with their roots failed", "shard", shard.ID, "err", err)
			}
		})
	}
}

// areEmpty says whether isEmpty is true of all of the shards, in fewer requests. It may say no without looking.
func (c *ringController) areEmpty(ctx context.Context, shards []string) bool {
	current := c.placer.load()
	for _, shard := range shards {
		if current.eligible(shard) || c.placer.quiet(ctx, shard) != nil {
			return false
		}
	}
	for some := range slices.Chunk(shards, shardsPerList) {
		selector := ownedByAnyOf(c.ring, some).String()
		for _, resource := range c.targets.Load().all() {
			list, err := c.client.Resource(resource).List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: 1})
			if err != nil || len(list.Items) > 0 {
				return false
			}
		}
	}
	return true
}

// isEmpty says whether nothing has the label of a shard that may not receive anything, nor will have.
func (c *ringController) isEmpty(ctx context.Context, shard string) (bool, error) {
	if c.placer.load().eligible(shard) {
		return false, nil
	}
	if err := c.placer.quiet(ctx, shard); err != nil {
		return false, err
	}
	for _, resource := range c.targets.Load().all() {
		list, err := c.client.Resource(resource).List(ctx, metav1.ListOptions{
			LabelSelector: ShardSelector(c.ring, shard).String(), Limit: 1,
		})
		if err != nil || len(list.Items) > 0 {
			return false, err
		}
	}
	return true, nil
}

// auditChildren gives the children on a shard whose roots are not there to the shards that have the roots. Hand-overs and
// take-overs leave none behind, unless their target changes midway; a label that somebody edited does.
func (c *ringController) auditChildren(ctx context.Context, shard string) error {
	targets := c.targets.Load()
	if len(targets.children) == 0 {
		return nil
	}
	here := map[uint64]struct{}{} // hashes of the roots on the shard
	selector := ShardSelector(c.ring, shard).String()
	for _, target := range targets.roots {
		_, err := c.eachPage(ctx, target.resource, selector, func(page []metav1.PartialObjectMetadata) error {
			for i := range page {
				here[target.prefix.Hash(page[i].Namespace, page[i].Name)] = struct{}{}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, resource := range targets.children {
		_, err := c.eachPage(ctx, resource, selector, func(page []metav1.PartialObjectMetadata) error {
			for i := range page {
				if err := c.bringHome(ctx, targets, resource, &page[i], here); err != nil {
					return err
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

// bringHome gives one child to the shard of its root. A child whose root is gone loses its label: it follows nobody, and
// would keep its shard from being empty until the garbage collector comes by. What is no root's child at all was labelled by
// the operator for its own informers, and keeps its label until its shard drains.
func (c *ringController) bringHome(ctx context.Context, targets *targetSet, resource schema.GroupVersionResource, child *metav1.PartialObjectMetadata, here map[uint64]struct{}) error {
	target, controller := targets.rootOf(child)
	if target == nil {
		if shard, _ := OwnerOf(child, c.ring); c.placer.load().draining(shard) {
			return c.unlabel(ctx, resource, child)
		}
		return nil
	}
	namespace := target.rootNamespace(child)
	if _, with := here[target.prefix.Hash(namespace, controller.Name)]; with {
		return nil
	}
	root, err := c.get(ctx, target.resource, namespace, controller.Name)
	if apierrors.IsNotFound(err) || err == nil && root.UID != controller.UID {
		return c.unlabel(ctx, resource, child)
	}
	if err != nil {
		return err
	}
	owner, astray := c.homeOf(child, root)
	if !astray {
		return nil
	}
	_, err = c.labelChild(ctx, orphan{resource: resource, object: child}, owner)
	return err
}

// unlabel takes the ring's labels off an object. If somebody else was faster, the next pass looks again.
func (c *ringController) unlabel(ctx context.Context, resource schema.GroupVersionResource, object *metav1.PartialObjectMetadata) error {
	patch := clearPatch(object, c.ring)
	if patch == nil {
		return nil
	}
	_, err := c.patch(ctx, resource, object, patch)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
