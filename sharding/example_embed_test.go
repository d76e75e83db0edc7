package sharding_test

import (
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/shard-io/shard-controller/sharding"
)

// The short way: one kind, one function. The informer is a typed one.
func ExampleWorker_Run() {
	ctx, stop := exampleContext()
	run := func(ctx context.Context, cfg *rest.Config, o sharding.WorkerOptions) error {
		w, err := sharding.NewWorker(cfg, o) // o has Ring, Namespace, and as ID the name of the Pod
		if err != nil {
			return err
		}
		kube, err := kubernetes.NewForConfig(w.FencedConfig(cfg))
		if err != nil {
			return err
		}
		factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(w.TweakListOptions))
		secrets := factory.Core().V1().Secrets()
		reconcile := func(ctx context.Context, object types.NamespacedName) (sharding.Result, error) {
			secret, err := secrets.Lister().Secrets(object.Namespace).Get(object.Name)
			if err != nil {
				return sharding.Result{}, nil // it was deleted: a Secret that moves to another shard causes no call
			}
			fmt.Println("the operator's work on", secret.Name)
			stop()
			return sharding.Result{}, nil
		}
		return w.Run(ctx, secrets.Informer(), reconcile)
	}

	cluster := newExampleCluster("secrets")
	cluster.create("auditor", "secrets", "tls", "auditor-0")
	cluster.create("auditor", "secrets", "other", "auditor-1")
	fmt.Println(run(ctx, cluster.config(), cluster.options("auditor-0")))
	fmt.Println(run(ctx, cluster.config(), cluster.options("")))
	// Output:
	// the operator's work on tls
	// <nil>
	// worker options: ID is required: a name that no other process has, such as that of the Pod
}

// A dynamic informer: for kinds that the operator has no types of.
func ExampleWorker_Run_dynamic() {
	ctx, stop := exampleContext()
	run := func(ctx context.Context, cfg *rest.Config, o sharding.WorkerOptions) error {
		w, err := sharding.NewWorker(cfg, o)
		if err != nil {
			return err
		}
		client, err := dynamic.NewForConfig(w.FencedConfig(cfg))
		if err != nil {
			return err
		}
		factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, metav1.NamespaceAll, w.TweakListOptions)
		secrets := factory.ForResource(corev1.SchemeGroupVersion.WithResource("secrets"))
		return w.Run(ctx, secrets.Informer(), func(ctx context.Context, object types.NamespacedName) (sharding.Result, error) {
			obj, err := secrets.Lister().ByNamespace(object.Namespace).Get(object.Name)
			if err != nil {
				return sharding.Result{}, nil
			}
			fmt.Println("the operator's work on", obj.(*unstructured.Unstructured).GetName())
			stop()
			return sharding.Result{}, nil
		})
	}

	cluster := newExampleCluster("secrets")
	cluster.create("auditor", "secrets", "tls", "auditor-0")
	fmt.Println(run(ctx, cluster.config(), cluster.options("auditor-0")))
	// Output:
	// the operator's work on tls
	// <nil>
}

// A metadata informer keeps names, labels and annotations in memory, and nothing else.
func ExampleWorker_Run_metadata() {
	ctx, stop := exampleContext()
	run := func(ctx context.Context, cfg *rest.Config, o sharding.WorkerOptions) error {
		w, err := sharding.NewWorker(cfg, o)
		if err != nil {
			return err
		}
		client, err := metadata.NewForConfig(w.FencedConfig(cfg))
		if err != nil {
			return err
		}
		factory := metadatainformer.NewFilteredSharedInformerFactory(client, 0, metav1.NamespaceAll, w.TweakListOptions)
		secrets := factory.ForResource(corev1.SchemeGroupVersion.WithResource("secrets"))
		return w.Run(ctx, secrets.Informer(), func(ctx context.Context, object types.NamespacedName) (sharding.Result, error) {
			obj, err := secrets.Lister().ByNamespace(object.Namespace).Get(object.Name)
			if err != nil {
				return sharding.Result{}, nil
			}
			owner, _ := sharding.OwnerOf(obj.(*metav1.PartialObjectMetadata), o.Ring)
			fmt.Println(object.Name, "belongs to", owner)
			stop()
			return sharding.Result{}, nil
		})
	}

	cluster := newExampleCluster("secrets")
	cluster.create("auditor", "secrets", "tls", "auditor-0")
	fmt.Println(run(ctx, cluster.config(), cluster.options("auditor-0")))
	// Output:
	// tls belongs to auditor-0
	// <nil>
}

// collected gathers what goroutines report, until there are so many different reports: an object may be reconciled twice.
type collected struct {
	mu    sync.Mutex
	lines []string
	wait  int
	full  func()
}

func (c *collected) add(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.lines, line) {
		return
	}
	if c.lines = append(c.lines, line); len(c.lines) == c.wait {
		c.full()
	}
}

