package sharding

import (
	"context"
	"slices"
	"time"

	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/health"
	"github.com/shard-io/shard-controller/ring"
)

// rebalancer runs the planner for one ring in one term: it has the clock and the memory that the planner has not. It is used by reconcile alone.
type rebalancer struct {
	planner    *balancer.Planner
	generation int64 // of the ShardConfig that the planner was made for
	memory     balancer.Memory
	due        time.Time
	busyAt     time.Time // when objects were last on the move
	last       balancer.Plan
	lastAt     time.Time
	errands    errands
	slots      []balancer.SlotLoad // of the last round, for the next

	imbalance, largest float64 // as of the last round in which they were known
}

// settling is for how long after the last move the loads are still those of before.
const settling = 3 * loadHalfLife

// planGiven: the planner is not asked, as users have written the slot table by hand.
const planGiven balancer.PlanReason = "GivenRanges"

// moving says what is going on in the ring that loads and decisions have to wait for.
type moving struct {
	plan           bool // objects are being moved, or will be
	rollingOut     bool
	versionsDiffer bool
	frozen         bool
}

// movingOf finds that out.
func (c *ringController) movingOf(facts []shardFact, members membership) moving {
	m := moving{frozen: c.tracker.Snapshot().Frozen}
	c.mu.Lock()
	m.plan = len(c.running) > 0
	c.mu.Unlock()
	m.plan = m.plan || c.rebalance.errands.current.underway() || c.flight.size() > 0 || c.migrator.moving.Load() || c.table.Len() > 0 && c.settledTable.Load() != c.table
	version := ""
	for _, f := range facts {
		switch members.standings[f.id] {
		case standingDraining, standingLost:
			m.plan = true
		case standingServing:
			m.rollingOut = m.rollingOut || f.state == health.Released || f.unheard
			if f.instance != nil && f.instance.Status.Version != "" {
				m.versionsDiffer = m.versionsDiffer || version != "" && version != f.instance.Status.Version
				version = f.instance.Status.Version
			}
		}
	}
	return m
}

// replan makes a round of the planner if it is due. It returns the table that the planner wants, nil for the one that there is, and when the next
// round is due. A plan over objects becomes the current errand.
func (c *ringController) replan(ctx context.Context, config *shardv1.ShardConfig, facts []shardFact, members membership, m moving,
) (*ring.Ring, time.Duration) {
	r, now := &c.rebalance, time.Now()
	if m.plan || m.rollingOut {
		r.busyAt = now
	}
	options := rebalanceOf(config)
	r.errands.conclude(now, options.CooldownPeriod.Duration)
	if c.goesBySlots() {
		r.errands = errands{}
	}
	if r.generation != config.Generation {
		r.generation, r.planner = config.Generation, nil
		r.due = r.lastAt.Add(options.Interval.Duration)
	}
	if wait := r.due.Sub(now); wait > 0 {
		return nil, wait
	}
	r.due = now.Add(options.Interval.Duration)
	plan := r.round(c, options, facts, members, m, now)
	r.last, r.lastAt = plan, now
	c.metrics.planDecisions.WithLabelValues(c.ring, string(plan.Reason)).Inc()
	if plan.Imbalance > 0 {
		r.imbalance, r.largest = plan.Imbalance, plan.Largest.Share
		c.metrics.imbalance.WithLabelValues(c.ring).Set(plan.Imbalance)
		c.metrics.largestShare.WithLabelValues(c.ring).Set(plan.Largest.Share)
	}
	if !plan.Acts() || options.DryRun {
		return nil, options.Interval.Duration
	}
	r.busyAt = now
	klog.FromContext(ctx).V(1).Info("Moving objects to even out the load", "reason", plan.Reason, "objects", plan.Objects, "text", plan.Text)
	return plan.Ring, options.Interval.Duration
}

