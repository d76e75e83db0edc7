package sharding

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	listers "github.com/shard-io/shard-controller/generated/listers/shard/v1"
	"github.com/shard-io/shard-controller/health"
	"github.com/shard-io/shard-controller/ring"
)

// termClients are what one term talks to the API server with.
type termClients struct {
	shards    versioned.Interface
	api       discovery.DiscoveryInterfaceWithContext
	configs   listers.ShardConfigNamespaceLister
	instances listers.ShardInstanceNamespaceLister
	recorder  events.EventRecorder
	// migrations may not be complete; migrationsSynced says so.
	migrations       listers.ShardMigrationNamespaceLister
	migrationsSynced func() bool
	registry         *balancer.Registry
}

// ringController serves one ring for one term. It is level-triggered: whenever something may have changed, it looks at all of it
// and does what follows. What it finds written down (on objects, ShardInstances and Leases) is all it needs to begin.
//
// reconcile runs on one goroutine. Around it run the finders, the mover and the take-overs, which share with it only what
// ringScope holds and what is guarded by mu.
type ringController struct {
	*ringScope
	termClients
	namespace string
	// electionLease is for how long a leader that can't be asked may be believed to lead.
	electionLease time.Duration
	tracker       *health.Tracker
	assigner      *assigner
	mover         *mover
	migrator      *migrator
	audit         *auditor
	flight        *flight
	unowned       *unownedLedger
	kicked        chan struct{}
	all           sync.WaitGroup

	// Of reconcile alone.
	table        *ring.Ring
	recovered    bool
	claimed      bool  // the ShardConfig has the term of this tenure
	generation   int64 // of the table
	strategyName string
	strategy     balancer.Strategy
	resolved     resolvedTargets
	finders      servedFinders
	answers      answers
	gathering    gathering
	remembered   map[string]*shardv1.ShardInstance
	expected     map[string]bool
	emptied      map[string]bool
	reported     map[string]int64 // objects by shard, as the shards said last
	rebalance    rebalancer
	scaler       scaler
	metricReader *metricReader // nil if there is no source
	workloads    workloads
	loads        loadBook
	staleAfter   time.Duration        // of loads
	goneSince    map[string]time.Time // shards whose ShardInstance is to be deleted in the end
	// drainingSince is when the shards that are being drained were first seen to be.
	drainingSince map[string]time.Time

	settledTable atomic.Pointer[ring.Ring] // the one by which the mover found everything in its place

	lookAgain atomic.Bool // the finders are to list again

	mu      sync.Mutex
	taken   map[string]bool
	running map[string]bool      // take-overs
	strays  map[string]time.Time // first seen
	drained map[string]drainState
	// lastErrors are why objects of a resource can't be found.
	lastErrors map[string]error

	unownedBefore atomic.Int64
}

// run serves the ring until ctx is done, and returns when everything has stopped.
func (c *ringController) run(ctx context.Context) {
	logger := klog.LoggerWithValues(klog.FromContext(ctx), "ring", c.ring)
	ctx = klog.NewContext(ctx, logger)
	defer c.gate.wait()
	defer c.all.Wait()
	c.all.Go(func() {
		if err := c.tracker.Run(ctx); err != nil {
			logger.Error(err, "Watching Leases failed")
		}
	})
	c.all.Go(func() { (&stateCollector{c, stateOrphans{}}).run(ctx) })
	c.all.Go(func() { c.audit.run(ctx) })
	c.all.Go(func() { c.migrator.run(ctx) })
	if c.metricReader != nil {
		c.all.Go(func() { c.metricReader.run(ctx) })
	}
	defer c.stopFinders()
	failures := 0
	for {
		recheck, err := c.reconcile(ctx)
		if ctx.Err() != nil {
			c.leaveForecasts(ctx)
			return
		}
		if errors.Is(err, errOutdated) {
			recheck = finderMinBackoff
		} else if err != nil {
			failures++
			logger.Error(err, "Reconciling the ring failed, will try again", "failures", failures)
			recheck = jitter(retryDelay(failures))
		} else {
			failures = 0
		}
		c.awaitKick(ctx, recheck)
	}
}

