package sharding

import (
	"time"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/health"
)

// What the spec of a ring says. An API server fills in the defaults; these do the same for a spec that none has seen.

func leaseDuration(config *shardv1.ShardConfig) time.Duration {
	if config.Spec.HealthCheckInterval == nil {
		return shardv1.DefaultHealthCheckInterval
	}
	return config.Spec.HealthCheckInterval.Duration
}

func timingOf(config *shardv1.ShardConfig) (health.Timing, error) {
	return health.TimingFor(leaseDuration(config))
}

func maxInFlight(config *shardv1.ShardConfig) int {
	if config.Spec.Handover == nil || config.Spec.Handover.MaxInFlight <= 0 {
		return int(shardv1.DefaultMaxInFlight)
	}
	return int(config.Spec.Handover.MaxInFlight)
}

// drainTimeout is how long a reconcile in flight may take before a hand-over cancels it.
func drainTimeout(config *shardv1.ShardConfig) time.Duration {
	if config == nil || config.Spec.Handover == nil || config.Spec.Handover.DrainTimeout.Duration <= 0 {
		return shardv1.DefaultDrainTimeout
	}
	return config.Spec.Handover.DrainTimeout.Duration
}
