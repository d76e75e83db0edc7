package scaling

import (
	"math"
	"time"
)

// Trend is a [Model] that goes on as the demand has gone lately: exponential smoothing of a level and of its slope (Holt, "Forecasting seasonals
// and trends by exponentially weighted moving averages", 1957), for observations at any distance. The zero value is ready for use. Its fields
// may be written down and read back.
type Trend struct {
	// LevelHalfLife and SlopeHalfLife are after which time an observation counts half; 0 means 30 s and 90 s.
	LevelHalfLife, SlopeHalfLife time.Duration
	// At is the time of the last observation, the zero time before the first.
	At time.Time
	// Level is the smoothed demand at that time, in full shards, Slope its change per second.
	Level, Slope float64
	// Since is the time of the first observation.
	Since time.Time
}

const (
	defaultLevelHalfLife = 30 * time.Second
	defaultSlopeHalfLife = 90 * time.Second
)

// Name returns "trend".
func (Trend) Name() string { return "trend" }

// Observe takes in the demand of a moment.
func (t Trend) Observe(at time.Time, demand float64) Model {
	elapsed := at.Sub(t.At)
	switch {
	case t.At.IsZero():
		t.At, t.Since, t.Level = at, at, demand
		return t
	case elapsed <= 0:
		return t
	case elapsed > 10*t.slopeHalfLife(): // what was before means nothing any more
		t.At, t.Since, t.Level, t.Slope = at, at, demand, 0
		return t
	}
	expected := t.Level + t.Slope*elapsed.Seconds()
	level := expected + weight(elapsed, t.LevelHalfLife, defaultLevelHalfLife)*(demand-expected)
	slope := (level - t.Level) / elapsed.Seconds()
	t.Slope += weight(elapsed, t.SlopeHalfLife, defaultSlopeHalfLife) * (slope - t.Slope)
	t.Level, t.At = level, at
	return t
}

func (t Trend) slopeHalfLife() time.Duration {
	if t.SlopeHalfLife > 0 {
		return t.SlopeHalfLife
	}
	return defaultSlopeHalfLife
}

// weight is how much an observation counts that comes so long after the one before.
func weight(elapsed, halfLife, otherwise time.Duration) float64 {
	if halfLife <= 0 {
		halfLife = otherwise
	}
	return 1 - math.Exp2(-float64(elapsed)/float64(halfLife))
}

// Forecast follows the slope, but not below 0.
func (t Trend) Forecast(at time.Time) (float64, bool) {
	if t.At.IsZero() || t.At.Sub(t.Since) < t.slopeHalfLife()/2 {
		return 0, false
	}
	return max(0, t.Level+t.Slope*at.Sub(t.At).Seconds()), true
}
