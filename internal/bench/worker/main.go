//go:build unix

// The worker of the measurements does as little as a worker can: it makes sure
// that every Secret of its shard has a ConfigMap as its child, or does nothing
// at all. What is measured with it is the library, not the work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/shard-io/shard-controller/sharding"
)

type options struct {
	kubeconfig, ring, namespace, id string
	children                        bool
	state                           int
	journal                         string
	restless                        int
	every                           time.Duration
	refuse, fail                    int
	load                            string
	bursts, done                    string
	takes                           time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig file")
	flag.StringVar(&o.ring, "ring", "", "name of the ShardConfig")
	flag.StringVar(&o.namespace, "namespace", "", "namespace of the ShardConfig")
	flag.StringVar(&o.id, "id", "", "identity of this shard")
	flag.BoolVar(&o.children, "children", false, "create a ConfigMap for every Secret")
	flag.IntVar(&o.state, "state", 0, "bytes of state of every Secret, at least 8; 0: none")
	flag.StringVar(&o.journal, "journal", "", "file to take down in when objects are reconciled, asked for and taken over; empty: none")
	flag.IntVar(&o.restless, "restless", 0, "every n-th Secret is reconciled again and again; 0: none")
	flag.DurationVar(&o.every, "every", 20*time.Millisecond, "how often that is")
	flag.StringVar(&o.load, "load", "", "file with the load to report; empty: what is measured")
	flag.StringVar(&o.bursts, "bursts", "", "times in RFC 3339, separated by commas, at which every Secret is reconciled once; empty: none")
	flag.DurationVar(&o.takes, "takes", 20*time.Millisecond, "how long each of these takes")
	flag.StringVar(&o.done, "done", "", "file for how many of them were done, and when the last one was")
	flag.IntVar(&o.refuse, "refuse", 0, "the state of every n-th Secret can't be imported here; 0: all can")
	flag.IntVar(&o.fail, "fail", 0, "every n-th Secret can't be reconciled here; 0: all can")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// readLoad returns the number in the file, which is not known if there is none.
func readLoad(file string) float64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return math.NaN()
	}
	load, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	if err != nil {
		return math.NaN()
	}
	return load
}

func run(ctx context.Context, o options) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return err
	}
	cfg.QPS = -1
	options := sharding.WorkerOptions{Ring: o.ring, Namespace: o.namespace, ID: o.id}
	if o.load != "" {
		options.Load = func() float64 { return readLoad(o.load) }
	}
	w, err := sharding.NewWorker(cfg, options)
	if err != nil {
		return err
	}
	own := rest.CopyConfig(cfg)
	own.ContentType = runtime.ContentTypeProtobuf
	kube, err := kubernetes.NewForConfig(w.FencedConfig(own))
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(w.TweakListOptions))
	secrets, configMaps := factory.Core().V1().Secrets(), factory.Core().V1().ConfigMaps()
	controller := sharding.Controller{Informer: secrets.Informer(), Concurrency: 8}
	controller.Reconcile = func(context.Context, types.NamespacedName) (sharding.Result, error) { return sharding.Result{}, nil }
	if o.children {
		controller.Children = map[schema.GroupResource]cache.SharedIndexInformer{{Resource: "configmaps"}: configMaps.Informer()}
		controller.Reconcile = func(ctx context.Context, key types.NamespacedName) (sharding.Result, error) {
			root, err := secrets.Lister().Secrets(key.Namespace).Get(key.Name)
			if err != nil {
				return sharding.Result{}, nil // deleted
			}
			if _, err := configMaps.Lister().ConfigMaps(key.Namespace).Get(key.Name); err == nil {
				return sharding.Result{}, nil
			}
			return sharding.Result{}, create(ctx, kube, root, o.ring)
		}
	}
	burst, err := newBursts(o.bursts, o.done, o.takes)
	if err != nil {
		return err
	}
	if len(burst.at) > 0 {
		controller.Reconcile = burst.reconcile
		go burst.report(ctx)
	}
	if err := o.observe(&controller); err != nil {
		return err
	}
	if err := w.Add(controller); err != nil {
		return err
	}
	return w.Start(ctx)
}

// observe gives the controller the state and the journal that are asked for.
func (o options) observe(c *sharding.Controller) error {
	j, err := openJournal(o.journal)
	if err != nil {
		return err
	}
	states := newHops(o.state, j)
	if o.state > 0 {
		c.State = &sharding.StateTransfer{Exporter: states, Importer: picky{states, o.refuse}, Forgetter: states}
	}
	if j == nil && o.state == 0 && o.restless == 0 && o.fail == 0 {
		return nil
	}
	if err := watchRequests(c.Informer, o.ring, j); err != nil {
		return err
	}
	reconcile := c.Reconcile
	c.Reconcile = func(ctx context.Context, key types.NamespacedName) (sharding.Result, error) {
		hops := states.begin(key)
		j.note(noteBegun, key.Name, hops)
		if each(key, o.fail) {
			j.note(noteEnded, key.Name, hops)
			return sharding.Result{}, sharding.TerminalError(errors.New("it can't be reconciled here"))
		}
		result, err := reconcile(ctx, key)
		j.note(noteEnded, key.Name, hops)
		if each(key, o.restless) {
			result.RequeueAfter = o.every
		}
		return result, err
	}
	return nil
}

// each says whether an object is one of every n.
func each(key types.NamespacedName, n int) bool {
	var number int
	_, err := fmt.Sscanf(key.Name, "secret-%d", &number)
	return err == nil && n > 0 && number%n == 0
}

// create makes the child of a root, on its shard from the beginning.
func create(ctx context.Context, kube kubernetes.Interface, root *corev1.Secret, ring string) error {
	child := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: root.Name, Namespace: root.Namespace,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(root, corev1.SchemeGroupVersion.WithKind("Secret"))},
	}}
	sharding.CopyOwner(child, root, ring)
	_, err := kube.CoreV1().ConfigMaps(root.Namespace).Create(ctx, child, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
