package shardtest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/shardtest"
)

// The operator under test, as an importer has it: it writes into each Secret how many ConfigMaps belong to it. operate is what its main
// does with flags and a kubeconfig.

var secrets = schema.GroupResource{Resource: "secrets"}

type journal struct {
	mu    sync.Mutex
	calls []string
}

func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = append(j.calls, fmt.Sprintf(format, args...))
}

// took returns what was noted since it was called last, in alphabetical order.
func (j *journal) took() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	slices.Sort(j.calls)
	defer func() { j.calls = nil }()
	return strings.Join(slices.Compact(j.calls), ", ")
}

type operator struct {
	*sharding.Worker
	done chan error
}

func operate(ctx context.Context, cfg *rest.Config, o sharding.WorkerOptions, j *journal) (*operator, error) {
	w, err := sharding.NewWorker(cfg, o)
	if err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(w.FencedConfig(cfg))
	if err != nil {
		return nil, err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(w.TweakListOptions))
	roots, children := factory.Core().V1().Secrets(), factory.Core().V1().ConfigMaps()
	err = w.Add(sharding.Controller{
		Informer: roots.Informer(), Children: map[schema.GroupResource]cache.SharedIndexInformer{{Resource: "configmaps"}: children.Informer()},
		MaxBackoff: time.Second,
		Reconcile: func(ctx context.Context, object types.NamespacedName) (sharding.Result, error) {
			secret, err := roots.Lister().Secrets(object.Namespace).Get(object.Name)
			if err != nil {
				j.note("%s: %s is deleted", o.ID, object.Name)
				return sharding.Result{}, nil
			}
			epoch, _ := sharding.EpochFromContext(ctx)
			count := countChildren(children.Informer(), secret)
			j.note("%s: %s has %d at epoch %d", o.ID, object.Name, count, epoch)
			if wrote := fmt.Sprint(count); secret.Annotations["count"] != wrote {
				secret = secret.DeepCopy()
				metav1.SetMetaDataAnnotation(&secret.ObjectMeta, "count", wrote)
				_, err = kube.CoreV1().Secrets(object.Namespace).Update(ctx, secret, metav1.UpdateOptions{})
			}
			if secret.Annotations["hold"] != "" {
				<-ctx.Done()
				j.note("%s: %s interrupted: %v", o.ID, object.Name, context.Cause(ctx))
			}
			return sharding.Result{}, err
		},
	})
	if err != nil {
		return nil, err
	}
	running := &operator{w, make(chan error, 1)}
	go func() { running.done <- w.Start(ctx) }()
	return running, nil
}

func countChildren(informer cache.SharedIndexInformer, root *corev1.Secret) int {
	n := 0
	for _, obj := range informer.GetStore().List() {
		if of := metav1.GetControllerOf(obj.(metav1.Object)); of != nil && of.UID == root.UID {
			n++
		}
	}
	return n
}

// world is a server with a ring of Secrets that control ConfigMaps.
type world struct {
	*testing.T
	ctx    context.Context
	server *shardtest.Server
	ring   *shardtest.Ring
	kube   kubernetes.Interface // the test's own
	journal
}

const lease = 2 * time.Second

// each runs a test in virtual time and in real time.
func each(t *testing.T, f func(w *world)) {
	t.Helper()
	utilruntime.ErrorHandlers = nil // the default one waits, for years if some of the time is virtual
	t.Run("virtual time", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { inWorld(t, f) }) })
	t.Run("real time", func(t *testing.T) {
		t.Parallel()
		inWorld(t, f)
	})
}

func inWorld(t *testing.T, f func(w *world)) {
	t.Helper()
	server, err := shardtest.NewServer(shardtest.ServerOptions{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	ring, err := shardtest.NewRing(server, &shardv1.ShardConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "auditor", Namespace: "audit"},
		Spec: shardv1.ShardConfigSpec{
			HealthCheckInterval: &metav1.Duration{Duration: lease},
			Handover:            &shardv1.Handover{DrainTimeout: metav1.Duration{Duration: time.Second}},
			Targets:             []shardv1.Target{{Resource: "secrets", Controlled: []shardv1.ControlledResource{{Resource: "configmaps"}}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	quiet := klog.NewContext(context.Background(), textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(nowhere{}))))
	ctx, cancel := context.WithTimeout(quiet, time.Minute)
	w := &world{T: t, ctx: ctx, server: server, ring: ring, kube: kubernetes.NewForConfigOrDie(server.Config("test"))}
	f(w)
	cancel()
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// await waits until the operators have noted all that is wanted.
func (w *world) await(want string) {
	w.Helper()
	var seen []string
	err := shardtest.Await(w.ctx, func() bool {
		if got := w.took(); got != "" {
			seen = append(seen, strings.Split(got, ", ")...)
		}
		return slices.Contains(seen, want)
	})
	if err != nil {
		w.Fatalf("waiting for %q: %v; there was %q", want, err, seen)
	}
}

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "ns", Name: name}
}

func (w *world) secret(name string, annotations map[string]string) *corev1.Secret {
	w.Helper()
	secret, err := w.kube.CoreV1().Secrets("ns").Create(w.ctx,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}, metav1.CreateOptions{})
	w.must(err)
	return secret
}

func (w *world) child(name string, root *corev1.Secret) {
	w.Helper()
	_, err := w.kube.CoreV1().ConfigMaps("ns").Create(w.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: name, OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(root, corev1.SchemeGroupVersion.WithKind("Secret"))},
	}}, metav1.CreateOptions{})
	w.must(err)
}

// start starts a process of the operator; stop is called before the test ends.
func (w *world) start(id string) (o *operator, stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	o, err := operate(ctx, w.server.Config(id), w.ring.WorkerOptions(id), &w.journal)
	w.must(err)
	w.must(shardtest.Await(w.ctx, o.Active))
	return o, func() {
		cancel()
		<-o.done
	}
}
