package sharding

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// takeoverJob gives one root of a dead shard, with its children, to a new owner.
type takeoverJob struct {
	*takeover
	target   *rootTarget
	root     *metav1.PartialObjectMetadata
	children []orphan
	// owner is decided once, so that a job that is tried again does not scatter the children.
	owner string
}

// run tries a few times, as the children should not be apart from their root for long. It returns nil as well when there is
// nothing left to do, or when the next round has to look at the root again.
func (j *takeoverJob) run(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := j.try(ctx)
		if err == nil || attempt == maxAttempts || ctx.Err() != nil || waitsForPlacement(err) || errors.Is(err, errNotHeld) {
			return err
		}
		if !apierrors.IsConflict(err) && !errors.Is(err, errPlacementChanged) {
			pause(ctx, retryDelay(attempt))
		}
		root, getErr := j.get(ctx, j.target.resource, j.root.Namespace, j.root.Name)
		if apierrors.IsNotFound(getErr) {
			return nil
		}
		if getErr == nil {
			keepEpoch(j.root, root, j.ring)
			j.root = root
		}
	}
}

func (j *takeoverJob) try(ctx context.Context) error {
	if owner, _ := OwnerOf(j.root, j.ring); owner != j.shard {
		return nil // an answer was lost, or somebody else wrote: the left-over children follow
	}
	if j.owner == "" || !j.placer.load().receives(j.owner, j.target) {
		owner, err := j.decide(j.target, j.root)
		if errors.Is(err, errNotServed) {
			return j.disown(ctx)
		}
		if err != nil {
			return err
		}
		j.owner = owner
	}
	awaited := versions{}
	for i := range j.children {
		child := &j.children[i]
		if !j.held() {
			return errNotHeld
		}
		written, err := j.labelChild(ctx, *child, j.owner)
		if err != nil {
			return err
		}
		if written != nil && !planted("take-without-children") {
			child.object = slim(written)
			awaited.raise(child.resource.GroupResource().String(), written.ResourceVersion)
		}
	}
	if !j.held() {
		return errNotHeld
	}
	if !j.placer.begin(j.owner) {
		return errPlacementChanged
	}
	_, err := j.patch(ctx, j.target.resource, j.root, ownPatch(j.root, j.ring, j.owner, awaited))
	j.placer.end(j.owner, err == nil)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		j.metrics.moves.WithLabelValues(j.ring, causeTakeover).Inc()
	}
	return err
}

// disown takes root and children from the dead shard although nobody can have them for now: no shard that is alive has a controller for
// them. To wait for one here would keep the dead shard from coming back, which may be the only one that has. The finder sees that they are assigned
// when there is somebody.
func (j *takeoverJob) disown(ctx context.Context) error {
	for i := range j.children {
		child := &j.children[i]
		if !j.held() {
			return errNotHeld
		}
		written, err := j.patch(ctx, child.resource, child.object, disownPatch(child.object, j.ring))
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		child.object = slim(written)
	}
	if !j.held() {
		return errNotHeld
	}
	_, err := j.patch(ctx, j.target.resource, j.root, disownPatch(j.root, j.ring))
	return ignoreNotFound(err)
}

// disownPatch takes the owner off an object, and leaves the rest: the epoch goes on from where it was.
func disownPatch(object metav1.Object, ring string) []byte {
	return metaPatch{
		ResourceVersion: object.GetResourceVersion(),
		Labels:          removals(object.GetLabels(), OwnerLabel(ring), DrainLabel(ring)),
	}.bytes()
}

// childIndex holds the children of a dead shard by the UID of their root.
type childIndex struct {
	byRoot map[types.UID][]orphan
	size   int
}

// maxIndexed bounds the index. The children of a shard with more are dealt with in parts.
const maxIndexed = 20000

// errIndexFull: the part has more children than are to be held.
var errIndexFull = errors.New("too many children for one part")

func (x *childIndex) add(root types.UID, child orphan) {
	x.byRoot[root] = append(x.byRoot[root], child)
	x.size++
}

func (x *childIndex) take(root types.UID) []orphan {
	children := x.byRoot[root]
	delete(x.byRoot, root)
	return children
}

// indexChildren lists the children of the dead shard whose roots are in the part.
func (t *takeover) indexChildren(ctx context.Context, targets *targetSet, part uint64) (*childIndex, error) {
	index := &childIndex{byRoot: map[types.UID][]orphan{}}
	for _, resource := range targets.children {
		_, err := t.eachPage(ctx, resource, t.selector(), func(page []metav1.PartialObjectMetadata) error {
			for i := range page {
				child := &page[i]
				target, controller := targets.rootOf(child)
				switch {
				case target == nil && part == 0:
					index.add("", orphan{resource: resource, object: slim(child)})
				case target != nil && target.prefix.Hash(target.rootNamespace(child), controller.Name)%t.parts == part:
					index.add(controller.UID, orphan{resource: resource, object: slim(child)})
				}
			}
			if index.size > maxIndexed && t.parts < 1<<16 {
				return errIndexFull
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return index, nil
}

// slim keeps of an object what is needed to give it another owner.
func slim(object *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	kept := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: object.Namespace, Name: object.Name, UID: object.UID, ResourceVersion: object.ResourceVersion,
		Labels: object.Labels,
	}}
	if controller := metav1.GetControllerOfNoCopy(object); controller != nil {
		kept.OwnerReferences = []metav1.OwnerReference{*controller}
	}
	return kept
}
