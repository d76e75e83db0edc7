package sharding_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/shardtest"
)

// What guard and fence cost a reconcile, against the same loop without them, in the same run.

// guardedShard is a shard that owns the Secret ns/o, which controls the ConfigMap ns/c.
type guardedShard struct {
	ctx    context.Context
	cfg    *rest.Config
	worker *sharding.Worker
	guard  *sharding.Guard
	roots  cache.Store
	object types.NamespacedName
}

func newGuardedShard(tb testing.TB) *guardedShard {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{}))
	server, err := shardtest.NewServer(shardtest.ServerOptions{})
	must(err)
	ring, err := shardtest.NewRing(server, &shardv1.ShardConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "sys"},
		Spec:       shardv1.ShardConfigSpec{Targets: []shardv1.Target{{Resource: "secrets", Controlled: []shardv1.ControlledResource{{Resource: "configmaps"}}}}},
	})
	must(err)
	test := kubernetes.NewForConfigOrDie(server.Config("test")).CoreV1()
	root, err := test.Secrets("ns").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "o"}}, metav1.CreateOptions{})
	must(err)
	_, err = test.ConfigMaps("ns").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c",
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(root, corev1.SchemeGroupVersion.WithKind("Secret"))}}}, metav1.CreateOptions{})
	must(err)
	s := &guardedShard{ctx: ctx, cfg: server.Config("a"), object: types.NamespacedName{Namespace: "ns", Name: "o"}}
	must(ring.Assign(schema.GroupResource{Resource: "secrets"}, s.object, "a"))
	s.worker, err = sharding.NewWorker(s.cfg, ring.WorkerOptions("a"))
	must(err)
	factory := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(s.cfg), 0, informers.WithTweakListOptions(s.worker.TweakListOptions))
	secrets := factory.Core().V1().Secrets().Informer()
	enqueued := make(chan struct{}, 100)
	s.guard, err = s.worker.Guard(sharding.Controller{
		Informer: secrets, Children: map[schema.GroupResource]cache.SharedIndexInformer{{Resource: "configmaps"}: factory.Core().V1().ConfigMaps().Informer()},
	}, func(types.NamespacedName, bool) { enqueued <- struct{}{} })
	must(err)
	s.roots = secrets.GetStore()
	ended := make(chan error, 1)
	go func() { ended <- s.worker.Start(ctx) }()
	<-enqueued
	tb.Cleanup(func() {
		cancel()
		must(<-ended)
		server.Close()
	})
	return s
}

type syncFunc func(context.Context, types.NamespacedName) error

// syncs are what a loop may do with an object, from nothing to what needs a context of its own.
func (s *guardedShard) syncs() map[string]syncFunc {
	return map[string]syncFunc{
		"reads its object": func(ctx context.Context, object types.NamespacedName) error {
			_, _, err := s.roots.GetByKey(object.String())
			return err
		},
		"logs": func(ctx context.Context, object types.NamespacedName) error {
			klog.FromContext(ctx).V(5).Info("Reconciling")
			return ctx.Err()
		},
		"has a deadline of its own": func(ctx context.Context, _ types.NamespacedName) error {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return ctx.Err()
		},
	}
}

// loop is one turn of an operator's loop.
func loop(ctx context.Context, queue workqueue.TypedInterface[types.NamespacedName], object types.NamespacedName, do func(context.Context, types.NamespacedName) error) {
	queue.Add(object)
	key, _ := queue.Get()
	if err := do(ctx, key); err != nil {
		panic(err)
	}
	queue.Done(key)
}

// measure also reports the time of the processor, which other programs on the machine disturb less than that of the clock.
func measure(b *testing.B, turn func()) {
	b.Helper()
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		turn()
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func processorTime(b *testing.B) int64 {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func BenchmarkGuard(b *testing.B) {
	s := newGuardedShard(b)
	queue := workqueue.NewTyped[types.NamespacedName]()
	defer queue.ShutDown()
	for name, sync := range s.syncs() {
		b.Run(name+"/without", func(b *testing.B) {
			measure(b, func() { loop(s.ctx, queue, s.object, sync) })
		})
		b.Run(name+"/guarded", func(b *testing.B) {
			guarded := func(ctx context.Context, object types.NamespacedName) error { return s.guard.Do(ctx, object, sync) }
			measure(b, func() { loop(s.ctx, queue, s.object, guarded) })
		})
	}
}

type answering struct{}

var answer = &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}

func (answering) RoundTrip(*http.Request) (*http.Response, error) { return answer, nil }

// BenchmarkFencedWrite sends writes to a transport that answers at once.
func BenchmarkFencedWrite(b *testing.B) {
	s := newGuardedShard(b)
	bare := &rest.Config{Host: s.cfg.Host, Transport: answering{}}
	transport := func(cfg *rest.Config) http.RoundTripper {
		t, err := rest.TransportFor(cfg)
		if err != nil {
			b.Fatal(err)
		}
		return t
	}
	without, fenced := transport(bare), transport(s.worker.FencedConfig(bare))
	for _, write := range []struct{ name, method, path string }{
		{"root", http.MethodPatch, "/api/v1/namespaces/ns/secrets/o"},
		{"status", http.MethodPatch, "/api/v1/namespaces/ns/secrets/o/status"},
		{"child", http.MethodPut, "/api/v1/namespaces/ns/configmaps/c"},
		{"new child", http.MethodPost, "/api/v1/namespaces/ns/configmaps"},
		{"neither", http.MethodPut, "/apis/apps/v1/namespaces/ns/deployments/d"},
	} {
		err := s.guard.Do(s.ctx, s.object, func(ctx context.Context, _ types.NamespacedName) error {
			request, err := http.NewRequestWithContext(ctx, write.method, s.cfg.Host+write.path, io.NopCloser(bytes.NewReader([]byte("{}"))))
			if err != nil {
				return err
			}
			for _, by := range []struct {
				name string
				http.RoundTripper
			}{{"without", without}, {"fenced", fenced}} {
				b.Run(write.name+"/"+by.name, func(b *testing.B) {
					measure(b, func() {
						if _, err := by.RoundTrip(request); err != nil {
							b.Fatal(err)
						}
					})
				})
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
