// Public-certs publishes what may be known of TLS Secrets: for each Secret of type kubernetes.io/tls it keeps a ConfigMap with the
// certificates, their fingerprint and their expiry, and without the key. Clients that have to trust or pin a certificate need no
// right to read Secrets then. Any number of replicas may run.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"sync"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/examples/embed-clientgo/public"
)

const operator = "public-certs"

type options struct {
	kubeconfig, namespace, id string
	workers                   int
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig file; without it, the service account of the Pod")
	flag.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of this Pod; default $POD_NAMESPACE")
	flag.StringVar(&o.id, "id", os.Getenv("POD_NAME"), "name of this Pod; default $POD_NAME")
	flag.IntVar(&o.workers, "workers", 4, "how many Secrets are looked at at once")
	klog.InitFlags(nil)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err == nil {
		err = run(ctx, cfg, o)
	}
	if err != nil {
		klog.Background().Error(err, "Stopped by an error")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

func run(ctx context.Context, cfg *rest.Config, o options) error {
	cfg.QPS, cfg.Burst = 100, 200
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(kube, 0)
	secrets, configMaps := factory.Core().V1().Secrets(), factory.Core().V1().ConfigMaps()
	c := &controller{
		kube: kube, secrets: secrets.Lister(), configMaps: configMaps.Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]()),
	}
	_, err = secrets.Informer().AddEventHandler(each(func(o metav1.Object) {
		c.queue.Add(types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()})
	}))
	if err != nil {
		return err
	}
	_, err = configMaps.Informer().AddEventHandler(each(func(o metav1.Object) {
		if owner := metav1.GetControllerOf(o); owner != nil && owner.Kind == "Secret" {
			c.queue.Add(types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name})
		}
	}))
	if err != nil {
		return err
	}
	c.synced = []cache.InformerSynced{secrets.Informer().HasSynced, configMaps.Informer().HasSynced}
	factory.StartWithContext(ctx)
	return lead(ctx, kube, o, func(ctx context.Context) { c.run(ctx, o.workers) })
}

// each calls f for every object that was added, changed or deleted.
func each(f func(metav1.Object)) cache.ResourceEventHandler {
	handle := func(obj any) {
		if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = last.Obj
		}
		if o, ok := obj.(metav1.Object); ok {
			f(o)
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: handle, UpdateFunc: func(_, now any) { handle(now) }, DeleteFunc: handle}
}

type controller struct {
	kube       kubernetes.Interface
	secrets    corelisters.SecretLister
	configMaps corelisters.ConfigMapLister
	synced     []cache.InformerSynced
	queue      workqueue.TypedRateLimitingInterface[types.NamespacedName]
}

// run works until ctx is done and nothing is being worked on.
func (c *controller) run(ctx context.Context, workers int) {
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return
	}
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for ctx.Err() == nil && c.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	c.queue.ShutDown()
	running.Wait()
}

// next works on the next object of the queue. It returns false when there will be none.
func (c *controller) next(ctx context.Context) bool {
	name, shutdown := c.queue.Get()
	if shutdown {
		return false
	}
	defer c.queue.Done(name)
	if err := c.sync(ctx, name); err != nil {
		klog.FromContext(ctx).Error(err, "Will try again", "secret", name)
		c.queue.AddRateLimited(name)
		return true
	}
	c.queue.Forget(name)
	return true
}

// sync publishes a Secret.
func (c *controller) sync(ctx context.Context, name types.NamespacedName) error {
	secret, err := c.secrets.Secrets(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return nil // and so will be the ConfigMap: it is controlled by the Secret
	}
	if err != nil {
		return err
	}
	want, err := public.ConfigMap(secret)
	if err != nil {
		klog.FromContext(ctx).Info("Nothing to publish until the Secret changes", "secret", name, "reason", err.Error())
		return nil
	}
	if want == nil {
		return nil
	}
	have, err := c.configMaps.ConfigMaps(want.Namespace).Get(want.Name)
	switch {
	case apierrors.IsNotFound(err):
		_, err = c.kube.CoreV1().ConfigMaps(want.Namespace).Create(ctx, want, metav1.CreateOptions{})
		return err
	case err != nil:
		return err
	case !metav1.IsControlledBy(have, secret):
		return fmt.Errorf("ConfigMap %s is in the way: the Secret does not control it", have.Name)
	case maps.Equal(have.Data, want.Data):
		return nil
	}
	have = have.DeepCopy()
	have.Data = want.Data
	_, err = c.kube.CoreV1().ConfigMaps(have.Namespace).Update(ctx, have, metav1.UpdateOptions{})
	return err
}
