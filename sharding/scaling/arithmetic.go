package scaling

import (
	"fmt"
	"math"
)

// arithmetic says how many shards are needed by what is known now and what is forecast: the most that anything asks for.
func (s *Scaler) arithmetic(x observation, forecasts []Forecast) ask {
	current := x.shards
	result := s.byLoad(x)
	for _, other := range append(s.byMetrics(x), s.byQueue(x)) {
		result = result.or(other, current)
	}
	result = s.indivisible(x, result, x.demand)
	unknown := len(x.missing)+len(x.unknown) > 0
	if !unknown {
		result = result.or(s.byForecast(x, forecasts), current)
	}
	if unknown && result.shards <= current {
		if len(x.missing) > 0 {
			return ask{current, LoadUnknown, "the load of " + list(x.missing) + " is not known"}
		}
		return ask{current, MetricUnknown, "the metric " + list(x.unknown) + " is not known"}
	}
	return result
}

// or is the larger of what two ask for. When both ask for fewer shards than there are, the first has the reason.
func (a ask) or(other ask, current int) ask {
	switch {
	case other.shards <= a.shards:
		return a
	case other.shards < current:
		a.shards = other.shards
		return a
	}
	return other
}

// needed is how many shards have at most so much load each. What floating point adds to a whole number is not a shard.
func needed(demand, load float64) int {
	return int(min(math.Ceil(demand/load-1e-9), 1<<30))
}

// byLoad goes by the mean load. Shards that are not known are not in the demand: when they make a difference, the caller finds out.
func (s *Scaler) byLoad(x observation) ask {
	o, current := s.o, x.shards
	if x.silent {
		return ask{current, LoadUnknown, "no load is known"}
	}
	load, low := x.load(), x.idle/float64(max(1, current))
	switch {
	case load > o.UpThreshold*(1+o.Tolerance):
		return ask{max(current, needed(x.demand, o.UpThreshold)), LoadHigh, fmt.Sprintf("the mean load of %.3g is above %.3g", load, o.UpThreshold)}
	case low < o.DownThreshold*(1-o.Tolerance):
		// Down to a load in the middle of the thresholds, and one fewer at least: New has checked that the others can take it.
		n := min(current-1, needed(x.idle, max(o.ConsolidateBelow, (o.UpThreshold+o.DownThreshold)/2)))
		return ask{max(0, n), LoadLow, fmt.Sprintf("the mean load of %.3g is below %.3g", low, o.DownThreshold)}
	}
	if n := needed(x.idle, max(o.ConsolidateBelow, math.SmallestNonzeroFloat64)); o.ConsolidateBelow > 0 && n < current {
		return ask{n, Consolidating, fmt.Sprintf("%d shards are enough for a load below %.3g each", n, o.ConsolidateBelow)}
	}
	return ask{current, WithinThresholds, fmt.Sprintf("the mean load of %.3g is between the thresholds", load)}
}

// byMetrics goes by each metric alone.
func (s *Scaler) byMetrics(x observation) []ask {
	asks := make([]ask, 0, len(x.metrics)+1)
	for _, metric := range x.metrics {
		demand := metric.Value / metric.Target
		if !metric.Total {
			demand *= float64(x.shards)
		}
		ratio := demand / float64(max(1, x.shards))
		a := ask{x.shards, WithinThresholds, fmt.Sprintf("the metric %s of %.3g is near its target of %.3g", metric.Name, metric.Value, metric.Target)}
		switch {
		case ratio > 1+s.o.Tolerance:
			a = ask{max(x.shards, needed(demand, 1)), MetricHigh, fmt.Sprintf("the metric %s of %.3g is above its target of %.3g", metric.Name, metric.Value, metric.Target)}
		case ratio < 1-s.o.Tolerance:
			a.shards = needed(demand, 1)
		}
		asks = append(asks, a)
	}
	return asks
}

// byQueue asks for one shard more while the queue is too long and does not get shorter.
func (s *Scaler) byQueue(x observation) ask {
	if s.o.QueueLimit == 0 || x.queued <= s.o.QueueLimit*(1+s.o.Tolerance) || !x.growing || x.growth < 0 {
		return ask{}
	}
	return ask{x.shards + 1, QueueLong, fmt.Sprintf("%.3g objects wait per shard, the limit is %.3g", x.queued, s.o.QueueLimit)}
}

// indivisible takes back what would be added for a single object: it fills a shard of its own, and the others have to take the rest of the
// demand only.
func (s *Scaler) indivisible(x observation, a ask, demand float64) ask {
	if a.reason != LoadHigh && a.reason != QueueLong && a.reason != Predicted || x.largest <= s.o.UpThreshold {
		return a
	}
	// What the demand is to become, the object's part of it becomes too.
	n, rest := x.shards, max(0, demand-x.largest*max(1, demand/max(x.demand, math.SmallestNonzeroFloat64)))
	if rest > float64(x.shards-1)*s.o.UpThreshold*(1+s.o.Tolerance) {
		n = max(n, 1+needed(rest, s.o.UpThreshold))
	}
	if n >= a.shards {
		return a
	}
	a.shards = n
	if n == x.shards {
		a.reason = Indivisible
		a.text = fmt.Sprintf("%s, but one object is a load of %.3g, and no other shard could take a part of it", a.text, x.largest)
	}
	return a
}

// byForecast goes by the largest forecast that is good, unless the demand that it began with is a guess. It never asks for fewer than there are, unless nothing else would need them either.
func (s *Scaler) byForecast(x observation, forecasts []Forecast) ask {
	o, result := s.o, ask{}
	for _, f := range forecasts {
		if !f.Used || !f.Known || x.guessed {
			continue
		}
		n := needed(f.Demand, o.UpThreshold)
		a := ask{n, Predicted, fmt.Sprintf("%s forecasts a demand of %.3g shards, the mean load would be above %.3g", f.Model, f.Demand, o.UpThreshold)}
		if f.Demand/float64(max(1, x.shards)) <= o.UpThreshold*(1+o.Tolerance) {
			a = ask{min(n, x.shards), KeptForForecast, fmt.Sprintf("%s forecasts a demand of %.3g shards", f.Model, f.Demand)}
		}
		if a = s.indivisible(x, a, f.Demand); a.shards > result.shards {
			result = a
		}
	}
	return result
}
