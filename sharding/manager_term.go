package sharding

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned/scheme"
	"github.com/shard-io/shard-controller/generated/informers/externalversions"
	"github.com/shard-io/shard-controller/health"
)

// term is the work of a leader: a ringController for each ShardConfig.
type term struct {
	*Manager
	termClients
	changed chan struct{}

	mu    sync.Mutex
	rings map[string]*servedRing
}

// servedRing is a running ringController.
type servedRing struct {
	*ringController
	uid    string
	cancel context.CancelFunc
	ended  chan struct{}
}

// serve works until ctx is done, and returns when everything has stopped.
func (m *Manager) serve(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	t := &term{Manager: m, changed: make(chan struct{}, 1), rings: map[string]*servedRing{}}
	if err := t.prepare(ctx, &all); err != nil {
		return err
	}
	defer t.stopAll()
	m.ready.Store(t)
	defer m.ready.Store(nil)
	for {
		if err := t.sync(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.changed:
		}
	}
}

// prepare starts the informers and the recorder of Events.
func (t *term) prepare(ctx context.Context, all *sync.WaitGroup) error {
	client, err := discovery.NewDiscoveryClientForConfig(t.config)
	if err != nil {
		return err
	}
	factory := externalversions.NewSharedInformerFactoryWithOptions(t.Manager.shards, 0,
		externalversions.WithNamespace(t.options.Namespace))
	configs, instances := factory.Shard().V1().ShardConfigs(), factory.Shard().V1().ShardInstances()
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: t.kube.EventsV1()})
	t.termClients = termClients{
		shards:    t.Manager.shards,
		api:       client,
		configs:   configs.Lister().ShardConfigs(t.options.Namespace),
		instances: instances.Lister().ShardInstances(t.options.Namespace),
		recorder:  broadcaster.NewRecorder(scheme.Scheme, "shard-manager"),
		registry:  t.options.Strategies,
	}
	if err := t.watch(configs.Informer(), t.configChanged); err != nil {
		return err
	}
	if err := t.watch(instances.Informer(), t.instanceChanged); err != nil {
		return err
	}
	// A manager that may not read ShardMigrations serves the rest.
	optional := externalversions.NewSharedInformerFactoryWithOptions(t.Manager.shards, 0,
		externalversions.WithNamespace(t.options.Namespace))
	migrations := optional.Shard().V1().ShardMigrations()
	t.migrations = migrations.Lister().ShardMigrations(t.options.Namespace)
	t.migrationsSynced = migrations.Informer().HasSynced
	if err := t.watch(migrations.Informer(), t.migrationChanged); err != nil {
		return err
	}
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return err
	}
	factory.StartWithContext(ctx)
	optional.StartWithContext(ctx)
	all.Go(func() {
		<-ctx.Done()
		broadcaster.Shutdown()
		factory.Shutdown()
		optional.Shutdown()
	})
	result := factory.WaitForCacheSyncWithContext(ctx)
	if result.Err != nil {
		return fmt.Errorf("list ShardConfigs and ShardInstances: %w", result.Err)
	}
	return nil
}

func (t *term) watch(informer cache.SharedIndexInformer, changed func(object any)) error {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: changed,
		UpdateFunc: func(before, after any) {
			changed(after)
		},
		DeleteFunc: func(object any) {
			if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			changed(object)
		},
	})
	return err
}

// configChanged concerns all rings: they may overlap, and a ShardInstance that names no ring is of the only one.
func (t *term) configChanged(any) {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

func (t *term) migrationChanged(object any) {
	migration, ok := object.(*shardv1.ShardMigration)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if ring := t.rings[migration.Spec.Ring]; ring != nil {
		ring.migrator.kick()
	}
}

func (t *term) instanceChanged(object any) {
	instance, ok := object.(*shardv1.ShardInstance)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, ring := range t.rings {
		if instance.Spec.Ring == name || instance.Spec.Ring == "" {
			ring.kick()
			ring.migrator.kick() // an answer of the target, perhaps
		}
	}
}

// sync starts and stops ringControllers so that there is one for each ShardConfig.
func (t *term) sync(ctx context.Context) error {
	configs, err := t.configs.List(labels.Everything())
	if err != nil {
		return err
	}
	wanted := map[string]string{}
	for _, config := range configs {
		wanted[config.Name] = string(config.UID)
	}
	for name, ring := range t.snapshot() {
		if wanted[name] != ring.uid {
			t.stop(name, ring)
		}
	}
	var failed error
	for _, config := range configs {
		t.mu.Lock()
		ring := t.rings[config.Name]
		t.mu.Unlock()
		if ring != nil {
			ring.kick()
			continue
		}
		failed = errors.Join(failed, t.start(ctx, config))
	}
	if failed != nil {
		klog.FromContext(ctx).Error(failed, "Some rings can't be served")
		time.AfterFunc(finderMaxBackoff, func() { t.configChanged(nil) })
	}
	return nil
}

func (t *term) snapshot() map[string]*servedRing {
	t.mu.Lock()
	defer t.mu.Unlock()
	rings := make(map[string]*servedRing, len(t.rings))
	for name, ring := range t.rings {
		rings[name] = ring
	}
	return rings
}

func (t *term) start(ctx context.Context, config *shardv1.ShardConfig) error {
	ctx, cancel := context.WithCancel(ctx)
	controller, err := t.newRing(ctx, config)
	if err != nil {
		cancel()
		return fmt.Errorf("ShardConfig %s: %w", config.Name, err)
	}
	ring := &servedRing{ringController: controller, uid: string(config.UID), cancel: cancel, ended: make(chan struct{})}
	t.mu.Lock()
	t.rings[config.Name] = ring
	t.mu.Unlock()
	go func() {
		defer close(ring.ended)
		controller.run(ctx)
	}()
	return nil
}

func (t *term) stop(name string, ring *servedRing) {
	ring.cancel()
	<-ring.ended
	ring.forgetMetrics()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.rings, name)
}

