package memapi_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// TestLeaderElection runs client-go's leader election of three candidates for two virtual hours in
// which the leader is cut off every 20 minutes. There is never more than one leader, and soon always one.
func TestLeaderElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		ctx, cancel := context.WithCancel(quiet())
		var leaders atomic.Int32
		var terms [3]atomic.Int32
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				for ctx.Err() == nil {
					elect(ctx, t, s, i, &leaders, &terms[i])
				}
			})
		}
		time.Sleep(time.Minute)
		for range 6 {
			leader := s.Client(holder(s))
			leader.SetLink(memapi.Partitioned)
			time.Sleep(time.Minute)
			if now := holder(s); now == leader.Name() || leaders.Load() != 1 {
				t.Errorf("a minute after %s was cut off: holder %s, %d leaders", leader.Name(), now, leaders.Load())
			}
			leader.SetLink(memapi.Connected)
			time.Sleep(19 * time.Minute)
		}
		cancel()
		wg.Wait()
		if total := terms[0].Load() + terms[1].Load() + terms[2].Load(); total != 7 {
			t.Errorf("%d terms, want the first and one after each of 6 partitions", total)
		}
	})
}

func elect(ctx context.Context, t *testing.T, s *memapi.Server, i int, leaders, terms *atomic.Int32) {
	name := fmt.Sprintf("candidate-%d", i)
	client := kubernetes.NewForConfigOrDie(s.Config(name))
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: "ns", Name: "leader"},
			Client: client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: name}},
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				terms.Add(1)
				if n := leaders.Add(1); n != 1 {
					t.Errorf("%d leaders", n)
				}
				<-ctx.Done()
				leaders.Add(-1)
			},
			OnStoppedLeading: func() {},
		},
	})
}

func holder(s *memapi.Server) string {
	lease := s.Get(leases, "ns", "leader")
	spec, _ := lease.Object["spec"].(map[string]any)
	name, _ := spec["holderIdentity"].(string)
	return name
}

// TestRetryWatcher holds that client-go's RetryWatcher goes on over dropped watches without a gap and
// without a repetition, and ends when its history is gone.
func TestRetryWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		ctx, cancel := context.WithCancel(quiet())
		client := kubernetes.NewForConfigOrDie(s.Config("w")).CoreV1().ConfigMaps("ns")
		start := fmt.Sprint(s.Revision())
		w, err := watchtools.NewRetryWatcherWithContext(ctx, start, &cache.ListWatch{
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return client.Watch(ctx, o)
			}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			name := fmt.Sprintf("c%d", i)
			put(t, s, name, nil)
			if i%10 == 9 {
				s.Client("w").DropWatches()
			}
			if e := <-w.ResultChan(); e.Type != watch.Added || e.Object.(metav1.Object).GetName() != name {
				t.Fatalf("event %d: %v %v", i, e.Type, e.Object)
			}
		}
		s.Client("w").SetLink(memapi.Partitioned)
		put(t, s, "late", nil)
		time.Sleep(10 * time.Minute)
		s.Compact()
		s.Client("w").SetLink(memapi.Connected)
		if e, open := <-w.ResultChan(); !open || e.Type != watch.Error {
			t.Errorf("after compaction: %v %v, want an error event", e, open)
		}
		<-w.Done()
		cancel()
	})
}
