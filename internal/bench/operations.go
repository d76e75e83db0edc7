//go:build unix

package main

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
)

// crowd is how many shards come, are drained and go.
const crowd = 100

// measureOperations has many shards come, be drained and go at the same time. There are no processes behind them: what is measured is the
// manager, which has to plan the ring, write it to each of them, say that each is empty, and divide what they had.
func measureOperations(ctx context.Context, c *cluster, s settings) (table, error) {
	t := table{Title: fmt.Sprintf("%d shards come, are drained and are deleted, %d at a time", crowd, s.concurrency)}
	err := c.createRing(ctx, ring, false, func(config *v1.ShardConfig) {
		config.Spec.MaxShards = 1000
	})
	if err != nil {
		return t, err
	}
	if _, err := c.startManager(); err != nil {
		return t, err
	}
	if err := c.createShard(ctx, "stays"); err != nil {
		return t, err
	}
	if err := c.waitShards(ctx, func(i *v1.ShardInstance) bool { return hasRanges(i) }, 1); err != nil {
		return t, err
	}
	total := 0.0
	for _, operation := range []struct {
		name  string
		write func(i int) error
		read  func(i *v1.ShardInstance) bool
		count int
	}{
		{"create: the last one has its part of the ring", func(i int) error { return c.createShard(ctx, crowdName(i)) }, hasRanges, crowd + 1},
		{"drain: the last one is said to be empty, and has no part", func(i int) error { return c.drainShard(ctx, crowdName(i)) }, isDrained, crowd},
		{"delete: the last one is gone", func(i int) error { return c.deleteShard(ctx, crowdName(i)) }, func(*v1.ShardInstance) bool { return true }, 1},
	} {
		begun := time.Now()
		if err := parallel(ctx, s.concurrency, crowd, operation.write); err != nil {
			return t, fmt.Errorf("%s: %w", operation.name, err)
		}
		wrote := time.Since(begun)
		if err := c.waitShards(ctx, operation.read, operation.count); err != nil {
			return t, fmt.Errorf("%s: %w", operation.name, err)
		}
		took := time.Since(begun).Seconds()
		total += took
		t.add(operation.name, took, "s", "", fmt.Sprintf("%s operations/s; of it %s s until the last one was asked for", number(crowd/took), number(wrote.Seconds())))
	}
	t.add("all three", 3*crowd/total, "operations/s", "≥ 100")
	return t, nil
}

func crowdName(i int) string { return fmt.Sprintf("shard-%03d", i) }

// createShard writes what a worker writes when it starts.
func (c *cluster) createShard(ctx context.Context, id string) error {
	labels := map[string]string{sharding.RingLabel: ring}
	_, err := c.shards.ShardV1().ShardInstances(ring).Create(ctx, &v1.ShardInstance{
		ObjectMeta: metav1.ObjectMeta{Name: id, Labels: labels}, Spec: v1.ShardInstanceSpec{ShardID: id, Ring: ring, Weight: 1},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	now := metav1.NowMicro()
	lease, err := c.kube.CoordinationV1().Leases(ring).Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: id, Labels: labels},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To(id + "_bench"), LeaseDurationSeconds: ptr.To[int32](3600), AcquireTime: &now, RenewTime: &now, LeaseTransitions: ptr.To[int32](0),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	later := metav1.NewMicroTime(now.Add(time.Millisecond))
	lease.Spec.RenewTime = &later // a shard is alive when it is seen to renew; this one is good for an hour
	_, err = c.kube.CoordinationV1().Leases(ring).Update(ctx, lease, metav1.UpdateOptions{})
	return err
}

func (c *cluster) drainShard(ctx context.Context, id string) error {
	_, err := c.shards.ShardV1().ShardInstances(ring).Patch(ctx, id, types.MergePatchType, []byte(`{"spec":{"draining":true}}`), metav1.PatchOptions{})
	return err
}

// deleteShard writes what a worker writes when it leaves.
func (c *cluster) deleteShard(ctx context.Context, id string) error {
	if err := c.kube.CoordinationV1().Leases(ring).Delete(ctx, id, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return c.shards.ShardV1().ShardInstances(ring).Delete(ctx, id, metav1.DeleteOptions{})
}

func hasRanges(i *v1.ShardInstance) bool {
	return i.Spec.HashRange != nil || len(i.Spec.HashRanges) > 0
}

func isDrained(i *v1.ShardInstance) bool {
	return !hasRanges(i) && meta.IsStatusConditionTrue(i.Status.Conditions, "Drained")
}

// waitShards waits until as many of the ring's ShardInstances are so.
func (c *cluster) waitShards(ctx context.Context, so func(*v1.ShardInstance) bool, count int) error {
	n := 0
	err := until(ctx, func() (bool, error) {
		list, err := c.shards.ShardV1().ShardInstances(ring).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return false, nil
		}
		n = 0
		for i := range list.Items {
			if so(&list.Items[i]) {
				n++
			}
		}
		return n == count, nil
	})
	if err != nil {
		return fmt.Errorf("%d of %d shards are so: %w", n, count, err)
	}
	return nil
}