func (t *term) stopAll() {
	for _, ring := range t.snapshot() {
		ring.cancel()
	}
	for name, ring := range t.snapshot() {
		t.stop(name, ring)
	}
}

// check is nil when the Leases of all rings are seen.
func (t *term) check(ctx context.Context) error {
	for name, ring := range t.snapshot() {
		if err := ring.tracker.Check(ctx); err != nil {
			return fmt.Errorf("ring %s: %w", name, err)
		}
	}
	return nil
}

// newRing puts together what serves one ring.
func (t *term) newRing(ctx context.Context, config *shardv1.ShardConfig) (*ringController, error) {
	timing, err := timingOf(config)
	if err != nil {
		return nil, err
	}
	scope := &ringScope{
		ring: config.Name, client: t.objects, placer: newPlacer(), gate: newGate(ctx, t.options.Concurrency),
		metrics: t.metrics, namespaces: newNamespaceSets(), tenure: t.tenure.Load(), trail: t.trail,
	}
	c := &ringController{
		ringScope: scope, termClients: t.termClients, namespace: t.options.Namespace, electionLease: t.options.ElectionTiming.LeaseDuration, kicked: make(chan struct{}, 1),
		remembered: map[string]*shardv1.ShardInstance{}, expected: map[string]bool{}, emptied: map[string]bool{}, reported: map[string]int64{},
		goneSince: map[string]time.Time{}, drainingSince: map[string]time.Time{}, taken: map[string]bool{}, running: map[string]bool{},
		strays: map[string]time.Time{}, drained: map[string]drainState{}, loads: loadBook{},
		workloads: workloads{kube: t.Manager.workloads, namespace: t.options.Namespace}, lastErrors: map[string]error{},
	}
	c.tracker, err = health.NewTracker(t.leases, health.TrackerOptions{
		Namespace: t.options.Namespace, Ring: config.Name, Identity: t.options.Identity, Timing: timing, OnChange: c.kick,
	})
	if err != nil {
		return nil, err
	}
	t.metrics.begin(config.Name)
	if source := t.sources[config.Name]; source != nil {
		c.metricReader = &metricReader{source: source, changed: c.kick, failed: func() { t.metrics.sourceErrors.WithLabelValues(config.Name).Inc() }}
	}
	c.assigner = newAssigner(scope, c.noteStray)
	c.audit = &auditor{
		c: c, leases: t.leases, rate: t.options.AuditRate, rest: t.options.AuditInterval, indexed: maxRootsIndexed, kicked: make(chan struct{}, 1),
	}
	c.flight = newFlight(func(n int) { t.metrics.movesInFlight.WithLabelValues(config.Name).Set(float64(n)) })
	c.migrator = newMigrator(c, t.migrations, t.migrationsSynced)
	c.mover = &mover{
		ringScope: scope, flight: c.flight, kicked: make(chan struct{}, 1), idle: c.settled, home: c.bringAllHome,
		yields: c.migrator.moving.Load, plans: c.migrator.plans,
	}
	c.unowned = newUnownedLedger(func(count int, oldest time.Duration) {
		t.metrics.unowned.WithLabelValues(config.Name).Set(float64(count))
		t.metrics.unownedOldest.WithLabelValues(config.Name).Set(oldest.Seconds())
		if before := c.unownedBefore.Swap(int64(count)); before != int64(count) {
			c.kick()
		}
	})
	return c, nil
}
