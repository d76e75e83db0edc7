package sharding

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/memapi"
)

// throng is many shards without processes behind them, which come, are drained and go 16 at a time.
type throng struct {
	*sim
	kube   kubernetes.Interface
	shards versioned.Interface
	size   int
}

func (s *sim) throng(size int) *throng {
	cfg := s.connect("crowd")
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		s.Fatal(err)
	}
	shards, err := versioned.NewForConfig(cfg)
	if err != nil {
		s.Fatal(err)
	}
	s.server.Client("crowd").SetFaults(memapi.Faults{MinLatency: 5 * time.Millisecond, MaxLatency: 15 * time.Millisecond})
	return &throng{sim: s, kube: kube, shards: shards, size: size}
}

// each does something for every shard of the crowd.
func (c *throng) each(do func(id string) error) {
	c.Helper()
	var all sync.WaitGroup
	next := make(chan int)
	for range 16 {
		all.Go(func() {
			for i := range next {
				if err := do(fmt.Sprintf("shard-%03d", i)); err != nil {
					c.Error(err)
				}
			}
		})
	}
	for i := range c.size {
		next <- i
	}
	close(next)
	all.Wait()
}

func (c *throng) join(id string) error {
	labels := map[string]string{RingLabel: simRing}
	_, err := c.shards.ShardV1().ShardInstances(simNamespace).Create(c.ctx, &shardv1.ShardInstance{
		ObjectMeta: metav1.ObjectMeta{Name: id, Labels: labels}, Spec: shardv1.ShardInstanceSpec{ShardID: id, Ring: simRing, Weight: 1},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	now := metav1.NowMicro()
	lease, err := c.kube.CoordinationV1().Leases(simNamespace).Create(c.ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: id, Labels: labels},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To(id + "_crowd"), LeaseDurationSeconds: ptr.To[int32](3600), AcquireTime: &now, RenewTime: &now, LeaseTransitions: ptr.To[int32](0),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	lease.Spec.RenewTime = ptr.To(metav1.NewMicroTime(now.Add(time.Millisecond)))
	_, err = c.kube.CoordinationV1().Leases(simNamespace).Update(c.ctx, lease, metav1.UpdateOptions{})
	return err
}

func (c *throng) drain(id string) error {
	_, err := c.shards.ShardV1().ShardInstances(simNamespace).Patch(c.ctx, id, types.MergePatchType, []byte(`{"spec":{"draining":true}}`), metav1.PatchOptions{})
	return err
}

func (c *throng) leave(id string) error {
	if err := c.kube.CoordinationV1().Leases(simNamespace).Delete(c.ctx, id, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return c.shards.ShardV1().ShardInstances(simNamespace).Delete(c.ctx, id, metav1.DeleteOptions{})
}

// await waits until as many shards are so.
func (c *throng) await(count int, so func(i *shardv1.ShardInstance) bool) {
	c.Helper()
	n := 0
	for range 3000 {
		n = 0
		for _, object := range c.server.List(instances, simNamespace, nil) {
			if so(c.instance(object.GetName())) {
				n++
			}
		}
		if n == count {
			return
		}
		c.settle(10 * time.Millisecond)
	}
	c.Fatalf("%d shards are so, want %d", n, count)
}

// TestCrowdComesAndGoes counts what the manager writes when a hundred shards come, are drained, and go: their part of the ring and a status when they
// come; no part, that they are being drained, and that they are empty; and nothing when they go.
func TestCrowdComesAndGoes(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.edit(configs, simNamespace, simRing, set(int64(1000), "spec", "maxShards"))
		s.edit(configs, simNamespace, simRing, set([]any{map[string]any{"resource": "secrets"}}, "spec", "targets"))
		s.edit(configs, simNamespace, simRing, set("1h", "spec", "healthCheckInterval"))
		s.runManager("m")
		c := s.throng(100)
		if err := c.join("stays"); err != nil {
			t.Fatal(err)
		}
		s.settle(20 * time.Second)
		s.server.Client("m").SetFaults(memapi.Faults{MinLatency: 5 * time.Millisecond, MaxLatency: 15 * time.Millisecond})
		hasRanges := func(i *shardv1.ShardInstance) bool { return len(i.Spec.HashRanges) > 0 }
		isDrained := func(i *shardv1.ShardInstance) bool {
			return !hasRanges(i) && meta.IsStatusConditionTrue(i.Status.Conditions, conditionDrained)
		}
		for _, phase := range []struct {
			name   string
			do     func(id string) error
			count  int
			so     func(i *shardv1.ShardInstance) bool
			after  time.Duration // when the last one had been asked for
			writes int64         // of the manager to ShardInstances
		}{
			{"join", c.join, 101, hasRanges, 500 * time.Millisecond, 220},
			{"drain", c.drain, 100, isDrained, 2 * time.Second, 220},
			{"leave", c.leave, 1, func(*shardv1.ShardInstance) bool { return true }, 100 * time.Millisecond, 0},
		} {
			before := s.server.RequestCounts()
			c.each(phase.do)
			asked := time.Now()
			c.await(phase.count, phase.so)
			if after := time.Since(asked); after > phase.after {
				t.Errorf("%s: it took %v when the last one had been asked for, want at most %v", phase.name, after, phase.after)
			}
			s.settle(5 * time.Second)
			writes, refused := int64(0), int64(0)
			for kind, n := range s.server.RequestCounts() {
				if kind.Actor != "m" || kind.Verb != "apply" || kind.Resource != instances.Resource {
					continue
				}
				if n -= before[kind]; kind.Code == http.StatusConflict {
					refused += n
				} else {
					writes += n
				}
			}
			if writes > phase.writes || refused > 5 {
				t.Errorf("%s: %d writes to ShardInstances, want at most %d; and %d that were out of date, want at most 5", phase.name, writes, phase.writes, refused)
			}
		}
	})
}
