package sharding

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// hearing compares the reports of the shards about one target with the labels.
//
// The reports are read right before the list begins. They are at most some seconds old, and so is the difference that is due to
// objects coming, going and moving; it consists of other objects each time. What two shards differ in for good is the same objects
// every time.
type hearing struct {
	*auditPass
	target   *rootTarget
	reported holdingSet
	labelled holdingSet
	// suspects are the objects that an earlier pass had doubts about, as they are now.
	suspects map[element]suspect
	spoilt   bool
}

func (p *auditPass) newHearing(target *rootTarget) *hearing {
	reported, unreported := reportsOf(p.served, target.resource.GroupResource(), p.live)
	p.result.unreported = max(p.result.unreported, unreported)
	return &hearing{auditPass: p, target: target, reported: reported, labelled: reported.emptyFor(), suspects: map[element]suspect{}}
}

// spoil notes that the list is not of one moment, so that it can't be compared with anything.
func (h *hearing) spoil() { h.spoilt = true }

func (h *hearing) note(root *metav1.PartialObjectMetadata) {
	object := elementOf(root.UID)
	owner, owned := OwnerOf(root, h.c.ring)
	if owned {
		h.labelled.note(owner, object)
	}
	if h.suspicions.concerns(object) {
		h.suspects[object] = suspect{ref: auditRef{h.target.resource, root.Namespace, root.Name}, owner: owner}
	}
}

// close is called when the list is complete.
func (h *hearing) close(ctx context.Context) {
	if h.spoilt {
		return
	}
	d := compare(h.labelled, h.reported)
	for object, shard := range d.under {
		ref := h.suspects[object].ref
		h.suspect(ctx, object, gapNotHeld, suspectState(shard), ref)
	}
	for object := range d.over {
		h.overheld(ctx, &d, object)
	}
	for _, a := range d.apart {
		h.apart(ctx, a)
	}
}

// overheld deals with an object that shards hold without its label. What it amounts to depends on who its owner is, and that it
// exists at all: that is known from the second time on.
func (h *hearing) overheld(ctx context.Context, d *discord, object element) {
	seen, exists := h.suspects[object]
	holders := d.holders(object, seen.owner, h.reported)
	now := time.Now()
	v := h.suspicions.raise(now, object, gapHeldElsewhere, suspectState(d.over[object]...), h.dwell.of(gapHeldElsewhere))
	if v == suspected || !exists {
		return // an object that does not exist any more is in nobody's way
	}
	what := fmt.Sprintf("%s %s, held by %s", seen.ref.resource.Resource, seen.ref, joinShards(holders))
	h.proven(ctx, heldKind(holders), 1, what, v)
	h.recheck(ctx, d.over[object])
}

// apart deals with a shard whose report differs by more than can be read. That may be due to many objects that are coming and
// going, but then the report changes as well.
func (h *hearing) apart(ctx context.Context, a apartShard) {
	kind, n := gapNotHeld, a.labelled-a.held
	if n < 0 {
		kind, n = gapDoublyOwned, -n
	}
	object := elementOf(types.UID("shard " + a.shard + " " + h.target.resource.Resource))
	v := h.suspicions.raise(time.Now(), object, kind, suspectState(a.text), h.dwell.of(kind))
	if v == suspected {
		return
	}
	what := fmt.Sprintf("shard %s, which holds %d %s and has its label on %d", a.shard, a.held, h.target.resource.Resource, a.labelled)
	h.proven(ctx, kind, max(1, n), what, v)
	h.recheck(ctx, []string{a.shard})
}
