//go:build unix

// The operator of the fault trials is a shard whose reconciles are as careless
// as reconciles can be. It looks into its cache, works for a while, and then
// writes without a resourceVersion and with a context of its own, so that
// neither a conflict nor a cancelled reconcile stops a late write. What it does
// with an object is said by the object's annotations ([trial.Mode], [trial.Verb]).
//
// Whatever it writes bears a stamp (package trial): shard, process, epoch, number.
// While a reconcile is between its look and its write, the file --window says
// so: a process that is stopped at such a moment is a zombie when it goes on.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/shard-io/shard-controller/internal/faults/trial"
	"github.com/shard-io/shard-controller/sharding"
)

type options struct {
	kubeconfig, ring, namespace, id string
	process                         string
	window                          string
	fenced                          bool
	work                            time.Duration
	verbosity                       int
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig file")
	flag.StringVar(&o.ring, "ring", "", "name of the ShardConfig")
	flag.StringVar(&o.namespace, "namespace", "", "namespace of the ShardConfig")
	flag.StringVar(&o.id, "id", "", "identity of this shard")
	flag.StringVar(&o.process, "process", "", "name of this process among those of the shard")
	flag.StringVar(&o.window, "window", "", "file whose only byte counts the reconciles between look and write")
	flag.BoolVar(&o.fenced, "fenced", false, "write through the client-side fence")
	flag.DurationVar(&o.work, "work", 50*time.Millisecond, "time between look and write")
	flag.IntVar(&o.verbosity, "v", 4, "how much to log, 0 to 10")
	flag.Parse()
	setupLogging(os.Stderr, o.verbosity)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// setupLogging makes klog, and what still asks klog.V, log to out.
func setupLogging(out io.Writer, verbosity int) {
	config := textlogger.NewConfig(textlogger.Verbosity(verbosity), textlogger.Output(out))
	klog.SetLoggerWithOptions(textlogger.NewLogger(config), klog.ContextualLogger(true))
	set := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(set)
	_ = set.Set("v", fmt.Sprint(verbosity))
}

func run(ctx context.Context, o options) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return err
	}
	cfg.QPS = -1
	cfg.UserAgent = trial.LibraryAgent
	shard, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Ring: o.ring, Namespace: o.namespace, ID: o.id})
	if err != nil {
		return err
	}
	kube, err := kubernetes.NewForConfig(ownConfig(cfg, shard, o.fenced))
	if err != nil {
		return err
	}
	window, err := openWindow(o.window)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(shard.TweakListOptions))
	secrets, configMaps := factory.Core().V1().Secrets(), factory.Core().V1().ConfigMaps()
	op := &operator{options: o, kube: kube, secrets: secrets.Lister(), window: window, hammered: map[types.UID]bool{}}
	err = shard.Add(sharding.Controller{
		Informer: secrets.Informer(), Concurrency: 64, Reconcile: op.reconcile,
		Children: map[schema.GroupResource]cache.SharedIndexInformer{{Resource: "configmaps"}: configMaps.Informer()},
	})
	if err != nil {
		return err
	}
	return shard.Start(ctx)
}

// ownConfig is for the requests of the reconciles, which are told from those of the library by their user agent.
func ownConfig(cfg *rest.Config, shard *sharding.Worker, fenced bool) *rest.Config {
	own := rest.CopyConfig(cfg)
	own.UserAgent = trial.OperatorAgent
	if fenced {
		return shard.FencedConfig(own)
	}
	return own
}
