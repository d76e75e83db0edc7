package sharding

import (
	"context"
	"maps"
	"slices"
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
	// finder is what came across it, and can do so again. Nil for what was found otherwise.
	finder *finder
}

// orphanIndex holds children without an owner label by the UID of their root, for as long as it takes to label them.
type orphanIndex struct {
	mu     sync.Mutex
	byRoot map[types.UID]map[types.UID]orphan
}

func newOrphanIndex() *orphanIndex {
	return &orphanIndex{byRoot: map[types.UID]map[types.UID]orphan{}}
}

// maxOrphans bounds what is held of one root. The rest is found by the next list.
const maxOrphans = 1000

func (x *orphanIndex) add(root types.UID, children ...orphan) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, child := range children {
		if x.byRoot[root] == nil {
			x.byRoot[root] = map[types.UID]orphan{}
		}
		if len(x.byRoot[root]) < maxOrphans {
			x.byRoot[root][child.object.UID] = child
		}
	}
}

// take removes and returns the children of a root.
func (x *orphanIndex) take(root types.UID) []orphan {
	x.mu.Lock()
	defer x.mu.Unlock()
	children := slices.Collect(maps.Values(x.byRoot[root]))
	delete(x.byRoot, root)
	return children
}

// roots returns the UIDs of the roots in the index.
func (x *orphanIndex) roots() []types.UID {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Collect(maps.Keys(x.byRoot))
}

// child returns any of the children of a root.
func (x *orphanIndex) child(root types.UID) (orphan, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, child := range x.byRoot[root] {
		return child, true
	}
	return orphan{}, false
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
	a.orphans.add(controller.UID, orphan{resource: f.resource, object: child, finder: f})
	if !a.early.Load() {
		a.adopt(ctx, controller.UID)
	}
}

// adopt labels the children of one root that are in the index: with its owner if it has one, or together with it. It blocks while
// as many writes are on their way as there may be.
func (a *assigner) adopt(ctx context.Context, root types.UID) {
	if !a.take(root) {
		return // whoever has the root in hand looks for children that came late
	}
	err := a.gate.do(ctx, func(ctx context.Context) {
		a.release(root)
		a.adoptLate(ctx, root)
	})
	if err != nil {
		a.release(root)
	}
}

// adoptLate labels the children of a root that came into the index while the root was in hand.
func (a *assigner) adoptLate(ctx context.Context, root types.UID) {
	for {
		child, ok := a.orphans.child(root)
		if !ok || !a.take(root) {
			return
		}
		err := a.adoptNow(ctx, child)
		a.release(root)
		a.finish(ctx, child.finder, child.object, err)
		if err != nil {
			return
		}
	}
}

// adoptNow either takes the children of the root out of the index, or returns an error.
func (a *assigner) adoptNow(ctx context.Context, child orphan) error {
	controller := metav1.GetControllerOfNoCopy(child.object)
	target, _ := a.targets.Load().rootOf(child.object)
	if target == nil {
		a.orphans.take(controller.UID) // the targets have changed since
		return nil
	}
	root, err := a.get(ctx, target.resource, target.rootNamespace(child.object), controller.Name)
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