// kick asks for a reconcile. It never blocks.
func (c *ringController) kick() {
	select {
	case c.kicked <- struct{}{}:
	default:
	}
}

func (c *ringController) awaitKick(ctx context.Context, recheck time.Duration) {
	if recheck <= 0 {
		recheck = time.Hour
	}
	timer := time.NewTimer(recheck)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-c.kicked:
	}
}

// reconcile does all that follows from what is known. It returns after which time to look again although nothing happened.
func (c *ringController) reconcile(ctx context.Context) (recheck time.Duration, err error) {
	config, err := c.configs.Get(c.ring)
	if err != nil {
		return 0, nil // gone: the term stops this controller
	}
	config = config.DeepCopy()
	claim, ledBefore := config.Annotations[managerTermAnnotation]
	if err := c.tenure.precedes(ctx, parseTerm(claim)); err != nil {
		return 0, err
	}
	if wait := c.tenure.doubt(ledBefore && !c.claimed, c.electionLease); wait > 0 {
		klog.FromContext(ctx).Info("The Lease of the election was gone; waiting until no other leader can be writing", "wait", wait)
		return wait, nil
	}
	if config.DeletionTimestamp != nil {
		return 0, c.tearDown(ctx, config)
	}
	if err := c.claimConfig(ctx, config, formerResources(config)); err != nil {
		return 0, err
	}
	c.claimed = true
	timing, err := timingOf(config)
	if err != nil {
		return 0, err
	}
	if err := c.tracker.SetTiming(timing); err != nil {
		return 0, err
	}
	c.flight.setLimit(maxInFlight(config))
	c.audit.configure(auditSettings{timing: timing, drain: drainTimeout(config), generation: config.Generation})

	c.staleAfter = staleAfter(config)
	instances, err := c.ownInstances()
	if err != nil {
		return 0, err
	}
	if err := c.recoverOnce(config, instances); err != nil {
		return 0, err
	}
	facts := c.facts(instances)
	members := membershipOf(facts, timing.LeaseDuration, time.Now())
	if wait := c.gathering.wait(members.standings, time.Now()); wait > 0 {
		return wait, nil
	}
	recheck = members.recheck
	problems := &ringProblems{}
	recheck = sooner(recheck, c.resolveTargets(ctx, config, problems))
	c.chooseStrategy(config, problems)
	underway := c.movingOf(facts, members)
	planned, again := c.replan(ctx, config, facts, members, underway)
	recheck = sooner(recheck, again)
	if err := c.place(ctx, facts, members, instances, planned); err != nil {
		return 0, err
	}
	if c.lookAgain.Swap(false) {
		c.relist()
	}
	c.serve(ctx)
	c.startTakeovers(ctx, facts, members, timing.LeaseDuration)
	recheck = sooner(recheck, c.scale(ctx, config, facts, members, underway))
	failed := errors.Join(
		c.cleanFormer(ctx, config),
		c.markInstances(ctx, instances, facts, members, timing.LeaseDuration),
		c.markAmbiguous(ctx),
		c.writeStatus(ctx, config, members, problems),
	)
	c.keepForecasts(ctx, config)
	return recheck, failed
}

// ownInstances returns the ShardInstances of the ring by name.
func (c *ringController) ownInstances() (map[string]*shardv1.ShardInstance, error) {
	list, err := c.instances.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	configs, err := c.configs.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	own := map[string]*shardv1.ShardInstance{}
	for _, instance := range list {
		if belongsTo(instance, c.ring, len(configs)) {
			own[instance.Name] = c.answers.newest(instance)
		}
	}
	c.answers.retain(own)
	return own, nil
}

// belongsTo says whether a ShardInstance is of the ring. One that names none is of the only ring of the namespace.
func belongsTo(instance *shardv1.ShardInstance, ring string, rings int) bool {
	return instance.Spec.Ring == ring || instance.Spec.Ring == "" && rings == 1
}