func (c *collected) print() {
	slices.Sort(c.lines)
	for _, line := range c.lines {
		fmt.Println(line)
	}
}

// Several kinds in one process: a controller for each. The ring names both as targets.
func ExampleWorker_Start() {
	ctx, stop := exampleContext()
	work := collected{wait: 2, full: stop}
	run := func(ctx context.Context, cfg *rest.Config, o sharding.WorkerOptions) error {
		w, err := sharding.NewWorker(cfg, o)
		if err != nil {
			return err
		}
		kube, err := kubernetes.NewForConfig(w.FencedConfig(cfg))
		if err != nil {
			return err
		}
		factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(w.TweakListOptions))
		for resource, informer := range map[string]cache.SharedIndexInformer{
			"secrets": factory.Core().V1().Secrets().Informer(), "configmaps": factory.Core().V1().ConfigMaps().Informer(),
		} {
			err := w.Add(sharding.Controller{
				Resource: schema.GroupResource{Resource: resource}, Informer: informer,
				Reconcile: func(ctx context.Context, object types.NamespacedName) (sharding.Result, error) {
					work.add(resource + " " + object.Name)
					return sharding.Result{}, nil
				},
			})
			if err != nil {
				return err
			}
		}
		return w.Start(ctx)
	}

	cluster := newExampleCluster("secrets", "configmaps")
	cluster.create("auditor", "secrets", "tls", "auditor-0")
	cluster.create("auditor", "configmaps", "settings", "auditor-0")
	fmt.Println(run(ctx, cluster.config(), cluster.options("auditor-0")))
	work.print()
	// Output:
	// <nil>
	// configmaps settings
	// secrets tls
}

// Several rings in one process are several workers. A client that writes for both goes through both fences. The IDs differ, as they
// are unique in a namespace.
func ExampleWorker_FencedConfig() {
	ctx, stop := exampleContext()
	work := collected{wait: 2, full: stop}
	cluster := newExampleCluster("secrets")
	cluster.ring("janitor", "configmaps")
	cluster.create("auditor", "secrets", "tls", "auditor-0")
	cluster.create("janitor", "configmaps", "settings", "janitor-0")

	cfg := cluster.config()
	auditor, err := sharding.NewWorker(cfg, cluster.options("auditor-0"))
	if err != nil {
		fmt.Println(err)
		return
	}
	janitor, err := sharding.NewWorker(cfg, cluster.rings["janitor"].WorkerOptions("janitor-0"))
	if err != nil {
		fmt.Println(err)
		return
	}
	kube := kubernetes.NewForConfigOrDie(janitor.FencedConfig(auditor.FencedConfig(cfg)))
	secrets := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(auditor.TweakListOptions)).Core().V1().Secrets()
	maps := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(janitor.TweakListOptions)).Core().V1().ConfigMaps()
	var running sync.WaitGroup
	for worker, informer := range map[*sharding.Worker]cache.SharedIndexInformer{auditor: secrets.Informer(), janitor: maps.Informer()} {
		running.Go(func() {
			err := worker.Run(ctx, informer, func(ctx context.Context, object types.NamespacedName) (sharding.Result, error) {
				work.add(fmt.Sprint(worker.Selector(), " has ", object.Name))
				return sharding.Result{}, nil
			})
			if err != nil {
				fmt.Println(err)
			}
		})
	}
	running.Wait()
	work.print()
	// Output:
	// shard.io/auditor=auditor-0 has tls
	// shard.io/janitor=janitor-0 has settings
}

// A controller that is not sharded stays as it is, beside one that is: it has informers without the shard's selector, and a client
// without its fence. If it has a leader election, it keeps that.
func ExampleWorker_TweakListOptions() {
	ctx, stop := exampleContext()
	work := collected{wait: 3, full: stop}
	cluster := newExampleCluster("secrets")
	cluster.create("auditor", "secrets", "mine", "auditor-0")
	cluster.create("auditor", "secrets", "theirs", "auditor-1")

	cfg := cluster.config()
	w, err := sharding.NewWorker(cfg, cluster.options("auditor-0"))
	if err != nil {
		fmt.Println(err)
		return
	}
	everything := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(cfg), 0)
	_, err = everything.Core().V1().Secrets().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { work.add("not sharded: " + obj.(*corev1.Secret).Name) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	everything.StartWithContext(ctx)

	ours := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(w.FencedConfig(cfg)), 0,
		informers.WithTweakListOptions(w.TweakListOptions))
	err = w.Run(ctx, ours.Core().V1().Secrets().Informer(), func(ctx context.Context, object types.NamespacedName) (sharding.Result, error) {
		work.add("sharded: " + object.Name)
		return sharding.Result{}, nil
	})
	fmt.Println(err)
	work.print()
	// Output:
	// <nil>
	// not sharded: mine
	// not sharded: theirs
	// sharded: mine
}
