package sharding

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

// scaler decides for one ring in one term how many shards there should be: it has the clock and the memory that package scaling has not. It is
// used by reconcile alone.
type scaler struct {
	decide     *scaling.Scaler
	err        error // why there is none
	generation int64 // of the ShardConfig that it was made for
	forecast   shardv1.ForecastModel
	memory     scaling.Memory
	kept       keptForecasts
	at         time.Time // of the last round
	last       scaling.Decision
	told       int // the number that was last called for, 0 when the present one is right

	// workload is what is scaled, nil if there is none or if it can't be read: workloadErr says why. condition is about it.
	workload    *workload
	workloadErr error
	condition   *metav1.Condition
	failedAt    time.Time // when a removal was last taken back
	fitting     fitting
}

const (
	// scalingRound is the time between two decisions while something is about to be decided, scalingRest that while nothing is.
	scalingRound = 2 * time.Second
	scalingRest  = 10 * time.Second
	// scalingSoonest is the time between two decisions at least, however often loads change.
	scalingSoonest = time.Second
)

// scalingOf returns that part of the spec, with defaults.
func scalingOf(config *shardv1.ShardConfig) *shardv1.Scaling {
	complete := shardv1.ShardConfig{Spec: shardv1.ShardConfigSpec{Scaling: config.Spec.Scaling.DeepCopy()}}
	complete.SetDefaults()
	return complete.Spec.Scaling
}

// scalingOptions are what the spec says, for package scaling.
func scalingOptions(config *shardv1.ShardConfig) scaling.Options {
	complete := config.DeepCopy()
	complete.SetDefaults()
	spec, s := complete.Spec, complete.Spec.Scaling
	o := scaling.Options{
		Min: int(spec.MinShards), Max: int(spec.MaxShards),
		UpThreshold: spec.ScaleUpThreshold.Float64(), DownThreshold: spec.ScaleDownThreshold.Float64(),
		Tolerance: s.Tolerance.Float64(), Sustained: s.SustainedPeriod.Duration, Cooldown: s.CooldownPeriod.Duration,
		MaxStepUp: int(s.MaxStepUp), MaxStepDown: int(s.MaxStepDown), UpPeriod: s.UpPeriod.Duration, DownPeriod: s.DownPeriod.Duration,
		QueueLimit: float64(s.QueueLimit), ConsolidateBelow: s.ConsolidateBelow.Float64(), StaleAfter: s.StaleAfter.Duration,
	}
	switch s.Forecast {
	case shardv1.ForecastTrend:
		o.Models = []scaling.Model{scaling.Trend{}}
	case shardv1.ForecastSeasonal:
		o.Models = []scaling.Model{scaling.Seasonal{}}
	case shardv1.ForecastBoth:
		o.Models = []scaling.Model{scaling.Trend{}, scaling.Seasonal{}}
	}
	if len(o.Models) > 0 {
		o.Horizon = s.Horizon.Duration
	}
	return o
}

// configure makes a new scaler when the spec has changed. What was observed is kept, unless it was for other models. The error is about what
// a former leader has left.
func (s *scaler) configure(config *shardv1.ShardConfig, now time.Time) (left error) {
	if s.decide != nil && s.generation == config.Generation || s.err != nil && s.generation == config.Generation {
		return nil
	}
	options, forecast := scalingOptions(config), scalingOf(config).Forecast
	switch s.forecast {
	case "": // the term begins
		left = s.recall(config, options.Models, now)
	case forecast:
	default:
		s.forget(config, now)
	}
	s.forecast = forecast
	s.decide, s.err = scaling.New(options)
	s.generation, s.at = config.Generation, time.Time{}
	return left
}

