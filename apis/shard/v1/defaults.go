package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Defaults of ShardConfig and ShardInstance, for objects that no API server has defaulted: those of a fake clientset, or of a program
// that makes a spec itself.
const (
	DefaultMinShards               int32 = 1
	DefaultMaxShards               int32 = 10
	DefaultLoadBalanceStrategy           = "consistent-hash"
	DefaultHealthCheckInterval           = 30 * time.Second
	DefaultRebalanceInterval             = 30 * time.Second
	DefaultRebalanceRounds         int32 = 2
	DefaultMaxMovesPerRound        int32 = 1000
	DefaultSustainedPeriod               = 30 * time.Second
	DefaultCooldownPeriod                = 5 * time.Minute
	DefaultMaxStepUp               int32 = 4
	DefaultMaxStepDown             int32 = 1
	DefaultMoveCooldown                  = 10 * time.Minute
	DefaultUpPeriod                      = 30 * time.Second
	DefaultDownPeriod                    = time.Minute
	DefaultQueueLimit              int32 = 1000
	DefaultAgeLimit                      = time.Minute
	DefaultStaleAfter                    = time.Minute
	DefaultHorizon                       = time.Minute
	DefaultForecast                      = ForecastTrend
	DefaultDrainTimeout                  = 30 * time.Second
	DefaultMaxInFlight             int32 = 200
	DefaultWeight                  int32 = 1
	defaultScaleUpThresholdMilli   int32 = 800
	defaultScaleDownThresholdMilli int32 = 300
	defaultToleranceMilli          int32 = 100
)

// SetDefaults fills the fields of the spec that are absent, as the API server does. It changes nothing that is set, and is
// idempotent.
func (c *ShardConfig) SetDefaults() {
	s := &c.Spec
	setDefault(&s.MinShards, DefaultMinShards)
	setDefault(&s.MaxShards, DefaultMaxShards)
	setDefault(&s.ScaleUpThreshold, Ratio{milli: defaultScaleUpThresholdMilli})
	setDefault(&s.ScaleDownThreshold, Ratio{milli: defaultScaleDownThresholdMilli})
	setDefault(&s.LoadBalanceStrategy, DefaultLoadBalanceStrategy)
	if s.HealthCheckInterval == nil {
		s.HealthCheckInterval = &metav1.Duration{Duration: DefaultHealthCheckInterval}
	}
	if s.Rebalance == nil {
		s.Rebalance = &Rebalance{}
	}
	if s.Scaling == nil {
		s.Scaling = &Scaling{}
	}
	if s.Handover == nil {
		s.Handover = &Handover{}
	}
	s.Rebalance.setDefaults()
	s.Scaling.setDefaults()
	s.Handover.setDefaults()
}

// SetDefaults fills the fields of the spec that are absent, as the API server does. It changes nothing that is set, and is
// idempotent.
func (i *ShardInstance) SetDefaults() {
	setDefault(&i.Spec.Weight, DefaultWeight)
}

// SetDefaults fills the fields of the spec that are absent, as the API server does. It changes nothing that is set, and is
// idempotent.
func (m *ShardMigration) SetDefaults() {
	setDefault(&m.Spec.Reason, MigrationManual)
}

func (r *Rebalance) setDefaults() {
	setDefault(&r.Tolerance, Ratio{milli: defaultToleranceMilli})
	setDefault(&r.Interval.Duration, DefaultRebalanceInterval)
	setDefault(&r.Rounds, DefaultRebalanceRounds)
	setDefault(&r.MaxMovesPerRound, DefaultMaxMovesPerRound)
	setDefault(&r.CooldownPeriod.Duration, DefaultMoveCooldown)
}

func (s *Scaling) setDefaults() {
	setDefault(&s.Tolerance, Ratio{milli: defaultToleranceMilli})
	setDefault(&s.SustainedPeriod.Duration, DefaultSustainedPeriod)
	setDefault(&s.CooldownPeriod.Duration, DefaultCooldownPeriod)
	setDefault(&s.MaxStepUp, DefaultMaxStepUp)
	setDefault(&s.MaxStepDown, DefaultMaxStepDown)
	setDefault(&s.UpPeriod.Duration, DefaultUpPeriod)
	setDefault(&s.DownPeriod.Duration, DefaultDownPeriod)
	setDefault(&s.QueueLimit, DefaultQueueLimit)
	setDefault(&s.AgeLimit.Duration, DefaultAgeLimit)
	setDefault(&s.StaleAfter.Duration, DefaultStaleAfter)
	setDefault(&s.Forecast, DefaultForecast)
	setDefault(&s.Horizon.Duration, DefaultHorizon)
}

func (h *Handover) setDefaults() {
	setDefault(&h.DrainTimeout.Duration, DefaultDrainTimeout)
	setDefault(&h.MaxInFlight, DefaultMaxInFlight)
}

// setDefault gives *field the value if it has the zero value, which none of these fields can have otherwise.
func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
