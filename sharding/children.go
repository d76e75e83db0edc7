package sharding

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// childObject is an object that is controlled by a root.
type childObject struct {
	resource schema.GroupVersionResource
	meta     *metav1.PartialObjectMetadata
}

// childrenOf returns those children of the given roots that exist when it is called and that this shard owns, by the UID of their root. It lists
// all that this shard owns of the target's controlled resources, and says so, unless it has followed them.
func (d *drainer) childrenOf(ctx context.Context, roots []types.NamespacedName) (children map[types.UID][]*childObject, listed bool, err error) {
	children = map[types.UID][]*childObject{}
	wanted := map[types.UID]bool{}
	namespace := roots[0].Namespace
	for _, key := range roots {
		if root := d.p.cached(key); root != nil {
			wanted[root.GetUID()] = true
		}
		if key.Namespace != namespace {
			namespace = metav1.NamespaceAll
		}
	}
	for _, resource := range d.p.target.controlled {
		if followed, ok := d.kin.children(ctx, resource, namespace, wanted); ok {
			for _, child := range followed {
				root := metav1.GetControllerOfNoCopy(child).UID
				children[root] = append(children[root], &childObject{resource, child})
			}
			continue
		}
		begun, count := time.Now(), 0
		listed = true
		_, err := eachPage(ctx, d.p.w.objects(resource, namespace), d.kin.selector, func(page []metav1.PartialObjectMetadata) error {
			count += len(page)
			for i := range page {
				child := page[i] // so that one child does not keep the page
				if controller := metav1.GetControllerOfNoCopy(&child); controller != nil && wanted[controller.UID] {
					children[controller.UID] = append(children[controller.UID], &childObject{resource, &child})
				}
			}
			return nil
		})
		if err != nil {
			return nil, listed, fmt.Errorf("list %s: %w", resource.GroupResource(), err)
		}
		d.kin.listed(ctx, d.p.target.controlled, namespace, count, time.Since(begun))
	}
	return children, listed, nil
}

// handOverChildren gives the children to target, and returns for each resource the version that target's cache has to reach
// to have seen them all. What it has given away already it does not write again.
func (d *drainer) handOverChildren(ctx context.Context, children []*childObject, target string) (versions, error) {
	awaited := versions{}
	for _, child := range children {
		if planted("leave-children") {
			break
		}
		if err := d.handOverChild(ctx, child, target); err != nil {
			return nil, fmt.Errorf("child %s %s: %w", child.resource.GroupResource(), child.meta.Name, err)
		}
		if owner, _ := OwnerOf(child.meta, d.p.w.options.Ring); owner == target {
			awaited.raise(child.resource.GroupResource().String(), child.meta.ResourceVersion)
		}
	}
	return awaited, nil
}

func (d *drainer) handOverChild(ctx context.Context, child *childObject, target string) error {
	w := d.p.w
	objects := w.objects(child.resource, child.meta.Namespace)
	for {
		owner, _ := OwnerOf(child.meta, w.options.Ring)
		switch owner {
		case target:
			return nil
		case w.options.ID:
		default:
			return errAstray
		}
		patched, err := objects.Patch(ctx, child.meta.Name, types.MergePatchType,
			childPatch(child.meta, w.options.Ring, target), metav1.PatchOptions{FieldManager: workerFieldManager})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if apierrors.IsConflict(err) {
			uid := child.meta.UID
			patched, err = objects.Get(ctx, child.meta.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) || err == nil && patched.UID != uid {
				return nil
			}
		}
		if err != nil {
			return err
		}
		child.meta = patched
	}
}
