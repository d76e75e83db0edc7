package v1

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Types of conditions. The first three have the meaning that kstatus gives them.
const (
	// ConditionReady is True when a ring does what its spec asks for, and when a shard is alive and may act.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the state is on its way to what the spec asks for.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when nothing will get better until somebody changes something.
	ConditionStalled = "Stalled"
	// ConditionOverlapping is True on the younger one of two rings that have a target in common.
	ConditionOverlapping = "Overlapping"
	// ConditionAbleToScale is True on a ring with a workload when the manager can give it as many replicas as are desired.
	ConditionAbleToScale = "AbleToScale"
	// ConditionResourcesApplied is True on a ring with a workload and resources when the template of the workload has these resources.
	ConditionResourcesApplied = "ResourcesApplied"
	// ConditionCovered is True on a ring when its latest audit found for every object of every target a live owner, which holds it, and
	// every child with its root.
	ConditionCovered = "Covered"
	// ConditionDoublyOwned is True on a ring when two shards report at the same time to hold one object.
	ConditionDoublyOwned = "DoublyOwned"
)

// Reasons of the condition Ready of a ShardInstance. PhaseOf knows them.
const (
	// ReasonAlive goes with True: the shard renews its Lease.
	ReasonAlive = "Alive"
	// ReasonLeaseSilent goes with Unknown: the shard has not renewed its Lease for some time, but the Lease has not run out.
	ReasonLeaseSilent = "LeaseSilent"
	// ReasonLeaseExpired goes with False: the Lease ran out, and the objects of the shard were or will be given to others.
	ReasonLeaseExpired = "LeaseExpired"
	// ReasonLeaseReleased goes with False: the shard left in good order.
	ReasonLeaseReleased = "LeaseReleased"
)

// Phases of a ShardInstance. They are for people; programs look at conditions.
const (
	// PhasePending means that the shard has not yet been seen alive.
	PhasePending = "Pending"
	// PhaseRunning means that the shard is alive.
	PhaseRunning = "Running"
	// PhaseDraining means that the objects of the shard are moving to others.
	PhaseDraining = "Draining"
	// PhaseSilent means that the shard has not been heard of for some time: it gets no new objects and keeps its own.
	PhaseSilent = "Silent"
	// PhaseLost means that the Lease of the shard ran out.
	PhaseLost = "Lost"
	// PhaseTerminated means that the shard has left in good order.
	PhaseTerminated = "Terminated"
)

// PhaseOf returns the phase that sums up spec and conditions. It is the only place where phases come from. What happened to the
// Lease counts more than what the spec asks for: a shard that is lost while it drains is lost.
func PhaseOf(spec ShardInstanceSpec, conditions []metav1.Condition) string {
	ready := meta.FindStatusCondition(conditions, ConditionReady)
	if ready == nil {
		ready = &metav1.Condition{}
	}
	switch {
	case ready.Status == metav1.ConditionFalse && ready.Reason == ReasonLeaseExpired:
		return PhaseLost
	case ready.Status == metav1.ConditionFalse && ready.Reason == ReasonLeaseReleased:
		return PhaseTerminated
	case ready.Status == metav1.ConditionUnknown && ready.Reason == ReasonLeaseSilent:
		return PhaseSilent
	case spec.Draining:
		return PhaseDraining
	case ready.Status == metav1.ConditionTrue:
		return PhaseRunning
	default:
		return PhasePending
	}
}
