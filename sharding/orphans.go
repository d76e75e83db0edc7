package sharding

import (
	"context"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// orphan is a child without an owner label.
type orphan struct {
	resource schema.GroupVersionResource
	object   *metav1.PartialObjectMetadata
}

// orphanIndex holds children without an owner label by the UID of their root, for as long as it takes to label them.
type orphanIndex struct {
	mu     sync.Mutex
	byRoot map[types.UID][]orphan
}

func newOrphanIndex() *orphanIndex { return &orphanIndex{byRoot: map[types.UID][]orphan{}} }

// maxOrphans bounds what is held of one root. The rest is found by the next list.
const maxOrphans = 1000

func (x *orphanIndex) add(root types.UID, child orphan) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.byRoot[root]) < maxOrphans {
		x.byRoot[root] = append(x.byRoot[root], child)
	}
}

// take removes and returns the children of a root.
func (x *orphanIndex) take(root types.UID) []orphan {
	x.mu.Lock()
	defer x.mu.Unlock()
	children := x.byRoot[root]
	delete(x.byRoot, root)
	return children
}

// roots returns one child of each root in the index.
func (x *orphanIndex) roots() []orphan {
	x.mu.Lock()
	defer x.mu.Unlock()
	list := make([]orphan, 0, len(x.byRoot))
	for _, children := range x.byRoot {
		list = append(list, children[0])
	}
	return list
}

// foundChild is called for every object of a controlled resource that no live shard owned when the server looked. While the
// first lists are being made, children are only collected: their roots may be about to be assigned, and then take
// them along.
func (a *assigner) foundChild(ctx context.Context, f *finder, event watch.EventType, child *metav1.PartialObjectMetadata) {
	if event == watch.Deleted {
		return
	}
	current := a.placer.load()
	if owner, owned := OwnerOf(child, a.ring); owned {
		if !current.isLive(owner) {
			a.stray(owner)
		}
		return
	}
	target, controller := a.targets.Load().rootOf(child)
	if target == nil || !current.canPlace() || !a.namespaces.selects(target, child.Namespace) {
		return
	}
	found := orphan{f.resource, child}
	a.orphans.add(controller.UID, found)
	if !a.early.Load() {
		a.adopt(ctx, f, found)
	}
}

// adopt labels the children of one root: with its owner if it has one, or together with it.
func (a *assigner) adopt(ctx context.Context, f *finder, child orphan) {
	target, controller := a.targets.Load().rootOf(child.object)
	if target == nil || !a.take(controller.UID) {
		return // whoever has the root in hand takes the child along, or the next list finds it again
	}
	err := a.gate.do(ctx, func(ctx context.Context) {
		defer a.release(controller.UID)
		a.finish(ctx, f, child.object, a.adoptNow(ctx, target, controller, target.rootNamespace(child.object)))
	})
	if err != nil {
		a.release(controller.UID)
	}
}

func (a *assigner) adoptNow(ctx context.Context, target *rootTarget, controller *metav1.OwnerReference, namespace string) error {
	root, err := a.get(ctx, target.resource, namespace, controller.Name)
	if apierrors.IsNotFound(err) || err == nil && root.UID != controller.UID {
		a.orphans.take(controller.UID) // the garbage collector's
		return nil
	}
	if err != nil {
		return err
	}
	owner, owned := OwnerOf(root, a.ring)
	_, draining := DrainTargetOf(root, a.ring)
	switch {
	case !owned && !target.objects.Matches(labelsOf(root)):
		a.orphans.take(controller.UID)
		return nil
	case !owned:
		return a.assign(ctx, target, root)
	case draining || !a.placer.load().isLive(owner):
		// The next list comes when the root has arrived somewhere.
		a.orphans.take(controller.UID)
		return errRootMoving
	}
	_, err = a.labelChildren(ctx, a.orphans.take(controller.UID), owner)
	return err
}

// labelChildren gives children an owner, and returns which versions of them its caches must have reached.
func (a *assigner) labelChildren(ctx context.Context, children []orphan, owner string) (versions, error) {
	awaited := versions{}
	for i := range children {
		written, err := a.labelChild(ctx, children[i], owner)
		if err != nil {
			return nil, err
		}
		if written != nil {
			awaited.raise(children[i].resource.GroupResource().String(), written.ResourceVersion)
		}
	}
	return awaited, nil
}

// labelChild returns nil for a child that is gone, or has another root by now.
func (s *ringScope) labelChild(ctx context.Context, child orphan, owner string) (*metav1.PartialObjectMetadata, error) {
	controller := metav1.GetControllerOfNoCopy(child.object)
	object := child.object
	for range maxAttempts {
		if now, _ := OwnerOf(object, s.ring); now == owner {
			return object, nil
		}
		written, err := s.patch(ctx, child.resource, object, childPatch(object, s.ring, owner))
		switch {
		case err == nil:
			return written, nil
		case apierrors.IsNotFound(err):
			return nil, nil
		case !apierrors.IsConflict(err):
			return nil, err
		}
		object, err = s.get(ctx, child.resource, object.Namespace, object.Name)
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if now := metav1.GetControllerOfNoCopy(object); now == nil || now.UID != controller.UID {
			return nil, nil
		}
	}
	return nil, errOvertaken
}
