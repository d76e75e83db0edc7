package sharding_test

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/shard-io/shard-controller/sharding"
)

// An operator that has its own queue and loop keeps them: what it takes from the queue it does within Do.
func ExampleWorker_Guard() {
	run := func(ctx context.Context, w *sharding.Worker, secrets cache.SharedIndexInformer, sync func(context.Context, types.NamespacedName) error) error {
		queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]())
		defer queue.ShutDown()
		guard, err := w.Guard(sharding.Controller{Informer: secrets}, func(object types.NamespacedName, _ bool) { queue.Add(object) })
		if err != nil {
			return err
		}
		go func() {
			for {
				object, shutdown := queue.Get()
				if shutdown {
					return
				}
				if err := guard.Do(ctx, object, sync); err == nil {
					queue.Forget(object) // done, or not ours (any more)
				} else {
					queue.AddRateLimited(object)
				}
				queue.Done(object)
			}
		}()
		return w.Start(ctx)
	}
	w, err := sharding.NewWorker(&rest.Config{Host: "http://127.0.0.1:1"}, sharding.WorkerOptions{Ring: "auditor", Namespace: "audit", ID: "auditor-0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(run(context.Background(), w, nil, nil))
	// Output: controller: Informer is required
}

// A root with children, in batches, with limits of its own.
func ExampleWorker_Add() {
	cfg := &rest.Config{Host: "https://127.0.0.1:6443"}
	w, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Ring: "auditor", Namespace: "audit", ID: "auditor-0", KeepOnStop: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	factory := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(w.FencedConfig(cfg)), 0,
		informers.WithTweakListOptions(w.TweakListOptions))
	err = w.Add(sharding.Controller{
		Resource: schema.GroupResource{Resource: "secrets"},
		Informer: factory.Core().V1().Secrets().Informer(),
		Children: sharding.Children{
			{Resource: "configmaps"}: factory.Core().V1().ConfigMaps().Informer(),
		},
		Concurrency: 8,
		BatchSize:   32,
		ReconcileBatch: func(ctx context.Context, objects []types.NamespacedName) []sharding.Outcome {
			return make([]sharding.Outcome, len(objects))
		},
	})
	fmt.Println(err)
	// Then: w.Start(ctx)

	// Output: <nil>
}

// A Manager serves all rings of a namespace. Any number of replicas may run; one of them leads.
func ExampleNewManager() {
	m, err := sharding.NewManager(&rest.Config{Host: "https://127.0.0.1:6443"}, sharding.ManagerOptions{
		Namespace: "audit", Identity: "manager-0",
	})
	fmt.Println(err, m.Leading())
	// Then: m.Run(ctx)

	// Output: <nil> false
}

// Selectors for clients that only read.
func ExampleShardSelector() {
	fmt.Println(sharding.ShardSelector("auditor", "shard-001"))
	fmt.Println(sharding.AnyShard("auditor"))
	fmt.Println(sharding.Unassigned("auditor"))
	// Output:
	// shard.io/auditor=shard-001
	// shard.io/auditor
	// !shard.io/auditor
}

func ExampleOwnerOf() {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Labels:      map[string]string{"shard.io/auditor": "shard-001", "drain.shard.io/auditor": "shard-002"},
		Annotations: map[string]string{"epoch.shard.io/auditor": "3"},
	}}
	owner, owned := sharding.OwnerOf(secret, "auditor")
	target, moving := sharding.DrainTargetOf(secret, "auditor")
	fmt.Println(owner, owned, target, moving, sharding.EpochOf(secret, "auditor"))
	// Output: shard-001 true shard-002 true 3
}

// A child gets its root's owner before it is created.
func ExampleCopyOwner() {
	root := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"shard.io/auditor": "shard-001"}}}
	child := &corev1.ConfigMap{}
	sharding.CopyOwner(child, root, "auditor")
	fmt.Println(child.Labels)
	// Output: map[shard.io/auditor:shard-001]
}
