package sharding

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	applyv1 "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

// addDecisions puts into the status of a ShardConfig what planner and scaler have come to. What is only more exact than what was written
// stays as it was.
func (c *ringController) addDecisions(want *shardv1.ShardConfigStatus, have *shardv1.ShardConfigStatus) {
	now := time.Now()
	if r := &c.rebalance; !r.lastAt.IsZero() {
		want.LastPlan = decisionOf(string(r.last.Reason), r.last.Text, have.LastPlan, now)
		if r.imbalance > 0 {
			want.Imbalance = coarse(r.imbalance, have.Imbalance)
			want.LargestShare = coarse(min(r.largest, 1), have.LargestShare)
		}
	} else {
		want.LastPlan, want.Imbalance, want.LargestShare = have.LastPlan, have.Imbalance, have.LargestShare
	}
	d := c.scaler.last
	if d.Reason == "" {
		want.LastScaling, want.DesiredShards, want.RecommendedShards = have.LastScaling, have.DesiredShards, have.RecommendedShards
		return
	}
	want.LastScaling = decisionOf(string(d.Reason), d.Text, have.LastScaling, now)
	want.DesiredShards, want.RecommendedShards = int32(d.Desired), int32(d.Recommended)
	if off, known := forecastErrorOf(d.Forecasts); known {
		want.ForecastError = coarse(off, have.ForecastError)
	}
}

// forecastErrorOf is the error of the best model.
func forecastErrorOf(forecasts []scaling.Forecast) (off float64, known bool) {
	for _, f := range forecasts {
		if f.Known && (!known || f.Error < off) {
			off, known = f.Error, true
		}
	}
	return off, known
}

// decisionOf keeps what was written while the reason is the same.
func decisionOf(reason, text string, before *shardv1.Decision, now time.Time) *shardv1.Decision {
	if before != nil && before.Reason == reason {
		return before
	}
	return &shardv1.Decision{Reason: reason, Message: clip(text), Time: metav1.NewTime(now)}
}

// coarse keeps what was written while the value is nearly the same.
func coarse(value float64, before *shardv1.Ratio) *shardv1.Ratio {
	ratio, err := shardv1.RatioFrom(min(value, shardv1.MaxRatio))
	if err != nil {
		return nil
	}
	if similar(&ratio, before) {
		return before
	}
	return &ratio
}

// sameDecisions says whether the status has all that already.
func sameDecisions(have, want *shardv1.ShardConfigStatus) bool {
	sameDecision := func(a, b *shardv1.Decision) bool { return a == b || a != nil && b != nil && *a == *b }
	sameRatio := func(a, b *shardv1.Ratio) bool { return a == b || a != nil && b != nil && *a == *b }
	return have.DesiredShards == want.DesiredShards && have.RecommendedShards == want.RecommendedShards &&
		sameDecision(have.LastScaling, want.LastScaling) && sameDecision(have.LastPlan, want.LastPlan) &&
		sameRatio(have.Imbalance, want.Imbalance) && sameRatio(have.LargestShare, want.LargestShare) && sameRatio(have.ForecastError, want.ForecastError)
}

// applyDecisions adds what addDecisions has put there to what is written.
func applyDecisions(status *applyv1.ShardConfigStatusApplyConfiguration, want *shardv1.ShardConfigStatus) {
	decision := func(d *shardv1.Decision) *applyv1.DecisionApplyConfiguration {
		return applyv1.Decision().WithReason(d.Reason).WithMessage(d.Message).WithTime(d.Time)
	}
	if want.LastScaling != nil {
		status.WithLastScaling(decision(want.LastScaling)).WithDesiredShards(want.DesiredShards).WithRecommendedShards(want.RecommendedShards)
	}
	if want.LastPlan != nil {
		status.WithLastPlan(decision(want.LastPlan))
	}
	if want.Imbalance != nil {
		status.WithImbalance(*want.Imbalance)
	}
	if want.LargestShare != nil {
		status.WithLargestShare(*want.LargestShare)
	}
	if want.ForecastError != nil {
		status.WithForecastError(*want.ForecastError)
	}
}