// scale decides how many shards there should be, if it is time. It returns after which time to look again.
func (c *ringController) scale(ctx context.Context, config *shardv1.ShardConfig, facts []shardFact, members membership, m moving) time.Duration {
	s, now := &c.scaler, time.Now()
	if err := s.configure(config, now); err != nil {
		klog.FromContext(ctx).Info("What the forecasts had learnt can't be used, they begin anew", "err", err)
	}
	if s.err != nil {
		s.last = scaling.Decision{Reason: scaling.Invalid, Text: s.err.Error()}
		return 0
	}
	if wait := scalingSoonest - now.Sub(s.at); wait > 0 && !s.at.IsZero() {
		return wait
	}
	s.at = now
	s.workload, s.workloadErr, s.fitting.condition = nil, nil, nil
	if ref := config.Spec.Workload; ref != nil {
		if s.workload, s.workloadErr = c.workloads.get(ctx, ref, now); s.workload != nil {
			c.fit(ctx, config, facts, m.frozen)
			m.rollingOut = m.rollingOut || s.workload.rollingOut
		}
	}
	in := c.scalingInput(config, facts, members, m, now)
	var sourceErr error
	in.Metrics, sourceErr = c.metricReader.latest()
	decision, memory, err := s.decide.Decide(s.memory, in)
	if err != nil {
		klog.FromContext(ctx).V(1).Info("The scaler refused its input", "err", err)
	}
	if decision.Reason == scaling.MetricUnknown && sourceErr != nil {
		decision.Text += ": " + sourceErr.Error()
	}
	s.memory, s.last = memory, decision
	c.tellScaling(decision, config.Spec.Workload != nil && !scalingOf(config).DryRun)
	c.follow(ctx, config, facts, members)
	if s.workload != nil && decision.Desired != int(s.workload.replicas) {
		return scalingRound
	}
	switch decision.Reason {
	case scaling.StabilizingUp, scaling.StabilizingDown, scaling.RateLimited, scaling.PlanInFlight, scaling.RollingOut:
		return scalingRound
	}
	return scalingRest
}

// scalingInput is what is known now.
func (c *ringController) scalingInput(config *shardv1.ShardConfig, facts []shardFact, members membership, m moving, now time.Time) scaling.Input {
	in := scaling.Input{
		Now: now, Shards: len(members.members),
		Blocked: scaling.Blocks{PlanInFlight: m.plan, RollingOut: m.rollingOut, Frozen: m.frozen},
	}
	if w := c.scaler.workload; w != nil {
		in.Shards = int(w.replicas) - leaving(facts, w.replicas)
	}
	if config.Spec.Shards != nil {
		in.Wanted = int(*config.Spec.Shards)
	}
	for _, f := range facts {
		if s := members.standings[f.id]; s != standingServing && s != standingLost || f.instance == nil {
			continue
		}
		in.Loads = append(in.Loads, shardLoadOf(f, now, c.staleAfter))
	}
	if now.Sub(c.rebalance.lastAt) < c.staleAfter {
		in.LargestLoad = c.rebalance.last.Largest.Load
	}
	return in
}

// leaving counts the shards that are being removed from a workload and are among its replicas still.
func leaving(facts []shardFact, replicas int32) int {
	n := 0
	for _, f := range facts {
		if f.instance == nil || f.deleted {
			continue
		}
		if text, set := f.instance.Annotations[removalAnnotation]; set && parseRemoval(text).replicas == replicas {
			n++
		}
	}
	return min(n, int(replicas))
}

// shardLoadOf is what the scaler is told of a shard. One that has not reported anything since it came is starting, for a while.
func shardLoadOf(f shardFact, now time.Time, staleAfter time.Duration) scaling.ShardLoad {
	status := &f.instance.Status
	l := scaling.ShardLoad{ID: f.id, Weight: f.weight(), At: f.measured}
	if status.Load == nil {
		l.At = time.Time{}
		l.Starting = status.LastHeartbeat == nil && now.Sub(f.instance.CreationTimestamp.Time) < 2*staleAfter
		return l
	}
	l.Load = status.Load.Float64()
	if w := status.Work; w != nil {
		l.Queued, l.Done = float64(w.Waiting), float64(w.DonePerMinute)/60
	}
	return l
}

// tellScaling counts a decision to change the number of shards, once, as long as it stays the same, and says so in an Event if it is acted on. That
// shards which come by themselves have not all come yet is no decision.
func (c *ringController) tellScaling(d scaling.Decision, acting bool) {
	s := &c.scaler
	c.metrics.desired.WithLabelValues(c.ring).Set(float64(d.Desired))
	c.metrics.scalingRounds.WithLabelValues(c.ring, string(d.Reason)).Inc()
	for _, f := range d.Forecasts {
		c.metrics.forecastError.WithLabelValues(c.ring, f.Model).Set(f.Error)
	}
	if !d.Acts() || d.Reason == scaling.BelowMin && !acting {
		s.told = 0
		return
	}
	if s.told == d.Desired {
		return
	}
	s.told = d.Desired
	direction, reason := "up", "ScaleUp"
	if d.Desired < d.Current {
		direction, reason = "down", "ScaleDown"
	}
	c.metrics.scalings.WithLabelValues(c.ring, direction, string(d.Reason)).Inc()
	if !acting {
		return
	}
	c.event(corev1.EventTypeNormal, reason, "Scale", "%s", fmt.Sprintf("from %d to %d shards: %s: %s", d.Current, d.Desired, d.Reason, clip(d.Text)))
}
