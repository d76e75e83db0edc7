package sharding

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	applyv1 "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
	"github.com/shard-io/shard-controller/health"
)

// conditionHeld is True on a ShardConfig while take-overs are held back, because too many shards fell silent together.
const conditionHeld = "TakeOversHeld"

// ringProblems are what keeps a ring from doing all that its spec asks for.
type ringProblems struct {
	strategy error
	targets  error
	missing  []schema.GroupResource
	finding  error
	overlap  string
	hold     string
	// takeovers and moving say that the ring is on its way to what the spec asks for.
	takeovers, moving int
	noTargets         bool
}

// ringConditions says in conditions how a ring is. It is a pure function.
func ringConditions(members membership, p ringProblems) []metav1.Condition {
	return []metav1.Condition{
		readyCondition(members, p),
		boolCondition(shardv1.ConditionReconciling, p.takeovers > 0 || p.moving > 0, "Moving", "Settled",
			"Objects are being given to other shards.", "Every object is where it belongs."),
		stalledCondition(p),
		boolCondition(shardv1.ConditionOverlapping, p.overlap != "", "SharedTarget", "NoOverlap",
			p.overlap, "No older ring of the namespace shares a resource with this one."),
		boolCondition(conditionHeld, p.hold != "", "MassSilence", "DetectionWorks",
			p.hold, "Dead shards are detected, and their objects taken over."),
	}
}

func readyCondition(members membership, p ringProblems) metav1.Condition {
	c := metav1.Condition{Type: shardv1.ConditionReady, Status: metav1.ConditionFalse}
	switch {
	case p.strategy != nil || p.targets != nil || len(p.missing) > 0:
		c.Reason, c.Message = "Stalled", "See the condition Stalled."
	case p.finding != nil:
		c.Reason, c.Message = "ListFailed", clip(p.finding.Error())
	case p.noTargets:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "NoTargets", "The spec names no targets: shards are watched, and nothing is assigned."
	case members.ready == 0:
		c.Reason, c.Message = "NoShards", "No shard may receive objects."
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "Serving", "Objects are assigned to shards."
	}
	return c
}

func stalledCondition(p ringProblems) metav1.Condition {
	c := metav1.Condition{Type: shardv1.ConditionStalled, Status: metav1.ConditionTrue}
	switch {
	case p.strategy != nil:
		c.Reason, c.Message = "UnknownStrategy", clip(p.strategy.Error())
	case p.targets != nil && isSelectorError(p.targets):
		c.Reason, c.Message = "InvalidSelector", clip(p.targets.Error())
	case p.targets != nil:
		c.Reason, c.Message = "DiscoveryFailed", clip(p.targets.Error())
	case len(p.missing) > 0:
		c.Reason, c.Message = "TargetNotFound", clip("The API server does not serve "+joinResources(p.missing)+".")
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "AsExpected", "Nothing keeps the ring from doing what the spec asks for."
	}
	return c
}

func joinResources(resources []schema.GroupResource) string {
	names := make([]string, len(resources))
	for i, r := range resources {
		names[i] = r.String()
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func boolCondition(kind string, is bool, yes, no, yesMessage, noMessage string) metav1.Condition {
	if is {
		return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: yes, Message: clip(yesMessage)}
	}
	return metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: no, Message: noMessage}
}

// clip keeps a message well below what the API server accepts.
func clip(message string) string {
	if len(message) > 1024 {
		return strings.ToValidUTF8(message[:1021], "") + "..."
	}
	return message
}

// writeStatus writes the status of the ShardConfig if it has changed.
func (c *ringController) writeStatus(ctx context.Context, config *shardv1.ShardConfig, members membership, p *ringProblems) error {
	c.countShards()
	c.completeProblems(config, p)
	conditions := ringConditions(members, *p)
	for i := range conditions {
		conditions[i].ObservedGeneration = config.Generation
	}
	conditions = append(conditions, auditConditions(c.audit.latest(), len(members.shards) > 0, config.Status.Conditions)...)
	for _, about := range []*metav1.Condition{c.scaler.condition, c.scaler.fitting.condition} {
		if about != nil {
			about.ObservedGeneration = config.Generation
			conditions = append(conditions, *about)
		}
	}
	want := shardv1.ShardConfigStatus{
		ObservedGeneration: config.Generation,
		Shards:             int32(len(members.shards)),
		ReadyShards:        int32(members.ready),
		Selector:           RingLabel + "=" + c.ring,
		UnownedObjects:     c.unowned.total(),
		RingGeneration:     max(config.Status.RingGeneration, c.generation),
		Load:               c.meanLoad(members),
	}
	c.addDecisions(&want, &config.Status)
	if statusUpToDate(config.Status, want, conditions) && sameDecisions(&config.Status, &want) {
		return nil
	}
	status := applyv1.ShardConfigStatus().
		WithObservedGeneration(want.ObservedGeneration).
		WithShards(want.Shards).WithReadyShards(want.ReadyShards).WithSelector(want.Selector).
		WithUnownedObjects(want.UnownedObjects).WithRingGeneration(want.RingGeneration)
	if want.Load != nil {
		status.WithLoad(*want.Load)
	}
	applyDecisions(status, &want)
	for _, condition := range conditions {
		status.WithConditions(conditionApply(condition, config.Status.Conditions))
	}
	apply := applyv1.ShardConfig(c.ring, c.namespace).WithUID(config.UID).WithResourceVersion(config.ResourceVersion).WithStatus(status)
	_, err := c.shards.ShardV1().ShardConfigs(c.namespace).ApplyStatus(ctx, apply, applyOptions())
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("status of ShardConfig %s: %w", c.ring, err)
	}
	return nil
}