// recoverOnce rebuilds, at the beginning of the term, the table of the term before.
func (c *ringController) recoverOnce(config *shardv1.ShardConfig, instances map[string]*shardv1.ShardInstance) error {
	if c.recovered {
		return nil
	}
	list := make([]*shardv1.ShardInstance, 0, len(instances))
	for _, instance := range instances {
		list = append(list, instance)
	}
	table, err := RingOf(list)
	if table == nil {
		return err
	}
	// What does not fit together (a manager may have died between two writes) is given to somebody by the next assignment.
	c.table, c.generation, c.recovered = table, config.Status.RingGeneration, true
	return nil
}

// chooseStrategy keeps the last good one when the ShardConfig names one that does not exist.
func (c *ringController) chooseStrategy(config *shardv1.ShardConfig, problems *ringProblems) {
	name := config.Spec.LoadBalanceStrategy
	if name == "" {
		name = balancer.ConsistentHash
	}
	if name == c.strategyName {
		return
	}
	strategy, err := c.registry.New(name)
	if err != nil {
		problems.strategy = err
		return
	}
	c.strategy, c.strategyName = strategy, name
}

// sooner is the shorter one of two times after which to look again, where 0 is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// place computes the next table and placement and puts them in force, and has them written down. planned, if there is one, is the table to take
// unless the members have changed.
func (c *ringController) place(ctx context.Context, facts []shardFact, members membership, instances map[string]*shardv1.ShardInstance, planned *ring.Ring,
) error {
	table, err := nextTable(c.table, members.members, instances, func() []balancer.SlotLoad { return c.slotsForRegroup(facts, members) })
	if err != nil {
		return fmt.Errorf("slot table: %w", err)
	}
	if table == c.table && planned != nil {
		table = planned
	}
	view, err := balancer.NewView(table, members.shards)
	if err != nil {
		return fmt.Errorf("view of the shards: %w", err)
	}
	former := c.placer.load()
	next := &placement{
		view: view, strategy: c.strategy, live: members.live(), unheard: members.unheard, standings: members.standings, served: members.served,
		errand: c.rebalance.errands.current,
	}
	if next.views, err = servedViews(view, next.served, c.targets.Load().rootResources()); err != nil {
		return fmt.Errorf("view of the shards: %w", err)
	}
	if table != c.table {
		next.joined = newMembers(c.table, table)
		c.generation++
		c.metrics.ringGeneration.WithLabelValues(c.ring).Set(float64(c.generation))
	} else if former != nil {
		next.joined = former.joined
	}
	c.table = table
	late := outdated(table, instances)
	err = c.publish(ctx, late)
	for _, instance := range late {
		instances[instance.Name] = c.answers.newest(instance)
	}
	if err != nil {
		// Not written down is not lost: the objects' labels say who owns them. The table will be written in the end.
		klog.FromContext(ctx).Error(err, "Writing the slot table to the ShardInstances failed, will try again")
		time.AfterFunc(retryDelay(5), c.kick)
	}
	c.placer.store(next)
	if moves(former, next) {
		c.mover.kick()
	}
	if receives(former, next) {
		c.relist()
	}
	return nil
}

// moves says whether objects may belong elsewhere under the next placement.
func moves(former, next *placement) bool {
	if former == nil || former.strategy != next.strategy || former.view.Ring() != next.view.Ring() || !former.served.equal(next.served) {
		return true
	}
	if next.errand != nil && next.errand != former.errand {
		return true
	}
	return !maps.Equal(former.unheard, next.unheard) || !slices.EqualFunc(former.view.Shards(), next.view.Shards(), func(a, b balancer.Shard) bool {
		return a.ID == b.ID && a.Eligible() == b.Eligible() && a.Draining == b.Draining && a.Weight == b.Weight
	})
}

// receives says whether there is a shard that may receive objects, and might not before.
func receives(former, next *placement) bool {
	if next.strategy == nil {
		return false
	}
	if former == nil || former.strategy == nil || !former.served.equal(next.served) {
		return true
	}
	for _, s := range next.view.Eligible() {
		if next.eligible(s.ID) && !former.eligible(s.ID) {
			return true
		}
	}
	return false
}
