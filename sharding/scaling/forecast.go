package scaling

import (
	"math"
	"slices"
	"time"
)

// Model forecasts the demand. A Model is a value: Observe returns the next one and leaves the former as it is. Whoever runs the Scaler calls its
// methods, from one goroutine at a time.
type Model interface {
	// Name is for texts and metrics. It must always be the same.
	Name() string
	// Observe takes in the demand of a moment, a number from 0. Times only grow, by any amount.
	Observe(at time.Time, demand float64) Model
	// Forecast returns the demand that is expected at a time to come, and false when the model has not learnt enough for that.
	Forecast(at time.Time) (demand float64, ok bool)
}

const (
	// errorHalfLife is after which time an error counts half.
	errorHalfLife = 2 * time.Hour
	// leastDue is how many forecasts must have come due before a model counts.
	leastDue = 10
	// better is by which part of the demand a model may be worse than no model, so that a constant load does not switch it off.
	better = 0.01
	// worst is which error, as a part of the demand, switches any model off.
	worst = 0.3
	// mostPending is how many forecasts are kept until they come due.
	mostPending = 64
	// mostDue is how far forecasts that have come due are counted.
	mostDue = 1 << 20
)

// tracker holds a model against what came of its forecasts.
type tracker struct {
	model   Model
	pending []forecast // not due yet, in order of time
	due     int
	last    time.Time // when a forecast came due last
	errors  float64   // mean of how far it was off
	naive   float64   // the same for the forecast that nothing changes
	demand  float64   // mean of the demand meanwhile
}

// forecast is what was said about a moment.
type forecast struct {
	at            time.Time
	demand, naive float64
}

// forecast lets all models see the demand, and asks them for that of the horizon. What is not fully known is not shown to them,
// nor that there is no shard: a ring that is down, or has just been found, says nothing of the demand.
func (m Memory) forecast(o Options, x observation) (Memory, []Forecast) {
	if len(m.trackers) == 0 || o.Horizon == 0 {
		return m, nil
	}
	m.trackers = slices.Clone(m.trackers)
	horizon := x.now.Add(o.Horizon + o.Sustained)
	known := len(x.missing) == 0 && x.shards > 0
	forecasts := make([]Forecast, len(m.trackers))
	for i := range m.trackers {
		t := &m.trackers[i]
		f := &forecasts[i]
		if known {
			t.comeDue(x.now, x.demand)
			t.model = t.model.Observe(x.now, x.demand)
		}
		f.Model = t.model.Name()
		if f.Demand, f.Known = t.model.Forecast(horizon); f.Known && !isValue(f.Demand) {
			f.Known = false
		}
		f.Demand = min(amount(f.Demand), maxValue)
		if f.Known && known {
			t.expect(forecast{horizon, f.Demand, x.demand}, o.Horizon)
		}
		f.Error, f.Naive, f.Used = t.errors, t.naive, f.Known && t.good()
	}
	return m, forecasts
}

// expect keeps a forecast until it comes due; not all of them, when rounds are short.
func (t *tracker) expect(f forecast, horizon time.Duration) {
	if n := len(t.pending); n == 0 || f.at.Sub(t.pending[n-1].at) >= horizon/(mostPending/2) && n < mostPending {
		t.pending = append(slices.Clip(t.pending), f)
	}
}

// comeDue compares the forecasts whose time has come with what is.
func (t *tracker) comeDue(now time.Time, demand float64) {
	for len(t.pending) > 0 && !t.pending[0].at.After(now) {
		f := t.pending[0]
		t.pending = t.pending[1:]
		if now.Sub(f.at) > time.Minute { // nobody looked when it was due
			continue
		}
		part := 1 / float64(t.due+1)
		if !t.last.IsZero() {
			part = max(part, 1-math.Exp2(-float64(now.Sub(t.last))/float64(errorHalfLife)))
		}
		t.errors += part * (math.Abs(f.demand-demand) - t.errors)
		t.naive += part * (math.Abs(f.naive-demand) - t.naive)
		t.demand += part * (demand - t.demand)
		t.due, t.last = min(t.due+1, mostDue), now
	}
}

// good says whether the forecasts are worth to be followed.
func (t *tracker) good() bool {
	return t.due >= leastDue && t.errors <= t.naive+better*t.demand && t.errors <= worst*t.demand
}
