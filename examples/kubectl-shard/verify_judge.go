package main

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/sharding"
)

// Kinds of gaps, named as those of the manager's audit.
const (
	gapUnassigned      = "unassigned"
	gapOwnerUnknown    = "owner-unknown"
	gapOwnerLost       = "owner-lost"
	gapNotServed       = "not-served"
	gapHandoverTarget  = "handover-target"
	gapHandoverStuck   = "handover-stuck"
	gapEpoch           = "epoch"
	gapNotSelected     = "not-selected"
	gapChildUnassigned = "child-unassigned"
	gapChildAstray     = "child-astray"
	gapDoublyOwned     = "doubly-owned"
)

// judgement says what one object is judged by. It does no IO and knows no time.
type judgement struct {
	ring  string
	facts *ringFacts
	now   time.Time
	*witness
}

// finding is what may be wrong with an object.
type finding struct{ kind, text string }

// root returns what may be wrong with an object of a target.
func (j judgement) root(t *target, root metav1.Object) []finding {
	owner, owned := sharding.OwnerOf(root, j.ring)
	to, draining := sharding.DrainTargetOf(root, j.ring)
	switch {
	case !t.selects(root) && (owned || draining):
		return []finding{{gapNotSelected, "it has labels of the ring, and is none of its objects"}}
	case !t.selects(root):
		return nil
	case !owned:
		return []finding{{gapUnassigned, "it has no owner"}}
	}
	var findings []finding
	switch instance := j.facts.instance(owner); {
	case !j.known(owner):
		findings = append(findings, finding{gapOwnerUnknown, "there is no Lease of its owner"})
	case !j.lives(j.now, owner):
		findings = append(findings, finding{gapOwnerLost, "the Lease of its owner is not renewed by a shard"})
	case instance != nil && !serves(instance, t.resource.GroupResource()):
		findings = append(findings, finding{gapNotServed, "its owner has no controller for it"})
	case draining && to != owner && !j.lives(j.now, to):
		findings = append(findings, finding{gapHandoverTarget, fmt.Sprintf("it is to go to %s, which is not alive", to)})
	case draining && to != owner:
		findings = append(findings, finding{gapHandoverStuck, fmt.Sprintf("it has been on its way to %s for too long", to)})
	}
	if sharding.EpochOf(root, j.ring) == 0 {
		findings = append(findings, finding{gapEpoch, fmt.Sprintf("its epoch is %q", root.GetAnnotations()[sharding.EpochAnnotation(j.ring)])})
	}
	return findings
}

// child returns what may be wrong with a child whose root has a live owner and stays there.
func (j judgement) child(rootOwner string, child metav1.Object) []finding {
	switch owner, owned := sharding.OwnerOf(child, j.ring); {
	case !owned:
		return []finding{{gapChildUnassigned, "it has no owner, and its root is on " + rootOwner}}
	case owner != rootOwner:
		return []finding{{gapChildAstray, "its root is on " + rootOwner}}
	}
	return nil
}

// settled says whether the children of a root are to be where it is.
func (j judgement) settled(t *target, root metav1.Object) (owner string, ok bool) {
	owner, owned := sharding.OwnerOf(root, j.ring)
	to, draining := sharding.DrainTargetOf(root, j.ring)
	return owner, owned && t.selects(root) && (!draining || to == owner)
}
