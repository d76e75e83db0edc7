package sharding

import (
	"context"
	"fmt"
	"maps"
	"slices"
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

func (c *childObject) is(other *childObject) bool { return c.meta.UID == other.meta.UID }

// family is what the children of an object are found out from, when it is handed over.
type family struct {
	followed *followed
	known    []*childObject // by what is followed, when the turn of the object had come
	listing  *childListing  // of all, unless a write to each resource will tell how far to follow
}

// childListing is a list of all children of some roots, while it is made and then.
type childListing struct {
	done     chan struct{}
	children map[types.UID][]*childObject
	err      error
}

// wait returns the children of a root.
func (l *childListing) wait(ctx context.Context, root types.UID) ([]*childObject, error) {
	select {
	case <-l.done:
		return l.children[root], l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// familyOf is for when the turn of an object has come. There is no listing yet, and complete says that none is needed: there is a known child of
// each resource, and to write it will tell.
func (d *drainer) familyOf(root types.UID, followed *followed) (f family, complete bool) {
	f.followed, complete = followed, followed != nil
	for _, resource := range d.p.target.controlled {
		known := followed.known(resource, map[types.UID]bool{root: true})
		for _, child := range known {
			f.known = append(f.known, &childObject{resource, child})
		}
		complete = complete && len(known) > 0
	}
	return f, complete
}

// gather gives those children of an object away that are known, and finds out meanwhile, or thereby, which others there are. It returns all
// that it has learnt of, also with an error, and for how long it has waited for a list.
func (d *drainer) gather(ctx context.Context, root metav1.Object, f family) (children []*childObject, waited time.Duration, err error) {
	written, err := d.ahead(ctx, root, f.known)
	if err != nil {
		return f.known, 0, err
	}
	uid, begun := root.GetUID(), time.Now()
	var all []*childObject
	if f.listing != nil {
		all, err = f.listing.wait(ctx, uid)
		waited = time.Since(begun)
	} else {
		all, err = d.others(ctx, root, f.followed, written)
	}
	children = f.known
	for _, child := range all {
		if !slices.ContainsFunc(f.known, child.is) {
			children = append(children, child)
		}
	}
	return children, waited, err
}

// others returns the children of a root that are still this shard's after others have been written.
func (d *drainer) others(ctx context.Context, root metav1.Object, followed *followed, written versions) ([]*childObject, error) {
	uids := map[types.UID]bool{root.GetUID(): true}
	sum := map[types.UID][]*childObject{}
	for _, resource := range d.p.target.controlled {
		if version := written[resource.GroupResource().String()]; version != "" {
			if children, ok := followed.childrenAt(ctx, resource, uids, version); ok {
				byParent(sum, resource, children)
				continue
			}
		}
		if _, err := d.list(ctx, resource, root.GetNamespace(), d.kin.selector, uids, sum); err != nil {
			return nil, err
		}
	}
	return sum[root.GetUID()], nil
}

// childrenOf returns those children of the given roots that exist when it is called and that this shard owns, by the UID of their root. It lists
// all that this shard owns of the target's controlled resources, and says so, unless it has followed them.
func (d *drainer) childrenOf(ctx context.Context, roots map[types.UID]types.NamespacedName) (children map[types.UID][]*childObject, listed bool, err error) {
	wanted, namespace := uidsOf(roots), commonNamespace(slices.Collect(maps.Values(roots)))
	children = map[types.UID][]*childObject{}
	for _, resource := range d.p.target.controlled {
		if now, ok := d.kin.used(namespace).children(ctx, resource, wanted); ok {
			byParent(children, resource, now)
			continue
		}
		begun := time.Now()
		listed = true
		count, err := d.list(ctx, resource, namespace, d.kin.selector, wanted, children)
		if err != nil {
			return nil, listed, err
		}
		d.kin.listed(ctx, d.p.target.controlled, namespace, count, time.Since(begun))
	}
	return children, listed, nil
}

// list adds those children of the roots that are selected, and counts all that are.
func (d *drainer) list(ctx context.Context, resource schema.GroupVersionResource, namespace, selector string, roots map[types.UID]bool, sum map[types.UID][]*childObject) (count int, err error) {
	_, err = eachPage(ctx, d.p.w.objects(resource, namespace), selector, func(page []metav1.PartialObjectMetadata) error {
		count += len(page)
		for i := range page {
			child := page[i] // so that one child does not keep the page
			if controller := metav1.GetControllerOfNoCopy(&child); controller != nil && roots[controller.UID] {
				sum[controller.UID] = append(sum[controller.UID], &childObject{resource, &child})
			}
		}
		return nil
	})
	if err != nil {
		return count, fmt.Errorf("list %s: %w", resource.GroupResource(), err)
	}
	return count, nil
}

func uidsOf(roots map[types.UID]types.NamespacedName) map[types.UID]bool {
	uids := make(map[types.UID]bool, len(roots))
	for uid := range roots {
		uids[uid] = true
	}
	return uids
}

// byParent adds children by the UIDs of their roots.
func byParent(sum map[types.UID][]*childObject, resource schema.GroupVersionResource, children []*metav1.PartialObjectMetadata) {
	for _, child := range children {
		root := metav1.GetControllerOfNoCopy(child).UID
		sum[root] = append(sum[root], &childObject{resource, child})
	}
}

// commonNamespace returns the namespace that all objects are in, [metav1.NamespaceAll] if there are several.
func commonNamespace(keys []types.NamespacedName) string {
	for _, key := range keys {
		if key.Namespace != keys[0].Namespace {
			return metav1.NamespaceAll
		}
	}
	if len(keys) == 0 {
		return metav1.NamespaceAll
	}
	return keys[0].Namespace
}

// handOverChildren gives the children to target. It returns for each resource the version that target's cache has to reach to have seen them all, and
// that of its own last write. What it has given away already it does not write again.
func (d *drainer) handOverChildren(ctx context.Context, children []*childObject, target string) (awaited, written versions, err error) {
	awaited, written = versions{}, versions{}
	for _, child := range children {
		if planted("leave-children") {
			break
		}
		resource := child.resource.GroupResource().String()
		wrote, err := d.handOverChild(ctx, child, target)
		if err != nil {
			return nil, nil, fmt.Errorf("child %s %s: %w", resource, child.meta.Name, err)
		}
		if wrote {
			written.raise(resource, child.meta.ResourceVersion)
		}
		if owner, _ := OwnerOf(child.meta, d.p.w.options.Ring); owner == target {
			awaited.raise(resource, child.meta.ResourceVersion)
		}
	}
	return awaited, written, nil
}

// ahead gives children away that are known, while it is not known yet whether there are others. It returns for each resource the version of
// its last write.
func (d *drainer) ahead(ctx context.Context, root metav1.Object, children []*childObject) (written versions, err error) {
	target, draining := DrainTargetOf(root, d.p.w.options.Ring)
	owner, _ := OwnerOf(root, d.p.w.options.Ring)
	if !d.p.w.Active() || owner != d.p.w.options.ID || !draining || target == owner {
		return nil, nil
	}
	_, written, err = d.handOverChildren(ctx, children, target)
	return written, err
}

// handOverChild says whether it has written the child.
func (d *drainer) handOverChild(ctx context.Context, child *childObject, target string) (wrote bool, err error) {
	w := d.p.w
	objects := w.objects(child.resource, child.meta.Namespace)
	for {
		owner, _ := OwnerOf(child.meta, w.options.Ring)
		switch owner {
		case target:
			return wrote, nil
		case w.options.ID:
		default:
			return wrote, errAstray
		}
		patched, err := objects.Patch(ctx, child.meta.Name, types.MergePatchType,
			childPatch(child.meta, w.options.Ring, target), metav1.PatchOptions{FieldManager: workerFieldManager})
		if apierrors.IsNotFound(err) {
			return wrote, nil
		}
		wrote = err == nil
		if apierrors.IsConflict(err) {
			uid := child.meta.UID
			patched, err = objects.Get(ctx, child.meta.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) || err == nil && patched.UID != uid {
				return wrote, nil
			}
		}
		if err != nil {
			return wrote, err
		}
		child.meta = patched
	}
}