func (c *ringController) completeProblems(config *shardv1.ShardConfig, p *ringProblems) {
	snapshot := c.tracker.Snapshot()
	if snapshot.Hold == health.HoldMassSilence {
		p.hold = snapshot.Reason
	}
	p.noTargets = len(config.Spec.Targets) == 0
	p.moving = c.flight.size()
	p.overlap = c.overlapOf(config)
	c.mu.Lock()
	defer c.mu.Unlock()
	p.takeovers = len(c.running)
	for _, err := range c.lastErrors {
		p.finding = err
	}
}

// meanLoad is absent while no shard has reported a load.
func (c *ringController) meanLoad(members membership) *shardv1.Ratio {
	sum, n := 0.0, 0
	for _, s := range members.shards {
		if s.LoadKnown {
			c.metrics.shardLoad.WithLabelValues(c.ring, s.ID).Set(s.Load)
			sum += s.Load
			n++
		}
	}
	if n == 0 {
		return nil
	}
	c.metrics.loadAverage.WithLabelValues(c.ring).Set(sum / float64(n))
	ratio, err := shardv1.RatioFrom(sum / float64(n))
	if err != nil {
		return nil
	}
	return &ratio
}

// loadStep is by how much the mean load must change to be written: it is a coarse copy of the metric.
const loadStep = 50 // thousandths

func statusUpToDate(have, want shardv1.ShardConfigStatus, conditions []metav1.Condition) bool {
	for _, condition := range conditions {
		if !sameCondition(meta.FindStatusCondition(have.Conditions, condition.Type), condition) {
			return false
		}
	}
	return have.ObservedGeneration == want.ObservedGeneration && have.Shards == want.Shards && have.ReadyShards == want.ReadyShards &&
		have.Selector == want.Selector && have.UnownedObjects == want.UnownedObjects && have.RingGeneration == want.RingGeneration &&
		similar(have.Load, want.Load)
}

func similar(a, b *shardv1.Ratio) bool {
	if a == nil || b == nil {
		return a == b
	}
	difference := a.Milli() - b.Milli()
	return -loadStep < difference && difference < loadStep
}

// forgetMetrics removes what would otherwise be shown of a ring that is not served here any more.
func (c *ringController) forgetMetrics() {
	c.migrator.forgetMetrics()
	ring := prometheus.Labels{"ring": c.ring}
	for _, gauge := range []*prometheus.GaugeVec{
		c.metrics.shards, c.metrics.loadAverage, c.metrics.shardLoad, c.metrics.unowned, c.metrics.unownedOldest,
		c.metrics.ringGeneration, c.metrics.movesInFlight, c.metrics.frozen,
		c.metrics.imbalance, c.metrics.largestShare, c.metrics.desired, c.metrics.forecastError,
		c.metrics.auditObjects, c.metrics.auditLast, c.metrics.auditUnreported, c.metrics.coverageGaps, c.metrics.stateOrphans,
	} {
		gauge.DeletePartialMatch(ring)
	}
}

// countShards brings the gauges of the shards up to date.
func (c *ringController) countShards() {
	snapshot := c.tracker.Snapshot()
	counts := map[health.State]int{}
	for _, shard := range snapshot.Shards {
		counts[shard.State]++
	}
	for _, state := range []health.State{health.Unknown, health.Alive, health.Silent, health.Dead, health.Released} {
		c.metrics.shards.WithLabelValues(c.ring, string(state)).Set(float64(counts[state]))
	}
	held := 0.0
	if snapshot.Frozen {
		held = 1
	}
	c.metrics.frozen.WithLabelValues(c.ring).Set(held)
}
