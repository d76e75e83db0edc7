package shardtest_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/shardtest"
)

// A small operator, as its main starts it. reconciled gets what it does, for the examples.
func auditor(ctx context.Context, cfg *rest.Config, o sharding.WorkerOptions, reconciled chan<- string) (*sharding.Worker, error) {
	w, err := sharding.NewWorker(cfg, o)
	if err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(w.FencedConfig(cfg))
	if err != nil {
		return nil, err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(w.TweakListOptions))
	reconcile := func(ctx context.Context, object types.NamespacedName) (sharding.Result, error) {
		epoch, _ := sharding.EpochFromContext(ctx)
		reconciled <- fmt.Sprintf("%s reconciles %s at epoch %d", o.ID, object, epoch)
		<-ctx.Done()
		reconciled <- fmt.Sprintf("%s is interrupted: fenced %v", o.ID, !errors.Is(context.Cause(ctx), sharding.ErrHandover))
		return sharding.Result{}, nil
	}
	go func() {
		if err := w.Run(ctx, factory.Core().V1().Secrets().Informer(), reconcile); err != nil {
			log.Fatal(err)
		}
	}()
	return w, nil
}

// A shard gets an object, hands it over to another one, and that one is cut off from the API server.
func ExampleRing() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ctx = klog.NewContext(ctx, klog.Logger{})

	server, err := shardtest.NewServer(shardtest.ServerOptions{})
	if err != nil {
		log.Fatal(err)
	}
	ring, err := shardtest.NewRing(server, &shardv1.ShardConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "auditor", Namespace: "audit"},
		Spec: shardv1.ShardConfigSpec{
			Targets:             []shardv1.Target{{Resource: "secrets"}},
			HealthCheckInterval: &metav1.Duration{Duration: 3 * time.Second},
			Handover:            &shardv1.Handover{DrainTimeout: metav1.Duration{Duration: time.Second}},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "one"}}
	if _, err := kubernetes.NewForConfigOrDie(server.Config("test")).CoreV1().Secrets("ns").Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		log.Fatal(err)
	}
	reconciled := make(chan string, 10)
	for _, id := range []string{"a", "b"} {
		worker, err := auditor(ctx, server.Config(id), ring.WorkerOptions(id), reconciled)
		if err != nil {
			log.Fatal(err)
		}
		if err := shardtest.Await(ctx, worker.Active); err != nil {
			log.Fatal(err)
		}
	}

	one := types.NamespacedName{Namespace: "ns", Name: "one"}
	if err := ring.Assign(secrets, one, "a"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-reconciled)
	if err := ring.Move(ctx, secrets, one, "b"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-reconciled)
	fmt.Println(<-reconciled)
	server.Actor("b").Cut()
	fmt.Println(<-reconciled)
	server.Actor("b").Mend()
	fmt.Println(<-reconciled)
	// Output:
	// a reconciles ns/one at epoch 1
	// a is interrupted: fenced false
	// b reconciles ns/one at epoch 2
	// b is interrupted: fenced true
	// b reconciles ns/one at epoch 2
}

// The answer to a write is lost. The caller can't know whether it has taken effect; the one who tries again finds out.
func ExampleActor_Fail() {
	server, err := shardtest.NewServer(shardtest.ServerOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client := kubernetes.NewForConfigOrDie(server.Config("operator")).CoreV1().ConfigMaps("ns")
	err = server.Actor("operator").Fail(shardtest.LostResponse, 1, func(r shardtest.Request) bool { return r.Verb == "create" })
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		_, err = client.Create(context.Background(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "one"}}, metav1.CreateOptions{})
		fmt.Println(err)
	}
	// Output:
	// Post "http://in-memory/api/v1/namespaces/ns/configmaps": read tcp: read: connection reset by peer
	// configmaps "one" already exists
}

// A custom resource, and every tenth request failing.
func ExampleNewServer() {
	server, err := shardtest.NewServer(shardtest.ServerOptions{
		Seed:      1,
		Resources: []shardtest.Resource{{Group: "acme.org", Version: "v1", Resource: "widgets", Kind: "Widget", Status: true}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	err = server.Actor("operator").SetFaults(shardtest.Faults{Rates: map[shardtest.Fault]float64{shardtest.Unavailable: 0.1}})
	if err != nil {
		log.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(server.Config("operator")).CoreV1().Secrets("ns")
	failed := 0
	for range 100 {
		if _, err := client.List(context.Background(), metav1.ListOptions{}); err != nil {
			failed++
		}
	}
	fmt.Println(failed > 0, failed < 30)
	// Output: true true
}

// firstShard places everything on the first shard, whether or not that may receive objects.
type firstShard struct{}

func (firstShard) Place(v *balancer.View, _ balancer.Object) (balancer.Decision, error) {
	if len(v.Shards()) == 0 {
		return balancer.Decision{}, balancer.ErrNoShard
	}
	return balancer.Decision{Shard: v.Shards()[0].ID, Reason: "the first"}, nil
}

func ExampleCheckStrategy() {
	// In a test of the strategy: shardtest.TestStrategy(t, func() balancer.Strategy { return firstShard{} })
	err := shardtest.CheckStrategy(func() balancer.Strategy { return firstShard{} })
	fmt.Println(err != nil)
	// Output: true
}

// A test waits for what it has brought about.
func ExampleAwait() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	fmt.Println(shardtest.Await(ctx, func() bool { return true }))
	fmt.Println(shardtest.Await(ctx, func() bool { return false }))
	// Output:
	// <nil>
	// context deadline exceeded
}
