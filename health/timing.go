package health

import (
	"fmt"
	"time"
)

// The bounds of a lease duration; the same as those of ShardConfig's healthCheckInterval.
const (
	MinLeaseDuration = time.Second
	MaxLeaseDuration = time.Hour
)

// Timing holds the one number from which every interval of the protocol
// follows. The proportions are fixed, because safety rests on them: a worker
// stops itself after two thirds of the time after which others count it as
// dead, and the remaining third is the margin for clocks that run at different
// rates and for a write that had been sent just before the end.
type Timing struct {
	// LeaseDuration is how long a live shard may go without a heartbeat that
	// others see. MinLeaseDuration to MaxLeaseDuration.
	LeaseDuration time.Duration
}

// TimingFor is the Timing of a ring whose ShardConfig has the given
// healthCheckInterval. The error names the bounds when it is outside of them.
func TimingFor(healthCheckInterval time.Duration) (Timing, error) {
	t := Timing{LeaseDuration: healthCheckInterval}
	if err := t.Validate(); err != nil {
		return Timing{}, err
	}
	return t, nil
}

// Validate says whether the lease duration is within bounds.
func (t Timing) Validate() error {
	if t.LeaseDuration < MinLeaseDuration || t.LeaseDuration > MaxLeaseDuration {
		return fmt.Errorf("health: lease duration %v: must be from %v to %v", t.LeaseDuration, MinLeaseDuration, MaxLeaseDuration)
	}
	return nil
}

// RenewDeadline is how long after the start of its last successful renewal a
// holder may act: 2/3 of the lease duration.
func (t Timing) RenewDeadline() time.Duration { return t.LeaseDuration * 2 / 3 }

// RetryPeriod is the pause from the start of one renewal, or one look at the
// Leases, to the next: 2/15 of the lease duration.
func (t Timing) RetryPeriod() time.Duration { return t.LeaseDuration * 2 / 15 }

// RequestTimeout bounds each request: two retry periods. A server may be that
// slow, and nobody is taken for dead.
func (t Timing) RequestTimeout() time.Duration { return 2 * t.RetryPeriod() }

// SilentAfter is the time without a heartbeat after which a shard counts as
// silent and gets no new objects: three retry periods.
func (t Timing) SilentAfter() time.Duration { return 3 * t.RetryPeriod() }

// seconds is the lease duration as a Lease carries it, rounded up: a reader
// that goes by the record must never wait for less than the writer meant.
func (t Timing) seconds() int32 {
	return int32((t.LeaseDuration + time.Second - 1) / time.Second)
}
