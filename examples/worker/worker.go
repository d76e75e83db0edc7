package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/examples/internal/journal"
	"github.com/shard-io/shard-controller/examples/internal/process"
	"github.com/shard-io/shard-controller/examples/worker/certaudit"
	"github.com/shard-io/shard-controller/health"
	"github.com/shard-io/shard-controller/ring"
	"github.com/shard-io/shard-controller/sharding"
)

// The resources that the ring has to name: its target, and what the target controls.
var (
	secretResource    = schema.GroupResource{Resource: "secrets"}
	configMapResource = schema.GroupResource{Resource: "configmaps"}
)

// secretKeys makes the key of a Secret, as the ring and the journal know it.
var secretKeys = ring.NewPrefix("", "Secret")

type worker struct {
	options *options
	flags   *process.Flags
}

// run is one shard until ctx is done.
func (w *worker) run(ctx context.Context) error {
	cfg, err := w.flags.Config("certaudit/" + process.Version())
	if err != nil {
		return err
	}
	witness, err := w.openJournal()
	if err != nil {
		return err
	}
	defer witness.Close()
	audit, err := w.flags.OpenAuditLog()
	if err != nil {
		return err
	}
	defer audit.Close()
	registry := process.NewRegistry()
	streak := &streak{}
	shard, err := sharding.NewWorker(cfg, sharding.WorkerOptions{
		Ring: w.options.Ring, Namespace: w.options.Namespace, ID: w.options.ID,
		Weight: int32(w.options.Weight), KeepOnStop: w.options.KeepOnStop, StopTimeout: w.options.StopTimeout.Duration,
		Version: process.Version(), Registerer: registry, AuditLog: audit.Record(), Healthy: streak.Healthy, RequireFence: w.options.RequireFence,
	})
	if err != nil {
		return err
	}
	if err := w.addAuditor(ctx, shard, cfg, witness, streak); err != nil {
		return err
	}
	preflight, err := process.NewPreflight(cfg, w.options.Namespace)
	if err != nil {
		return err
	}
	checks := health.NewChecks()
	if err := errors.Join(checks.AddReadiness("api-server", preflight.Check), checks.AddReadiness("shard", shard.Check)); err != nil {
		return err
	}
	return w.flags.Serve(ctx, process.Endpoints{Checks: checks, Metrics: registry, API: cfg}, preflight.Then(shard.Start))
}

// openJournal returns nil, which is a journal too, if none is wanted.
func (w *worker) openJournal() (*journal.Writer, error) {
	if w.options.Journal == "" {
		return nil, nil
	}
	return journal.Open(w.options.Journal, w.options.ID)
}

// addAuditor makes certaudit a controller of the shard.
func (w *worker) addAuditor(ctx context.Context, shard *sharding.Worker, cfg *rest.Config, witness *journal.Writer, streak *streak) error {
	kube, err := kubernetes.NewForConfig(auditConfig(shard, cfg))
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	// The caches hold the objects of this shard and no others. They hold Secrets
	// of all types: what is owned has to be handed over, audited or not.
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0,
		informers.WithTweakListOptions(shard.TweakListOptions), informers.WithTransform(slim))
	secrets, reports := factory.Core().V1().Secrets(), factory.Core().V1().ConfigMaps()
	auditor, err := certaudit.New(certaudit.Options{
		Ring: w.options.Ring, Shard: w.options.ID, Client: kube, Secrets: secrets.Lister(), Reports: reports.Lister(),
	})
	if err != nil {
		return err
	}
	return shard.Add(sharding.Controller{
		Resource: secretResource, Informer: secrets.Informer(), Concurrency: w.options.Concurrency,
		Children:  map[schema.GroupResource]cache.SharedIndexInformer{configMapResource: reports.Informer()},
		State:     auditor.State(),
		Reconcile: streak.counted(witnessed(witness, secrets.Lister(), w.options.Ring, shard.Active, prolonged(w.options.AuditTime.Duration, auditor.Reconcile))),
	})
}

// auditConfig is for the requests of reconciles. Wrapped first is what is
// nearest to the wire: a request passes the fence, then it is written down,
// then it is sent.
func auditConfig(shard *sharding.Worker, cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.ContentType = runtime.ContentTypeProtobuf
	cfg.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	cfg.Wrap(journal.Transport)
	return shard.FencedConfig(cfg)
}

// witnessed writes every reconcile into the journal. active says whether this
// process still has the right to act; it is exact also just after a pause, when
// no context has been cancelled yet.
func witnessed(w *journal.Writer, secrets corelisters.SecretLister, ringName string, active func() bool, next sharding.ReconcileFunc) sharding.ReconcileFunc {
	if w == nil {
		return next
	}
	return func(ctx context.Context, key types.NamespacedName) (sharding.Result, error) {
		var uid string
		var epoch int64
		if secret, err := secrets.Secrets(key.Namespace).Get(key.Name); err == nil {
			uid, epoch = string(secret.UID), sharding.EpochOf(secret, ringName)
		}
		run, err := w.Begin(secretKeys.Key(key.Namespace, key.Name), uid, epoch)
		if err != nil {
			return sharding.Result{}, err // no witness, no work
		}
		defer func() {
			fenced := errors.Is(context.Cause(ctx), health.ErrFenced) || !active()
			if err := run.End(fenced); err != nil {
				klog.FromContext(ctx).Error(err, "The end of a reconcile is missing in the journal", "secret", klog.KRef(key.Namespace, key.Name))
			}
		}()
		return next(journal.NewContext(ctx, run), key)
	}
}

// prolonged waits before each audit, unless the right to act is lost meanwhile.
func prolonged(d time.Duration, next sharding.ReconcileFunc) sharding.ReconcileFunc {
	if d == 0 {
		return next
	}
	return func(ctx context.Context, key types.NamespacedName) (sharding.Result, error) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return sharding.Result{}, context.Cause(ctx)
		case <-timer.C:
			return next(ctx, key)
		}
	}
}

// slim saves the memory of what nobody here reads. It runs before an object gets into a cache.
func slim(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil {
		o.SetManagedFields(nil)
		if secret, ok := obj.(*corev1.Secret); ok && secret.Type != corev1.SecretTypeTLS {
			secret.Data = nil // not audited, so not kept
		}
	}
	return obj, nil
}
