package scaling

import (
	"math"
	"time"
)

// Trend is a [Model] that goes on as the demand has gone lately: exponential smoothing of a level and of its slope (Holt, "Forecasting seasonals
// and trends by exponentially weighted moving averages", 1957), for observations at any distance. It follows the slope of the last minutes or that of
// the last half minute, whichever is flatter, so that a step is not taken for the beginning of a ramp. The zero value is ready for use. Its fields may be
// written down and read back.
type Trend struct {
	// LevelHalfLife and SlopeHalfLife are after which time an observation counts half; 0 means 30 s and 90 s.
	LevelHalfLife, SlopeHalfLife time.Duration
	// At is the time of the last observation, the zero time before the first.
	At time.Time
	// Level is the smoothed demand at that time, in full shards, Slope its change per second.
	Level, Slope float64
	// Latest is the slope with LevelHalfLife as its half-life.
	Latest float64
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
		t.At, t.Since, t.Level, t.Slope, t.Latest = at, at, demand, 0, 0
		return t
	}
	expected := t.Level + t.Slope*elapsed.Seconds()
	level := expected + weight(elapsed, t.levelHalfLife())*(demand-expected)
	slope := (level - t.Level) / elapsed.Seconds()
	t.Slope += weight(elapsed, t.slopeHalfLife()) * (slope - t.Slope)
	t.Latest += weight(elapsed, t.levelHalfLife()) * (slope - t.Latest)
	t.Level, t.At = level, at
	return t
}

func (t Trend) levelHalfLife() time.Duration {
	if t.LevelHalfLife > 0 {
		return t.LevelHalfLife
	}
	return defaultLevelHalfLife
}

func (t Trend) slopeHalfLife() time.Duration {
	if t.SlopeHalfLife > 0 {
		return t.SlopeHalfLife
	}
	return defaultSlopeHalfLife
}

// weight is how much an observation counts that comes so long after the one before.
func weight(elapsed, halfLife time.Duration) float64 {
	return 1 - math.Exp2(-float64(elapsed)/float64(halfLife))
}

// Forecast follows the flatter slope, but not below 0. When one goes up and the other down, it expects no change.
func (t Trend) Forecast(at time.Time) (float64, bool) {
	if t.At.IsZero() || t.At.Sub(t.Since) < t.slopeHalfLife()/2 {
		return 0, false
	}
	slope := t.Slope
	switch {
	case slope*t.Latest <= 0:
		slope = 0
	case math.Abs(t.Latest) < math.Abs(slope):
		slope = t.Latest
	}
	return max(0, t.Level+slope*at.Sub(t.At).Seconds()), true
}
