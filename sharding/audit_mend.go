package sharding

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// recheckAnnotation is on a ShardInstance. When its value changes, the worker compares its caches with the API server, and drops
// what is not its own.
const recheckAnnotation = "shard.io/recheck"

// mend does about a proven gap of a root what can be done. It writes nothing by itself that others could be writing at the moment but
// with the resourceVersion of what it has seen.
func (p *auditPass) mend(ctx context.Context, kind gapKind, target *rootTarget, root *metav1.PartialObjectMetadata) {
	switch kind {
	case gapOwnerLost, gapOwnerUnknown:
		owner, _ := OwnerOf(root, p.c.ring)
		p.c.noteStray(owner) // unless it is dead for the tracker as well, nothing is taken from it
	case gapUnassigned:
		p.write(ctx, kind, func(ctx context.Context) error { return p.c.assigner.mend(ctx, target, root) })
	case gapHandoverTarget, gapHandoverStuck:
		p.write(ctx, kind, func(ctx context.Context) error { return p.c.mover.mend(ctx, target, root) })
	case gapNotSelected:
		p.write(ctx, kind, func(ctx context.Context) error {
			_, err := p.c.patch(ctx, target.resource, root, releasePatch(root, p.c.ring))
			return err
		})
	case gapEpoch:
		p.write(ctx, kind, func(ctx context.Context) error {
			_, err := p.c.patch(ctx, target.resource, root, epochPatch(root, p.c.ring, time.Now()))
			return err
		})
	}
}

// mendChild brings a child to its root.
func (p *auditPass) mendChild(ctx context.Context, target *rootTarget, controller *metav1.OwnerReference, resource schema.GroupVersionResource, child *metav1.PartialObjectMetadata) {
	kept := orphan{resource: resource, object: slim(child)}
	namespace := target.rootNamespace(child)
	p.write(ctx, gapChildAstray, func(ctx context.Context) error {
		root, err := p.c.get(ctx, target.resource, namespace, controller.Name)
		if err != nil {
			return err
		}
		owner, astray := p.c.homeOf(child, root)
		if !astray || root.UID != controller.UID {
			return nil
		}
		_, err = p.c.labelChild(ctx, kept, owner)
		return err
	})
}

// write starts a write that mends something. Whoever was faster has changed what was wrong, or the next pass tries again.
func (p *auditPass) write(ctx context.Context, kind gapKind, f func(context.Context) error) {
	_ = p.writes.do(ctx, func(ctx context.Context) error {
		err := f(ctx)
		switch {
		case err == nil:
			p.c.metrics.auditRepairs.WithLabelValues(p.c.ring, string(kind)).Inc()
		case !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && !waitsForPlacement(err):
			klog.FromContext(ctx).V(1).Info("A gap could not be closed, will try again", "kind", kind, "err", err)
		}
		return nil
	})
}

// mend gives a root without an owner its first one.
func (a *assigner) mend(ctx context.Context, target *rootTarget, root *metav1.PartialObjectMetadata) error {
	if !a.take(root.UID) {
		return nil // it is being dealt with
	}
	defer a.release(root.UID)
	return a.assign(ctx, target, root)
}

// mend decides anew about a root in hand-over: it may have to go elsewhere, or to stay.
func (m *mover) mend(ctx context.Context, target *rootTarget, root *metav1.PartialObjectMetadata) error {
	what, to, err := wantedFor(m.placer.load(), target, m.ring, true, root)
	if err != nil || what == keep {
		return err
	}
	return m.write(ctx, target, root, what, to)
}

// epochPatch gives a root a new epoch in place of one that somebody has damaged and that its owner does not remember. An epoch must
// not fall: the number of seconds since 1970 is more than any number of changes of owner.
func epochPatch(root metav1.Object, ring string, now time.Time) []byte {
	epoch := strconv.FormatInt(now.Unix(), 10)
	return metaPatch{
		ResourceVersion: root.GetResourceVersion(), Annotations: map[string]*string{EpochAnnotation(ring): &epoch},
	}.bytes()
}

// recheck asks shards to compare their caches with the API server.
func (p *auditPass) recheck(ctx context.Context, shards []string) {
	for _, shard := range shards {
		p.write(ctx, gapHeldElsewhere, func(ctx context.Context) error { return p.c.askForRecheck(ctx, shard) })
	}
}

func (c *ringController) askForRecheck(ctx context.Context, shard string) error {
	instance, err := c.instances.Get(shard)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": instance.ResourceVersion,
		"annotations":     map[string]any{recheckAnnotation: time.Now().UTC().Format(time.RFC3339)},
	}})
	if err != nil {
		return err
	}
	_, err = c.shards.ShardV1().ShardInstances(c.namespace).Patch(ctx, shard, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: managerFieldManager})
	return err
}
