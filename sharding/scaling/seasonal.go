package scaling

import (
	"math"
	"slices"
	"time"
)

// Seasonal is a [Model] that expects what was at the same time of the former periods, such as days. It learns without a schedule: the
// period is divided into equal parts, and each part remembers the mean demand that it has seen, where the latest period counts half. To
// that it adds by how much the demand differs lately from what was expected. It knows a part when it has seen most of it once. Periods
// are counted in UTC: where clocks change twice a year, what goes by them comes an hour off until it has been seen again.
//
// The zero value is ready for use, with days in parts of 5 minutes. Its fields may be written down and read back: it takes days to learn.
type Seasonal struct {
	// Period is after which time the demand repeats itself, 0 means 24 h. Part is the length of a part, 0 means 5 min. Period must be a
	// multiple of Part, or the last part is shorter.
	Period, Part time.Duration
	// Means are the mean demands of the parts, in full shards; -1 for parts that have not been seen.
	Means []float64
	// Started and At are the times of the first and of the last observation of the present part; Sum and Count are what was seen of it.
	Started, At time.Time
	Sum         float64
	Count       int
	// Differs is by how much the demand differs lately from what was expected.
	Differs float64
}

const (
	defaultPeriod = 24 * time.Hour
	defaultPart   = 5 * time.Minute
	// differsHalfLife is after which time a difference counts half.
	differsHalfLife = 30 * time.Minute
	// mostParts is into how many parts a period is divided at most.
	mostParts = 1 << 14
)

// Name returns "seasonal" and the period, if it is not a day.
func (s Seasonal) Name() string {
	if s.period() == defaultPeriod {
		return "seasonal"
	}
	return "seasonal-" + s.period().String()
}

func (s Seasonal) period() time.Duration {
	if s.Period <= 0 {
		return defaultPeriod
	}
	return s.Period
}

func (s Seasonal) part() time.Duration {
	part := s.Part
	if part <= 0 {
		part = defaultPart
	}
	return max(part, s.period()/mostParts, 1)
}

// parts is into how many the period is divided.
func (s Seasonal) parts() int { return int((s.period() + s.part() - 1) / s.part()) }

// index is the part that a time is in.
func (s Seasonal) index(at time.Time) int {
	period := int64(s.period())
	into := at.UnixNano() % period
	if into < 0 {
		into += period
	}
	return int(into / int64(s.part()))
}

// Observe takes in the demand of a moment.
func (s Seasonal) Observe(at time.Time, demand float64) Model {
	elapsed := at.Sub(s.At)
	if !s.At.IsZero() && elapsed <= 0 {
		return s
	}
	if s.At.IsZero() || elapsed >= s.part() || s.index(at) != s.index(s.At) {
		s = s.close()
		s.Started = at
	}
	if mean, known := s.mean(at); known && !s.At.IsZero() {
		lately := min(elapsed, s.part()) // after a gap the first observation is no more than one
		s.Differs *= 1 - weight(elapsed-lately, differsHalfLife)
		s.Differs += weight(lately, differsHalfLife) * (demand - mean - s.Differs)
	}
	s.At = at
	s.Sum += demand
	s.Count++
	return s
}

// close takes the present part into the means, if most of it was seen.
func (s Seasonal) close() Seasonal {
	if seen := s.At.Sub(s.Started); s.Count > 0 && seen >= s.part()/2 {
		n := s.parts()
		means := slices.Clone(s.Means)
		if len(means) != n {
			means = slices.Repeat([]float64{-1}, n)
		}
		i, now := s.index(s.At), s.Sum/float64(s.Count)
		if before := means[i]; isValue(before) {
			now = (before + now) / 2
		}
		means[i] = now
		s.Means = means
	}
	s.Sum, s.Count = 0, 0
	return s
}

func (s Seasonal) mean(at time.Time) (float64, bool) {
	i := s.index(at)
	if i >= len(s.Means) || !isValue(s.Means[i]) {
		return 0, false
	}
	return s.Means[i], true
}

// Forecast returns what was at the same time of the former periods, and by how much the demand differs from that lately.
func (s Seasonal) Forecast(at time.Time) (float64, bool) {
	mean, known := s.mean(at)
	if !known || math.IsNaN(s.Differs) {
		return 0, false
	}
	return max(0, mean+s.Differs), true
}
