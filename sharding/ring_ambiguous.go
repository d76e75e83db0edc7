package sharding

import (
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// reasonRingAmbiguous: the ShardInstance names no ring, and there are several that it could be of. It is of none then.
const reasonRingAmbiguous = "RingAmbiguous"

// ambiguousStatus is the manager's part of the status of a ShardInstance that names none of several rings.
func ambiguousStatus(instance *shardv1.ShardInstance, rings []string) instanceStatus {
	stalled := metav1.Condition{
		Type: shardv1.ConditionStalled, Status: metav1.ConditionTrue, Reason: reasonRingAmbiguous,
		Message:            clip("spec.ring must name the ShardConfig that the shard belongs to, one of: " + strings.Join(rings, ", ") + "."),
		ObservedGeneration: instance.Generation,
	}
	status := instanceStatus{conditions: []metav1.Condition{stalled}}
	status.phase = shardv1.PhaseOf(instance.Spec, status.conditions)
	return status
}

// markAmbiguous tells ShardInstances that are of no ring why. Of several rings the first by name does it.
func (c *ringController) markAmbiguous(ctx context.Context) error {
	configs, err := c.configs.List(labels.Everything())
	if err != nil || len(configs) < 2 {
		return err
	}
	rings := make([]string, len(configs))
	for i, config := range configs {
		rings[i] = config.Name
	}
	if slices.Sort(rings); rings[0] != c.ring {
		return nil
	}
	instances, err := c.instances.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, instance := range instances {
		want := ambiguousStatus(instance, rings)
		if instance.Spec.Ring != "" || instance.DeletionTimestamp != nil || want.equals(instance) {
			continue
		}
		if err := c.applyInstance(ctx, instance, want); err != nil {
			return err
		}
	}
	return nil
}
