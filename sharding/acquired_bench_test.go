package sharding_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/shardtest"
)

// BenchmarkAcquired gives an object to a shard that has 10,000 others in its queue. It reports which part of the time that the queue takes
// has passed when the object is reconciled for the first time.
func BenchmarkAcquired(b *testing.B) {
	const queued = 10_000
	var waited, whole time.Duration
	for b.Loop() {
		w, all := acquire(b, queued)
		waited, whole = waited+w, whole+all
	}
	b.ReportMetric(100*waited.Seconds()/whole.Seconds(), "%-of-queue")
	b.ReportMetric(waited.Seconds()*1000/float64(b.N), "ms-to-first")
	b.ReportMetric(whole.Seconds()*1000/float64(b.N), "ms-of-queue")
}

func acquire(b *testing.B, queued int) (waited, whole time.Duration) {
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{}))
	defer stop()
	server, err := shardtest.NewServer(shardtest.ServerOptions{})
	must(err)
	defer server.Close()
	ring, err := shardtest.NewRing(server, &shardv1.ShardConfig{ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "sys"},
		Spec: shardv1.ShardConfigSpec{Targets: []shardv1.Target{{Resource: "secrets"}}}})
	must(err)
	test := kubernetes.NewForConfigOrDie(server.Config("test")).CoreV1().Secrets("ns")
	for i := range queued {
		_, err := test.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("o-", i), Labels: map[string]string{sharding.OwnerLabel("r"): "a"}}}, metav1.CreateOptions{})
		must(err)
	}
	_, err = test.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "late"}}, metav1.CreateOptions{})
	must(err)

	cfg := server.Config("a")
	w, err := sharding.NewWorker(cfg, ring.WorkerOptions("a"))
	must(err)
	factory := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(cfg), 0, informers.WithTweakListOptions(w.TweakListOptions))
	begun, late, done := make(chan struct{}), make(chan time.Time, 1), 0
	must(w.Add(sharding.Controller{Informer: factory.Core().V1().Secrets().Informer(), Concurrency: 1,
		Reconcile: func(_ context.Context, object types.NamespacedName) (sharding.Result, error) {
			if done++; done == 1 {
				close(begun)
			}
			if object.Name == "late" {
				late <- time.Now()
			}
			time.Sleep(200 * time.Microsecond)
			if done == queued+1 {
				stop()
			}
			return sharding.Result{}, nil
		}}))
	ended := make(chan error, 1)
	go func() { ended <- w.Start(ctx) }()
	<-begun
	began := time.Now()
	must(ring.Assign(schema.GroupResource{Resource: "secrets"}, types.NamespacedName{Namespace: "ns", Name: "late"}, "a"))
	waited = (<-late).Sub(began)
	must(<-ended)
	return waited, time.Since(began)
}
