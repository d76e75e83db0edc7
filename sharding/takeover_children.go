package sharding

import (
	"context"
	"errors"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// takeoverChildren gives the children of a dead shard to the owners that their roots have, or are about to get.
type takeoverChildren struct {
	*takeover
	targets *targetSet
	mu      sync.Mutex // of takeover.awaited
}

// label returns how many children of the dead shard it came across.
func (t *takeoverChildren) label(ctx context.Context, resource schema.GroupVersionResource) (found int, err error) {
	writes := &batch{gate: t.gate}
	_, err = eachPage(ctx, t.client, resource, t.selector(), func(page []metav1.PartialObjectMetadata) error {
		for i := range page {
			child := &page[i]
			found++
			if err := writes.do(ctx, func(ctx context.Context) error { return t.labelOne(ctx, resource, child) }); err != nil {
				return err
			}
		}
		return nil
	})
	return found, errors.Join(err, writes.wait())
}

func (t *takeoverChildren) labelOne(ctx context.Context, resource schema.GroupVersionResource, child *metav1.PartialObjectMetadata) error {
	if !t.held() {
		return errNotHeld
	}
	owner, err := t.ownerFor(ctx, child)
	if err != nil {
		return err
	}
	if owner == "" { // it follows nobody
		_, err := t.patch(ctx, resource, child, clearPatch(child, t.ring))
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	written, err := t.labelChild(ctx, orphan{resource, child}, owner)
	if err != nil || written == nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.awaited[owner] == nil {
		t.awaited[owner] = versions{}
	}
	t.awaited[owner].raise(resource.GroupResource().String(), written.ResourceVersion)
	return nil
}

// ownerFor answers with "" for a child whose root is gone, or not of the ring.
func (t *takeoverChildren) ownerFor(ctx context.Context, child *metav1.PartialObjectMetadata) (string, error) {
	target, controller := t.targets.rootOf(child)
	if target == nil {
		return "", nil
	}
	namespace := target.rootNamespace(child)
	if index, ok := t.decided[target.prefix.Hash(namespace, controller.Name)]; ok {
		return t.shards[index], nil
	}
	return t.ownerOfRoot(ctx, target, namespace, controller)
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
