package sharding_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/shardtest"
)

const (
	benchedObjects = 200
	benchedHands   = 4
)

// turns counts reconciles down.
type turns struct {
	left atomic.Int64
	done chan struct{}
}

// take says whether the object is to be reconciled once more.
func (t *turns) take() bool {
	left := t.left.Add(-1)
	if left == 0 {
		close(t.done)
	}
	return left > 0
}

// BenchmarkReconciles is how many reconciles per second there are when each looks its object up in the cache, does nothing, and asks to be
// called again at once: with an informer and a workqueue of client-go, as a controller without shards is written, and with a Worker. Take the
// ratio of the two, of several runs in turn.
func BenchmarkReconciles(b *testing.B) {
	b.Run("client-go", func(b *testing.B) { benchReconciles(b, bareLoop) })
	b.Run("worker", func(b *testing.B) { benchReconciles(b, workerLoop) })
}

func benchReconciles(b *testing.B, run func(context.Context, *shardtest.Server, *shardtest.Ring, *turns) error) {
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{}))
	server, err := shardtest.NewServer(shardtest.ServerOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	ring, err := shardtest.NewRing(server, &shardv1.ShardConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "sys"}, Spec: shardv1.ShardConfigSpec{Targets: []shardv1.Target{{Resource: "secrets"}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	secrets := kubernetes.NewForConfigOrDie(server.Config("test")).CoreV1().Secrets("ns")
	for i := range benchedObjects {
		name := fmt.Sprintf("o%03d", i)
		if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		if err := ring.Assign(schema.GroupResource{Resource: "secrets"}, types.NamespacedName{Namespace: "ns", Name: name}, "a"); err != nil {
			b.Fatal(err)
		}
	}
	t := &turns{done: make(chan struct{})}
	t.left.Store(int64(b.N))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, server, ring, t) }()
	for t.left.Load() == int64(b.N) { // until it has begun
		time.Sleep(time.Millisecond)
	}
	b.ResetTimer()
	begun := time.Now()
	<-t.done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(begun).Seconds(), "reconciles/s")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

func bareLoop(ctx context.Context, server *shardtest.Server, _ *shardtest.Ring, t *turns) error {
	factory := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(server.Config("bare")), 0)
	secrets := factory.Core().V1().Secrets()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]())
	add := func(obj any) {
		if o, ok := obj.(*corev1.Secret); ok {
			queue.Add(types.NamespacedName{Namespace: o.Namespace, Name: o.Name})
		}
	}
	if _, err := secrets.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, o any) { add(o) }}); err != nil {
		return err
	}
	lister := secrets.Lister()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	var all sync.WaitGroup
	for range benchedHands {
		all.Go(func() {
			for {
				key, shutdown := queue.Get()
				if shutdown {
					return
				}
				if _, err := lister.Secrets(key.Namespace).Get(key.Name); err == nil && t.take() {
					queue.Forget(key)
					queue.AddAfter(key, time.Nanosecond)
				}
				queue.Done(key)
			}
		})
	}
	<-ctx.Done()
	queue.ShutDown()
	all.Wait()
	factory.Shutdown()
	return nil
}

func workerLoop(ctx context.Context, server *shardtest.Server, ring *shardtest.Ring, t *turns) error {
	cfg := server.Config("a")
	w, err := sharding.NewWorker(cfg, ring.WorkerOptions("a"))
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(cfg), 0, informers.WithTweakListOptions(w.TweakListOptions))
	secrets := factory.Core().V1().Secrets()
	lister := secrets.Lister()
	err = w.Add(sharding.Controller{
		Informer: secrets.Informer(), Concurrency: benchedHands,
		Reconcile: func(_ context.Context, key types.NamespacedName) (sharding.Result, error) {
			if _, err := lister.Secrets(key.Namespace).Get(key.Name); err == nil && t.take() {
				return sharding.Result{RequeueAfter: time.Nanosecond}, nil
			}
			return sharding.Result{}, nil
		},
	})
	if err != nil {
		return err
	}
	return w.Start(ctx)
}
