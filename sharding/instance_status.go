package sharding

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/health"
)

// conditionDrained is True on the ShardInstance of a draining shard that owns nothing any more.
const conditionDrained = "Drained"

// Reasons of the condition Drained.
const (
	reasonDrained  = "NothingLeft"
	reasonDraining = "ObjectsLeft"
	reasonNoTarget = "NoTarget"
)

// drainState is how far the emptying of a shard is.
type drainState string

const (
	drainGoesOn drainState = "" // also: not looked at yet
	drainDone   drainState = "done"
	drainStuck  drainState = "stuck" // nobody may receive its objects
)

// instanceStatus is the manager's part of the status of a ShardInstance.
type instanceStatus struct {
	conditions []metav1.Condition
	phase      string
}

// instanceStatusOf says what the status of a ShardInstance is to be. It is a pure function.
func instanceStatusOf(f shardFact, s standing, drain drainState) instanceStatus {
	var status instanceStatus
	if ready := readyOf(f, s); ready != nil {
		status.conditions = append(status.conditions, *ready)
	}
	if f.draining() && s == standingDraining {
		status.conditions = append(status.conditions, drainedCondition(drain))
	}
	status.phase = shardv1.PhaseOf(f.instance.Spec, status.conditions)
	return status
}

// readyOf leaves the condition as it is while nothing is known: a new leader has yet to see the shard renew its Lease.
func readyOf(f shardFact, s standing) *metav1.Condition {
	c := &metav1.Condition{Type: shardv1.ConditionReady, Status: metav1.ConditionFalse}
	before := meta.FindStatusCondition(f.instance.Status.Conditions, shardv1.ConditionReady)
	switch {
	case s == standingGone && before != nil && before.Reason == shardv1.ReasonLeaseReleased:
		return before
	case s == standingGone || f.state == health.Dead:
		c.Reason, c.Message = shardv1.ReasonLeaseExpired, "The shard did not renew its Lease in time; its objects go to others."
	case f.state == health.Released:
		c.Reason, c.Message = shardv1.ReasonLeaseReleased, "The shard gave up its Lease."
	case f.state == health.Alive:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, shardv1.ReasonAlive, "The shard renews its Lease."
	case f.state == health.Silent:
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, shardv1.ReasonLeaseSilent, "The shard has not renewed its Lease lately."
	default:
		return before
	}
	return c
}

func drainedCondition(state drainState) metav1.Condition {
	c := metav1.Condition{Type: conditionDrained, Status: metav1.ConditionFalse}
	switch state {
	case drainDone:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, reasonDrained, "The shard owns nothing any more."
	case drainStuck:
		c.Reason, c.Message = reasonNoTarget, "No other shard may receive the objects."
	default:
		c.Reason, c.Message = reasonDraining, "Objects are being handed over to other shards."
	}
	return c
}

// equals says whether a ShardInstance has this status already.
func (s instanceStatus) equals(instance *shardv1.ShardInstance) bool {
	have := 0
	for _, kind := range []string{shardv1.ConditionReady, conditionDrained, shardv1.ConditionStalled} {
		if meta.FindStatusCondition(instance.Status.Conditions, kind) != nil {
			have++
		}
	}
	if have != len(s.conditions) || instance.Status.Phase != s.phase || instance.Status.ObservedGeneration != instance.Generation {
		return false
	}
	for _, want := range s.conditions {
		if !sameCondition(meta.FindStatusCondition(instance.Status.Conditions, want.Type), want) {
			return false
		}
	}
	return true
}
