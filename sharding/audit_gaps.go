package sharding

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// gapKind is what can be wrong with the ownership of an object. It is the value of the label kind of the metric coverage_gaps.
type gapKind string

const (
	gapUnassigned      gapKind = "unassigned"       // a root without an owner
	gapOwnerUnknown    gapKind = "owner-unknown"    // no Lease of the ring has the name of its owner
	gapOwnerLost       gapKind = "owner-lost"       // the Lease of its owner is not being renewed
	gapNotServed       gapKind = "not-served"       // its owner has no controller for it
	gapNotHeld         gapKind = "not-held"         // its owner does not report to hold it
	gapHeldElsewhere   gapKind = "held-elsewhere"   // a shard that is not its owner reports to hold it, and its owner does not
	gapDoublyOwned     gapKind = "doubly-owned"     // two shards report to hold it
	gapHandoverTarget  gapKind = "handover-target"  // it is to go to a shard that is lost, or unknown
	gapHandoverStuck   gapKind = "handover-stuck"   // it is in hand-over for too long
	gapEpoch           gapKind = "epoch"            // it has an owner and no number as its epoch
	gapNotSelected     gapKind = "not-selected"     // it has labels of the ring, and is none of its objects
	gapChildUnassigned gapKind = "child-unassigned" // a child without an owner, whose root has one
	gapChildAstray     gapKind = "child-astray"     // a child on another shard than its root
)

// gapKinds are all of them.
var gapKinds = []gapKind{
	gapUnassigned, gapOwnerUnknown, gapOwnerLost, gapNotServed, gapNotHeld, gapHeldElsewhere, gapDoublyOwned, gapHandoverTarget,
	gapHandoverStuck, gapEpoch, gapNotSelected, gapChildUnassigned, gapChildAstray,
}

// auditDwell is for how long things must have been as they are before they count as a gap.
type auditDwell struct {
	grace    time.Duration // the time that promise P3 allows an object to be without a live owner
	handover time.Duration // the drain timeout and grace
	report   time.Duration // what the cache of a live shard may be behind
}

// cacheLag is how far the cache of a live shard may be behind: a connection that is gone without a word is noticed after 45 s, and
// client-go may wait for another 30 s before it connects again.
const cacheLag = 90 * time.Second

func (d auditDwell) of(kind gapKind) time.Duration {
	switch kind {
	case gapHandoverStuck:
		return d.handover
	case gapNotHeld, gapHeldElsewhere, gapDoublyOwned:
		return max(d.grace, d.report)
	}
	return d.grace
}

// judge knows what one pass of the audit judges objects by. It does no IO and knows no time.
type judge struct {
	ring string
	// lives says how the shard of a name is, by its Lease.
	lives func(shard string) liveness
	// served is what the shards have controllers for.
	served servedSets
}

// root returns what may be wrong with a root; selected says whether it is one of the ring's.
func (j *judge) root(resource schema.GroupResource, selected bool, root metav1.Object) []gapKind {
	owner, owned := OwnerOf(root, j.ring)
	to, draining := DrainTargetOf(root, j.ring)
	if !selected {
		if owned || draining {
			return []gapKind{gapNotSelected}
		}
		return nil
	}
	if !owned {
		return []gapKind{gapUnassigned}
	}
	var gaps []gapKind
	switch state := j.lives(owner); {
	case state == livenessUnknown:
		gaps = append(gaps, gapOwnerUnknown)
	case state == livenessLost:
		gaps = append(gaps, gapOwnerLost)
	case !j.served.serves(owner, resource):
		gaps = append(gaps, gapNotServed)
	case draining && to != owner && j.lives(to) != livenessLive:
		gaps = append(gaps, gapHandoverTarget)
	case draining && to != owner:
		gaps = append(gaps, gapHandoverStuck)
	}
	if EpochOf(root, j.ring) == 0 {
		gaps = append(gaps, gapEpoch)
	}
	return gaps
}

// child returns what may be wrong with a child whose root has a live owner and is not in hand-over; "" for nothing.
func (j *judge) child(rootOwner string, child metav1.Object) gapKind {
	switch owner, owned := OwnerOf(child, j.ring); {
	case !owned:
		return gapChildUnassigned
	case owner != rootOwner:
		return gapChildAstray
	}
	return ""
}

// state is a digest of what a suspicion is about: if that changes, something has happened, and the time counts anew.
func (j *judge) state(object metav1.Object) uint64 {
	owner, _ := OwnerOf(object, j.ring)
	to, _ := DrainTargetOf(object, j.ring)
	return suspectState(owner, to, object.GetAnnotations()[EpochAnnotation(j.ring)])
}

func suspectState(parts ...string) uint64 { return xxhash.Sum64String(strings.Join(parts, "\x00")) }

// gapCounts says how many gaps there are of each kind.
type gapCounts map[gapKind]int64

// String is like "3 unassigned, 1 epoch", in the order of gapKinds.
func (g gapCounts) String() string {
	var parts []string
	for _, kind := range gapKinds {
		if g[kind] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", g[kind], kind))
		}
	}
	return strings.Join(parts, ", ")
}

// auditRef names an object to people.
type auditRef struct {
	resource        schema.GroupVersionResource
	namespace, name string
}

func (r auditRef) String() string {
	return strings.Join(slices.DeleteFunc([]string{r.namespace, r.name}, func(s string) bool { return s == "" }), "/")
}
