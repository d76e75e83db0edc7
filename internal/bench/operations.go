//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	listers "github.com/shard-io/shard-controller/generated/listers/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
)

// crowd is how many shards come, are drained and go.
const crowd = 100

// measureOperations has many shards come, be drained and go at the same time. There are no processes behind them: what is measured is the
// manager, which has to plan the ring, write it to each of them, say that each is empty, and divide what they had. It is stopped while they are asked
// for, so that it does not share the processors with who asks.
func measureOperations(ctx context.Context, c *cluster, s settings) (table, error) {
	t := table{Title: fmt.Sprintf("%d shards come, are drained and are deleted, each at once", crowd)}
	err := c.createRing(ctx, ring, false, func(config *v1.ShardConfig) {
		config.Spec.MaxShards = 1000
	})
	if err != nil {
		return t, err
	}
	manager, err := c.startManager()
	if err != nil {
		return t, err
	}
	if err := c.createShard(ctx, "stays"); err != nil {
		return t, err
	}
	seen, err := c.watchRing(ctx)
	if err != nil {
		return t, err
	}
	if err := seen.wait(ctx, ringIs{shards: 1, divided: 1}); err != nil {
		return t, err
	}
	total := 0.0
	for _, operation := range []struct {
		name  string
		write func(i int) error
		done  ringIs
	}{
		{"create: the last one has its part of the ring", func(i int) error { return c.createShard(ctx, crowdName(i)) }, ringIs{shards: crowd + 1, divided: crowd + 1}},
		{"drain: the last one is said to be empty, and has no part", func(i int) error { return c.drainShard(ctx, crowdName(i)) }, ringIs{shards: crowd + 1, divided: 1, drained: crowd}},
		{"delete: the ring does without the last one", func(i int) error { return c.deleteShard(ctx, crowdName(i)) }, ringIs{shards: 1, divided: 1}},
	} {
		if err := manager.Signal(syscall.SIGSTOP); err != nil {
			return t, err
		}
		err := parallel(ctx, s.concurrency, crowd, operation.write)
		begun := time.Now()
		if err := errors.Join(err, manager.Signal(syscall.SIGCONT)); err != nil {
			return t, fmt.Errorf("%s: %w", operation.name, err)
		}
		if err := seen.wait(ctx, operation.done); err != nil {
			return t, fmt.Errorf("%s: %w", operation.name, err)
		}
		took := time.Since(begun).Seconds()
		total += took
		t.add(operation.name, took, "s", "", fmt.Sprintf("%s operations/s", number(crowd/took)))
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

// ringIs is how many shards a ring has: as its ShardConfig says, with a part of the ring, and empty.
type ringIs struct{ shards, divided, drained int }

// seenRing is the ring as watches see it: lists would take processor time from what is measured.
type seenRing struct {
	shards listers.ShardInstanceLister
	config listers.ShardConfigLister
}

func (c *cluster) watchRing(ctx context.Context) (*seenRing, error) {
	factory := c.informers()
	seen := &seenRing{factory.Shard().V1().ShardInstances().Lister(), factory.Shard().V1().ShardConfigs().Lister()}
	return seen, c.startInformers(ctx, factory)
}

// wait waits until the ring is as wanted.
func (r *seenRing) wait(ctx context.Context, want ringIs) error {
	for {
		is, err := r.is()
		if err != nil {
			return err
		}
		if is == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the ring is %+v and not %+v: %w", is, want, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (r *seenRing) is() (ringIs, error) {
	config, err := r.config.ShardConfigs(ring).Get(ring)
	if err != nil {
		return ringIs{}, err
	}
	shards, err := r.shards.ShardInstances(ring).List(labels.Everything())
	is := ringIs{shards: int(config.Status.Shards)}
	for _, shard := range shards {
		if hasRanges(shard) {
			is.divided++
		}
		if isDrained(shard) {
			is.drained++
		}
	}
	return is, err
}
