package sharding_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/shardtest"
)

const (
	benchedObjects = 1000
	benchedHands   = 4
)

// BenchmarkReconciles is how many reconciles per second there are when each looks its object up in the cache and does nothing else: with an
// informer and a workqueue of client-go, as a controller without shards is written, and with a Worker. Both have the same informer with
// the same label selector, on the same stream of events. In "events" each reconcile is caused by an event, and all that comes before it is
// part of the loop: reading and decoding the event, the cache, the handlers. In "requeued" each asks to be called again at once, so
// that nothing is in the loop but the queue and what a Worker does around a reconcile.
//
// A run has both, twice in turn, with b.N reconciles each, and reports the ratio: that of the clock, and that of the time of the processor, which other
// programs on the machine disturb less.
func BenchmarkReconciles(b *testing.B) {
	for _, c := range []struct {
		name, mediaType string
		requeue         bool
	}{
		{"events as JSON", apiruntime.ContentTypeJSON, false},
		{"events as protobuf", apiruntime.ContentTypeProtobuf, false},
		{"requeued", apiruntime.ContentTypeJSON, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			var bare, worker benchedTime
			for _, sharded := range []bool{false, true, true, false} {
				arm := &bare
				if sharded {
					arm = &worker
				}
				arm.add(benchReconciles(b, c.mediaType, c.requeue, sharded))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(bare.perSecond(), "client-go/s")
			b.ReportMetric(worker.perSecond(), "worker/s")
			b.ReportMetric(worker.perSecond()/bare.perSecond(), "ratio")
			b.ReportMetric(bare.cpu(), "client-go-cpu-ns")
			b.ReportMetric(worker.cpu(), "worker-cpu-ns")
			b.ReportMetric(bare.cpu()/worker.cpu(), "cpu-ratio")
		})
	}
}

// benchedTime is what a number of reconciles took.
type benchedTime struct {
	reconciles int64
	clock      time.Duration
	processor  int64 // nanoseconds
}

func (t *benchedTime) add(u benchedTime) {
	t.reconciles, t.clock, t.processor = t.reconciles+u.reconciles, t.clock+u.clock, t.processor+u.processor
}

func (t *benchedTime) perSecond() float64 { return float64(t.reconciles) / t.clock.Seconds() }

func (t *benchedTime) cpu() float64 { return float64(t.processor) / float64(t.reconciles) }

// benchedLoop is what the two have in common.
type benchedLoop struct {
	stream  *eventStream
	factory informers.SharedInformerFactory
	secrets coreinformers.SecretInformer
	lister  corelisters.SecretLister

	requeue   bool
	wanted    int64
	measuring atomic.Bool
	turns     atomic.Int64 // reconciles, of those that ask to be called again
	ended     chan struct{}
}

// reconcile says whether the object is to be reconciled again at once.
func (l *benchedLoop) reconcile(key types.NamespacedName) (again bool, err error) {
	object, err := l.lister.Secrets(key.Namespace).Get(key.Name)
	switch {
	case err != nil:
		return false, err
	case !l.requeue:
		l.stream.reconciled(object)
		return false, nil
	case !l.measuring.Load():
		l.stream.reconciled(object)
		return true, nil
	}
	n := l.turns.Add(1)
	if n == l.wanted {
		close(l.ended)
	}
	return n < l.wanted, nil
}

func benchReconciles(b *testing.B, mediaType string, requeue, sharded bool) benchedTime {
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{}))
	stream, err := newEventStream(mediaType, benchedObjects, int64(b.N))
	must(err)
	defer stream.Close()
	w, closeRing, err := benchedWorker(ctx)
	must(err)
	defer closeRing()
	l := &benchedLoop{stream: stream, requeue: requeue, wanted: int64(b.N), ended: make(chan struct{})}
	l.factory = informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(stream.config()), 0, informers.WithTweakListOptions(w.TweakListOptions))
	l.secrets = l.factory.Core().V1().Secrets()
	l.lister = l.secrets.Lister()
	returned := make(chan error, 1)
	go func() {
		if sharded {
			returned <- l.shard(ctx, w)
		} else {
			returned <- l.bare(ctx)
		}
	}()
	<-stream.ready
	runtime.GC()
	begun, processor := time.Now(), processorTime(b)
	took := benchedTime{reconciles: int64(b.N)}
	if l.measuring.Store(true); requeue {
		<-l.ended
	} else {
		close(stream.begin)
		<-stream.ended
		took.reconciles = stream.reconciles.Load()
	}
	took.clock, took.processor = time.Since(begun), processorTime(b)-processor
	cancel()
	must(<-returned)
	l.factory.Shutdown()
	return took
}

// benchedWorker returns the Worker that owns what is in the stream.
func benchedWorker(ctx context.Context) (*sharding.Worker, func(), error) {
	server, err := shardtest.NewServer(shardtest.ServerOptions{})
	if err != nil {
		return nil, nil, err
	}
	ring, err := shardtest.NewRing(server, &shardv1.ShardConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "sys"}, Spec: shardv1.ShardConfigSpec{Targets: []shardv1.Target{{Resource: "secrets"}}},
	})
	if err != nil {
		return nil, nil, err
	}
	secrets := kubernetes.NewForConfigOrDie(server.Config("test")).CoreV1().Secrets("ns")
	for i := range benchedObjects {
		if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: streamedName(i)}}, metav1.CreateOptions{}); err != nil {
			return nil, nil, err
		}
		if err := ring.Assign(schema.GroupResource{Resource: "secrets"}, types.NamespacedName{Namespace: "ns", Name: streamedName(i)}, "a"); err != nil {
			return nil, nil, err
		}
	}
	w, err := sharding.NewWorker(server.Config("a"), ring.WorkerOptions("a"))
	return w, server.Close, err
}

// bare is a controller as they are written without shards.
func (l *benchedLoop) bare(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]())
	add := func(obj any) {
		if o, ok := obj.(metav1.Object); ok {
			queue.Add(types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()})
		}
	}
	informer := l.secrets.Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, o any) { add(o) }, DeleteFunc: add}); err != nil {
		return err
	}
	l.factory.Start(ctx.Done())
	l.factory.WaitForCacheSync(ctx.Done())
	var hands sync.WaitGroup
	for range benchedHands {
		hands.Go(func() {
			for {
				key, shutdown := queue.Get()
				if shutdown {
					return
				}
				switch again, err := l.reconcile(key); {
				case err != nil:
					queue.AddRateLimited(key)
				case again:
					queue.Forget(key)
					queue.AddAfter(key, time.Nanosecond)
				default:
					queue.Forget(key)
				}
				queue.Done(key)
			}
		})
	}
	<-ctx.Done()
	queue.ShutDown()
	hands.Wait()
	return nil
}

func (l *benchedLoop) shard(ctx context.Context, w *sharding.Worker) error {
	err := w.Add(sharding.Controller{
		Informer: l.secrets.Informer(), Concurrency: benchedHands,
		Reconcile: func(_ context.Context, key types.NamespacedName) (sharding.Result, error) {
			again, err := l.reconcile(key)
			if again {
				return sharding.Result{RequeueAfter: time.Nanosecond}, err
			}
			return sharding.Result{}, err
		},
	})
	if err != nil {
		return err
	}
	return w.Start(ctx)
}
