package sharding

import (
	"context"
	"fmt"
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

	imbalance, largest float64 // as of the last round in which they were known
}

// settling is for how long after the last move the loads are still those of before.
const settling = 3 * loadHalfLife

// Reasons of rounds in which the planner is not asked.
const (
	// planUnsupported: the strategy does not go by slots.
	planUnsupported balancer.PlanReason = "Unsupported"
	// planGiven: users have written the slot table by hand.
	planGiven balancer.PlanReason = "GivenRanges"
)

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
	m.plan = m.plan || c.flight.size() > 0 || c.migrator.moving.Load() || c.table.Len() > 0 && c.settledTable.Load() != c.table
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
// round is due.
func (c *ringController) replan(ctx context.Context, config *shardv1.ShardConfig, facts []shardFact, members membership, m moving,
) (*ring.Ring, time.Duration) {
	r, now := &c.rebalance, time.Now()
	if m.plan || m.rollingOut {
		r.busyAt = now
	}
	options := rebalanceOf(config)
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
	klog.FromContext(ctx).V(1).Info("Moving slots to even out the load", "reason", plan.Reason, "objects", plan.Objects, "text", plan.Text)
	return plan.Ring, options.Interval.Duration
}

// round asks the planner, if it is of any use.
func (r *rebalancer) round(c *ringController, options *shardv1.Rebalance, facts []shardFact, members membership, m moving, now time.Time,
) balancer.Plan {
	switch {
	case c.strategyName != balancer.ConsistentHash:
		return balancer.Plan{Reason: planUnsupported, Text: fmt.Sprintf("the planner moves slots, and the strategy %s places objects without them", c.strategyName)}
	case givenTable(members.members, instancesOf(facts)) != nil:
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
	reports, missing := slotReportsOf(facts, c.table)
	shards := make([]balancer.Shard, len(members.shards))
	for i, s := range members.shards {
		shards[i] = s
		shards[i].LoadKnown = s.LoadKnown && !missing[s.ID]
	}
	plan, memory, err := r.planner.Slots(r.memory, balancer.Round{
		Now: now, Shards: shards, DryRun: options.DryRun,
		Blocked: balancer.Blocks{
			PlanInFlight: m.plan || now.Sub(r.busyAt) < settling, RollingOut: m.rollingOut, VersionsDiffer: m.versionsDiffer, Frozen: m.frozen,
		},
	}, c.table, slotLoadsOf(c.table, reports))
	r.memory = memory
	switch {
	case err != nil:
		plan.Text = err.Error()
	case plan.Reason == balancer.PlanInFlight && !m.plan:
		plan.Text = "objects have moved a short time ago, and the loads do not show it yet"
	}
	return plan
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
	slots := slotLoadsOf(c.table, reports)
	if !upToDate(c.table, slots, facts) {
		return nil
	}
	return regroupLoads(c.table, slots, members.shards)
}

// upToDate says whether the reports are about the objects that the shards have now. They are written now and then, and while a ring fills, or just
// after objects have moved, what they leave out would look as if it were no work.
func upToDate(table *ring.Ring, slots []balancer.SlotLoad, facts []shardFact) bool {
	reported := map[string]int64{}
	for slot, owner := range ownersOf(table) {
		reported[owner] += slots[slot].Objects
	}
	for _, f := range facts {
		if !table.Has(f.id) {
			continue
		}
		if off := max(f.objects-reported[f.id], reported[f.id]-f.objects); off > max(fewObjects, f.objects/5) {
			return false
		}
	}
	return true
}