// round asks the planner, if it is of any use.
func (r *rebalancer) round(c *ringController, options *shardv1.Rebalance, facts []shardFact, members membership, m moving, now time.Time,
) balancer.Plan {
	if c.goesBySlots() && givenTable(members.members, instancesOf(facts)) != nil {
		return balancer.Plan{Reason: planGiven, Text: "every shard has a hashRange that somebody has written: they are not changed"}
	}
	if r.planner == nil {
		planner, err := balancer.NewPlanner(balancer.PlannerOptions{
			Tolerance: options.Tolerance.Float64(), Rounds: int(options.Rounds), MaxMoves: int64(options.MaxMovesPerRound),
			Cooldown: options.CooldownPeriod.Duration,
		})
		if err != nil {
			return balancer.Plan{Reason: balancer.PlanInvalid, Text: err.Error()}
		}
		r.planner = planner
	}
	in := balancer.Round{
		Now: now, Shards: members.shards, DryRun: options.DryRun,
		Blocked: balancer.Blocks{
			PlanInFlight: m.plan || now.Sub(r.busyAt) < settling, RollingOut: m.rollingOut, VersionsDiffer: m.versionsDiffer, Frozen: m.frozen,
		},
	}
	var plan balancer.Plan
	var err error
	if c.goesBySlots() {
		plan, err = r.planSlots(in, facts, c.table)
	} else {
		plan, err = r.planObjects(in, facts, options.CooldownPeriod.Duration)
	}
	switch {
	case err != nil:
		plan.Text = err.Error()
	case plan.Reason == balancer.PlanInFlight && !m.plan:
		plan.Text = "objects have moved a short time ago, and the loads do not show it yet"
	}
	return plan
}

// goesBySlots says whether the ring's strategy does.
func (c *ringController) goesBySlots() bool { return goesBySlots(c.strategyName) }

// planSlots makes a round for consistent hashing.
func (r *rebalancer) planSlots(in balancer.Round, facts []shardFact, table *ring.Ring) (balancer.Plan, error) {
	reports, missing := slotReportsOf(facts, table)
	in.Shards = slices.Clone(in.Shards)
	for i := range in.Shards {
		s := &in.Shards[i]
		s.LoadKnown = s.LoadKnown && !missing[s.ID]
	}
	r.slots = slotLoadsOf(table, reports, r.slots)
	plan, memory, err := r.planner.Slots(r.memory, in, table, r.slots)
	r.memory = memory
	return plan, err
}

// slotReportsOf reads what the shards report on their slots, and says of which members that is missing although they have objects.
func slotReportsOf(facts []shardFact, table *ring.Ring) (reports map[string]slotReport, missing map[string]bool) {
	reports, missing = map[string]slotReport{}, map[string]bool{}
	for _, f := range facts {
		if f.instance == nil || !table.Has(f.id) {
			continue
		}
		if text := f.instance.Status.SlotLoads; text != "" {
			report, err := decodeSlotReport(text)
			if err == nil {
				reports[f.id] = report
				continue
			}
		}
		missing[f.id] = f.instance.Status.AssignedResourceCount > 0
	}
	return reports, missing
}

func instancesOf(facts []shardFact) map[string]*shardv1.ShardInstance {
	instances := make(map[string]*shardv1.ShardInstance, len(facts))
	for _, f := range facts {
		if f.instance != nil {
			instances[f.id] = f.instance
		}
	}
	return instances
}

// rebalanceOf returns that part of the spec, with defaults.
func rebalanceOf(config *shardv1.ShardConfig) *shardv1.Rebalance {
	complete := shardv1.ShardConfig{Spec: shardv1.ShardConfigSpec{Rebalance: config.Spec.Rebalance.DeepCopy()}}
	complete.SetDefaults()
	return complete.Spec.Rebalance
}

// slotsForRegroup is what slots count when members change, nil if it is not known, or was another thing when it was reported.
func (c *ringController) slotsForRegroup(facts []shardFact, members membership) []balancer.SlotLoad {
	reports, missing := slotReportsOf(facts, c.table)
	for _, unknown := range missing {
		if unknown {
			return nil
		}
	}
	objects := int64(0)
	for _, report := range reports {
		objects += report.objects()
	}
	if objects < fewObjects*int64(c.table.Len()) {
		return nil // regroupLoads would come to the same, after a look at all slots
	}
	c.rebalance.slots = slotLoadsOf(c.table, reports, c.rebalance.slots)
	if !upToDate(c.table, c.rebalance.slots, facts) {
		return nil
	}
	return regroupLoads(c.table, c.rebalance.slots, members.shards)
}

// upToDate says whether the reports are about the objects that the shards have now. They are written now and then, and while a ring fills, or just
// after objects have moved, what they leave out would look as if it were no work.
func upToDate(table *ring.Ring, slots []balancer.SlotLoad, facts []shardFact) bool {
	reported := map[string]int64{}
	eachRange(table, slots, func(shard string, _ int, owned []balancer.SlotLoad) {
		for _, l := range owned {
			reported[shard] += l.Objects
		}
	})
	for _, f := range facts {
		if !table.Has(f.id) {
			continue
		}
		if farOff(reported[f.id], f.objects) {
			return false
		}
	}
	return true
}

// farOff says whether a shard has so many more or fewer objects than it has reported on that the report tells nothing of them.
func farOff(reported, has int64) bool {
	return max(has-reported, reported-has) > max(fewObjects, has/5)
}
