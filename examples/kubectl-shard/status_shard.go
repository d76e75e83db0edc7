package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/health"
)

// Names that manager and workers write, and that the library does not export.
const (
	termAnnotation    = "shard.io/manager-term" // on a ShardConfig: the term of the manager that serves it
	leavingAnnotation = "shard.io/leaving"      // on a ShardInstance: its worker drains it, as it was told to stop
	conditionDrained  = "Drained"
	reasonNoTarget    = "NoTarget" // of Drained: nobody may receive the objects
	conditionHeld     = "TakeOversHeld"
)

func newShardStatus(f *ringFacts, instance *shardv1.ShardInstance, share float64, now time.Time) shardStatus {
	lease, note := leaseState(f, instance.Name, now)
	return shardStatus{
		Name: instance.Name, Phase: phaseOf(instance), Load: ratio(instance.Status.Load), Objects: instance.Status.AssignedResourceCount,
		Share: share, Weight: max(1, instance.Spec.Weight), LeaseAge: lease, Version: instance.Status.Version,
		Note: strings.Join(append(specNotes(instance), note...), ", "),
	}
}

func phaseOf(instance *shardv1.ShardInstance) string {
	return shardv1.PhaseOf(instance.Spec, instance.Status.Conditions)
}

// specNotes say what somebody has asked for.
func specNotes(instance *shardv1.ShardInstance) []string {
	var notes []string
	if instance.Spec.Cordoned {
		notes = append(notes, "cordoned")
	}
	if instance.Spec.Draining {
		note := "drain asked for"
		if _, leaving := instance.Annotations[leavingAnnotation]; leaving {
			note = "leaving"
		}
		if meta.IsStatusConditionTrue(instance.Status.Conditions, conditionDrained) {
			note += ", empty"
		}
		notes = append(notes, note)
	}
	if instance.DeletionTimestamp != nil {
		notes = append(notes, "being deleted")
	}
	return notes
}

// leaseState is how long ago the Lease was renewed, and what is special about it.
func leaseState(f *ringFacts, shard string, now time.Time) (string, []string) {
	lease := f.leases[shard]
	switch {
	case lease == nil:
		return "", []string{"no Lease"}
	case lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "":
		return "", []string{"Lease released"}
	case lease.Spec.RenewTime == nil:
		return "", []string{"Lease never renewed"}
	}
	since := age(now.Sub(lease.Spec.RenewTime.Time))
	if strings.HasPrefix(*lease.Spec.HolderIdentity, health.ManagerPrefix) {
		return since, []string{"being taken over"}
	}
	return since, nil
}

// wantedConditions are what the conditions of a ring should be. What is not serious passes by itself.
var wantedConditions = []struct {
	kind    string
	status  metav1.ConditionStatus
	serious bool
}{
	{shardv1.ConditionReady, metav1.ConditionTrue, true},
	{shardv1.ConditionReconciling, metav1.ConditionFalse, false},
	{shardv1.ConditionStalled, metav1.ConditionFalse, true},
	{shardv1.ConditionOverlapping, metav1.ConditionFalse, true},
	{shardv1.ConditionCovered, metav1.ConditionTrue, true},
	{shardv1.ConditionDoublyOwned, metav1.ConditionFalse, true},
	{conditionHeld, metav1.ConditionFalse, true},
}

func configProblems(config *shardv1.ShardConfig, now time.Time) []problem {
	var problems []problem
	object := "ring/" + config.Name
	for _, want := range wantedConditions {
		have := meta.FindStatusCondition(config.Status.Conditions, want.kind)
		if have == nil {
			if want.kind == shardv1.ConditionReady {
				problems = append(problems, problem{Object: object, Condition: want.kind, Status: "Unknown", Reason: "NoManager", Message: "No manager has served the ring yet.", Serious: true})
			}
			continue
		}
		if have.Status != want.status {
			serious := want.serious && (have.Status != metav1.ConditionUnknown || want.kind == shardv1.ConditionReady)
			problems = append(problems, newProblem(object, have, serious, now))
		}
	}
	if config.DeletionTimestamp != nil {
		problems = append(problems, problem{Object: object, Condition: "Deleted", Status: "True", Since: age(now.Sub(config.DeletionTimestamp.Time)),
			Message: "It is gone when a manager has taken all labels off: " + strings.Join(config.Finalizers, ", ") + "."})
	}
	return problems
}

func shardProblems(instance *shardv1.ShardInstance, now time.Time) []problem {
	object := "shard/" + instance.Name
	ready := meta.FindStatusCondition(instance.Status.Conditions, shardv1.ConditionReady)
	var problems []problem
	switch {
	case ready == nil:
		problems = append(problems, problem{Object: object, Condition: shardv1.ConditionReady, Status: "Unknown", Reason: "NeverSeen", Message: "The shard has not been seen alive yet."})
	case ready.Status != metav1.ConditionTrue:
		// A shard that has left in order is no fault.
		problems = append(problems, newProblem(object, ready, ready.Reason != shardv1.ReasonLeaseReleased, now))
	}
	drained := meta.FindStatusCondition(instance.Status.Conditions, conditionDrained)
	if drained != nil && drained.Status != metav1.ConditionTrue {
		problems = append(problems, newProblem(object, drained, drained.Reason == reasonNoTarget, now))
	}
	if stalled := meta.FindStatusCondition(instance.Status.Conditions, shardv1.ConditionStalled); stalled != nil && stalled.Status == metav1.ConditionTrue {
		problems = append(problems, newProblem(object, stalled, true, now))
	}
	return problems
}

func newProblem(object string, c *metav1.Condition, serious bool, now time.Time) problem {
	return problem{
		Object: object, Condition: c.Type, Status: string(c.Status), Reason: c.Reason, Since: age(now.Sub(c.LastTransitionTime.Time)),
		Message: c.Message, Serious: serious,
	}
}

// text writes the report for people.
func (r statusReport) text(out io.Writer) {
	for i, ring := range r.Rings {
		if i > 0 {
			fmt.Fprintln(out)
		}
		ring.text(out)
	}
	if len(r.Rings) == 0 {
		fmt.Fprintln(out, "There is no ring.")
	}
}

func (r ringStatus) text(out io.Writer) {
	rings := newTable("RING", "NAMESPACE", "STRATEGY", "READY", "SHARDS", "UNOWNED", "LOAD", "GENERATION", "TERM")
	rings.row(r.Name, r.Namespace, r.Strategy, r.Ready, fmt.Sprintf("%d/%d", r.ReadyShards, r.Shards), r.Unowned, r.Load, r.Generation, cmp.Or(r.Term, "-"))
	rings.write(out)
	shards := newTable("SHARD", "PHASE", "LOAD", "OBJECTS", "SLOTS", "WEIGHT", "LEASE", "VERSION", "NOTE")
	for _, m := range r.Members {
		shards.row(m.Name, m.Phase, m.Load, m.Objects, percent(m.Share), m.Weight, m.LeaseAge, clip(m.Version, 24), m.Note)
	}
	shards.section(out)
	problems := newTable("OBJECT", "CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE")
	for _, p := range r.Problems {
		problems.row(p.Object, p.Condition, p.Status, p.Reason, p.Since, clip(p.Message, 160))
	}
	problems.section(out)
	migrations := newTable("MIGRATION", "REASON", "SOURCE", "TARGET", "PHASE", "MOVED", "TOTAL", "AGE")
	for _, m := range r.Migrations {
		migrations.row(m.Name, m.Reason, m.Source, m.Target, m.Phase, m.Moved, m.Total, m.Age)
	}
	migrations.section(out)
}
