package sharding

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	applyv1 "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
)

// goneLeases is for how many lease durations the ShardInstance of a dead shard is kept, for people to see, and for the shard
// to come back to.
const goneLeases = 10

func applyOptions() metav1.ApplyOptions {
	return metav1.ApplyOptions{FieldManager: managerFieldManager, Force: true}
}

// publish writes the slot table to the ShardInstances.
func (c *ringController) publish(ctx context.Context, instances []*shardv1.ShardInstance) error {
	writes := &batch{gate: c.gate}
	for _, instance := range instances {
		spec := applyv1.ShardInstanceSpec()
		for _, r := range writtenRanges(c.table, instance.Name) {
			spec.WithHashRanges(applyv1.HashRange().WithStart(r.Start).WithEnd(r.End))
		}
		// The UID keeps the write from creating anew an instance that has just been deleted, the version from undoing what another
		// manager has written.
		apply := applyv1.ShardInstance(instance.Name, instance.Namespace).WithUID(instance.UID).
			WithResourceVersion(instance.ResourceVersion).WithSpec(spec)
		err := writes.do(ctx, func(ctx context.Context) error {
			written, err := c.shards.ShardV1().ShardInstances(c.namespace).Apply(ctx, apply, applyOptions())
			return c.answered(written, err)
		})
		if err != nil {
			return err
		}
	}
	return writes.wait()
}

// markInstances brings the manager's part of the status of all ShardInstances up to date, and deletes those of shards that
// have been dead for long.
func (c *ringController) markInstances(ctx context.Context, instances map[string]*shardv1.ShardInstance, facts []shardFact, members membership, lease time.Duration) error {
	writes := &batch{gate: c.gate}
	for _, fact := range facts {
		instance := instances[fact.id]
		if instance == nil || instance.DeletionTimestamp != nil {
			continue
		}
		standing := members.standings[fact.id]
		if c.isLongGone(fact.id, instance, standing, lease) {
			if err := writes.do(ctx, func(ctx context.Context) error { return c.deleteInstance(ctx, instance) }); err != nil {
				return err
			}
			continue
		}
		drain := c.drainStateOf(fact.id)
		if instance.Spec.Draining && drain == drainDone {
			c.emptied[fact.id] = true // its worker leaves when it is told so
		}
		want := instanceStatusOf(fact, standing, drain)
		if want.equals(instance) || c.drainsAtOnce(fact.id, standing, drain) {
			continue
		}
		if err := writes.do(ctx, func(ctx context.Context) error { return c.applyInstance(ctx, instance, want) }); err != nil {
			return err
		}
	}
	return writes.wait()
}

// drainNotice is for how long nothing is said of a shard that is to be drained: if it has nothing, that is known sooner, and one write says all.
const drainNotice = 500 * time.Millisecond

// drainsAtOnce says whether a shard may turn out to be empty in a moment.
func (c *ringController) drainsAtOnce(id string, s standing, drain drainState) bool {
	if s != standingDraining {
		delete(c.drainingSince, id)
		return false
	}
	since, known := c.drainingSince[id]
	if !known {
		since = time.Now()
		c.drainingSince[id] = since
		time.AfterFunc(drainNotice, c.kick)
	}
	return drain == drainGoesOn && time.Since(since) < drainNotice
}

// isLongGone says whether the ShardInstance of a dead shard can go: at once if the shard was leaving anyway.
func (c *ringController) isLongGone(id string, instance *shardv1.ShardInstance, s standing, lease time.Duration) bool {
	lost := meta.FindStatusCondition(instance.Status.Conditions, shardv1.ConditionReady)
	marked := lost != nil && lost.Status == metav1.ConditionFalse &&
		(lost.Reason == shardv1.ReasonLeaseExpired || lost.Reason == shardv1.ReasonLeaseReleased)
	if s != standingGone && (s != standingPending || !marked) || c.isRunning(id) {
		delete(c.goneSince, id)
		return false
	}
	since, known := c.goneSince[id]
	if !known {
		since = time.Now()
		c.goneSince[id] = since
	}
	wait := max(goneLeases*lease, time.Minute) - time.Since(since)
	if instance.Spec.Draining && s == standingGone || wait <= 0 {
		delete(c.goneSince, id)
		return true
	}
	if !known {
		time.AfterFunc(wait, c.kick)
	}
	return false
}

func (c *ringController) isRunning(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[id]
}

func (c *ringController) deleteInstance(ctx context.Context, instance *shardv1.ShardInstance) error {
	err := c.shards.ShardV1().ShardInstances(c.namespace).Delete(ctx, instance.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &instance.UID, ResourceVersion: &instance.ResourceVersion},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or not the same any more: the next event tells
	}
	return err
}

func sameCondition(have *metav1.Condition, want metav1.Condition) bool {
	return have != nil && have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message &&
		have.ObservedGeneration == want.ObservedGeneration
}

func (c *ringController) applyInstance(ctx context.Context, instance *shardv1.ShardInstance, want instanceStatus) error {
	status := applyv1.ShardInstanceStatus().WithPhase(want.phase).WithObservedGeneration(instance.Generation)
	for _, condition := range want.conditions {
		status.WithConditions(conditionApply(condition, instance.Status.Conditions))
	}
	apply := applyv1.ShardInstance(instance.Name, instance.Namespace).WithUID(instance.UID).
		WithResourceVersion(instance.ResourceVersion).WithStatus(status)
	written, err := c.shards.ShardV1().ShardInstances(c.namespace).ApplyStatus(ctx, apply, applyOptions())
	return c.answered(written, err)
}

// answered remembers what was written. That an instance is gone, or not as it was seen, is no error: the next event tells.
func (c *ringController) answered(written *shardv1.ShardInstance, err error) error {
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return nil
	case err != nil:
		return err
	}
	c.answers.note(written)
	return nil
}

// conditionApply keeps the time of the last transition unless there is one now.
func conditionApply(want metav1.Condition, have []metav1.Condition) *applymeta.ConditionApplyConfiguration {
	at := metav1.Now()
	if before := meta.FindStatusCondition(have, want.Type); before != nil && before.Status == want.Status {
		at = before.LastTransitionTime
	}
	return applymeta.Condition().WithType(want.Type).WithStatus(want.Status).WithReason(want.Reason).
		WithMessage(want.Message).WithObservedGeneration(want.ObservedGeneration).WithLastTransitionTime(at)
}
