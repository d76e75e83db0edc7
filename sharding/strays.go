package sharding

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// errRootOnItsWay means that a child's root is about to follow it.
var errRootOnItsWay = errors.New("the root is being handed over")

// strays gives children that this shard owns, but whose root it does not, to the owner of the root. They come about when a
// hand-over is withdrawn half-way, and when somebody else edits labels.
type strays struct {
	p     *processor
	queue workqueue.TypedRateLimitingInterface[stray]
}

type stray struct {
	resource schema.GroupVersionResource
	key      types.NamespacedName
}

func newStrays(p *processor) *strays {
	return &strays{p: p, queue: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[stray](time.Second, time.Minute))}
}

// patience is how long a child may be with us before its root. Hand-overs and take-overs bring the children first; a take-over of
// many objects needs its time, and what is given back to a dead shard has to be taken over once more.
func (s *strays) patience() time.Duration {
	if config := s.p.w.ring.get(); config != nil {
		if timing, err := timingOf(config); err == nil {
			return 2 * timing.LeaseDuration
		}
	}
	return 2 * v1.DefaultHealthCheckInterval
}

// watch looks at every child that comes into the cache.
func (s *strays) watch(informer cache.SharedIndexInformer, resource schema.GroupVersionResource) error {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(obj any) {
		child, ok := obj.(metav1.Object)
		if ok && !s.rootIsOurs(child) {
			s.queue.AddAfter(stray{resource, keyOf(child)}, s.patience())
		}
	}})
	return err
}

// run works on strays until the queue is shut down.
func (s *strays) run(ctx context.Context) {
	for {
		item, shutdown := s.queue.Get()
		if shutdown {
			return
		}
		if err := s.bringHome(ctx, item); err == nil {
			s.queue.Forget(item)
		} else {
			s.p.w.logger.V(4).Info("A child is not with its root yet", "resource", item.resource.Resource, "child", item.key, "reason", err)
			s.queue.AddRateLimited(item)
		}
		s.queue.Done(item)
	}
}

// bringHome gives one child to the owner of its root, if that is another shard. What has no root or no owner is the manager's.
func (s *strays) bringHome(ctx context.Context, item stray) error {
	w := s.p.w
	obj, exists, err := s.p.controller.Children[item.resource.GroupResource()].GetStore().GetByKey(storeKey(item.key))
	if err != nil || !exists {
		return err
	}
	child, ok := obj.(metav1.Object)
	if !ok || s.rootIsOurs(child) || !w.Active() {
		return nil // an inactive shard looks again when the child changes hands
	}
	controller := metav1.GetControllerOfNoCopy(child)
	if controller == nil {
		return nil
	}
	root, err := w.objects(s.p.target.resource, s.rootNamespace(child)).Get(ctx, controller.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && root.UID != controller.UID {
		return nil
	}
	if err != nil {
		return err
	}
	owner, owned := OwnerOf(root, w.options.Ring)
	target, draining := DrainTargetOf(root, w.options.Ring)
	switch {
	case !owned || owner == w.options.ID:
		return nil
	case draining && target == w.options.ID:
		return errRootOnItsWay
	}
	_, err = w.objects(item.resource, child.GetNamespace()).Patch(ctx, child.GetName(), types.MergePatchType,
		childPatch(child, w.options.Ring, owner), metav1.PatchOptions{FieldManager: workerFieldManager})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// rootIsOurs reports whether the cache has the child's root as ours; true for what has no root of this target.
func (s *strays) rootIsOurs(child metav1.Object) bool {
	controller := metav1.GetControllerOfNoCopy(child)
	if controller == nil || controller.Kind != s.p.target.kind {
		return true
	}
	root := s.p.cached(types.NamespacedName{Namespace: s.rootNamespace(child), Name: controller.Name})
	return root != nil && root.GetUID() == controller.UID
}

func (s *strays) rootNamespace(child metav1.Object) string {
	if s.p.target.namespaced {
		return child.GetNamespace()
	}
	return ""
}
