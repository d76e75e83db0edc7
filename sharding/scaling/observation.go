package scaling

import (
	"fmt"
	"math"
	"time"
)

const (
	// maxLoad and maxValue are the largest load and the largest other value that are believed.
	maxLoad  = 1000
	maxValue = 1e15
	// maxAsked is how many shards a metric may ask for to be believed: the largest Max.
	maxAsked = 1 << 20
	// fullLoad is the load from which a shard may have more to do than it shows.
	fullLoad = 0.95
	// mostArrivals is by how much what arrives may exceed what is done in the arithmetic.
	mostArrivals = 4
)

// observation is what a round knows, in full shards of mean weight.
type observation struct {
	now     time.Time
	shards  int
	missing []string // shards whose load is not known
	metrics []Metric // those that are known
	unknown []string // metrics that are not
	demand  float64  // what the known shards have to do
	idle    float64  // that, or the loads as they are, if that is more: shards are removed by it
	largest float64  // load of the largest indivisible object
	queued  float64  // per shard
	growth  float64  // of the queue, in objects per second; counts with growing
	growing bool     // growth is known
	guessed bool     // the demand is what the queues say, because shards are full
	silent  bool     // of no shard is the load known
}

func (x observation) load() float64 { return x.demand / float64(max(1, x.shards)) }

// observe takes the round in.
func (s *Scaler) observe(m *Memory, in Input) observation {
	x := observation{now: in.Now, shards: in.Shards}
	raw, busy, queued, done, weights, known, full := 0.0, 0.0, 0.0, 0.0, 0.0, 0, false
	for _, l := range in.Loads {
		weight := l.Weight
		if weight == 0 {
			weight = 1
		}
		weights += weight
		switch {
		case s.fresh(l.At, in.Now) && isValue(l.Load):
			known++
			raw += min(l.Load, maxLoad) * weight
			busy += min(l.Load, 1) * weight
			full = full || l.Load >= fullLoad
			queued += amount(l.Queued)
			done += amount(l.Done)
		case !l.Starting:
			x.missing = append(x.missing, l.ID)
		}
	}
	x.silent = known == 0 && (len(x.missing) > 0 || in.Shards > 0)
	if x.silent && len(x.missing) == 0 {
		x.missing = []string{"all shards"}
	}
	if weights > 0 {
		mean := weights / float64(len(in.Loads))
		raw, busy = raw/mean, busy/mean
	}
	if len(x.missing) == 0 {
		*m, x.growth, x.growing = m.queued(s.o, queued)
	}
	x.queued = queued / float64(max(1, in.Shards))
	x.demand, x.guessed = x.demandOf(raw, busy, done, full)
	x.idle = max(raw, x.demand)
	if isValue(in.LargestLoad) {
		x.largest = min(in.LargestLoad, maxLoad)
		if done > 0 { // nor does it show how much more it would do
			x.largest = min(x.largest, 1)
		}
	}
	for _, metric := range in.Metrics {
		if why := s.doubt(metric, in.Now); why != "" {
			x.unknown = append(x.unknown, metric.Name+" ("+why+")")
			continue
		}
		x.metrics = append(x.metrics, metric)
	}
	return x
}

// demandOf is what the shards have to do. Shards that are full do not show how much they would have to do, and shards with a backlog are full
// although less arrives. Where it is known how many objects are done and wait, what arrives is what is done and by what the queues grow, in
// proportion, and how far a load is above 1 says nothing more.
func (x observation) demandOf(raw, busy, done float64, full bool) (demand float64, guessed bool) {
	switch {
	case !(done > 0):
		return raw, raw > busy
	case !full || !x.growing:
		return busy, full
	}
	return busy * min(max(0, 1+x.growth/done), mostArrivals), true
}

// doubt says why a metric is not known, "" if it is.
func (s *Scaler) doubt(metric Metric, now time.Time) string {
	switch {
	case metric.At.IsZero():
		return "not measured"
	case !s.fresh(metric.At, now):
		return fmt.Sprintf("measured at %s, which is too far from now", metric.At.UTC().Format(time.RFC3339))
	case !isValue(metric.Value):
		return fmt.Sprintf("%v is no amount", metric.Value)
	case metric.Value/metric.Target > maxAsked:
		return fmt.Sprintf("%.3g would take %.3g shards", metric.Value, metric.Value/metric.Target)
	}
	return ""
}

func (s *Scaler) fresh(at, now time.Time) bool {
	return !at.IsZero() && now.Sub(at) <= s.o.StaleAfter && at.Sub(now) <= s.o.StaleAfter
}

func isValue(v float64) bool { return v >= 0 && !math.IsInf(v, 1) }

// amount is a value that is taken for 0 when it is none.
func amount(v float64) float64 {
	if !isValue(v) {
		return 0
	}
	return min(v, maxValue)
}
