package e2e

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/examples/internal/journal"
	"github.com/shard-io/shard-controller/ring"
	"github.com/shard-io/shard-controller/sharding"
)

// local is a worker in the process of the test, for what certaudit does not do.
// It keeps a journal like the others.
type local struct {
	*sharding.Worker
	s       *system
	id      string
	kube    kubernetes.Interface // for reconciles: fenced and witnessed
	factory informers.SharedInformerFactory
	witness *journal.Writer
	cancel  context.CancelFunc
	ended   chan error
}

// reconcileFunc is what a test wants a local worker to do.
type reconcileFunc func(ctx context.Context, w *local, key types.NamespacedName) (sharding.Result, error)

func doNothing(context.Context, *local, types.NamespacedName) (sharding.Result, error) {
	return sharding.Result{}, nil
}

// startLocal starts a worker with the controllers that setup adds.
func (s *system) startLocal(id string, setup func(*local) error) *local {
	s.t.Helper()
	path := s.path(id + "-local.journal")
	witness, err := journal.Open(path, id)
	s.must(err)
	s.journals = append(s.journals, path)
	cfg, err := s.plane.UserConfig(s.localUser(id), "system:masters")
	s.must(err)
	w, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Ring: s.ring, Namespace: s.ns, ID: id, KeepOnStop: s.keep, RequireFence: !s.unfenced})
	s.must(err)
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(journal.Transport)
	l := &local{Worker: w, s: s, id: id, witness: witness, ended: make(chan error, 1)}
	l.kube, err = kubernetes.NewForConfig(w.FencedConfig(cfg))
	s.must(err)
	l.factory = informers.NewSharedInformerFactoryWithOptions(s.kube, 0, informers.WithTweakListOptions(w.TweakListOptions))
	s.must(setup(l))
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go func() { l.ended <- w.Start(ctx) }()
	s.t.Cleanup(func() { // before s.close
		cancel()
		select {
		case <-l.ended:
		case <-time.After(patience):
			s.t.Errorf("worker %s does not end", id)
		}
		_ = witness.Close()
	})
	return l
}

// stop ends a worker in order.
func (l *local) stop() {
	l.s.t.Helper()
	l.cancel()
	select {
	case err := <-l.ended:
		l.ended <- nil
		l.s.must(err)
	case <-time.After(patience):
		l.s.t.Fatalf("worker %s does not end", l.id)
	}
}

// add adds a controller; kind is that of its roots.
func (l *local) add(group, resource, kind string, informer cache.SharedIndexInformer, reconcile reconcileFunc) error {
	keys := ring.NewPrefix(group, kind)
	return l.Add(sharding.Controller{
		Resource: schema.GroupResource{Group: group, Resource: resource}, Informer: informer,
		Concurrency: 32, MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
		Reconcile: func(ctx context.Context, key types.NamespacedName) (sharding.Result, error) {
			run, err := l.witness.Begin(keys.Key(key.Namespace, key.Name), "", 0)
			if err != nil {
				return sharding.Result{}, err
			}
			defer func() {
				if err := run.End(ctx.Err() != nil); err != nil && !errors.Is(err, context.Canceled) {
					l.s.t.Error(err)
				}
			}()
			return reconcile(journal.NewContext(ctx, run), l, key)
		},
	})
}

// secretsOnly is a setup with Secrets as roots, and no caches of children.
func (s *system) secretsOnly(reconcile reconcileFunc) func(*local) error {
	return func(l *local) error {
		return l.add("", "secrets", "Secret", l.factory.Core().V1().Secrets().Informer(), reconcile)
	}
}

// secret reads from the worker's cache; nil if it has none.
func (l *local) secret(key types.NamespacedName) *corev1.Secret {
	secret, err := l.factory.Core().V1().Secrets().Lister().Secrets(key.Namespace).Get(key.Name)
	if err != nil {
		return nil
	}
	return secret
}

// withLocalWorkersOnly is for tests without children, whose workers are stopped
// at the end only: that they hand over then would take its time.
func withLocalWorkersOnly(s *system, _ *v1.ShardConfig) { s.watched, s.keep = s.watched[:1], true }
